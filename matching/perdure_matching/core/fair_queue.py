"""A backlog: strict priority, then weighted fairness between keys, then first in, first out.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996): an entry's start tag is the larger of the queue's
virtual time and the end of its key's previous entry, which lies ``1 / weight`` behind that one's start. Entries leave
in the order of their tags, so a key with weight 2 gets twice the turns of one with weight 1, and a key with a flood
of tasks delays nobody but itself.

Invariants: every operation costs O(log n) amortised; entries with one key and priority keep their order; what a key did
while nobody waited does not count against it. Called by :mod:`perdure_matching.core.matcher`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

__all__ = ["FairQueue"]

_GARBAGE_MIN = 64
_KEYS_PRUNED_FROM = 1_024


class _Entry(NamedTuple):
    priority: int
    start: float
    sequence: int
    task_id: str
    fairness_key: str


class _Lane:
    """One fairness key: where its next entry may start, and how many wait."""

    __slots__ = ("finish", "waiting")

    def __init__(self) -> None:
        self.finish = 0.0
        self.waiting = 0


class _Level:
    """The fairness state of one priority."""

    __slots__ = ("lanes", "prune_at", "virtual_time")

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self.lanes: dict[str, _Lane] = {}
        self.prune_at = _KEYS_PRUNED_FROM

    def lane(self, fairness_key: str) -> _Lane:
        lane = self.lanes.get(fairness_key)
        if lane is None:
            if len(self.lanes) >= self.prune_at:
                # A key of which nothing waits may come back one turn early; that bounds the keys by the backlog.
                self.lanes = {key: lane for key, lane in self.lanes.items() if lane.waiting}
                self.prune_at = max(_KEYS_PRUNED_FROM, 2 * len(self.lanes))
            lane = self.lanes[fairness_key] = _Lane()
        return lane


class FairQueue:
    """Task ids in the order in which they are to be served."""

    __slots__ = ("_heap", "_levels", "_live")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._live: dict[str, _Entry] = {}
        self._levels: dict[int, _Level] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._live

    def push(
        self,
        task_id: str,
        *,
        priority: int,
        fairness_key: str,
        weight: float,
        sequence: int,
        start: float | None = None,
    ) -> float:
        """Add a task that is not in the queue.

        Parameters:
            sequence: its place among equals.
            start: the tag it had when it was in this queue before, so that it gets its old place again.

        Returns:
            Its start tag.
        """
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        lane = level.lane(fairness_key)
        lane.waiting += 1
        if start is None:
            start = max(level.virtual_time, lane.finish)
            lane.finish = start + 1.0 / weight
        entry = _Entry(priority, start, sequence, task_id, fairness_key)
        self._live[task_id] = entry
        heappush(self._heap, entry)
        return start

    def pop(self) -> str | None:
        """Take out the task that is next; ``None`` if the queue is empty."""
        while self._heap:
            entry = heappop(self._heap)
            if self._live.get(entry.task_id) is entry:
                del self._live[entry.task_id]
                level = self._leave(entry)
                level.virtual_time = max(level.virtual_time, entry.start)
                return entry.task_id
        return None

    def discard(self, task_id: str) -> bool:
        """Take a task out, wherever it stands; whether it was there."""
        entry = self._live.pop(task_id, None)
        if entry is None:
            return False
        self._leave(entry)
        if len(self._heap) > 2 * len(self._live) + _GARBAGE_MIN:
            self._heap = list(self._live.values())
            heapify(self._heap)
        return True

    def _leave(self, entry: _Entry) -> _Level:
        level = self._levels[entry.priority]
        level.lanes[entry.fairness_key].waiting -= 1
        if not self._live:
            self._heap.clear()
            self._levels.clear()
        return level
