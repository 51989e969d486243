"""Schedules: what one is, how far it has come, and what clients ask of it.

A schedule lives in ``history`` as a run whose workflow id :func:`perdure_schemas.keys.schedule_workflow_id` gives.
Every record of its progress is complete in itself and replaces the one before, so a schedule takes the same space
whatever its age.
"""

from __future__ import annotations

from enum import StrEnum

from perdure_schemas.records.common import (
    Failure,
    Payload,
    Record,
    RetryPolicy,
    TaskPriority,
    Variant,
    WorkflowStatus,
)

__all__ = [
    "BackfillRange",
    "BackfillSchedule",
    "BufferedStart",
    "CreateSchedule",
    "DeleteSchedule",
    "DescribeSchedule",
    "ListScheduleTimes",
    "OmissionReason",
    "OverlapPolicy",
    "PauseSchedule",
    "ScheduleAction",
    "ScheduleCalendar",
    "ScheduleCreated",
    "ScheduleDefinition",
    "ScheduleDescribed",
    "ScheduleFire",
    "ScheduleInterval",
    "ScheduleOmission",
    "ScheduleOrigin",
    "ScheduleProgress",
    "ScheduleRange",
    "ScheduleRecorded",
    "ScheduleRequest",
    "ScheduleSpec",
    "ScheduleStop",
    "ScheduleSummary",
    "ScheduleTimes",
    "TriggerSchedule",
    "UnpauseSchedule",
    "UpdateSchedule",
]


class OverlapPolicy(StrEnum):
    """What a fire does while a workflow that the schedule started is still running."""

    SKIP = "SKIP"
    BUFFER_ONE = "BUFFER_ONE"
    BUFFER_ALL = "BUFFER_ALL"
    CANCEL_OTHER = "CANCEL_OTHER"
    TERMINATE_OTHER = "TERMINATE_OTHER"
    ALLOW_ALL = "ALLOW_ALL"


# --- what a schedule is -----------------------------------------------------------------------------------------------


class ScheduleRange(Record, frozen=True, kw_only=True):
    """The numbers from ``start`` to ``end``, both included, ``step`` apart."""

    start: int
    end: int
    step: int = 1


class ScheduleCalendar(Record, frozen=True, kw_only=True):
    """The seconds whose reading on the clock of the zone has every field in one of its ranges. No year: every year.

    Days of the week count from Sunday, which is 0, to Saturday, which is 6.
    """

    second: list[ScheduleRange] = []
    minute: list[ScheduleRange] = []
    hour: list[ScheduleRange] = []
    day_of_month: list[ScheduleRange] = []
    month: list[ScheduleRange] = []
    year: list[ScheduleRange] = []
    day_of_week: list[ScheduleRange] = []
    comment: str = ""


class ScheduleInterval(Record, frozen=True, kw_only=True):
    """1970 + n · every + offset."""

    every_ms: int
    offset_ms: int = 0


class ScheduleSpec(Record, frozen=True, kw_only=True):
    """When a schedule fires: at all times of its parts but those that ``skip`` has, from ``start_at`` to ``end_at``.

    Both of these are included; 0: without limit. ``time_zone_name`` empty: UTC.
    """

    calendars: list[ScheduleCalendar] = []
    intervals: list[ScheduleInterval] = []
    cron_expressions: list[str] = []
    skip: list[ScheduleCalendar] = []
    start_at_ms: int = 0
    end_at_ms: int = 0
    jitter_ms: int = 0
    time_zone_name: str = ""


class ScheduleAction(Record, frozen=True, kw_only=True):
    """The workflow that each fire starts. The time of the fire is added to ``workflow_id``."""

    workflow_id: str
    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 10_000
    retry_policy: RetryPolicy | None = None
    memo: dict[str, Payload] = {}
    search_attributes: dict[str, Payload] = {}
    static_summary: Payload | None = None
    static_details: Payload | None = None
    priority: TaskPriority = TaskPriority()


