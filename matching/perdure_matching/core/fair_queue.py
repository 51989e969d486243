"""A backlog: strict priority, then weighted fairness between keys, then first in, first out.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996). The tasks of one key and priority stand in a lane, in
their order, and a lane with tasks has one turn. Its start tag is the larger of the queue's virtual time and the end of
the lane's previous turn, which lies ``1 / weight`` behind that one's start. Turns are taken in the order of their tags,
so a key with weight 2 gets twice the turns of one with weight 1, and a key with a flood of tasks delays nobody but
itself. Because the tag belongs to the turn and not to the task, another weight counts from the next turn on.

With flow control (:mod:`perdure_matching.core.flow`) a lane whose key is closed has no turn: it is put aside when it
would get one, or at the latest when its turn comes, and gets one again when the key opens. So a closed key costs others
nothing.

Invariants: every operation costs O(log n) amortised; tasks of one key and priority keep their order; what a key did
while nobody waited does not count against it, and while it was closed, not for it. Called by
:mod:`perdure_matching.core.placing` and :mod:`perdure_matching.core.flow`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure_matching.core.flow import Flow

__all__ = ["FairQueue", "Lane"]

_GARBAGE_MIN = 64
_KEYS_PRUNED_FROM = 1_024


#: A task in its lane: its place (0: it had its turn before), its sequence, its id and its weight. Entries and turns are
#: plain tuples, because every task that waits makes one of each.
_Entry = tuple[float, int, str, float]
#: What a lane may do next: its priority, the start of the turn, the sequence of the lane's first task, a number that
#: tells equal turns apart, and the lane.
_Turn = tuple[int, float, int, int, "Lane"]


class Lane:
    """The tasks of one fairness key and priority in one queue: what waits, and where the next turn may start."""

    __slots__ = ("aside", "entries", "finish", "key", "priority", "queue", "turn", "waiting")

    def __init__(self, queue: FairQueue, priority: int, key: str) -> None:
        self.queue = queue
        self.priority = priority
        self.key = key
        self.finish = 0.0
        self.waiting = 0
        self.entries: list[_Entry] = []
        self.turn: _Turn | None = None
        #: Whether it has tasks and no turn, because its key is closed.
        self.aside = False


class _Level:
    """The fairness state of one priority."""

    __slots__ = ("lanes", "prune_at", "virtual_time")

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self.lanes: dict[str, Lane] = {}
        self.prune_at = _KEYS_PRUNED_FROM

    def lane(self, queue: FairQueue, priority: int, key: str) -> Lane:
        lane = self.lanes.get(key)
        if lane is None:
            if len(self.lanes) >= self.prune_at:
                # A key of which nothing waits may come back one turn early; that bounds the keys by the backlog.
                self.lanes = {key: lane for key, lane in self.lanes.items() if lane.waiting}
                self.prune_at = max(_KEYS_PRUNED_FROM, 2 * len(self.lanes))
            lane = self.lanes[key] = Lane(queue, priority, key)
        return lane


class FairQueue:
    """Task ids in the order in which they are to be served.

    Args:
        flow: which keys are closed, and which weights were set; ``None``: nothing was.
    """

    __slots__ = ("_count", "_levels", "_live", "_turns", "flow")

    def __init__(self, flow: Flow | None = None) -> None:
        self.flow = flow
        self._turns: list[_Turn] = []
        self._live: dict[str, tuple[_Entry, Lane]] = {}
        self._levels: dict[int, _Level] = {}
        self._count = 0

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
            sequence: its place among tasks of other keys whose turn is equal.
            start: the place it had when it was in this queue before, so that it gets it again; 0: in front.

        Returns:
            Its place.
        """
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        lane = level.lane(self, priority, fairness_key)
        if start is None:
            self._count += 1
            start = float(self._count)
        entry = (start, sequence, task_id, weight)
        self._live[task_id] = (entry, lane)
        heappush(lane.entries, entry)
        lane.waiting += 1
        turn = lane.turn
        if lane.aside or (turn is not None and (start or not turn[1])):
            return start
        if turn is None and self.flow is not None and self.flow.closed(fairness_key):
            self.flow.put_aside(lane)
        else:
            lane.turn = turn = self._next_turn(level, lane)
            heappush(self._turns, turn)
        return start

    def pop(self) -> str | None:
        """Take out the task that is next; ``None`` if none may go."""
        flow = self.flow
        if flow is not None and flow.stopped:
            return None
        turns = self._turns
        while turns:
            turn = turns[0]
            lane = turn[4]
            if lane.turn is not turn:
                heappop(turns)
            elif flow is not None and flow.closed(lane.key):
                heappop(turns)
                lane.turn = None
                flow.put_aside(lane)
            else:
                return self._serve(turn[1], lane)
        return None

    def _serve(self, start: float, lane: Lane) -> str:
        """Take out the first task of a lane, whose turn stands first and starts there."""
        level = self._levels[lane.priority]
        place, _, task_id, weight = self._head(lane)
        heappop(lane.entries)
        del self._live[task_id]
        lane.waiting -= 1
        if place:
            if start < lane.finish:
                start = lane.finish
            if self.flow is not None:
                weight = self.flow.weight_of(lane.key, weight)
            lane.finish = start + 1.0 / weight
            if level.virtual_time < start:
                level.virtual_time = start
        if lane.waiting:
            lane.turn = following = self._next_turn(level, lane)
            heapreplace(self._turns, following)
        else:
            heappop(self._turns)
            self._empty(lane)
        return task_id

    def discard(self, task_id: str) -> bool:
        """Take a task out, wherever it stands; whether it was there."""
        found = self._live.pop(task_id, None)
        if found is None:
            return False
        lane = found[1]
        lane.waiting -= 1
        if not lane.waiting:
            self._empty(lane)
        elif len(lane.entries) > 2 * lane.waiting + _GARBAGE_MIN:
            lane.entries = [entry for entry in lane.entries if self._is_live(entry)]
            heapify(lane.entries)
        if len(self._turns) > 2 * len(self._live) + _GARBAGE_MIN:
            self._turns = [turn for turn in self._turns if turn[4].turn is turn]
            heapify(self._turns)
        return True

    def resume(self, lane: Lane) -> None:
        """The key of a lane that was put aside is open again."""
        lane.aside = False
        if lane.waiting and lane.turn is None:
            lane.turn = turn = self._next_turn(self._levels[lane.priority], lane)
            heappush(self._turns, turn)

    def use(self, flow: Flow | None) -> None:
        """Follow other settings from now on: every lane gets a turn, and is judged anew when it comes."""
        self.flow = flow
        for level in self._levels.values():
            for lane in level.lanes.values():
                self.resume(lane)

    def has_servable(self) -> bool:
        """Whether there is a task that may go. For checks: it walks over all lanes."""
        flow = self.flow
        if flow is None:
            return bool(self._live)
        lanes = [lane for level in self._levels.values() for lane in level.lanes.values() if lane.waiting]
        return not flow.stopped and any(not flow.closed(lane.key) for lane in lanes)

    def _next_turn(self, level: _Level, lane: Lane) -> _Turn:
        place, sequence, _, _ = self._head(lane)
        self._count += 1
        start = 0.0
        if place:
            start = level.virtual_time if level.virtual_time > lane.finish else lane.finish
        return (lane.priority, start, sequence, self._count, lane)

    def _head(self, lane: Lane) -> _Entry:
        entries = lane.entries
        while not self._is_live(entries[0]):
            heappop(entries)
        return entries[0]

    def _is_live(self, entry: _Entry) -> bool:
        found = self._live.get(entry[2])
        return found is not None and found[0] is entry

    def _empty(self, lane: Lane) -> None:
        """Nothing of a lane waits any more."""
        lane.turn = None
        lane.entries.clear()
        if lane.aside and self.flow is not None:
            self.flow.take_back(lane)
        if not self._live:
            self._turns.clear()
            self._levels.clear()
