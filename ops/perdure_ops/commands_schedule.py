"""``perdure schedule …``: the options of the commands that make, steer and show schedules.

What they do stands in :mod:`perdure_ops.schedule_actions`; this module is loaded by every ``perdure`` command, so it
stays cheap. Names of commands and options are those of Temporal's command line where it has them.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perdure_ops.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    Address,
    CodecAuth,
    CodecEndpoint,
    Input,
    InputFile,
    Namespace,
    Output,
)
from perdure_ops.output import OutputFormat

app = typer.Typer(
    help="Make, steer and show schedules: workflows that start at given times.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ScheduleId = Annotated[str, typer.Option("--schedule-id", "-s", metavar="ID", help="Schedule id.")]
Overlap = Annotated[
    str | None,
    typer.Option(
        "--overlap-policy",
        metavar="POLICY",
        help="While one runs: Skip, BufferOne, BufferAll, CancelOther, TerminateOther or AllowAll.",
        show_default=False,
    ),
]
Type = Annotated[str, typer.Option("--type", metavar="NAME", help="Workflow type.")]
TaskQueue = Annotated[str, typer.Option("--task-queue", "-t", metavar="NAME", help="Task queue of its workers.")]
ActionId = Annotated[
    str, typer.Option("--workflow-id", "-w", metavar="ID", help="Workflow id; the time of each fire is added to it.")
]
OtherType = Annotated[str | None, typer.Option("--type", metavar="NAME", help="Another workflow type.")]
OtherTaskQueue = Annotated[str | None, typer.Option("--task-queue", "-t", metavar="NAME", help="Another task queue.")]
OtherActionId = Annotated[str | None, typer.Option("--workflow-id", "-w", metavar="ID", help="Another workflow id.")]
Cron = Annotated[
    list[str] | None,
    typer.Option("--cron", metavar="TEXT", help='Times as a cron string: "0 6 * * MON-FRI".', show_default=False),
]
Interval = Annotated[
    list[str] | None,
    typer.Option("--interval", metavar="DURATION[/OFFSET]", help="Times as an interval: 1h/10m.", show_default=False),
]
Calendar = Annotated[
    list[str] | None,
    typer.Option(
        "--calendar",
        metavar="JSON",
        help="""Times as a calendar: '{"hour": "6,18", "dayOfWeek": "MON-FRI"}'.""",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="JSON", help="A calendar whose times are left out.", show_default=False),
]
TimeZone = Annotated[
    str | None,
    typer.Option("--time-zone", metavar="NAME", help="Zone of calendars and cron strings; UTC if not given."),
]
StartTime = Annotated[str | None, typer.Option("--start-time", metavar="TIME", help="The first possible time.")]
EndTime = Annotated[str | None, typer.Option("--end-time", metavar="TIME", help="The last possible time.")]
Jitter = Annotated[str | None, typer.Option("--jitter", metavar="DURATION", help="Be late by a part of this.")]
CatchupWindow = Annotated[
    str | None,
    typer.Option("--catchup-window", metavar="DURATION", help="How late a fire may be; a year if not given."),
]
PauseOnFailure = Annotated[
    bool | None, typer.Option("--pause-on-failure/--no-pause-on-failure", help="Pause when a workflow fails.")
]
Remaining = Annotated[
    int | None, typer.Option("--remaining-actions", metavar="N", min=0, help="Fire so many times, then no more.")
]
Notes = Annotated[str | None, typer.Option("--notes", metavar="TEXT", help="What people should know about it.")]
Memo = Annotated[
    list[str] | None,
    typer.Option("--memo", metavar="KEY=JSON", help="A note to keep with each workflow.", show_default=False),
]
ScheduleMemo = Annotated[
    list[str] | None,
    typer.Option("--schedule-memo", metavar="KEY=JSON", help="A note to keep with the schedule.", show_default=False),
]
ExecutionTimeout = Annotated[
    str | None, typer.Option("--execution-timeout", metavar="DURATION", help="Limit for all runs of one workflow.")
]
RunTimeout = Annotated[str | None, typer.Option("--run-timeout", metavar="DURATION", help="Limit for one run.")]
TaskTimeout = Annotated[
    str | None, typer.Option("--task-timeout", metavar="DURATION", help="Limit for one workflow task.")
]
From = Annotated[str, typer.Option("--start-time", metavar="TIME", help="The beginning, included.")]
To = Annotated[str, typer.Option("--end-time", metavar="TIME", help="The end, included.")]


@app.command()
def create(
    schedule_id: ScheduleId,
    type: Type,
    task_queue: TaskQueue,
    workflow_id: ActionId,
    input: Input = None,
    input_file: InputFile = None,
    cron: Cron = None,
    interval: Interval = None,
    calendar: Calendar = None,
    skip: Skip = None,
    time_zone: TimeZone = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
    jitter: Jitter = None,
    overlap_policy: Overlap = None,
    catchup_window: CatchupWindow = None,
    pause_on_failure: PauseOnFailure = None,
    paused: Annotated[bool, typer.Option("--paused", help="Begin paused.")] = False,
    trigger: Annotated[bool, typer.Option("--trigger", help="Fire once now.")] = False,
    remaining_actions: Remaining = None,
    notes: Notes = None,
    memo: Memo = None,
    schedule_memo: ScheduleMemo = None,
    execution_timeout: ExecutionTimeout = None,
    run_timeout: RunTimeout = None,
    task_timeout: TaskTimeout = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Make a schedule.

    Example: perdure schedule create -s reports --cron "0 6 * * MON-FRI" --type Report -t reports -w report
    """
    from perdure_ops import schedule_actions as actions

    given = actions.Given(
        type, task_queue, workflow_id, input, input_file, cron, interval, calendar, skip, time_zone, start_time,
        end_time, jitter, overlap_policy, catchup_window, pause_on_failure, remaining_actions, notes, memo,
        execution_timeout, run_timeout, task_timeout,
    )  # fmt: skip
    schedule = given.new_schedule(paused=paused)
    noted = actions.memo_of(schedule_memo, "--schedule-memo")
    actions.run(
        address,
        namespace,
        lambda client: actions.create(client, schedule_id, schedule, noted, trigger=trigger, output=output),
        actions.remote_codec(codec_endpoint, namespace, codec_auth),
    )


