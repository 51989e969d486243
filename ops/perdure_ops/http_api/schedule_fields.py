"""What the HTTP API takes and shows of schedules: structs, and how they are made from records and become a schedule.

What is shown can be sent again: the same structs serve both ways. Times are RFC 3339, durations milliseconds, fields of
calendars texts as in cron strings. Pure; called by :mod:`perdure_ops.http_api.schedules`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from perdure.client import (
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)
from perdure.common import Payload, Priority, TypedSearchAttributes
from perdure_ops.http_api import fields
from perdure_ops.http_api.operations import Answer
from perdure_ops.http_api.values import (
    SearchAttribute,
    json_of,
    json_values,
    raw_values,
    search_attributes_of,
    typed_attributes,
)
from perdure_ops.http_api.views import time_of
from perdure_ops.schedule_words import CALENDAR_FIELDS, field_text, ranges_of, spec_words
from perdure_schemas import records
from perdure_schemas.records import OmissionReason, OverlapPolicy, WorkflowStatus

__all__ = [
    "ActionField",
    "PolicyField",
    "RangeField",
    "ScheduleRow",
    "ScheduleView",
    "SpecField",
    "Time",
    "schedule_row",
    "schedule_view",
]

Time = Annotated[datetime, Meta(tz=True, description="RFC 3339, with a time zone.")]
Text = Annotated[msgspec.Raw, Meta(description="A text, an encoded payload, or null.")]
_NULL = msgspec.Raw(b"null")
_CATCHUP_WINDOW_MS = 365 * 86_400_000


# --- when, and by which policies --------------------------------------------------------------------------------------


class CalendarField(fields.Body, kw_only=True):
    """Times at which a clock reads one of the numbers of each field, which are written as in cron strings.

    For example ``{"hour": "6,18", "day_of_week": "MON-FRI"}``. As it is, it means every day at midnight.
    """

    second: str = "0"
    minute: str = "0"
    hour: str = "0"
    day_of_month: str = "*"
    month: str = "*"
    year: str = "*"
    day_of_week: str = "*"
    comment: str = ""

    def calendar(self, where: str) -> ScheduleCalendarSpec:
        """As the client takes it.

        Raises:
            ValueError: a field cannot be read.
        """
        parts = {
            name: tuple(
                ScheduleRange(part.start, part.end, part.step)
                for part in ranges_of(f"{where}.{name}", name, getattr(self, name))
            )
            for name in CALENDAR_FIELDS
        }
        return ScheduleCalendarSpec(**parts, comment=self.comment or None)


class IntervalField(fields.Body, kw_only=True):
    """Times that are a multiple of ``every_ms`` since 1970, moved by ``offset_ms``."""

    every_ms: fields.Milliseconds
    offset_ms: fields.Milliseconds = 0


class SpecField(fields.Body, kw_only=True):
    """When a schedule fires: at all times of its parts, but those that ``skip`` has.

    ``start_at`` and ``end_at`` are the first and the last possible time. ``time_zone_name`` is the zone of the clock
    that calendars and cron strings read; UTC if empty.
    """

    calendars: list[CalendarField] = []
    intervals: list[IntervalField] = []
    cron_expressions: list[str] = []
    skip: list[CalendarField] = []
    start_at: Time | None = None
    end_at: Time | None = None
    jitter_ms: fields.Milliseconds = 0
    time_zone_name: str = ""

    def spec(self) -> ScheduleSpec:
        """As the client takes it.

        Raises:
            ValueError: a calendar cannot be read.
        """
        return ScheduleSpec(
            calendars=[part.calendar(f"spec.calendars[{number}]") for number, part in enumerate(self.calendars)],
            intervals=[
                ScheduleIntervalSpec(
                    timedelta(milliseconds=part.every_ms), timedelta(milliseconds=part.offset_ms) or None
                )
                for part in self.intervals
            ],
            cron_expressions=self.cron_expressions,
            skip=[part.calendar(f"spec.skip[{number}]") for number, part in enumerate(self.skip)],
            start_at=self.start_at,
            end_at=self.end_at,
            jitter=timedelta(milliseconds=self.jitter_ms) or None,
            time_zone_name=self.time_zone_name or None,
        )


class PolicyField(fields.Body, kw_only=True):
    """What a fire does while a workflow of the schedule runs; how late a fire may be; whether a failure pauses it."""

    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catchup_window_ms: fields.Milliseconds = _CATCHUP_WINDOW_MS
    pause_on_failure: bool = False

    def policy(self) -> SchedulePolicy:
        """As the client takes it."""
        return SchedulePolicy(
            overlap=ScheduleOverlapPolicy[self.overlap.name],
            catchup_window=timedelta(milliseconds=self.catchup_window_ms),
            pause_on_failure=self.pause_on_failure,
        )


class RangeField(fields.Body, kw_only=True):
    """Times to fire for as if they were now, both ends included. Without ``overlap``: by the schedule's policy."""

    start_at: Time
    end_at: Time
    overlap: OverlapPolicy | None = None

    def backfill(self) -> ScheduleBackfill:
        """As the client takes it.

        Raises:
            ValueError: it ends before it starts.
        """
        if self.end_at < self.start_at:
            raise ValueError("a backfill's end_at is before its start_at")
        overlap = None if self.overlap is None else ScheduleOverlapPolicy[self.overlap.name]
        return ScheduleBackfill(self.start_at, self.end_at, overlap)


