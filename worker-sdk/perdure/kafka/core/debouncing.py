"""Lets only the last record of a burst through: per key, once no other came for a while.

Invariants: the last record of a key always gets through; one that was superseded counts as done only together with the
one that got through, so a crash in between loses nothing; whether a record in the log supersedes the one before follows
from their timestamps, so a replay of the log passes on no record that was superseded before. Called by the pipeline.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass
class Burst(Generic[_T]):
    """The records of a key that came soon after each other: the last one, and those it stands for."""

    last: _T
    superseded: list[_T] = field(default_factory=list)
    first_timestamp_ms: int = 0
    last_timestamp_ms: int = 0
    due_ms: int = 0
    overdue_ms: int = 0


class Debouncer(Generic[_T]):
    """The bursts of one partition.

    Args:
        quiet_ms: a burst is over when no record came for so long.
        longest_ms: a burst is over after so long in any case.
    """

    def __init__(self, quiet_ms: int, longest_ms: int) -> None:
        self._quiet_ms = quiet_ms
        self._longest_ms = longest_ms
        self._bursts: dict[Hashable, Burst[_T]] = {}

    @property
    def due_ms(self) -> int | None:
        """When the next burst is over; ``None`` while there is none."""
        return min((min(burst.due_ms, burst.overdue_ms) for burst in self._bursts.values()), default=None)

    def add(self, key: Hashable, item: _T, timestamp_ms: int, now_ms: int) -> list[Burst[_T]]:
        """Add the partition's next record; returns the burst of its key that it has shown to be over."""
        burst = self._bursts.get(key)
        over: list[Burst[_T]] = []
        if burst is not None and (
            timestamp_ms - burst.last_timestamp_ms >= self._quiet_ms
            or timestamp_ms - burst.first_timestamp_ms >= self._longest_ms
        ):
            over.append(self._bursts.pop(key))
            burst = None
        if burst is None:
            burst = self._bursts[key] = Burst(
                item, first_timestamp_ms=timestamp_ms, overdue_ms=now_ms + self._longest_ms
            )
        else:
            burst.superseded.append(burst.last)
            burst.last = item
        burst.last_timestamp_ms = timestamp_ms
        burst.due_ms = now_ms + self._quiet_ms
        return over

    def take_due(self, now_ms: int) -> list[Burst[_T]]:
        """The bursts that are over by the clock."""
        over = [key for key, burst in self._bursts.items() if now_ms >= min(burst.due_ms, burst.overdue_ms)]
        return [self._bursts.pop(key) for key in over]