@app.command()
def update(
    schedule_id: ScheduleId,
    type: OtherType = None,
    task_queue: OtherTaskQueue = None,
    workflow_id: OtherActionId = None,
    input: Input = None,
    input_file: InputFile = None,
    cron: Cron = None,
    interval: Interval = None,
    calendar: Calendar = None,
    skip: Skip = None,
    time_zone: TimeZone = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
    jitter: Jitter = None,
    overlap_policy: Overlap = None,
    catchup_window: CatchupWindow = None,
    pause_on_failure: PauseOnFailure = None,
    remaining_actions: Remaining = None,
    notes: Notes = None,
    memo: Memo = None,
    execution_timeout: ExecutionTimeout = None,
    run_timeout: RunTimeout = None,
    task_timeout: TaskTimeout = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Change a schedule. What is not given stays as it is; cron strings, intervals and calendars replace all of them.

    Example: perdure schedule update -s reports --cron "0 7 * * *" --time-zone Europe/Zurich
    """
    from perdure_ops import schedule_actions as actions

    given = actions.Given(
        type, task_queue, workflow_id, input, input_file, cron, interval, calendar, skip, time_zone, start_time,
        end_time, jitter, overlap_policy, catchup_window, pause_on_failure, remaining_actions, notes, memo,
        execution_timeout, run_timeout, task_timeout,
    )  # fmt: skip
    given.check()
    _run(
        address,
        namespace,
        lambda client: actions.update(client, schedule_id, given, output),
        actions.remote_codec(codec_endpoint, namespace, codec_auth),
    )


@app.command()
def describe(
    schedule_id: ScheduleId,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a schedule: its spec, next and recent fires, what runs, and what was left out and why.

    Example: perdure schedule describe -s reports
    """
    from perdure_ops import schedule_actions as actions

    _run(address, namespace, lambda client: actions.describe(client, schedule_id, output))


@app.command("list")
def list_schedules(
    query: Annotated[
        str | None,
        typer.Option(
            "--query", "-q", metavar="FILTER", help="A list filter; all schedules without.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 1_000,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List schedules, by id.

    Example: perdure schedule list -q "TemporalSchedulePaused = true AND Team = 'payments'" -o jsonl
    """
    from perdure_ops import schedule_actions as actions

    _run(address, namespace, lambda client: actions.list_schedules(client, query, limit, output))


@app.command()
def toggle(
    schedule_id: ScheduleId,
    pause: Annotated[bool, typer.Option("--pause", help="Fire by hand only.")] = False,
    unpause: Annotated[bool, typer.Option("--unpause", help="Fire by the spec again.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept as its note.")] = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Pause or unpause a schedule. Times that pass meanwhile are not made up for; see backfill.

    Example: perdure schedule toggle -s reports --pause --reason "month end"
    """
    from perdure_ops import schedule_actions as actions

    pauses = actions.one_of(pause, unpause)
    _run(address, namespace, lambda client: actions.toggle(client, schedule_id, reason, output, pauses=pauses))


@app.command()
def trigger(
    schedule_id: ScheduleId,
    overlap_policy: Overlap = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Fire now, also while the schedule is paused.

    Example: perdure schedule trigger -s reports --overlap-policy AllowAll
    """
    from perdure_ops import schedule_actions as actions

    overlap = actions.parse_overlap(overlap_policy)
    _run(address, namespace, lambda client: actions.trigger(client, schedule_id, overlap, output))


@app.command()
def backfill(
    schedule_id: ScheduleId,
    start_time: From,
    end_time: To,
    overlap_policy: Overlap = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Fire for the times of a range, as if they were now; also while the schedule is paused.

    Example: perdure schedule backfill -s reports --start-time 2026-01-01T00:00:00Z --end-time 2026-01-08T00:00:00Z
    """
    from perdure_ops import schedule_actions as actions

    part = actions.parse_range(start_time, end_time, overlap_policy)
    _run(address, namespace, lambda client: actions.backfill(client, schedule_id, part, output))


@app.command()
def delete(
    schedule_id: ScheduleId,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Remove a schedule. Workflows that it has started go on.

    Example: perdure schedule delete -s reports
    """
    from perdure_ops import schedule_actions as actions

    _run(address, namespace, lambda client: actions.delete(client, schedule_id, output))


@app.command("list-matching-times")
def list_matching_times(
    schedule_id: ScheduleId,
    start_time: From,
    end_time: To,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 1_000,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the times of a schedule in a range, with jitter. Starts nothing.

    Example: perdure schedule list-matching-times -s reports --start-time 2026-01-01 --end-time 2026-02-01
    """
    from perdure_ops import schedule_actions as actions

    part = actions.parse_range(start_time, end_time, None)
    _run(address, namespace, lambda client: actions.matching_times(client, schedule_id, part, limit, output))


def _run(address: str, namespace: str, action: Any, codec: Any = None) -> None:
    from perdure_ops.workflow_actions import run

    run(address, namespace, action, codec)
