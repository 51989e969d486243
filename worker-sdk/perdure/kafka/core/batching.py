"""Gathers consecutive records of a partition into batches of at most N, or of what came within T.

Invariant: a batch is a contiguous part of its partition, and batches follow each other without a gap, so the first
record of a batch names it. Called by the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Batcher(Generic[_T]):
    """The batch of one partition that is being gathered.

    Args:
        count_max: a batch is full with so many.
        wait_ms: how long the first of a batch waits for others.
    """

    def __init__(self, count_max: int, wait_ms: int) -> None:
        self._count_max = count_max
        self._wait_ms = wait_ms
        self._gathered: list[_T] = []
        self._due_ms: int | None = None

    @property
    def due_ms(self) -> int | None:
        """When the batch goes as it is; ``None`` while there is none."""
        return self._due_ms

    def add(self, item: _T, now_ms: int) -> list[_T]:
        """Add the partition's next record; returns the batch if it is full, else nothing."""
        if not self._gathered:
            self._due_ms = now_ms + self._wait_ms
        self._gathered.append(item)
        return self._take() if len(self._gathered) >= self._count_max else []

    def take_due(self, now_ms: int) -> list[_T]:
        """The batch, if it has waited long enough; else nothing."""
        return self._take() if self._due_ms is not None and now_ms >= self._due_ms else []

    def _take(self) -> list[_T]:
        taken, self._gathered = self._gathered, []
        self._due_ms = None
        return taken


def recut(left_over: Sequence[_T], batches: Sequence[Sequence[_T]], count_max: int) -> list[list[_T]]:
    """Batches that begin with what is left over of the one before them: in order, without a gap, none too large."""
    every = [*left_over, *(item for batch in batches for item in batch)]
    return [every[start : start + count_max] for start in range(0, len(every), count_max)]
