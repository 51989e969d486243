"""Everything that waits for the clock, in one heap.

Entries are never searched for: one that became void, or later, is found so when it comes to the top. Invariant:
:meth:`Wakeups.next_due_ms` is exact, because it settles the top with the owner's answer first. The heap is rebuilt when
most of it is void, so it stays proportional to what is alive. Called by the functions of this core.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, NamedTuple

__all__ = ["Wakeup", "WakeupKind", "Wakeups"]

_REBUILD_FROM = 1_024


class WakeupKind(IntEnum):
    """What is due."""

    #: A sticky task waited long enough for its worker.
    STICKY = 0
    #: History wants to know that an activity attempt started.
    NOTICE = 1
    #: A lease is older than its task allows.
    LEASE = 2
    #: Nobody answered a query.
    EXPIRY = 3
    #: A worker is silent.
    LAPSE = 4
    #: Workers had their time to answer a new owner.
    WINDOW = 5
    #: A rate limit lets the next activity through.
    RATE = 6
    #: A rate that was set for a task queue or a fairness key lets the next task through.
    FLOW = 7


class Wakeup(NamedTuple):
    """An entry; ``number`` tells leases of one task apart."""

    due_ms: int
    order: int
    kind: WakeupKind
    subject: Any
    number: int


class Wakeups:
    """A heap of wake-ups.

    Args:
        due_of: when an entry is really due; ``None`` if it is void.
    """

    __slots__ = ("_due_of", "_heap", "_order", "_rebuild_at")

    def __init__(self, due_of: Callable[[Wakeup], int | None]) -> None:
        self._due_of = due_of
        self._heap: list[Wakeup] = []
        self._order = 0
        self._rebuild_at = _REBUILD_FROM

    def push(self, due_ms: int, kind: WakeupKind, subject: Any, number: int = 0) -> None:
        """Wake up at ``due_ms`` for ``subject``."""
        self._order += 1
        heappush(self._heap, Wakeup(due_ms, self._order, kind, subject, number))
        if len(self._heap) >= self._rebuild_at:
            self._heap = [entry for entry in self._heap if self._due_of(entry) is not None]
            heapify(self._heap)
            self._rebuild_at = max(_REBUILD_FROM, 4 * len(self._heap))

    def next_due_ms(self) -> int | None:
        """When the next valid entry is due; ``None`` if there is none."""
        heap = self._heap
        while heap:
            top = heap[0]
            due_ms = self._due_of(top)
            if due_ms is None:
                heappop(heap)
            elif due_ms > top.due_ms:
                heapreplace(heap, top._replace(due_ms=due_ms))
            else:
                return top.due_ms
        return None

    def pop_due(self, now_ms: int) -> Wakeup | None:
        """Take out the next valid entry that is due."""
        due_ms = self.next_due_ms()
        return None if due_ms is None or due_ms > now_ms else heappop(self._heap)

    def __len__(self) -> int:
        return len(self._heap)
