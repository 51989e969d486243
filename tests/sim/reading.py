"""The reading side of the simulated log: pieces of any size, from partitions in any order.

Called through :class:`tests.sim.simlog.ProcessLog`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from perdure_runtime.log import LogRecord, TopicPartition

if TYPE_CHECKING:
    from tests.sim.simlog import SimLog

#: Places to read from that are no offsets.
BEGIN = -2
END = -1


class SimReader:
    """Implements ``Reader``; wakes whoever steps it."""

    def __init__(self, log: SimLog, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        #: Partitions that may hold something new, in the order in which they got it.
        self._fresh: dict[TopicPartition, None] = {}

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        for where, offset in offsets.items():
            partition = self._log.partition(where)
            if where not in self._positions:
                partition.readers.append(self)
            if offset == BEGIN:
                offset = partition.offsets[0] if partition.offsets else partition.next_offset
            elif offset == END:
                offset = partition.next_offset
            self._positions[where] = offset
            if offset < partition.next_offset:
                self.note(where)

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for where in partitions:
            if self._positions.pop(where, None) is not None:
                self._log.partition(where).readers.remove(self)
            self._fresh.pop(where, None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def note(self, where: TopicPartition) -> None:
        """A partition got something."""
        self._fresh[where] = None
        self._wake()

    @property
    def has_more(self) -> bool:
        """Whether a poll would return something."""
        return bool(self._fresh)

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        if not self._fresh:
            return []
        found: list[LogRecord] = []
        rng = self._log.world.network
        places = list(self._fresh)
        if len(places) > 1:
            rng.shuffle(places)
        for where in places:
            if where in self._paused:
                continue
            partition = self._log.partition(where)
            start = bisect_left(partition.offsets, self._positions[where])
            there = len(partition.offsets) - start
            count = min(there, records_max - len(found))
            if count > 1 and rng.random() < 0.2:
                count = 1 + int(rng.random() * count)
            if count > 0:
                found += partition.records[start : start + count]
                self._positions[where] = partition.offsets[start + count - 1] + 1
            if count >= there:
                del self._fresh[where]
                self._positions[where] = (
                    max(self._positions[where], partition.next_offset) if there == 0 else (self._positions[where])
                )
            if len(found) >= records_max:
                break
        return found

    def wake(self) -> None:
        self._wake()

    def close(self) -> None:
        self.unassign(list(self._positions))
