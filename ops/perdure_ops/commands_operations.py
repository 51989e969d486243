"""``perdure workflow pause|unpause|release`` and ``perdure activity pause|unpause|reset|update-options``.

Each is one request to the engine. This module is loaded by every ``perdure`` command, so it stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_ops.commands_activity import ActivityId
from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output, RunId, WorkflowId
from perdure_ops.output import OutputFormat

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure_schemas.records import CommandBody

_TIMEOUT_S = 30.0

#: Instead of an activity id.
ActivityType = Annotated[
    str,
    typer.Option("--activity-type", metavar="NAME", help="All pending activities of this type.", show_default=False),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who look at it.")]
Jitter = Annotated[str | None, typer.Option(metavar="DURATION", help="Begin at a random time within this one.")]
Duration = Annotated[str | None, typer.Option(metavar="DURATION", help="For example 30s.", show_default=False)]


def add_to(workflow: typer.Typer, activity: typer.Typer) -> None:
    """Add the commands to those of workflows and of activities."""
    workflow.command("pause")(pause_workflow)
    workflow.command("unpause")(unpause_workflow)
    workflow.command("release")(release_workflow)
    activity.command("pause")(pause_activity)
    activity.command("unpause")(unpause_activity)
    activity.command("reset")(reset_activity)
    activity.command("update-options")(update_activity_options)


def pause_workflow(
    workflow_id: WorkflowId,
    reason: Reason = "",
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Hand out no workflow task and no activity of a workflow; what workers have is finished.

    Its timers and timeouts go on, and signals are kept for when it is unpaused.

    Example: perdure workflow pause -w order-17 --reason "the bank is down"
    """
    from perdure_schemas.records import PauseWorkflow

    _run(address, namespace, workflow_id, run_id, PauseWorkflow(reason=reason), f"{workflow_id} paused", output)


