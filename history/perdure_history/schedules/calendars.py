"""A calendar: the readings of a clock that have every field in one of its ranges. Pure, without time zones.

Readings are naive ``datetime`` values, whole seconds. Called by :mod:`perdure_history.schedules.times`.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, timedelta

from perdure_schemas.limits import SCHEDULE_YEAR_MAX
from perdure_schemas.records import ScheduleCalendar, ScheduleRange

__all__ = ["FIELDS", "Calendar"]

#: By field: the smallest and the largest number it may have.
FIELDS = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_month": (1, 31),
    "month": (1, 12),
    "day_of_week": (0, 6),
    "year": (1970, SCHEDULE_YEAR_MAX),
}
_END = datetime(SCHEDULE_YEAR_MAX + 1, 1, 1)  # noqa: DTZ001 - a reading
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class Calendar:
    """A calendar whose fields are sets of numbers.

    Args:
        spec: its ranges.

    Raises:
        ValueError: a range has numbers that its field cannot have, or is the wrong way round; the message says which.
    """

    def __init__(self, spec: ScheduleCalendar) -> None:
        self.seconds = _numbers("second", spec.second)
        self.minutes = _numbers("minute", spec.minute)
        self.hours = _numbers("hour", spec.hour)
        self._days = frozenset(_numbers("day_of_month", spec.day_of_month))
        self._months = frozenset(_numbers("month", spec.month))
        self._weekdays = frozenset(_numbers("day_of_week", spec.day_of_week))
        self._years = frozenset(_numbers("year", spec.year)) if spec.year else None
        self._second_set = frozenset(self.seconds)
        self._minute_set = frozenset(self.minutes)
        self._hour_set = frozenset(self.hours)
        #: Whether any reading can match at all, dates that do not exist aside.
        self.matches_something = all(
            (
                self.seconds,
                self.minutes,
                self.hours,
                self._days,
                self._months,
                self._weekdays,
            )
        )

    def matches(self, reading: datetime) -> bool:
        """Whether a reading is one of the calendar's."""
        return (
            reading.second in self._second_set
            and reading.minute in self._minute_set
            and reading.hour in self._hour_set
            and self.matches_day(reading.date())
        )

    def matches_day(self, day: date) -> bool:
        """Whether the calendar has any reading of that day, as far as the date decides it."""
        return (
            day.month in self._months
            and day.day in self._days
            and day.isoweekday() % 7 in self._weekdays
            and (self._years is None or day.year in self._years)
        )

    def first(self, reading: datetime) -> datetime | None:
        """The first reading of the calendar that is not before ``reading``; ``None`` if there is none."""
        if not self.matches_something:
            return None
        day = reading.replace(hour=0, minute=0, second=0)
        if self.matches_day(day.date()):
            found = self._first_of_day(reading)
            if found is not None:
                return found
        following = self._next_day(day + _DAY)
        return None if following is None else self._first_of_day(following)

    def skips_to(self, reading: datetime) -> datetime:
        """The reading behind ``reading``, which matches, from which on the calendar may not match any more."""
        if len(self._second_set) < 60:
            return reading + _SECOND
        if len(self._minute_set) < 60:
            return reading.replace(second=0) + timedelta(minutes=1)
        if len(self._hour_set) < 24:
            return reading.replace(minute=0, second=0) + timedelta(hours=1)
        return reading.replace(hour=0, minute=0, second=0) + _DAY

    def _first_of_day(self, reading: datetime) -> datetime | None:
        """The first reading of the same day that is not before ``reading``; its date matches."""
        hour, minute, second = reading.hour, reading.minute, reading.second
        if hour in self._hour_set:
            if minute in self._minute_set:
                at = bisect_left(self.seconds, second)
                if at < len(self.seconds):
                    return reading.replace(second=self.seconds[at])
            at = bisect_left(self.minutes, minute + 1)
            if at < len(self.minutes):
                return reading.replace(minute=self.minutes[at], second=self.seconds[0])
        at = bisect_left(self.hours, hour + 1)
        if at < len(self.hours):
            return reading.replace(hour=self.hours[at], minute=self.minutes[0], second=self.seconds[0])
        return None

    def _next_day(self, day: datetime) -> datetime | None:
        while day < _END:
            if self._years is not None and day.year not in self._years:
                day = day.replace(year=day.year + 1, month=1, day=1)
            elif day.month not in self._months:
                day = day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1, day=1)
            elif self.matches_day(day.date()):
                return day
            else:
                day += _DAY
        return None


def _numbers(field: str, ranges: list[ScheduleRange]) -> tuple[int, ...]:
    low, high = FIELDS[field]
    found: set[int] = set()
    for part in ranges:
        if part.step < 1 or part.start > part.end or part.start < low or part.end > high:
            raise ValueError(
                f"a calendar has {part.start} to {part.end} in steps of {part.step} for {field};"
                f" it must go upwards, in steps of at least 1, within {low} to {high}"
            )
        found.update(range(part.start, part.end + 1, part.step))
    return tuple(sorted(found))