# --- what ----------------------------------------------------------------------------------------------------------


class ActionField(fields.Body, kw_only=True):
    """The workflow that each fire starts. The time of the fire is added to ``workflow_id``."""

    workflow_type: fields.Name
    task_queue: fields.Name
    workflow_id: fields.WorkflowId
    args: fields.Arguments = []
    execution_timeout_ms: fields.Milliseconds | None = None
    run_timeout_ms: fields.Milliseconds | None = None
    task_timeout_ms: fields.Milliseconds | None = None
    retry_policy: fields.RetryPolicyField | None = None
    memo: dict[str, msgspec.Raw] = {}
    search_attributes: dict[str, SearchAttribute] = {}
    static_summary: Text = msgspec.field(default_factory=lambda: _NULL)
    static_details: Text = msgspec.field(default_factory=lambda: _NULL)
    priority: fields.PriorityField | None = None

    def action(self) -> ScheduleActionStartWorkflow:
        """As the client takes it.

        Raises:
            ValueError: a value makes no sense.
        """
        action = ScheduleActionStartWorkflow(
            self.workflow_type,
            args=[value.payload for value in raw_values(self.args, "action.args")],
            id=self.workflow_id,
            task_queue=self.task_queue,
            execution_timeout=fields.duration(self.execution_timeout_ms),
            run_timeout=fields.duration(self.run_timeout_ms),
            task_timeout=fields.duration(self.task_timeout_ms),
            retry_policy=None if self.retry_policy is None else self.retry_policy.policy(),
            memo={key: _payload(value, f"action.memo.{key}") for key, value in self.memo.items()} or None,
            typed_search_attributes=typed_attributes(self.search_attributes) or TypedSearchAttributes.empty,
            priority=Priority.default if self.priority is None else self.priority.priority(),
        )
        action.static_summary = _text(self.static_summary, "action.static_summary")
        action.static_details = _text(self.static_details, "action.static_details")
        return action


def _payload(value: msgspec.Raw, where: str) -> Payload:
    return raw_values([value], where)[0].payload


def _text(value: msgspec.Raw, where: str) -> Payload | None:
    if bytes(value) == b"null":
        return None
    if bytes(value)[:1] not in (b'"', b"{"):
        raise ValueError(f"{where} is no text; put it in quotes")
    return _payload(value, where)


# --- as they are shown ------------------------------------------------------------------------------------------------


class FireView(msgspec.Struct, kw_only=True):
    """A fire that started a workflow.

    ``nominal_time`` is that of the spec, ``scheduled_time`` the same with jitter. ``manual``: triggered or backfilled.
    """

    nominal_time: datetime | None
    scheduled_time: datetime | None
    started_time: datetime | None
    workflow_id: str
    run_id: str
    status: WorkflowStatus
    manual: bool


class OmissionView(msgspec.Struct, kw_only=True):
    """A fire that started no workflow, and why."""

    nominal_time: datetime | None
    omitted_time: datetime | None
    reason: OmissionReason
    detail: str


class ScheduleRow(msgspec.Struct, kw_only=True):
    """A schedule in a list. ``spec_text`` says in words when it fires; ``recent`` are its newest fires, oldest first.

    ``next_times`` are those of the spec, also while it is paused.
    """

    schedule_id: str
    workflow_type: str
    spec: SpecField
    spec_text: str
    paused: bool
    note: str
    recent: list[FireView]
    next_times: list[datetime]
    memo: dict[str, msgspec.Raw]
    search_attributes: dict[str, SearchAttribute]


class ScheduleView(Answer, kw_only=True):
    """A schedule as the engine sees it now.

    ``remaining_actions`` ``null``: no limit. ``revision`` counts updates, pauses and used actions. ``running`` are the
    fires whose workflows are not known to have ended, ``recent`` the newest, oldest first, ``omitted`` the newest that
    started no workflow; ``buffered`` wait for a workflow to end. ``next_times`` are those of the spec, also while it is
    paused.
    """

    schedule_id: str
    action: ActionField
    spec: SpecField
    spec_text: str
    policy: PolicyField
    paused: bool
    note: str
    remaining_actions: int | None
    memo: dict[str, msgspec.Raw]
    search_attributes: dict[str, SearchAttribute]
    revision: int
    created_time: datetime | None
    updated_time: datetime | None
    num_actions: int
    num_actions_skipped_overlap: int
    num_actions_missed_catchup_window: int
    num_actions_dropped_buffer: int
    num_actions_refused: int
    buffered: int
    running: list[FireView]
    recent: list[FireView]
    omitted: list[OmissionView]
    next_times: list[datetime]


