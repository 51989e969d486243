"""Readers of the embedded log: woken by appends, served from memory, and from the storage when they lag.

A cursor stands in its reader's ``ready`` queue (and ``queued`` is true) whenever it may have something to return; an
append puts it there. So a poll touches only partitions with news, however many are assigned.
Called by the processor shell and the socket server; the cursors are woken by the log's core.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from perdure_runtime.embedded.layout import block_key, blocks_end, decode_block, last_offset_of
from perdure_runtime.embedded.partition import Partition
from perdure_runtime.log import LogClosedError, LogError, LogRecord, TopicPartition
from perdure_runtime.waker import Waker

if TYPE_CHECKING:
    from perdure_runtime.embedded.core import LogCore

BEGIN = -2
END = -1
#: A poll that reads from the storage stops behind the block that reaches this many bytes.
STORED_BYTES_MAX = 1024 * 1024


class Cursor:
    """The place of one reader in one partition."""

    __slots__ = ("active", "gated", "partition", "paused", "position", "queued", "reader")

    def __init__(self, reader: EmbeddedReader, partition: Partition, position: int) -> None:
        self.reader = reader
        self.partition = partition
        self.position = position
        self.paused = False
        self.queued = False
        self.active = True
        #: Sees only what is synced.
        self.gated = reader.synced_only or partition.gated

    @property
    def visible_end(self) -> int:
        """It sees everything below."""
        return self.partition.synced if self.gated else self.partition.end


class EmbeddedReader:
    """Implements :class:`perdure_runtime.log.Reader`. Belongs to one thread.

    Args:
        core: the log.
        name: for error messages.
        waker: woken when there is something to read; shared by the readers of one thread.
        synced_only: see records only when they are safe on disk: for readers that outlive this process, which must not
            act on what a crash would undo.
    """

    def __init__(self, core: LogCore, name: str, waker: Waker | None = None, *, synced_only: bool = False) -> None:
        self.name = name
        self.synced_only = synced_only
        self.ready: deque[Cursor] = deque()
        self.waker = waker or Waker()
        self.woken = False
        self._core = core
        self._cursors: dict[TopicPartition, Cursor] = {}
        self._closed = False
        with core.lock:
            core.readers.append(self)

    @property
    def has_news(self) -> bool:
        """Whether a poll would give something, end early, or fail. As of now, without the lock."""
        return bool(self.ready) or self.woken or self._core.closed or self._core.failure is not None

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        core = self._core
        with core.lock:
            self._check_open()
            for place in offsets:
                if (place[0], place[1]) not in core.partitions:
                    raise core.unknown(*place)
            for place, offset in offsets.items():
                if offset < BEGIN:
                    raise LogError(f"{offset} is not an offset of {place.topic}: use BEGIN, END, or 0 and above")
                self._drop(place)
                partition = core.partitions[place]
                if offset == BEGIN:
                    offset = partition.low
                elif offset == END:
                    offset = partition.end
                cursor = self._cursors[place] = Cursor(self, partition, offset)
                self._follow(cursor)

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        with self._core.lock:
            for place in partitions:
                self._drop(place)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        with self._core.lock:
            for place in partitions:
                cursor = self._cursors.get(place)
                if cursor is not None and not cursor.paused:
                    cursor.paused = True
                    cursor.partition.cursors.remove(cursor)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        with self._core.lock:
            for place in partitions:
                cursor = self._cursors.get(place)
                if cursor is not None and cursor.paused:
                    cursor.paused = False
                    self._follow(cursor)

    def position(self, partition: TopicPartition) -> int:
        cursor = self._cursors.get(partition)
        if cursor is None:
            raise LogError(
                f"reader {self.name!r} does not read {partition.topic}/{partition.partition}: assign it first"
            )
        return cursor.position

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        deadline_s = 0.0
        while True:
            while self.ready:
                chunks = self.take(records_max)
                if chunks:
                    return chunks[0] if len(chunks) == 1 else [record for chunk in chunks for record in chunk]
            if timeout_s <= 0.0:
                self.woken = False
                if self._closed or self._core.closed or self._core.failure is not None:
                    self._check_open()
                return []
            now_s = monotonic()
            deadline_s = deadline_s or now_s + timeout_s
            with self._core.lock:
                self._check_open()
                if self.woken or now_s >= deadline_s:
                    self.woken = False
                    return []
                if not self.ready:
                    self.waker.wait(self._core.lock, deadline_s - now_s)

    def wake(self) -> None:
        with self._core.lock:
            self.woken = True
            self.waker.wake()

    def close(self) -> None:
        with self._core.lock:
            if not self._closed:
                self._closed = True
                for place in list(self._cursors):
                    self._drop(place)
                self._core.readers.remove(self)
                self.waker.wake()

    def take(self, records_max: int, bytes_max: int = sys.maxsize) -> list[list[LogRecord]]:
        """What is ready: lists of consecutive records of one partition each.

        Args:
            records_max: how many, in all.
            bytes_max: roughly how much from each partition; at least one record, whatever its size.

        Raises:
            LogError: a position does not exist (any more).
        """
        chunks: list[list[LogRecord]] = []
        room = records_max
        ready = self.ready
        with self._core.lock:
            if self._core.closed:
                self._check_open()
            behind = None
            for _ in range(len(ready)):
                cursor = ready.popleft()
                partition = cursor.partition
                end = partition.synced if cursor.gated else partition.end
                position = cursor.position
                if cursor.paused or not cursor.active or position == end:
                    cursor.queued = False
                    continue
                if position < partition.low or position > end:
                    if position >= partition.low and position <= partition.end:
                        cursor.queued = False  # not synced yet: the commit thread queues it again
                        continue
                    ready.appendleft(cursor)
                    if chunks:
                        break
                    raise self._out_of_range(cursor)
                base = partition.base
                if position < base:
                    ready.append(cursor)
                    if not chunks:
                        behind = cursor
                        break
                    continue
                stop = min(end, position + room)
                if partition.tail_bytes > bytes_max:
                    fitting = bytes_max * len(partition.tail) // partition.tail_bytes
                    stop = min(stop, position + max(1, fitting))
                chunk = partition.tail[position - base : stop - base]
                chunks.append(chunk)
                cursor.position = stop
                if stop == end:
                    cursor.queued = False
                else:
                    ready.append(cursor)
                room -= len(chunk)
                if room <= 0:
                    break
        if behind is not None:
            stored = self._read_stored(behind, records_max)
            return [stored] if stored else []
        return chunks

    def _read_stored(self, cursor: Cursor, records_max: int) -> list[LogRecord]:
        """Records below the part that is in memory; none if all up to there were compacted away."""
        core, partition = self._core, cursor.partition
        position, upper = cursor.position, partition.base
        found: list[LogRecord] = []
        size_bytes = 0
        reached = upper
        for key, value in core.storage.scan(block_key(partition.identity, position), blocks_end(partition.identity)):
            for record in decode_block(value):
                if position <= record.offset < upper:
                    found.append(record)
            size_bytes += len(value)
            last = last_offset_of(key)
            if last + 1 >= upper:
                break
            if len(found) >= records_max or size_bytes >= STORED_BYTES_MAX:
                reached = last + 1
                break
        if len(found) > records_max:
            del found[records_max:]
            reached = found[-1].offset + 1
        with core.lock:
            if position < partition.low:
                raise self._out_of_range(cursor)
            cursor.position = reached
        return found

    def _out_of_range(self, cursor: Cursor) -> LogError:
        partition = cursor.partition
        return LogError(
            f"offset {cursor.position} of {partition.place.topic}/{partition.place.partition} does not exist: "
            f"the log {self._core.where} has {partition.low} to {partition.end}; assign one of these"
        )

    def _follow(self, cursor: Cursor) -> None:
        cursor.partition.cursors.append(cursor)
        if not cursor.queued and cursor.position != cursor.visible_end:
            cursor.queued = True
            self.ready.append(cursor)

    def _drop(self, place: TopicPartition) -> None:
        cursor = self._cursors.pop(place, None)
        if cursor is not None:
            cursor.active = False
            if not cursor.paused:
                cursor.partition.cursors.remove(cursor)

    def _check_open(self) -> None:
        self._core.check_open()
        if self._closed:
            raise LogClosedError(f"reader {self.name!r} is closed")


def wait_any(core: LogCore, readers: Sequence[EmbeddedReader], timeout_s: float) -> bool:
    """Wait until one of the calling thread's readers has something, was woken, or failed; false after ``timeout_s``."""
    if not readers:
        return False
    waker = readers[0].waker
    deadline_s = monotonic() + timeout_s
    with core.lock:
        for reader in readers:
            reader.waker = waker
        while True:
            if core.failure is not None or core.closed or any(reader.ready or reader.woken for reader in readers):
                return True
            remaining_s = deadline_s - monotonic()
            if remaining_s <= 0:
                return False
            waker.wait(core.lock, remaining_s)
