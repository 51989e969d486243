"""Which activities of a worker have a slot, and which wait for one.

Matching gives a worker no more than it has slots for; but a worker that begins activities by itself may have taken a
slot that was given away meanwhile, so what is too much waits here. Pure bookkeeping, safe to use from several threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

from perdure.worker._tuning import FixedSizeSlotSupplier, SlotSupplier
from perdure_schemas.records import ActivityTask, RunTask

_Task = tuple[RunTask, ActivityTask]


class ActivitySlots:
    """The slots of one worker.

    Args:
        supplier: Says how many there are. One that is not of a fixed size is watched by matching alone.
    """

    def __init__(self, supplier: SlotSupplier) -> None:
        self._size = supplier.num_slots if isinstance(supplier, FixedSizeSlotSupplier) else sys.maxsize
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._waiting: dict[str, _Task] = {}
        self._promised = 0

    def room(self) -> int:
        """How many slots nobody has, waits for, or was promised."""
        return self._size - len(self._taken) - len(self._waiting) - self._promised

    def promise(self, count: int) -> None:
        """Keep so many slots; a negative number gives them back."""
        with self._lock:
            self._promised += count

    def take(self, batch: Sequence[_Task]) -> list[_Task]:
        """Take slots. Returns the tasks that have one now; the others wait."""
        ready = []
        with self._lock:
            for one in batch:
                if len(self._taken) < self._size:
                    self._taken.add(one[0].task_id)
                    ready.append(one)
                else:
                    self._waiting[one[0].task_id] = one
        return ready

    def give_back(self, task_id: str) -> list[_Task]:
        """A task is over. Returns those that have its slot now."""
        with self._lock:
            self._taken.discard(task_id)
            if not self._waiting:
                return []
            return self._promote(self._size - len(self._taken))

    def withdraw(self, task_id: str) -> _Task | None:
        """Take a task out of those that wait, and count it as taken; ``None`` if it does not wait."""
        if not self._waiting:
            return None
        with self._lock:
            one = self._waiting.pop(task_id, None)
            if one is not None:
                self._taken.add(task_id)
            return one

    def take_all_waiting(self) -> list[_Task]:
        """Have nobody wait any more."""
        with self._lock:
            return self._promote(len(self._waiting))

    @property
    def waiting_count(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def _promote(self, count: int) -> list[_Task]:
        ready = []
        for task_id in list(self._waiting)[: max(0, count)]:
            self._taken.add(task_id)
            ready.append(self._waiting.pop(task_id))
        return ready