def unpause_workflow(
    workflow_id: WorkflowId,
    reason: Reason = "",
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Let a paused workflow go on.

    Example: perdure workflow unpause -w order-17
    """
    from perdure_schemas.records import UnpauseWorkflow

    _run(address, namespace, workflow_id, run_id, UnpauseWorkflow(reason=reason), f"{workflow_id} unpaused", output)


def release_workflow(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Lift the quarantine of a workflow, once its cause is repaired.

    The message that could not be processed is not processed again: it stays with the dead letters.

    Example: perdure workflow release -w order-17
    """
    from perdure_schemas.records import ReleaseWorkflow

    done = f"{workflow_id} released; what could not be processed stays with the dead letters"
    _run(address, namespace, workflow_id, run_id, ReleaseWorkflow(), done, output)


def pause_activity(
    workflow_id: WorkflowId,
    activity_id: ActivityId = "",
    activity_type: ActivityType = "",
    reason: Reason = "",
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Begin no attempt of a pending activity; one that runs and has a heartbeat timeout is told to stop.

    Example: perdure activity pause -w order-17 -a charge
    """
    from perdure_schemas.records import PauseActivity

    what = _activities(activity_id, activity_type)
    body = PauseActivity(activity_id=activity_id, activity_type=activity_type, reason=reason)
    _run(address, namespace, workflow_id, run_id, body, f"{what} of {workflow_id} paused", output)


def unpause_activity(
    workflow_id: WorkflowId,
    activity_id: ActivityId = "",
    activity_type: ActivityType = "",
    reset_attempts: Annotated[bool, typer.Option("--reset-attempts", help="Count attempts from 1 again.")] = False,
    reset_heartbeats: Annotated[bool, typer.Option("--reset-heartbeats", help="Drop heartbeat details.")] = False,
    jitter: Jitter = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Let a paused activity go on at once.

    Example: perdure activity unpause -w order-17 -a charge --reset-attempts
    """
    from perdure_schemas.records import UnpauseActivity

    what = _activities(activity_id, activity_type)
    body = UnpauseActivity(
        activity_id=activity_id,
        activity_type=activity_type,
        reset_attempts=reset_attempts,
        reset_heartbeat=reset_heartbeats,
        jitter_ms=_ms(jitter, "--jitter") or 0,
    )
    _run(address, namespace, workflow_id, run_id, body, f"{what} of {workflow_id} unpaused", output)


def reset_activity(
    workflow_id: WorkflowId,
    activity_id: ActivityId = "",
    activity_type: ActivityType = "",
    keep_paused: Annotated[bool, typer.Option("--keep-paused", help="Leave a paused activity paused.")] = False,
    reset_heartbeats: Annotated[bool, typer.Option("--reset-heartbeats", help="Drop heartbeat details.")] = False,
    restore_original_options: Annotated[
        bool, typer.Option("--restore-original-options", help="With the options that the workflow gave.")
    ] = False,
    jitter: Jitter = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Count the attempts of a pending activity from 1 again: at once, or from the next one on if one runs.

    One that runs and has a heartbeat timeout is told to stop, and begins again.

    Example: perdure activity reset -w order-17 -a charge
    """
    from perdure_schemas.records import ResetActivity

    what = _activities(activity_id, activity_type)
    body = ResetActivity(
        activity_id=activity_id,
        activity_type=activity_type,
        keep_paused=keep_paused,
        restore_original_options=restore_original_options,
        reset_heartbeats=reset_heartbeats,
        jitter_ms=_ms(jitter, "--jitter") or 0,
    )
    _run(address, namespace, workflow_id, run_id, body, f"{what} of {workflow_id} reset", output)


def update_activity_options(
    workflow_id: WorkflowId,
    activity_id: ActivityId = "",
    activity_type: ActivityType = "",
    task_queue: Annotated[str, typer.Option("--task-queue", "-t", metavar="NAME", help="Another task queue.")] = "",
    schedule_to_close_timeout: Duration = None,
    schedule_to_start_timeout: Duration = None,
    start_to_close_timeout: Duration = None,
    heartbeat_timeout: Duration = None,
    retry_initial_interval: Duration = None,
    retry_maximum_interval: Duration = None,
    retry_backoff_coefficient: Annotated[float | None, typer.Option(help="At least 1.", show_default=False)] = None,
    retry_maximum_attempts: Annotated[int | None, typer.Option(help="0: no limit.", show_default=False)] = None,
    restore_original: Annotated[
        bool, typer.Option("--restore-original", help="Begin with the options that the workflow gave.")
    ] = False,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Change options of a pending activity; those that are not given stay as they are.

    Example: perdure activity update-options -w order-17 -a charge --retry-maximum-attempts 10
    """
    from perdure_schemas.records import UpdateActivityOptions

    what = _activities(activity_id, activity_type)
    body = UpdateActivityOptions(
        activity_id=activity_id,
        activity_type=activity_type,
        task_queue=task_queue,
        schedule_to_close_timeout_ms=_ms(schedule_to_close_timeout, "--schedule-to-close-timeout"),
        schedule_to_start_timeout_ms=_ms(schedule_to_start_timeout, "--schedule-to-start-timeout"),
        start_to_close_timeout_ms=_ms(start_to_close_timeout, "--start-to-close-timeout"),
        heartbeat_timeout_ms=_ms(heartbeat_timeout, "--heartbeat-timeout"),
        retry_initial_interval_ms=_ms(retry_initial_interval, "--retry-initial-interval"),
        retry_maximum_interval_ms=_ms(retry_maximum_interval, "--retry-maximum-interval"),
        retry_backoff_coefficient=retry_backoff_coefficient,
        retry_maximum_attempts=retry_maximum_attempts,
        restore_original=restore_original,
    )
    _run(address, namespace, workflow_id, run_id, body, f"options of {what} of {workflow_id} changed", output)


def _activities(activity_id: str, activity_type: str) -> str:
    """What to call the activities that are meant.

    Raises:
        CliError: neither an id nor a type is given, or both are.
    """
    from perdure_ops.errors import CliError

    if bool(activity_id) == bool(activity_type):
        raise CliError("give either --activity-id or --activity-type", exit_code=2)
    return f"activity {activity_id}" if activity_id else f"activities of type {activity_type}"


def _ms(text: str | None, option: str) -> int | None:
    from perdure_ops.values import parse_duration

    duration = parse_duration(text, option)
    return None if duration is None else round(duration.total_seconds() * 1000)


def _run(
    address: str,
    namespace: str,
    workflow_id: str,
    run_id: str | None,
    body: CommandBody,
    done: str,
    output: OutputFormat,
) -> None:
    from perdure_ops import workflow_actions as actions

    actions.run(address, namespace, lambda client: _ask(client, workflow_id, run_id, body, done, output))


async def _ask(
    client: Client, workflow_id: str, run_id: str | None, body: CommandBody, done: str, output: OutputFormat
) -> None:
    from perdure_ops.errors import CliError
    from perdure_ops.output import print_done
    from perdure_schemas.records import Rejected

    connection = await client.connection()
    what = f"a {type(body).__name__} for workflow {workflow_id!r}"
    answer = await connection.ask(workflow_id, run_id or "", body, _TIMEOUT_S, what)
    if isinstance(answer, Rejected):
        raise CliError(answer.message)
    print_done(done, output, workflow_id=workflow_id, run_id=run_id)
