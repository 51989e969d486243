"""The times of a schedule as people read and write them: in words, and field by field as cron strings have them. Pure.

Invariant: what :func:`field_text` writes, :func:`ranges_of` reads again. Called by the schedule commands and by the
schedules of the HTTP API, for what they show.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from perdure_history.schedules.calendars import FIELDS
from perdure_history.schedules.cron_strings import parse_cron_string, parse_field
from perdure_schemas.records import ScheduleCalendar, ScheduleInterval, ScheduleRange, ScheduleSpec

__all__ = ["CALENDAR_FIELDS", "field_text", "range_text", "ranges_of", "spec_words"]

#: The fields of a calendar, in the order they are shown.
CALENDAR_FIELDS = ("second", "minute", "hour", "day_of_month", "month", "year", "day_of_week")
_MONTHS = ("", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
#: So many times of a day are listed one by one.
_LISTED_MAX = 6


# --- fields -----------------------------------------------------------------------------------------------------------


def field_text(name: str, ranges: Sequence[ScheduleRange]) -> str:
    """The ranges of a calendar's field as a cron string has them: ``*``, ``6,18``, ``1-5``, ``0-58/2``."""
    if _is_full(name, ranges):
        return "*"
    return ",".join(range_text(part.start, part.end, part.step) for part in ranges)


def ranges_of(where: str, name: str, text: str) -> list[ScheduleRange]:
    """The ranges that a text of :func:`field_text`, or of a cron string, stands for.

    Args:
        where: What it stands in, for the error.
        name: Which field it is.
        text: Its text.

    Raises:
        ValueError: it cannot be read; the message says where.
    """
    return parse_field(where, name, text)


def range_text(start: int, end: int, step: int) -> str:
    """One range as a cron string has it."""
    if start == end:
        return str(start)
    return f"{start}-{end}" if step == 1 else f"{start}-{end}/{step}"


def _is_full(name: str, ranges: Sequence[ScheduleRange]) -> bool:
    if name == "year":
        return not ranges
    low, high = FIELDS[name]
    return set(range(low, high + 1)) <= set(_numbers(ranges))


def _numbers(ranges: Sequence[ScheduleRange]) -> list[int]:
    return sorted({number for part in ranges for number in range(part.start, part.end + 1, max(1, part.step))})


# --- words ------------------------------------------------------------------------------------------------------------


def spec_words(spec: ScheduleSpec) -> str:
    """When a schedule fires, in words: ``at 06:00 on Monday to Friday (Europe/Zurich), up to 5m late``."""
    parts = [_calendar_words(calendar) for calendar in spec.calendars]
    crons = [_cron_words(text) for text in spec.cron_expressions]
    parts += [words for words, _ in crons]
    reads_clock = bool(spec.calendars or spec.skip) or any(is_bare for _, is_bare in crons)
    parts += [_interval_words(interval) for interval in spec.intervals]
    words = "; ".join(parts) or "only by hand"
    if spec.skip:
        words += f", except {' and '.join(_calendar_words(calendar) for calendar in spec.skip)}"
    if reads_clock:
        words += f" ({spec.time_zone_name or 'UTC'})"
    if spec.start_at_ms:
        words += f", from {_time_text(spec.start_at_ms)}"
    if spec.end_at_ms:
        words += f", until {_time_text(spec.end_at_ms)}"
    if spec.jitter_ms:
        words += f", up to {_duration_text(spec.jitter_ms)} late"
    return words


def _cron_words(text: str) -> tuple[str, bool]:
    """A cron string in words, and whether it reads the clock of the spec's zone."""
    try:
        found = parse_cron_string(text)
    except ValueError:
        return f"cron {text}", True  # nothing that the engine takes, but nothing to fail for either
    if found.interval is not None:
        return _interval_words(found.interval), False
    assert found.calendar is not None
    words = _calendar_words(found.calendar)
    return (f"{words} in zone {found.zone}", False) if found.zone else (words, True)


def _interval_words(interval: ScheduleInterval) -> str:
    words = f"every {_duration_text(interval.every_ms)}"
    return f"{words} + {_duration_text(interval.offset_ms)}" if interval.offset_ms else words


def _calendar_words(calendar: ScheduleCalendar) -> str:
    time = _clock_words(calendar)
    days = []
    if not _is_full("day_of_week", calendar.day_of_week):
        days.append(f"on {_named(calendar.day_of_week, _DAYS)}")
    if not _is_full("day_of_month", calendar.day_of_month):
        days.append(f"on day {_named(calendar.day_of_month)} of the month")
    if not _is_full("month", calendar.month):
        days.append(f"in {_named(calendar.month, _MONTHS)}")
    if not _is_full("year", calendar.year):
        days.append(f"in {_named(calendar.year)}")
    if not days and time.startswith("at "):
        days.append("every day")
    return " ".join([time, *days])


def _clock_words(calendar: ScheduleCalendar) -> str:
    seconds, minutes, hours = (_numbers(part) for part in (calendar.second, calendar.minute, calendar.hour))
    if len(seconds) == 1 and len(minutes) * len(hours) <= _LISTED_MAX:
        behind = f":{seconds[0]:02}" if seconds[0] else ""
        return "at " + ", ".join(f"{hour:02}:{minute:02}{behind}" for hour in hours for minute in minutes)
    units = [] if seconds == [0] else [_unit_words("second", calendar.second)]
    for name, ranges in (("minute", calendar.minute), ("hour", calendar.hour)):
        unit = _unit_words(name, ranges)
        # "every minute of every hour" is "every minute".
        if unit != f"every {name}" or not units or not units[-1].startswith("every"):
            units.append(unit)
    return " of ".join(units)


def _unit_words(name: str, ranges: Sequence[ScheduleRange]) -> str:
    if _is_full(name, ranges):
        return f"every {name}"
    low, high = FIELDS[name]
    if len(ranges) == 1 and ranges[0].start == low and ranges[0].step > 1 and ranges[0].end + ranges[0].step > high:
        return f"every {ranges[0].step} {name}s"
    return f"{name} {_named(ranges)}"


def _named(ranges: Sequence[ScheduleRange], names: Sequence[str] = ()) -> str:
    def name(number: int) -> str:
        return names[number] if number < len(names) else str(number)

    return ", ".join(_range_words(part, name(part.start), name(part.end)) for part in ranges)


def _range_words(part: ScheduleRange, first: str, last: str) -> str:
    if part.start == part.end:
        return first
    return f"{first} to {last}" + (f" in steps of {part.step}" if part.step > 1 else "")


def _duration_text(duration_ms: int) -> str:
    text = ""
    for unit, size_ms in _UNITS:
        count, duration_ms = divmod(duration_ms, size_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _time_text(time_ms: int) -> str:
    found = datetime.fromtimestamp(time_ms / 1000, UTC)
    return found.strftime("%Y-%m-%d %H:%M UTC" if not found.second else "%Y-%m-%d %H:%M:%S UTC")
