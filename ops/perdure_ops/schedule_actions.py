"""What the ``perdure schedule`` commands do, on :class:`perdure.client.Client`.

Invariant: an update changes what was given and nothing else. Called by :mod:`perdure_ops.commands_schedule`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perdure.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionResult,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleIntervalSpec,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from perdure_history.schedules.cron_strings import parse_field
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, iso, print_done, print_fields, print_rows
from perdure_ops.schedule_words import range_text
from perdure_ops.values import check_json, json_pairs, parse_duration
from perdure_ops.workflow_actions import parse_choice, parse_inputs, remote_codec, run

__all__ = [
    "Given",
    "backfill",
    "create",
    "delete",
    "describe",
    "list_schedules",
    "matching_times",
    "memo_of",
    "one_of",
    "parse_overlap",
    "parse_range",
    "remote_codec",
    "run",
    "toggle",
    "trigger",
    "update",
]

LIST_COLUMNS = ("schedule_id", "type", "paused", "next", "last", "note")
FIRE_COLUMNS = ("scheduled", "started", "workflow_id", "status")
OMITTED_COLUMNS = ("scheduled", "reason", "detail")
_SHOWN_NEXT = 5
#: Names of a calendar's fields as Temporal's command line writes them, besides our own.
_FIELDS = {
    "second": "second",
    "minute": "minute",
    "hour": "hour",
    "dayofmonth": "day_of_month",
    "month": "month",
    "year": "year",
    "dayofweek": "day_of_week",
}


@dataclass(frozen=True, slots=True)
class Given:
    """The texts of the options of ``create`` and ``update``; ``None``: not given."""

    type: str | None
    task_queue: str | None
    workflow_id: str | None
    input: list[str] | None
    input_file: list[Path] | None
    cron: list[str] | None
    interval: list[str] | None
    calendar: list[str] | None
    skip: list[str] | None
    time_zone: str | None
    start_time: str | None
    end_time: str | None
    jitter: str | None
    overlap_policy: str | None
    catchup_window: str | None
    pause_on_failure: bool | None
    remaining_actions: int | None
    notes: str | None
    memo: list[str] | None
    execution_timeout: str | None
    run_timeout: str | None
    task_timeout: str | None

    def new_schedule(self, *, paused: bool) -> Schedule:
        """The schedule that these options describe.

        Raises:
            CliError: one of them is wrong, or there is no time.
        """
        if not (self.cron or self.interval or self.calendar):
            raise CliError("say when it fires: give --cron, --interval or --calendar")
        return self._of_nothing(paused=paused)

    def check(self) -> None:
        """Refuse what is wrong whatever the schedule is, before anybody is asked for it.

        Raises:
            CliError: an option is wrong.
        """
        self._of_nothing(paused=False)

    def _of_nothing(self, *, paused: bool) -> Schedule:
        action = ScheduleActionStartWorkflow(
            self.type or "", id=self.workflow_id or "-", task_queue=self.task_queue or "-"
        )
        schedule = Schedule(action=action, spec=ScheduleSpec(), state=ScheduleState(paused=paused))
        self.apply(schedule)
        return schedule

    def apply(self, schedule: Schedule) -> None:
        """Change what was given.

        Raises:
            CliError: an option is wrong.
        """
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        self._apply_action(schedule.action)
        schedule.spec = self._spec(schedule.spec)
        schedule.policy = self._policy(schedule.policy)
        if self.notes is not None:
            schedule.state.note = self.notes
        if self.remaining_actions is not None:
            schedule.state.remaining_actions = self.remaining_actions
            schedule.state.limited_actions = self.remaining_actions > 0

    def _apply_action(self, action: ScheduleActionStartWorkflow) -> None:
        action.workflow = self.type or action.workflow
        action.task_queue = self.task_queue or action.task_queue
        action.id = self.workflow_id or action.id
        if self.input or self.input_file:
            action.args = parse_inputs(self.input or [], self.input_file or [])
        if self.memo:
            action.memo = json_pairs(self.memo, "--memo")
        if self.execution_timeout is not None:
            action.execution_timeout = parse_duration(self.execution_timeout, "--execution-timeout")
        if self.run_timeout is not None:
            action.run_timeout = parse_duration(self.run_timeout, "--run-timeout")
        if self.task_timeout is not None:
            action.task_timeout = parse_duration(self.task_timeout, "--task-timeout")

    def _spec(self, spec: ScheduleSpec) -> ScheduleSpec:
        changes: dict[str, Any] = {}
        if self.cron or self.interval or self.calendar:
            changes["cron_expressions"] = list(self.cron or [])
            changes["intervals"] = [parse_interval(text) for text in self.interval or []]
            changes["calendars"] = [parse_calendar(text, "--calendar") for text in self.calendar or []]
        if self.skip:
            changes["skip"] = [parse_calendar(text, "--skip") for text in self.skip]
        if self.time_zone is not None:
            changes["time_zone_name"] = self.time_zone
        if self.start_time is not None:
            changes["start_at"] = parse_time(self.start_time, "--start-time")
        if self.end_time is not None:
            changes["end_at"] = parse_time(self.end_time, "--end-time")
        if self.jitter is not None:
            changes["jitter"] = parse_duration(self.jitter, "--jitter")
        return dataclasses.replace(spec, **changes)

    def _policy(self, policy: SchedulePolicy) -> SchedulePolicy:
        changes: dict[str, Any] = {}
        if self.overlap_policy is not None:
            changes["overlap"] = parse_overlap(self.overlap_policy)
        if self.catchup_window is not None:
            changes["catchup_window"] = parse_duration(self.catchup_window, "--catchup-window")
        if self.pause_on_failure is not None:
            changes["pause_on_failure"] = self.pause_on_failure
        return dataclasses.replace(policy, **changes)


# --- options ----------------------------------------------------------------------------------------------------------


def memo_of(pairs: Sequence[str] | None, option: str) -> dict[str, Any] | None:
    """A memo from ``KEY=JSON`` texts.

    Raises:
        CliError: one is none.
    """
    return json_pairs(pairs or [], option) or None


def one_of(pause: bool, unpause: bool) -> bool:
    """Whether to pause.

    Raises:
        CliError: neither option was given, or both.
    """
    if pause == unpause:
        raise CliError("give either --pause or --unpause")
    return pause


def parse_overlap(text: str | None) -> ScheduleOverlapPolicy | None:
    """An overlap policy by its name, however it is written.

    Raises:
        CliError: there is no such policy.
    """
    if text is None:
        return None
    return parse_choice(text, ScheduleOverlapPolicy, ScheduleOverlapPolicy.SKIP, "--overlap-policy")


def parse_time(text: str, option: str) -> datetime:
    """A time in ISO 8601; without a zone it is UTC.

    Raises:
        CliError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(f"{option}: {text!r} is no time; write 2026-01-31 or 2026-01-31T10:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def parse_range(start: str, end: str, overlap: str | None) -> ScheduleBackfill:
    """A range of times.

    Raises:
        CliError: an end is no time, or the range ends before it starts.
    """
    found = ScheduleBackfill(parse_time(start, "--start-time"), parse_time(end, "--end-time"), parse_overlap(overlap))
    if found.start_at > found.end_at:
        raise CliError("--end-time is before --start-time")
    return found


def parse_interval(text: str) -> ScheduleIntervalSpec:
    """An interval like ``1h`` or ``1h/10m``.

    Raises:
        CliError: it is none.
    """
    every, slash, offset = text.partition("/")
    return ScheduleIntervalSpec(
        parse_duration(every, "--interval") or timedelta(), parse_duration(offset, "--interval") if slash else None
    )


def parse_calendar(text: str, option: str) -> ScheduleCalendarSpec:
    """A calendar from a JSON object whose values are written as in cron strings.

    Raises:
        CliError: it is none; the message says where.
    """
    found = check_json(text, option)
    if not isinstance(found, dict):
        raise CliError(f"""{option}: {text!r} is no JSON object; write '{{"hour": "6", "dayOfWeek": "MON-FRI"}}'""")
    changes: dict[str, Any] = {}
    for key, value in found.items():
        if key == "comment":
            changes["comment"] = str(value)
            continue
        name = _FIELDS.get(key.replace("_", "").lower())
        if name is None:
            raise CliError(f"{option}: a calendar has no field {key!r}; it has {', '.join(_FIELDS.values())}, comment")
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise CliError(
                f"""{option}: {key} is {json.dumps(value)}; write a number or a text like "MON-FRI" """.strip()
            )
        try:
            ranges = parse_field(f"{option} {key}", name, str(value))
        except ValueError as error:
            raise CliError(str(error)) from None
        changes[name] = tuple(ScheduleRange(part.start, part.end, part.step) for part in ranges)
    return ScheduleCalendarSpec(**changes)


# --- commands ---------------------------------------------------------------------------------------------------------


async def create(
    client: Client,
    schedule_id: str,
    schedule: Schedule,
    memo: dict[str, Any] | None,
    *,
    trigger: bool,
    output: OutputFormat,
) -> None:
    """Make a schedule."""
    await client.create_schedule(schedule_id, schedule, trigger_immediately=trigger, memo=memo)
    print_done(f"schedule {schedule_id} created", output, schedule_id=schedule_id)


async def update(client: Client, schedule_id: str, given: Given, output: OutputFormat) -> None:
    """Change a schedule."""

    def change(found: ScheduleUpdateInput) -> ScheduleUpdate:
        given.apply(found.description.schedule)
        return ScheduleUpdate(found.description.schedule)

    await client.get_schedule_handle(schedule_id).update(change)
    print_done(f"schedule {schedule_id} updated", output, schedule_id=schedule_id)


async def describe(client: Client, schedule_id: str, output: OutputFormat) -> None:
    """Show a schedule."""
    found = await client.get_schedule_handle(schedule_id).describe()
    fields = description_fields(found)
    fires = [_fire_row(fire, found) for fire in found.info.recent_actions]
    omitted = [
        {"scheduled": gap.scheduled_at, "reason": gap.reason, "detail": gap.detail}
        for gap in found.info.omitted_actions
    ]
    if output is not OutputFormat.TABLE:
        print_fields({**fields, "recent": fires, "omitted": omitted}, output)
        return
    print_fields(fields, output)
    if fires:
        print("\nrecent fires:")
        print_rows(fires, output, FIRE_COLUMNS)
    if omitted:
        print("\nfires that started nothing:")
        print_rows(omitted, output, OMITTED_COLUMNS)


async def list_schedules(client: Client, query: str | None, limit: int, output: OutputFormat) -> None:
    """Show the schedules that a filter holds for."""
    rows: list[dict[str, Any]] = []
    async for entry in await client.list_schedules(query, page_size=min(limit, 1_000)):
        rows.append(_list_row(entry))
        if len(rows) >= limit:
            break
    print_rows(rows, output, LIST_COLUMNS)


async def toggle(client: Client, schedule_id: str, reason: str | None, output: OutputFormat, *, pauses: bool) -> None:
    """Pause or unpause a schedule."""
    handle = client.get_schedule_handle(schedule_id)
    await (handle.pause(note=reason) if pauses else handle.unpause(note=reason))
    print_done(f"schedule {schedule_id} {'paused' if pauses else 'unpaused'}", output, schedule_id=schedule_id)


async def trigger(
    client: Client, schedule_id: str, overlap: ScheduleOverlapPolicy | None, output: OutputFormat
) -> None:
    """Fire now."""
    await client.get_schedule_handle(schedule_id).trigger(overlap=overlap)
    print_done(f"schedule {schedule_id} triggered", output, schedule_id=schedule_id)


async def backfill(client: Client, schedule_id: str, part: ScheduleBackfill, output: OutputFormat) -> None:
    """Fire for a range of times."""
    await client.get_schedule_handle(schedule_id).backfill(part)
    print_done(f"schedule {schedule_id} is backfilled", output, schedule_id=schedule_id)


async def delete(client: Client, schedule_id: str, output: OutputFormat) -> None:
    """Remove a schedule."""
    await client.get_schedule_handle(schedule_id).delete()
    print_done(f"schedule {schedule_id} deleted", output, schedule_id=schedule_id)


async def matching_times(
    client: Client, schedule_id: str, part: ScheduleBackfill, limit: int, output: OutputFormat
) -> None:
    """Show the times of a range."""
    times = await client.get_schedule_handle(schedule_id).matching_times(part.start_at, part.end_at, limit=limit)
    print_rows([{"time": time} for time in times], output, ("time",))


# --- what is shown ----------------------------------------------------------------------------------------------------


def description_fields(found: ScheduleDescription) -> dict[str, Any]:
    """What ``describe`` says of a schedule itself."""
    schedule, info = found.schedule, found.info
    action, spec, policy, state = schedule.action, schedule.spec, schedule.policy, schedule.state
    assert isinstance(action, ScheduleActionStartWorkflow)
    return {
        "schedule_id": found.id,
        "type": action.workflow,
        "task_queue": action.task_queue,
        "workflow_id": action.id,
        "cron": list(spec.cron_expressions) or None,
        "intervals": [_interval_text(interval) for interval in spec.intervals] or None,
        "calendars": [_calendar_fields(calendar) for calendar in spec.calendars] or None,
        "skip": [_calendar_fields(calendar) for calendar in spec.skip] or None,
        "time_zone": spec.time_zone_name,
        "start_time": spec.start_at,
        "end_time": spec.end_at,
        "jitter": None if spec.jitter is None else str(spec.jitter),
        "overlap_policy": policy.overlap.name,
        "catchup_window": str(policy.catchup_window),
        "pause_on_failure": policy.pause_on_failure,
        "paused": state.paused,
        "note": state.note,
        "remaining_actions": state.remaining_actions if state.limited_actions else None,
        "created": info.created_at,
        "updated": info.last_updated_at,
        "actions": info.num_actions,
        "skipped_overlap": info.num_actions_skipped_overlap,
        "missed_catchup_window": info.num_actions_missed_catchup_window,
        "dropped_buffer": info.num_actions_dropped_buffer,
        "refused": info.num_actions_refused,
        "running": [
            running.workflow_id
            for running in info.running_actions
            if isinstance(running, ScheduleActionExecutionStartWorkflow)
        ]
        or None,
        "next": [iso(time) for time in info.next_action_times[:_SHOWN_NEXT]] or None,
    }


def _fire_row(fire: ScheduleActionResult, found: ScheduleDescription) -> dict[str, Any]:
    action = fire.action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    statuses = {shown.run_id: shown.status for shown in found.raw_description.progress.recent}
    status = statuses.get(action.first_execution_run_id)
    return {
        "scheduled": fire.scheduled_at,
        "started": fire.started_at,
        "workflow_id": action.workflow_id,
        "run_id": action.first_execution_run_id,
        "status": "RUNNING" if status is None else status.value,
    }


def _list_row(entry: ScheduleListDescription) -> dict[str, Any]:
    shown = entry.raw_entry.schedule
    assert shown is not None
    assert entry.info is not None
    recent, upcoming = entry.info.recent_actions, entry.info.next_action_times
    return {
        "schedule_id": entry.id,
        "type": shown.workflow_type,
        "paused": shown.paused,
        "next": upcoming[0] if upcoming and not shown.paused else None,
        "last": recent[-1].started_at if recent else None,
        "note": shown.note,
    }


def _interval_text(interval: ScheduleIntervalSpec) -> str:
    return f"{interval.every}" if interval.offset is None else f"{interval.every} + {interval.offset}"


def _calendar_fields(calendar: ScheduleCalendarSpec) -> dict[str, str]:
    shown = {
        name: ",".join(range_text(part.start, part.end, part.step) for part in getattr(calendar, name))
        for name in _FIELDS.values()
        if getattr(calendar, name) != getattr(_EVERY_MIDNIGHT, name)
    }
    return {**shown, **({"comment": calendar.comment} if calendar.comment else {})}


_EVERY_MIDNIGHT = ScheduleCalendarSpec()
