"""Several readers on one consumer: for roles that run on one thread.

One consumer fetches for all of them, so the broker answers one request where it answered three, and a thread that
serves several roles can wait for all of them at once. Invariants: a partition belongs to one reader at a time; what was
fetched for a partition that is unassigned, or assigned anew, is never returned. All readers of one
:class:`SharedReaders` belong to one thread; only ``wake`` may be called by others. Made by
:class:`perdure_runtime.kafka.log.KafkaLog`, used by :mod:`perdure_runtime.engine`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic

from perdure_runtime.kafka.reader import KafkaReader
from perdure_runtime.log import LogClosedError, LogRecord, Reader, TopicPartition

__all__ = ["SharedReader", "SharedReaders"]

#: Records fetched at a time, for all readers together.
_RECORDS_PER_POLL_MAX = 2_000


class SharedReaders:
    """Hands out readers that share a consumer.

    Args:
        source: the consumer; it is closed with the last reader.
    """

    #: Whether a record can be read as soon as ``append`` has returned.
    shows_appends_at_once = False

    def __init__(self, source: KafkaReader) -> None:
        self.source = source
        self.owners: dict[tuple[str, int], SharedReader] = {}
        self.readers: list[SharedReader] = []

    def reader(self, name: str) -> SharedReader:
        """A new reader without partitions."""
        reader = SharedReader(name, self)
        self.readers.append(reader)
        return reader

    def has_news(self, reader: Reader) -> bool:
        """Whether a poll of this reader would give something at once, or end early."""
        assert isinstance(reader, SharedReader)
        return bool(reader.fetched) or reader.woken

    def wait_any(self, readers: Sequence[Reader], timeout_s: float) -> bool:
        """Wait until one of these readers has something, or was woken; false after ``timeout_s``."""
        if not any(self.has_news(reader) for reader in readers):
            self.fetch(timeout_s)
        return any(self.has_news(reader) for reader in readers)

    def fetch(self, timeout_s: float) -> None:
        """Wait for records, and put each where it belongs."""
        owners = self.owners
        for record in self.source.poll(_RECORDS_PER_POLL_MAX, timeout_s):
            owner = owners.get((record.topic, record.partition))
            if owner is not None:
                owner.fetched.append(record)

    def close(self) -> None:
        """Close the consumer. No reader can be used any more."""
        self.source.close()


class SharedReader:
    """See :class:`perdure_runtime.log.Reader`."""

    def __init__(self, name: str, shared: SharedReaders) -> None:
        self.name = name
        self.fetched: deque[LogRecord] = deque()
        self.woken = False
        self._shared = shared
        self._closed = False

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, too, from these offsets on."""
        self._check_open()
        self._forget(offsets)
        self._shared.source.assign(offsets)
        for topic, partition in offsets:
            self._shared.owners[topic, partition] = self

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""
        self._check_open()
        mine = [place for place in partitions if self._shared.owners.get((place[0], place[1])) is self]
        self._shared.source.unassign(mine)
        for topic, partition in mine:
            del self._shared.owners[topic, partition]
        self._forget(mine)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until ``resume``."""
        self._check_open()
        source = self._shared.source
        positions = {place: self.position(place) for place in partitions}
        self._forget(partitions)
        source.pause(partitions)
        fetched = {place: offset for place, offset in positions.items() if offset != source.position(place)}
        if fetched:
            source.assign(fetched)  # again, later: they stay paused

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on with paused partitions."""
        self._check_open()
        self._shared.source.resume(partitions)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record ``poll`` would return."""
        self._check_open()
        for record in self.fetched:
            if record.partition == partition.partition and record.topic == partition.topic:
                return record.offset
        return self._shared.source.position(partition)

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        """Return records as soon as there are any; see the port."""
        self._check_open()
        fetched = self.fetched
        if not fetched and not self.woken:
            deadline_s = monotonic() + timeout_s
            remaining_s = timeout_s
            while True:
                self._shared.fetch(max(remaining_s, 0.0))
                remaining_s = deadline_s - monotonic()
                if fetched or self.woken or remaining_s <= 0:
                    break
        self.woken = False
        return [fetched.popleft() for _ in range(min(len(fetched), records_max))]

    def wake(self) -> None:
        """Make a ``poll`` of another thread return within 50 ms."""
        self.woken = True
        self._shared.source.wake()

    def close(self) -> None:
        """Let go of all partitions; the last reader closes the consumer."""
        if self._closed:
            return
        shared = self._shared
        self._closed = True
        mine = [TopicPartition(*place) for place, owner in shared.owners.items() if owner is self]
        for place in mine:
            del shared.owners[place.topic, place.partition]
        self.fetched.clear()
        shared.readers.remove(self)
        if not shared.readers:
            shared.close()
        elif mine:
            shared.source.unassign(mine)

    def _forget(self, partitions: Mapping[TopicPartition, int] | Sequence[TopicPartition]) -> None:
        """What was fetched of these is not wanted any more."""
        gone = {(topic, partition) for topic, partition in partitions}
        if self.fetched and gone:
            kept = [record for record in self.fetched if (record.topic, record.partition) not in gone]
            self.fetched.clear()
            self.fetched.extend(kept)

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosedError(f"the reader {self.name} is closed")
