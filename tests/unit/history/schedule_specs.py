"""Short ways to write specs in tests, and the oracle: times found by looking at every second."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from perdure_schemas.records import ScheduleCalendar, ScheduleInterval, ScheduleRange, ScheduleSpec


def ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO time, in UTC unless it says otherwise."""
    parsed = datetime.fromisoformat(text)
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)


def iso(time_ms: int | None) -> str:
    """The opposite of :func:`ms`."""
    return "" if time_ms is None else datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def numbers(*parts: int | tuple[int, int] | tuple[int, int, int]) -> list[ScheduleRange]:
    """Ranges: a number, (first, last), or (first, last, step)."""
    found = []
    for part in parts:
        start, end, step = (part, part, 1) if isinstance(part, int) else (*part, 1)[:3]
        found.append(ScheduleRange(start=start, end=end, step=step))
    return found


def calendar(**fields: list[ScheduleRange]) -> ScheduleCalendar:
    """A calendar at midnight of every day, but for these fields."""
    every_midnight = {
        "second": numbers(0),
        "minute": numbers(0),
        "hour": numbers(0),
        "day_of_month": numbers((1, 31)),
        "month": numbers((1, 12)),
        "day_of_week": numbers((0, 6)),
    }
    return ScheduleCalendar(**{**every_midnight, **fields})


def _has(ranges: list[ScheduleRange], number: int) -> bool:
    return any(number in range(part.start, part.end + 1, part.step) for part in ranges)


def _reads(spec: ScheduleCalendar, reading: datetime) -> bool:
    return (
        _has(spec.second, reading.second)
        and _has(spec.minute, reading.minute)
        and _has(spec.hour, reading.hour)
        and _has(spec.day_of_month, reading.day)
        and _has(spec.month, reading.month)
        and _has(spec.day_of_week, (reading.weekday() + 1) % 7)
        and (not spec.year or _has(spec.year, reading.year))
    )


def _in_interval(interval: ScheduleInterval, time_ms: int) -> bool:
    return (time_ms - interval.offset_ms) % interval.every_ms == 0


def oracle(spec: ScheduleSpec, start_ms: int, end_ms: int, step_ms: int = 1_000) -> list[int]:
    """The times of a spec without cron strings behind ``start_ms`` up to ``end_ms``, by trying each ``step_ms``."""
    zone = ZoneInfo(spec.time_zone_name or "UTC")
    found = []
    for time_ms in range(start_ms - start_ms % step_ms + step_ms, end_ms + 1, step_ms):
        if time_ms < spec.start_at_ms or (spec.end_at_ms and time_ms > spec.end_at_ms):
            continue
        reading = datetime.fromtimestamp(time_ms / 1_000, zone)
        if any(_reads(skipped, reading) for skipped in spec.skip):
            continue
        if any(_reads(wanted, reading) for wanted in spec.calendars) or any(
            _in_interval(interval, time_ms) for interval in spec.intervals
        ):
            found.append(time_ms)
    return found
