"""When a schedule fires, and by which policies: what users write, and how it stands in the log.

Names are those of ``temporalio.client``. Invariant: what is read back from the log equals what was written into it.
Called by the schedule's action, handle and description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from perdure.client._description import utc_time
from perdure.common import to_milliseconds
from perdure_schemas import records

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CATCHUP_WINDOW_DEFAULT = timedelta(days=365)


class ScheduleOverlapPolicy(IntEnum):
    """What a fire does while a workflow that the schedule started still runs."""

    #: Nothing.
    SKIP = 1
    #: It waits for the end, if no other one waits already.
    BUFFER_ONE = 2
    #: It waits for the end, and for those that came before it.
    BUFFER_ALL = 3
    #: The running workflow is asked to stop, and the new one starts when it has ended.
    CANCEL_OTHER = 4
    #: The running workflow is terminated.
    TERMINATE_OTHER = 5
    #: The new workflow runs beside it. It gets no result or failure of an earlier one.
    ALLOW_ALL = 6


@dataclass(frozen=True)
class ScheduleRange:
    """Numbers from ``start`` to ``end``, both included, ``step`` apart. Without ``end``: ``start`` alone."""

    start: int
    end: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        """Fill in what was left out."""
        if self.end < self.start:
            object.__setattr__(self, "end", self.start)
        if self.step == 0:
            object.__setattr__(self, "step", 1)


@dataclass
class ScheduleCalendarSpec:
    """Times at which a clock reads one of the numbers of each field. Days of the week count from Sunday, 0.

    No year means every year. As it is, it means every day at midnight.
    """

    second: Sequence[ScheduleRange] = (ScheduleRange(0),)
    minute: Sequence[ScheduleRange] = (ScheduleRange(0),)
    hour: Sequence[ScheduleRange] = (ScheduleRange(0),)
    day_of_month: Sequence[ScheduleRange] = (ScheduleRange(1, 31),)
    month: Sequence[ScheduleRange] = (ScheduleRange(1, 12),)
    year: Sequence[ScheduleRange] = ()
    day_of_week: Sequence[ScheduleRange] = (ScheduleRange(0, 6),)
    comment: str | None = None


@dataclass
class ScheduleIntervalSpec:
    """Times that are a multiple of ``every`` since 1970, moved by ``offset``."""

    every: timedelta
    offset: timedelta | None = None


@dataclass
class ScheduleSpec:
    """When a schedule fires: at all times of its parts, but those that ``skip`` has.

    Attributes:
        calendars, intervals, cron_expressions: Its parts.
        skip: What is left out.
        start_at, end_at: The first and the last possible time, both included.
        jitter: Each fire is late by a part of this, but never as late as the next one.
        time_zone_name: The zone of the clock that ``calendars``, ``skip`` and ``cron_expressions`` read; UTC if not
            given. What falls into an hour that daylight saving leaves out does not happen, what falls into the one that
            it repeats happens twice.
    """

    calendars: Sequence[ScheduleCalendarSpec] = field(default_factory=list)
    intervals: Sequence[ScheduleIntervalSpec] = field(default_factory=list)
    cron_expressions: Sequence[str] = field(default_factory=list)
    skip: Sequence[ScheduleCalendarSpec] = field(default_factory=list)
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: timedelta | None = None
    time_zone_name: str | None = None


@dataclass
class SchedulePolicy:
    """Policies of a schedule.

    Attributes:
        overlap: What a fire does while a workflow of the schedule still runs.
        catchup_window: How late a fire may be, after the engine was away; a year if not given, at least 10 s.
        pause_on_failure: Pause when a workflow failed or timed out, once its retries are over.
    """

    overlap: ScheduleOverlapPolicy = field(default_factory=lambda: ScheduleOverlapPolicy.SKIP)
    catchup_window: timedelta | None = None
    pause_on_failure: bool = False


@dataclass
class ScheduleState:
    """The switches of a schedule.

    Attributes:
        note: What people should know; a pause because of a failure writes its reason here.
        paused: It fires by hand only.
        limited_actions: It fires by its spec ``remaining_actions`` more times.
    """

    note: str | None = None
    paused: bool = False
    limited_actions: bool = False
    remaining_actions: int = 0


@dataclass
class ScheduleBackfill:
    """A range of times, both ends included, for which the schedule fires as if they were now."""

    start_at: datetime
    end_at: datetime
    overlap: ScheduleOverlapPolicy | None = None


# --- to the log -------------------------------------------------------------------------------------------------------


def time_ms(time: datetime, what: str) -> int:
    """A time as the log has it.

    Raises:
        TypeError: it is none. ValueError: it has no time zone, so it could mean anything.
    """
    if not isinstance(time, datetime):
        raise TypeError(f"{what} must be a datetime, not {type(time).__name__}")
    if time.tzinfo is None:
        raise ValueError(f"{what} has no time zone; give one, for example datetime(…, tzinfo=timezone.utc)")
    return (time - _EPOCH) // _MILLISECOND


def overlap_record(overlap: ScheduleOverlapPolicy) -> records.OverlapPolicy:
    """A policy as the log has it."""
    return records.OverlapPolicy[ScheduleOverlapPolicy(overlap).name]


def spec_record(spec: ScheduleSpec) -> records.ScheduleSpec:
    """A spec as the log has it; what is wrong with its numbers the engine says.

    Raises:
        TypeError, ValueError: a value has the wrong type, or a time has no zone.
    """
    return records.ScheduleSpec(
        calendars=[_calendar_record(calendar) for calendar in spec.calendars],
        intervals=[
            records.ScheduleInterval(
                every_ms=to_milliseconds(interval.every, "every"),
                offset_ms=0 if interval.offset is None else to_milliseconds(interval.offset, "offset"),
            )
            for interval in spec.intervals
        ],
        cron_expressions=list(spec.cron_expressions),
        skip=[_calendar_record(calendar) for calendar in spec.skip],
        start_at_ms=0 if spec.start_at is None else time_ms(spec.start_at, "start_at"),
        end_at_ms=0 if spec.end_at is None else time_ms(spec.end_at, "end_at"),
        jitter_ms=0 if spec.jitter is None else to_milliseconds(spec.jitter, "jitter"),
        time_zone_name=spec.time_zone_name or "",
    )


def catchup_window_ms(policy: SchedulePolicy) -> int:
    """How late a fire may be, as the log has it.

    Raises:
        TypeError, ValueError: it is no duration, or negative.
    """
    window = _CATCHUP_WINDOW_DEFAULT if policy.catchup_window is None else policy.catchup_window
    return to_milliseconds(window, "catchup_window")


def backfill_record(backfill: ScheduleBackfill) -> records.BackfillRange:
    """A backfill as the log has it.

    Raises:
        TypeError, ValueError: an end is no time, or has no zone.
    """
    return records.BackfillRange(
        start_ms=time_ms(backfill.start_at, "start_at"),
        end_ms=time_ms(backfill.end_at, "end_at"),
        overlap=None if backfill.overlap is None else overlap_record(backfill.overlap),
    )


def _calendar_record(calendar: ScheduleCalendarSpec) -> records.ScheduleCalendar:
    return records.ScheduleCalendar(
        second=_range_records(calendar.second),
        minute=_range_records(calendar.minute),
        hour=_range_records(calendar.hour),
        day_of_month=_range_records(calendar.day_of_month),
        month=_range_records(calendar.month),
        year=_range_records(calendar.year),
        day_of_week=_range_records(calendar.day_of_week),
        comment=calendar.comment or "",
    )


def _range_records(ranges: Sequence[ScheduleRange]) -> list[records.ScheduleRange]:
    return [records.ScheduleRange(start=part.start, end=part.end, step=part.step) for part in ranges]


# --- from the log -----------------------------------------------------------------------------------------------------


def spec_of(record: records.ScheduleSpec) -> ScheduleSpec:
    """A spec of the log as users have it."""
    return ScheduleSpec(
        calendars=[_calendar_of(calendar) for calendar in record.calendars],
        intervals=[
            ScheduleIntervalSpec(
                timedelta(milliseconds=interval.every_ms),
                timedelta(milliseconds=interval.offset_ms) if interval.offset_ms else None,
            )
            for interval in record.intervals
        ],
        cron_expressions=list(record.cron_expressions),
        skip=[_calendar_of(calendar) for calendar in record.skip],
        start_at=utc_time(record.start_at_ms) if record.start_at_ms else None,
        end_at=utc_time(record.end_at_ms) if record.end_at_ms else None,
        jitter=timedelta(milliseconds=record.jitter_ms) if record.jitter_ms else None,
        time_zone_name=record.time_zone_name or None,
    )


def policy_of(definition: records.ScheduleDefinition) -> SchedulePolicy:
    """The policies of a schedule in the log as users have them."""
    return SchedulePolicy(
        overlap=ScheduleOverlapPolicy[definition.overlap.name],
        catchup_window=timedelta(milliseconds=definition.catchup_window_ms),
        pause_on_failure=definition.pause_on_failure,
    )


def state_of(progress: records.ScheduleProgress) -> ScheduleState:
    """The switches of a schedule in the log as users have them."""
    return ScheduleState(
        note=progress.note or None,
        paused=progress.paused,
        limited_actions=progress.limited_actions,
        remaining_actions=progress.remaining_actions,
    )


def _calendar_of(record: records.ScheduleCalendar) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        second=_ranges_of(record.second),
        minute=_ranges_of(record.minute),
        hour=_ranges_of(record.hour),
        day_of_month=_ranges_of(record.day_of_month),
        month=_ranges_of(record.month),
        year=_ranges_of(record.year),
        day_of_week=_ranges_of(record.day_of_week),
        comment=record.comment or None,
    )


def _ranges_of(ranges: Sequence[records.ScheduleRange]) -> Sequence[ScheduleRange]:
    return tuple(ScheduleRange(part.start, part.end, part.step) for part in ranges)
