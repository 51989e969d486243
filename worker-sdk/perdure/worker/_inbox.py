"""What a worker knows of the tasks it was given. Pure bookkeeping, safe to use from several threads.

Invariants: a dispatch of an older epoch than the newest seen from that source is ignored (I1); a task that is held, or
whose completion is in the log already, is not taken again (I3); a task is held until the log acknowledged its
completion, so a heartbeat never disowns a task whose completion could still get lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from perdure_schemas.records import Dispatch, HeldTask, RunTask

#: How many finished tasks are remembered, against late repetitions.
_FINISHED_MAX = 10_000
#: How many of them a new matching owner is told of.
_FINISHED_TOLD_MAX = 5_000


class Inbox:
    """The tasks of one worker."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._taking = threading.Lock()
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._epochs: dict[int, int] = {}
        #: The newest dispatch seen: its owner's epoch, and its number within that epoch. One value, because another
        #: thread reads it.
        self.last_dispatch = (-1, 0)

    def admit(self, dispatch: Dispatch) -> bool:
        """Whether a dispatch is to be obeyed, and not void or a repetition. :meth:`note` it in either case."""
        if dispatch.epoch < self._epochs.get(dispatch.source_partition, -1):
            return False
        return not (
            isinstance(dispatch.body, RunTask)
            and (dispatch.body.task_id in self._held or dispatch.body.task_id in self._finished)
        )

    def note(self, dispatch: Dispatch) -> None:
        """A dispatch was seen; its task, if it has one, is held already.

        In this order, because a heartbeat in between would say that the task was here and is done.
        """
        newest = self._epochs.get(dispatch.source_partition, -1)
        if dispatch.epoch < newest:
            return
        number = dispatch.dispatch_number
        if dispatch.epoch > newest:
            self._epochs[dispatch.source_partition] = dispatch.epoch
        elif self.last_dispatch[0] == dispatch.epoch:
            number = max(number, self.last_dispatch[1])
        self.last_dispatch = (dispatch.epoch, number)

    def hold(self, task_id: str, started_time_ms: int) -> bool:
        """A task is taken, if it is neither held nor finished: of two threads that ask, one has it."""
        with self._taking:
            # In this order: what is finished is noted as that before it stops being held.
            if task_id in self._held or task_id in self._finished:
                return False
            self._held[task_id] = started_time_ms
            return True

    def release(self, task_id: str) -> None:
        """A task is not worked on any more, and nothing was said about it: it may come again."""
        self._held.pop(task_id, None)

    def finish(self, task_id: str) -> None:
        """The log acknowledged a task's completion."""
        if task_id in self._held:
            # In this order, so that a heartbeat in between finds it in at least one of the two.
            self._finished[task_id] = None
            self._held.pop(task_id, None)
            while len(self._finished) > _FINISHED_MAX:
                try:
                    self._finished.popitem(last=False)
                except KeyError:
                    break  # another thread was quicker

    def held(self) -> list[HeldTask]:
        """The tasks held now."""
        return [HeldTask(task_id=task_id, started_time_ms=time_ms) for task_id, time_ms in list(self._held.items())]

    def finished(self) -> list[str]:
        """The tasks finished last, for a new matching owner: history may not have seen their completions yet."""
        return list(self._finished)[-_FINISHED_TOLD_MAX:]

    @property
    def held_count(self) -> int:
        """How many tasks are held."""
        return len(self._held)