class ScheduleDefinition(Record, frozen=True, kw_only=True):
    """What an update replaces as a whole, and what the schedule carries."""

    action: ScheduleAction
    spec: ScheduleSpec
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catchup_window_ms: int = 365 * 86_400_000
    pause_on_failure: bool = False
    memo: dict[str, Payload] = {}
    search_attributes: dict[str, Payload] = {}


# --- how far it has come ----------------------------------------------------------------------------------------------


class OmissionReason(StrEnum):
    """Why a fire started no workflow."""

    #: The policy is SKIP, or the buffer of BUFFER_ONE holds one, and a workflow was running.
    OVERLAP = "OVERLAP"
    #: It came later than the catch-up window allows.
    CATCHUP_WINDOW = "CATCHUP_WINDOW"
    BUFFER_FULL = "BUFFER_FULL"
    #: It waited for a workflow to end, and by then the schedule was paused, or no actions remained.
    PAUSED = "PAUSED"
    NO_ACTIONS_REMAIN = "NO_ACTIONS_REMAIN"
    #: The start was refused: mostly because a workflow of the same id is running.
    START_REFUSED = "START_REFUSED"


class ScheduleFire(Record, frozen=True, kw_only=True):
    """A fire that started a workflow. ``number`` counts the schedule's fires; ids follow from it.

    Times are those of the spec, the same with jitter, and when the start was decided. ``status`` ``None``: not closed.
    """

    number: int
    nominal_ms: int
    scheduled_ms: int
    started_ms: int
    workflow_id: str
    run_id: str
    overlap: OverlapPolicy
    #: Triggered or backfilled.
    manual: bool = False
    status: WorkflowStatus | None = None
    #: What was asked of it to make room: "CANCEL" or "TERMINATE".
    stop: str = ""


class ScheduleOmission(Record, frozen=True, kw_only=True):
    """A fire that started no workflow, and why."""

    nominal_ms: int
    time_ms: int
    reason: OmissionReason
    detail: str = ""


class BufferedStart(Record, frozen=True, kw_only=True):
    """A fire that waits for a workflow to end. ``manual``: triggered or backfilled, so pauses do not concern it."""

    nominal_ms: int
    scheduled_ms: int
    overlap: OverlapPolicy
    manual: bool = False


class BackfillRange(Record, frozen=True, kw_only=True):
    """Times to fire for as if they were now, both ends included. ``overlap`` ``None``: the schedule's policy."""

    start_ms: int
    end_ms: int
    overlap: OverlapPolicy | None = None


class ScheduleProgress(Record, frozen=True, kw_only=True):
    """Everything about a schedule that changes by itself, and its switches.

    Attributes:
        covered_ms: every time of the spec up to here was fired or omitted.
        next_due_ms: when it has to be looked at again; 0: not before something happens.
        newest_number / newest_manual_ms: of the newest fire, and the time of the newest one that was triggered.
        revision: counts updates, and decisions that change what an update writes here (whether it is paused, its note,
            its actions left), for those who update what they have read.
        backfills: what is left of them.
        running: the newest fires whose workflows are not known to be closed.
        recent / omitted: the newest fires, oldest first, and the newest that started nothing.
    """

    paused: bool = False
    note: str = ""
    limited_actions: bool = False
    remaining_actions: int = 0
    covered_ms: int = 0
    next_due_ms: int = 0
    #: The next times of the spec, with jitter.
    upcoming_ms: list[int] = []
    created_ms: int = 0
    updated_ms: int = 0
    revision: int = 0
    newest_number: int = 0
    newest_manual_ms: int = 0
    buffered: list[BufferedStart] = []
    backfills: list[BackfillRange] = []
    running: list[ScheduleFire] = []
    recent: list[ScheduleFire] = []
    omitted: list[ScheduleOmission] = []
    actions: int = 0
    missed_catchup_window: int = 0
    skipped_overlap: int = 0
    dropped_buffer: int = 0
    refused: int = 0
    last_completion_result: list[Payload] = []
    last_failure: Failure | None = None
    #: The newest commands of clients that changed it: the same ones are answered with success again.
    command_ids: list[str] = []


class ScheduleStop(Record, frozen=True, kw_only=True):
    """A running workflow of the schedule that has to make room."""

    number: int
    workflow_id: str
    run_id: str
    terminate: bool = False


