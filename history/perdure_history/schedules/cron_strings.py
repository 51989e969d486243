"""Cron strings as calendars and intervals. Pure.

Five fields (minute, hour, day of month, month, day of week), six (and a year) or seven (a second in front, too), names
of months and days, ``@hourly`` … ``@yearly``, ``@every 1h30m`` with ``/10m`` for an offset, ``CRON_TZ=Europe/Zurich``
in front, and a comment behind ``#``. Day of month and day of week must both match. Called by
:mod:`perdure_history.schedules.times`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from perdure_history.schedules.calendars import FIELDS
from perdure_schemas.records import ScheduleCalendar, ScheduleInterval, ScheduleRange

__all__ = ["CronString", "parse_cron_string", "parse_field"]

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day_of_week": {name: number for number, name in enumerate(_DAYS)},
}
_ORDER = {
    5: ("minute", "hour", "day_of_month", "month", "day_of_week"),
    6: ("minute", "hour", "day_of_month", "month", "day_of_week", "year"),
    7: ("second", "minute", "hour", "day_of_month", "month", "day_of_week", "year"),
}
_ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class CronString(NamedTuple):
    """What a cron string says: a calendar or an interval, and the zone it names (empty: none)."""

    calendar: ScheduleCalendar | None
    interval: ScheduleInterval | None
    zone: str


def parse_cron_string(text: str) -> CronString:
    """What ``text`` says.

    Raises:
        ValueError: it cannot be read; the message says where.
    """
    body, _, comment = text.partition("#")
    zoned = _ZONE.fullmatch(body.strip())
    zone, body = (zoned[1], zoned[2].strip()) if zoned is not None else ("", body.strip())
    if body.startswith("@every"):
        return CronString(None, _interval(text, body.removeprefix("@every").strip()), zone)
    fields = _NAMED.get(body.lower(), body).split()
    order = _ORDER.get(len(fields))
    if order is None:
        raise ValueError(
            f"cron expression {text!r} has {len(fields)} fields; it needs five (minute, hour, day of month, month, day"
            " of week), six (and a year), seven (with seconds in front), or a name like @daily"
        )
    ranges = {"second": [ScheduleRange(start=0, end=0)], "year": []}
    for name, field in zip(order, fields, strict=True):
        ranges[name] = parse_field(f"cron expression {text!r}", name, field)
    return CronString(ScheduleCalendar(comment=comment.strip(), **ranges), None, zone)


def parse_field(text: str, name: str, field: str) -> list[ScheduleRange]:
    """The ranges of one field as cron strings have it: numbers, names, ranges, steps and lists.

    Parameters:
        text: what it stands in, for the error.
        name: which field it is.
        field: its text.

    Raises:
        ValueError: it cannot be read; the message says where.
    """
    if name == "year" and field == "*":
        return []
    found: list[ScheduleRange] = []
    for part in field.split(","):
        numbers, slash, step = part.partition("/")
        low, high = FIELDS[name]
        if numbers in ("*", "?"):
            start, end = low, high
        else:
            first, dash, last = numbers.partition("-")
            start = _number(text, name, first)
            end = _number(text, name, last) if dash else (high if slash else start)
        if slash and not (step.isdecimal() and int(step) > 0):
            raise ValueError(f"{text}: {step!r} in {name} is no step")
        found += _in_week(start, end, int(step or 1)) if name == "day_of_week" else [_range(start, end, int(step or 1))]
    return found


def _in_week(start: int, end: int, step: int) -> list[ScheduleRange]:
    """Days of the week: 7 is Sunday, too."""
    if end < 7:
        return [_range(start, end, step)]
    days = sorted({day % 7 for day in range(start, end + 1, step)})
    return [_range(day, day, 1) for day in days]


def _range(start: int, end: int, step: int) -> ScheduleRange:
    return ScheduleRange(start=start, end=end, step=step)


def _number(text: str, name: str, word: str) -> int:
    named = _NAMES.get(name, {}).get(word.lower()[:3] if word.isalpha() else "")
    if named is not None:
        return named
    low, high = FIELDS[name]
    if name == "day_of_week":
        high = 7
    if not (word.isdecimal() and low <= int(word) <= high):
        raise ValueError(f"{text}: {word!r} is no {name}; {low} to {high} are")
    return int(word)


def _interval(text: str, body: str) -> ScheduleInterval:
    every, _, offset = body.partition("/")
    every_ms, offset_ms = _duration_ms(text, every), _duration_ms(text, offset) if offset else 0
    return ScheduleInterval(every_ms=every_ms, offset_ms=offset_ms)


def _duration_ms(text: str, body: str) -> int:
    parts = _DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body.strip():
        raise ValueError(f"cron expression {text!r}: {body!r} is no duration; write 45s, 10m, 1h30m or 2d")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in parts)
