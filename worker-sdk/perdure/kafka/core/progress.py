"""How far a partition is done: records are taken in offset order and finished in any order.

Invariant: an offset is committed only when every record below it is finished, so that a crash delivers again what may
not have been done. Called by the source.
"""

from __future__ import annotations

from collections import deque


class Progress:
    """The records of one partition that were taken and are not committed yet."""

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._finished: set[int] = set()
        self._committable: int | None = None

    @property
    def committable(self) -> int | None:
        """Everything below this offset is finished; ``None`` before anything is."""
        return self._committable

    @property
    def open_count(self) -> int:
        """How many records hold up the next commit, or stand behind one that does and is not finished."""
        return len(self._open) - len(self._finished)

    def take(self, offset: int) -> None:
        """A record was taken; offsets only grow, and may have gaps."""
        assert not self._open or offset > self._open[-1], "offsets are taken in order"
        self._open.append(offset)

    def finish(self, offset: int) -> bool:
        """A record is done. Returns whether more may be committed than before."""
        self._finished.add(offset)
        before = self._committable
        while self._open and self._open[0] in self._finished:
            first = self._open.popleft()
            self._finished.discard(first)
            self._committable = first + 1
        return self._committable != before