class ScheduleCreated(Variant, frozen=True, kw_only=True):
    """The schedule exists: the first event of its run."""

    schedule_id: str
    identity: str = ""
    command_id: str = ""


class ScheduleRecorded(Variant, frozen=True, kw_only=True):
    """What a decision made of a schedule, complete in itself. ``definition`` ``None``: as before.

    ``started`` are the numbers of the fires (found in ``progress.running``) that this decision starts.
    """

    definition: ScheduleDefinition | None = None
    progress: ScheduleProgress
    started: list[int] = []
    stopped: list[ScheduleStop] = []


class ScheduleOrigin(Record, frozen=True, kw_only=True):
    """The schedule that started a workflow, by which of its fires; who is told how the last run of the chain ends."""

    workflow_id: str
    run_id: str
    number: int
    schedule_id: str
    nominal_ms: int


# --- from clients -----------------------------------------------------------------------------------------------------


class CreateSchedule(Variant, frozen=True, kw_only=True):
    """Make a schedule. ``run_id`` is proposed by the asker, so that a repetition has the same one."""

    run_id: str
    schedule_id: str
    definition: ScheduleDefinition
    paused: bool = False
    note: str = ""
    limited_actions: bool = False
    remaining_actions: int = 0
    trigger: bool = False
    backfills: list[BackfillRange] = []


class UpdateSchedule(Variant, frozen=True, kw_only=True):
    """Replace what a schedule is. Refused if it is not at ``revision`` any more (-1: whatever it is at)."""

    definition: ScheduleDefinition
    paused: bool = False
    note: str = ""
    limited_actions: bool = False
    remaining_actions: int = 0
    revision: int = -1


class PauseSchedule(Variant, frozen=True, kw_only=True):
    """Fire no more by the spec."""

    note: str = ""


class UnpauseSchedule(Variant, frozen=True, kw_only=True):
    """Fire again. Times that passed meanwhile are not made up for."""

    note: str = ""


class TriggerSchedule(Variant, frozen=True, kw_only=True):
    """Fire now, also while it is paused. ``overlap`` ``None``: by the schedule's policy."""

    overlap: OverlapPolicy | None = None


class BackfillSchedule(Variant, frozen=True, kw_only=True):
    """Fire for every time of the spec in these ranges, also while it is paused."""

    ranges: list[BackfillRange]


class DeleteSchedule(Variant, frozen=True, kw_only=True):
    """Remove a schedule. What it has started goes on."""


class DescribeSchedule(Variant, frozen=True, kw_only=True):
    """Ask for all that is known of a schedule."""


class ListScheduleTimes(Variant, frozen=True, kw_only=True):
    """Ask for the times of the spec from ``start_ms`` to ``end_ms``, both included."""

    start_ms: int
    end_ms: int
    times_max: int = 1_000


#: These stand in the union of all commands in this order; a new one goes to the end of that union.
ScheduleRequest = (
    CreateSchedule
    | UpdateSchedule
    | PauseSchedule
    | UnpauseSchedule
    | TriggerSchedule
    | BackfillSchedule
    | DeleteSchedule
    | DescribeSchedule
    | ListScheduleTimes
)


# --- answers ----------------------------------------------------------------------------------------------------------


class ScheduleDescribed(Variant, frozen=True, kw_only=True):
    """A schedule as the engine sees it now. ``next_ms``: its next times, with jitter."""

    schedule_id: str
    definition: ScheduleDefinition
    progress: ScheduleProgress
    next_ms: list[int] = []


class ScheduleTimes(Variant, frozen=True, kw_only=True):
    """Times of a schedule, with jitter. ``is_complete`` is false if there are more than were asked for."""

    times_ms: list[int]
    is_complete: bool = True


class ScheduleSummary(Record, frozen=True, kw_only=True):
    """A schedule in lists."""

    schedule_id: str
    workflow_type: str
    spec: ScheduleSpec
    paused: bool = False
    note: str = ""
    recent: list[ScheduleFire] = []
    next_ms: list[int] = []
