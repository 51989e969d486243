"""When a cron schedule is due next: a pure function of the expression and two times.

Five fields (minute, hour, day of month, month, day of week), the names ``@hourly`` … ``@yearly``, ``@every 1h30m``, and
in front of any of them ``CRON_TZ=Europe/Zurich``; without a zone times are UTC. Invariant: what is decided with it is
written into the history as a delay, so another version of a time zone never changes what was decided. Handed to the
core as part of its policy, since the core knows no calendar.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

__all__ = ["next_cron_ms"]

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def next_cron_ms(schedule: str, base_ms: int, after_ms: int) -> int:
    """The first time of ``schedule`` behind ``after_ms``.

    Parameters:
        base_ms: when the run before began; ``@every`` counts from there, in milliseconds since 1970.
        after_ms: milliseconds since 1970.

    Raises:
        ValueError: the schedule cannot be read, or never comes.
    """
    expression, zone, every_ms = _parse(schedule)
    if every_ms:
        return base_ms + (max(0, after_ms - base_ms) // every_ms + 1) * every_ms
    from cronsim import CronSim

    after = (_EPOCH + timedelta(milliseconds=after_ms)).astimezone(zone)
    try:
        due = next(CronSim(expression, after))
    except StopIteration:
        raise ValueError(f"cron schedule {schedule!r} never comes") from None
    return (due.astimezone(UTC) - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=1_000)
def _parse(schedule: str) -> tuple[str, tzinfo, int]:
    """The five fields, the zone, and the interval of an ``@every`` in milliseconds (0: it is none)."""
    from cronsim import CronSim, CronSimError

    text, zone = schedule.strip(), UTC
    zoned = _ZONE.fullmatch(text)
    try:
        if zoned is not None:
            text, zone = zoned[2].strip(), ZoneInfo(zoned[1])  # type: ignore[assignment]
    except (KeyError, ValueError, OSError):
        raise ValueError(f"cron schedule {schedule!r}: there is no time zone {zoned[1]!r}") from None  # type: ignore[index]
    if text.startswith("@every "):
        return "", zone, _interval_ms(schedule, text.removeprefix("@every ").strip())
    expression = _NAMED.get(text, text)
    if len(expression.split()) != _FIELDS:
        raise ValueError(
            f"cron schedule {schedule!r} does not have the five fields minute, hour, day of month, month, day of week"
        )
    try:
        CronSim(expression, _EPOCH)
    except CronSimError as error:
        raise ValueError(f"cron schedule {schedule!r} cannot be read: {error}") from None
    return expression, zone, 0


def _interval_ms(schedule: str, text: str) -> int:
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match is not None else (0, 0, 0)
    interval_ms = ((hours * 60 + minutes) * 60 + seconds) * 1_000
    if not interval_ms:
        raise ValueError(f"cron schedule {schedule!r}: @every needs a duration like 1h30m or 45s")
    return interval_ms
