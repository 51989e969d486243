"""What a worker knows of the tasks it was given. Pure bookkeeping, safe to use from several threads.

A task queue may be matched in several partitions, whose owners know nothing of each other: each is told of the tasks of
its own partition alone. Invariants: a dispatch of an older epoch than the newest seen from that source is ignored (I1);
a task that is held, or whose completion is in the log already, is not taken again (I3); a task is held until the log
acknowledged its completion, so a heartbeat never disowns a task whose completion could still get lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from perdure_schemas.records import Dispatch, HeldTask, RunTask

#: How many finished tasks are remembered, against late repetitions.
_FINISHED_MAX = 10_000
#: How many of them a new matching owner is told of.
_FINISHED_TOLD_MAX = 5_000


class LastDispatch(NamedTuple):
    """The newest dispatch seen from a partition: its owner's epoch, and its number within that epoch."""

    epoch: int
    number: int


_NONE_SEEN = LastDispatch(-1, 0)


class _Held(NamedTuple):
    started_time_ms: int
    partition: int


class Inbox:
    """The tasks of one worker. Partitions are those of ``tasks`` that the tasks came from."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._taking = threading.Lock()
        #: With the partition of each.
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._last: dict[int, LastDispatch] = {}

    def admit(self, dispatch: Dispatch) -> bool:
        """Whether a dispatch is to be obeyed, and not void or a repetition. :meth:`note` it in either case."""
        if dispatch.epoch < self.last_dispatch(dispatch.source_partition).epoch:
            return False
        return not (
            isinstance(dispatch.body, RunTask)
            and (dispatch.body.task_id in self._held or dispatch.body.task_id in self._finished)
        )

    def note(self, dispatch: Dispatch) -> None:
        """A dispatch was seen; its task, if it has one, is held already.

        In this order, because a heartbeat in between would say that the task was here and is done.
        """
        source = dispatch.source_partition
        # Of two the one of the newer epoch is the newer, and of one epoch the one with the larger number.
        self._last[source] = max(self.last_dispatch(source), LastDispatch(dispatch.epoch, dispatch.dispatch_number))

    def last_dispatch(self, partition: int) -> LastDispatch:
        """The newest dispatch seen from a partition."""
        return self._last.get(partition, _NONE_SEEN)

    def hold(self, task_id: str, partition: int, started_time_ms: int) -> bool:
        """A task is taken, if it is neither held nor finished: of two threads that ask, one has it."""
        with self._taking:
            # In this order: what is finished is noted as that before it stops being held.
            if task_id in self._held or task_id in self._finished:
                return False
            self._held[task_id] = _Held(started_time_ms, partition)
            return True

    def release(self, task_id: str) -> None:
        """A task is not worked on any more, and nothing was said about it: it may come again."""
        self._held.pop(task_id, None)

    def finish(self, task_id: str) -> None:
        """The log acknowledged a task's completion."""
        held = self._held.get(task_id)
        if held is not None:
            # In this order, so that a heartbeat in between finds it in at least one of the two.
            self._finished[task_id] = held.partition
            self._held.pop(task_id, None)
            while len(self._finished) > _FINISHED_MAX:
                try:
                    self._finished.popitem(last=False)
                except KeyError:
                    break  # another thread was quicker

    def held(self) -> dict[int, list[HeldTask]]:
        """The tasks held now, by partition."""
        found: dict[int, list[HeldTask]] = {}
        for task_id, held in list(self._held.items()):
            found.setdefault(held.partition, []).append(HeldTask(task_id=task_id, started_time_ms=held.started_time_ms))
        return found

    def finished(self, partition: int) -> list[str]:
        """The tasks of a partition finished last, for its new owner: history may not know of their completions yet."""
        finished = [task_id for task_id, of in list(self._finished.items()) if of == partition]
        return finished[-_FINISHED_TOLD_MAX:]

    @property
    def held_count(self) -> int:
        """How many tasks are held."""
        return len(self._held)
