"""When a schedule fires next: a pure function of its spec, a time and the definitions of time zones.

A time belongs to a calendar if a clock of the zone reads one of the calendar's readings *at that time*. So what falls
into an hour that daylight saving leaves out does not happen on that day, and what falls into the hour that it repeats
happens twice. Intervals count from 1970 and know no zone. Times are milliseconds since 1970, UTC.

Invariant: what is decided with it is written into the history, so another version of a time zone never changes what
was decided. Handed to the core as part of its policy.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from perdure_history.schedules.calendars import Calendar
from perdure_history.schedules.cron_strings import parse_cron_string
from perdure_schemas.limits import SCHEDULE_INTERVAL_MS_MIN, SCHEDULE_PARTS_MAX, SCHEDULE_YEAR_MAX
from perdure_schemas.records import ScheduleInterval, ScheduleSpec

__all__ = ["SpecTimes", "jitter_ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND_MS = 1_000
#: No zone changes its offset twice within this time.
_PROBE_MS = 86_400_000
_END_MS = (datetime(SCHEDULE_YEAR_MAX, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // _MILLISECOND
#: How many times that ``skip`` takes away are passed over before the spec counts as one without a next time.
_SKIPPED_MAX = 10_000


class SpecTimes:
    """The times of a spec.

    Args:
        spec: the spec.
        seed: what the jitter depends on besides the time: the schedule's id.

    Raises:
        ValueError: something in the spec cannot be; the message says what.
    """

    def __init__(self, spec: ScheduleSpec, seed: str = "") -> None:
        parts = len(spec.calendars) + len(spec.intervals) + len(spec.cron_expressions) + len(spec.skip)
        if parts > SCHEDULE_PARTS_MAX:
            raise ValueError(
                f"the spec has {parts} calendars, intervals and cron expressions; the limit is {SCHEDULE_PARTS_MAX}"
            )
        if spec.jitter_ms < 0:
            raise ValueError(f"the jitter is {spec.jitter_ms} ms; it cannot be negative")
        if spec.start_at_ms and spec.end_at_ms and spec.start_at_ms > spec.end_at_ms:
            raise ValueError("the spec ends before it starts")
        self._seed = seed
        self._jitter_ms = spec.jitter_ms
        self._start_ms = spec.start_at_ms
        self._end_ms = min(spec.end_at_ms or _END_MS, _END_MS)
        zone = _zone(spec.time_zone_name)
        self._calendars = [(Calendar(calendar), zone) for calendar in spec.calendars]
        self._intervals = list(spec.intervals)
        for text in spec.cron_expressions:
            parsed = parse_cron_string(text)
            if parsed.interval is not None:
                self._intervals.append(parsed.interval)
            else:
                assert parsed.calendar is not None
                self._calendars.append((Calendar(parsed.calendar), _zone(parsed.zone) if parsed.zone else zone))
        for interval in self._intervals:
            _check_interval(interval)
        self._skip = [Calendar(calendar) for calendar in spec.skip]
        self._skip_zone = zone

    def next_ms(self, after_ms: int) -> int | None:
        """The first time behind ``after_ms``, without jitter; ``None`` if there is none."""
        after_ms = max(after_ms, self._start_ms - 1)
        for _ in range(_SKIPPED_MAX):
            found = self._next_unskipped_ms(after_ms)
            if found is None or found > self._end_ms:
                return None
            behind_ms = self._skipped_until_ms(found)
            if behind_ms is None:
                return found
            after_ms = behind_ms - 1
        return None

    def scheduled_ms(self, nominal_ms: int) -> int:
        """A time of the spec with its jitter: the same whenever it is asked for, and before the next time."""
        if not self._jitter_ms:
            return nominal_ms
        following = self.next_ms(nominal_ms)
        span_ms = self._jitter_ms if following is None else min(self._jitter_ms, following - nominal_ms - 1)
        return nominal_ms + jitter_ms(self._seed, nominal_ms, span_ms)

    def text(self, time_ms: int) -> str:
        """A time in ISO 8601 and UTC, with milliseconds only where it has any."""
        shown = (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(
            timespec="milliseconds" if time_ms % _SECOND_MS else "seconds"
        )
        return shown.replace("+00:00", "Z")

    def _next_unskipped_ms(self, after_ms: int) -> int | None:
        found = [_next_of_interval_ms(interval, after_ms) for interval in self._intervals]
        for calendar, zone in self._calendars:
            time_ms = _next_of_calendar_ms(calendar, zone, after_ms)
            if time_ms is not None:
                found.append(time_ms)
        return min(found, default=None)

    def _skipped_until_ms(self, time_ms: int) -> int | None:
        """From when on a time that ``skip`` has may not be in it any more; ``None`` if it is not in it."""
        if not self._skip:
            return None
        offset_ms = _offset_ms(self._skip_zone, time_ms)
        second_ms = time_ms - time_ms % _SECOND_MS
        reading = _reading(second_ms + offset_ms)
        for calendar in self._skip:
            if calendar.matches(reading):
                behind_ms = _reading_ms(calendar.skips_to(reading)) - offset_ms
                # The stretch may end early where the clock is put forward or back.
                change_ms = _change_ms(self._skip_zone, second_ms, behind_ms)
                return behind_ms if change_ms is None else change_ms
        return None


def jitter_ms(seed: str, nominal_ms: int, span_ms: int) -> int:
    """A number from 0 to ``span_ms``, the same for the same seed and time."""
    digest = hashlib.blake2b(f"{seed}/{nominal_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (span_ms + 1)


def _check_interval(interval: ScheduleInterval) -> None:
    if interval.every_ms < SCHEDULE_INTERVAL_MS_MIN:
        raise ValueError(f"an interval is {interval.every_ms} ms long; the shortest is {SCHEDULE_INTERVAL_MS_MIN} ms")
    if not 0 <= interval.offset_ms < interval.every_ms:
        raise ValueError(
            f"an interval of {interval.every_ms} ms has an offset of {interval.offset_ms} ms; it must be from 0 on, and"
            " shorter than the interval"
        )


def _next_of_interval_ms(interval: ScheduleInterval, after_ms: int) -> int:
    every_ms = interval.every_ms
    return ((after_ms - interval.offset_ms) // every_ms + 1) * every_ms + interval.offset_ms


def _next_of_calendar_ms(calendar: Calendar, zone: tzinfo, after_ms: int) -> int | None:
    """The first second behind ``after_ms`` at which the zone's clock reads one of the calendar's readings.

    The timeline is taken in stretches in which the zone's offset is the same.
    """
    time_ms = (after_ms // _SECOND_MS + 1) * _SECOND_MS
    while True:
        offset_ms = _offset_ms(zone, time_ms)
        reading = calendar.first(_reading(time_ms + offset_ms))
        if reading is None:
            return None
        found_ms = _reading_ms(reading) - offset_ms
        change_ms = _change_ms(zone, time_ms, found_ms)
        if change_ms is None:
            return found_ms
        time_ms = change_ms


def _change_ms(zone: tzinfo, from_ms: int, to_ms: int) -> int | None:
    """The first second behind ``from_ms``, up to ``to_ms``, with another offset; ``None`` if there is none."""
    if zone is UTC:
        return None
    offset_ms = _offset_ms(zone, from_ms)
    low_ms = from_ms
    while low_ms < to_ms:
        high_ms = min(low_ms + _PROBE_MS, to_ms)
        if _offset_ms(zone, high_ms) != offset_ms:
            while high_ms - low_ms > _SECOND_MS:
                middle_ms = (low_ms + high_ms) // (2 * _SECOND_MS) * _SECOND_MS
                if middle_ms <= low_ms:
                    middle_ms = low_ms + _SECOND_MS
                if _offset_ms(zone, middle_ms) != offset_ms:
                    high_ms = middle_ms
                else:
                    low_ms = middle_ms
            return high_ms
        low_ms = high_ms
    return None


def _offset_ms(zone: tzinfo, time_ms: int) -> int:
    if zone is UTC:
        return 0
    offset = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // _MILLISECOND


_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a clock's reading


def _reading(local_ms: int) -> datetime:
    return _NAIVE_EPOCH + timedelta(milliseconds=local_ms)


def _reading_ms(reading: datetime) -> int:
    return (reading - _NAIVE_EPOCH) // _MILLISECOND


def _zone(name: str) -> tzinfo:
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; write a name like Europe/Zurich") from None