def schedule_row(summary: records.ExecutionSummary, now_ms: int) -> ScheduleRow:
    """A schedule from its summary; times that have passed since it was written are left out."""
    shown = summary.schedule
    assert shown is not None, f"the list of schedules has run {summary.run_id}, which is none"
    return ScheduleRow(
        schedule_id=shown.schedule_id,
        workflow_type=shown.workflow_type,
        spec=_spec_field(shown.spec),
        spec_text=spec_words(shown.spec),
        paused=shown.paused,
        note=shown.note,
        recent=[_fire(fire) for fire in shown.recent],
        next_times=_times([time_ms for time_ms in shown.next_ms if time_ms >= now_ms]),
        memo={key: json_of(value) for key, value in summary.memo.items()},
        search_attributes=search_attributes_of(summary.search_attributes),
    )


def schedule_view(described: records.ScheduleDescribed) -> ScheduleView:
    """A schedule from the engine's description."""
    definition, progress = described.definition, described.progress
    return ScheduleView(
        schedule_id=described.schedule_id,
        action=_action_field(definition.action),
        spec=_spec_field(definition.spec),
        spec_text=spec_words(definition.spec),
        policy=PolicyField(
            overlap=definition.overlap,
            catchup_window_ms=definition.catchup_window_ms,
            pause_on_failure=definition.pause_on_failure,
        ),
        paused=progress.paused,
        note=progress.note,
        remaining_actions=progress.remaining_actions if progress.limited_actions else None,
        memo={key: json_of(value) for key, value in definition.memo.items()},
        search_attributes=search_attributes_of(definition.search_attributes),
        revision=progress.revision,
        created_time=time_of(progress.created_ms),
        updated_time=time_of(progress.updated_ms or None),
        num_actions=progress.actions,
        num_actions_skipped_overlap=progress.skipped_overlap,
        num_actions_missed_catchup_window=progress.missed_catchup_window,
        num_actions_dropped_buffer=progress.dropped_buffer,
        num_actions_refused=progress.refused,
        buffered=len(progress.buffered),
        running=[_fire(fire) for fire in progress.running],
        recent=[_fire(fire) for fire in progress.recent],
        omitted=[
            OmissionView(
                nominal_time=time_of(gap.nominal_ms),
                omitted_time=time_of(gap.time_ms),
                reason=gap.reason,
                detail=gap.detail,
            )
            for gap in progress.omitted
        ],
        next_times=_times(described.next_ms),
    )


def _times(times_ms: list[int]) -> list[datetime]:
    return [found for found in map(time_of, times_ms) if found is not None]


def _fire(fire: records.ScheduleFire) -> FireView:
    return FireView(
        nominal_time=time_of(fire.nominal_ms),
        scheduled_time=time_of(fire.scheduled_ms),
        started_time=time_of(fire.started_ms),
        workflow_id=fire.workflow_id,
        run_id=fire.run_id,
        status=fire.status or WorkflowStatus.RUNNING,
        manual=fire.manual,
    )


def _spec_field(spec: records.ScheduleSpec) -> SpecField:
    return SpecField(
        calendars=[_calendar_field(calendar) for calendar in spec.calendars],
        intervals=[IntervalField(every_ms=part.every_ms, offset_ms=part.offset_ms) for part in spec.intervals],
        cron_expressions=spec.cron_expressions,
        skip=[_calendar_field(calendar) for calendar in spec.skip],
        start_at=time_of(spec.start_at_ms or None),
        end_at=time_of(spec.end_at_ms or None),
        jitter_ms=spec.jitter_ms,
        time_zone_name=spec.time_zone_name,
    )


def _calendar_field(calendar: records.ScheduleCalendar) -> CalendarField:
    texts = {name: field_text(name, getattr(calendar, name)) for name in CALENDAR_FIELDS}
    return CalendarField(**texts, comment=calendar.comment)


def _action_field(action: records.ScheduleAction) -> ActionField:
    policy, priority = action.retry_policy, action.priority
    return ActionField(
        workflow_type=action.workflow_type,
        task_queue=action.task_queue,
        workflow_id=action.workflow_id,
        args=json_values(action.input),
        execution_timeout_ms=action.execution_timeout_ms,
        run_timeout_ms=action.run_timeout_ms,
        task_timeout_ms=action.task_timeout_ms,
        retry_policy=None if policy is None else fields.RetryPolicyField(**msgspec.structs.asdict(policy)),
        memo={key: json_of(value) for key, value in action.memo.items()},
        search_attributes=search_attributes_of(action.search_attributes),
        static_summary=json_of(action.static_summary),
        static_details=json_of(action.static_details),
        priority=None
        if priority == records.TaskPriority()
        else fields.PriorityField(
            priority_key=priority.priority,
            fairness_key=priority.fairness_key or None,
            fairness_weight=priority.fairness_weight,
        ),
    )
