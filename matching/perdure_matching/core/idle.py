"""Whether matching has work that is not done yet: what a test environment asks before it skips time.

Called by :mod:`perdure.testing`.
"""

from __future__ import annotations

from typing import NamedTuple

from perdure_matching.core.model import Phase, TaskState
from perdure_matching.core.state import MatchingState

__all__ = ["WorkLeft", "work_left"]


class WorkLeft(NamedTuple):
    """What is outstanding.

    Attributes:
        in_hand: tasks that a worker has, or that one can take.
        without_worker: tasks that no known worker could take, now or later.
    """

    in_hand: int
    without_worker: int


def work_left(state: MatchingState) -> WorkLeft:
    """Count what is outstanding; parked tasks do not count, because only history's record of their end is missing."""
    in_hand = without_worker = 0
    for task in state.tasks.values():
        if task.phase is Phase.LEASED:
            in_hand += 1
        elif task.phase is not Phase.PARKED:
            if _has_worker(state, task):
                in_hand += 1
            else:
                without_worker += 1
    return WorkLeft(in_hand, without_worker)


def _has_worker(state: MatchingState, task: TaskState) -> bool:
    queue = state.queues.get(state.lane_of(task))
    return queue is not None and any(worker.slots[task.slot_kind] > 0 for worker in queue.workers.values())
