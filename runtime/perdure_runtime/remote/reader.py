"""Readers over the link: the server pushes, a poll takes what has come.

Invariants:

* the position after the last record received (not delivered) is what a reconnect goes on from;
* if the server lost records that this reader has received (they were visible, but never synced), the reader goes back
  to where the server's log ended, and what it holds from behind there is dropped;
* what was pushed under an older assignment of a partition is never delivered.

Called by the SDK's client and worker through :class:`~perdure_runtime.remote.log.RemoteLog`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from perdure_runtime.log import LogClosedError, LogError, LogRecord, TopicPartition
from perdure_runtime.remote import protocol
from perdure_runtime.remote.requests import Request
from perdure_runtime.waker import Waker
from perdure_schemas import limits

if TYPE_CHECKING:
    from perdure_runtime.remote.log import RemoteLog

BEGIN = -2
END = -1
_CREDIT_RETURNED_AT_BYTES = limits.CREDIT_BYTES // 4


class _Cursor:
    """The place of a reader in one partition."""

    __slots__ = ("chunks", "epoch", "incarnation", "log_id", "next_received", "paused", "position", "queued")

    def __init__(self, epoch: int, paused: bool = False) -> None:
        self.epoch = epoch
        self.paused = paused
        self.queued = False
        #: Of the next record to be delivered, and of the next one to be received.
        self.position = 0
        self.next_received = 0
        #: The log that ``next_received`` belongs to.
        self.log_id = ""
        self.incarnation = 0
        #: Records received, with the bytes they came in.
        self.chunks: deque[tuple[list[LogRecord], int]] = deque()


class RemoteReader:
    """Implements :class:`perdure_runtime.log.Reader`. Belongs to one thread; the link's thread fills it."""

    def __init__(self, log: RemoteLog, number: int, name: str) -> None:
        self.name = name
        self.number = number
        self._log = log
        self._lock = log.link.lock
        self._waker = Waker()
        self._woken = False
        self._closed = False
        self._epoch = 0
        self._cursors: dict[tuple[str, int], _Cursor] = {}
        self._ready: deque[_Cursor] = deque()
        self._taken_bytes = 0
        self._error: LogError | None = None

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        for place, offset in offsets.items():
            if offset < BEGIN:
                raise LogError(f"{offset} is not an offset of {place.topic}: use BEGIN, END, or 0 and above")
        requests = []
        with self._lock:
            self._check_open()
            self._error = None
            for place, offset in offsets.items():
                self._epoch += 1
                self._drop(place)
                cursor = self._cursors[(place[0], place[1])] = _Cursor(self._epoch)
                request = self._subscribe(place, cursor, offset, again=False)
                self._log.link.send(request.frame)
                requests.append(request)
        try:
            for (place, _), request in zip(offsets.items(), requests, strict=True):
                self._log.requests.wait(request, f"read {place.topic} {place.partition}")
        except LogError:
            self.unassign(list(offsets))
            raise

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        with self._lock:
            self._epoch += 1
            self._error = None
            for place in partitions:
                self._drop(place)
            places = [(place[0], place[1]) for place in partitions]
            self._log.link.send(protocol.frame(protocol.Unsubscribe(self.number, self._epoch, places)))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._set_paused(partitions, True)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._set_paused(partitions, False)

    def position(self, partition: TopicPartition) -> int:
        cursor = self._cursors.get((partition[0], partition[1]))
        if cursor is None:
            raise LogError(
                f"reader {self.name!r} does not read {partition.topic} {partition.partition}: assign it first"
            )
        return cursor.position

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        deadline_s = 0.0
        while True:
            if timeout_s <= 0.0 and not self._ready and not self._closed and self._error is None:
                self._woken = False
                return []
            now_s = monotonic()
            deadline_s = deadline_s or now_s + timeout_s
            with self._lock:
                self._check_open()
                records = self._take(records_max)
                if records:
                    return records
                if self._error is not None:
                    raise self._error
                if self._woken or now_s >= deadline_s:
                    self._woken = False
                    return []
                self._waker.wait(self._lock, deadline_s - now_s)

    def wake(self) -> None:
        with self._lock:
            self._woken = True
            self._waker.wake()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._cursors.clear()
            self._waker.wake()
            self._log.link.send(protocol.frame(protocol.CloseReader(self.number)))
        self._log.forget(self)

    # --- what the link brings -------------------------------------------------------------------------------------

    def receive(self, message: protocol.Records, size_bytes: int) -> None:
        """Take in records that were pushed."""
        records = message.records
        first = records[0]
        with self._lock:
            cursor = self._cursors.get((first[0], first[1]))
            if cursor is None or message.epoch < cursor.epoch:
                self._return_credit(size_bytes)
                return
            cursor.chunks.append((records, size_bytes))
            cursor.next_received = records[-1].offset + 1
            if not cursor.queued and not cursor.paused:
                cursor.queued = True
                self._ready.append(cursor)
                self._waker.wake()

    def fail(self, error: LogError, epoch: int | None = None) -> None:
        """The server could not read for us (in this epoch), or the link has ended."""
        with self._lock:
            if epoch is None or epoch >= self._epoch:
                self._error = error
                self._waker.wake()

    def subscribe_again(self) -> list[bytes]:
        """What to send after a reconnect (lock held). Credit begins anew, so what we still hold counts as taken."""
        self._taken_bytes = 0
        frames = []
        for (topic, partition), cursor in self._cursors.items():
            if not cursor.log_id:
                continue  # its first subscription is not answered yet, and is sent again as it is
            self._epoch += 1
            cursor.epoch = self._epoch
            cursor.chunks = deque((records, 0) for records, _ in cursor.chunks)
            place = TopicPartition(topic, partition)
            request = self._subscribe(place, cursor, cursor.next_received, again=True)
            frames.append(request.frame)
        return frames

    # --- inside, lock held ----------------------------------------------------------------------------------------

    def _subscribe(self, place: TopicPartition, cursor: _Cursor, offset: int, *, again: bool) -> Request:
        def started(result: msgspec.Raw) -> None:
            self._begin(cursor, protocol.decode_offset(result))

        def message(number: int) -> protocol.Subscribe:
            return protocol.Subscribe(
                request=number,
                reader=self.number,
                epoch=cursor.epoch,
                topic=place[0],
                partition=place[1],
                offset=offset,
                paused=cursor.paused,
                log_id=cursor.log_id if again else "",
                incarnation=cursor.incarnation,
            )

        return self._log.requests.new(message, started, resend=not again)

    def _begin(self, cursor: _Cursor, offset: int) -> None:
        """The server begins at this offset; if that is before what we have, the rest is lost there."""
        if not cursor.log_id:
            cursor.position = offset
        elif offset < cursor.next_received:
            kept: deque[tuple[list[LogRecord], int]] = deque()
            for records, size_bytes in cursor.chunks:
                kept.append(([record for record in records if record.offset < offset], size_bytes))
            cursor.chunks = kept
            cursor.position = min(cursor.position, offset)
        cursor.next_received = offset
        cursor.log_id, cursor.incarnation = self._log.server_identity

    def _take(self, records_max: int) -> list[LogRecord]:
        found: list[LogRecord] = []
        ready = self._ready
        while ready and len(found) < records_max:
            cursor = ready[0]
            if cursor.paused or not cursor.chunks:
                cursor.queued = False
                ready.popleft()
                continue
            records, size_bytes = cursor.chunks.popleft()
            room = records_max - len(found)
            if len(records) > room:
                cursor.chunks.appendleft((records[room:], size_bytes))
                records = records[:room]
            else:
                self._return_credit(size_bytes)
            if records:
                cursor.position = records[-1].offset + 1
                found = found + records if found else records
            ready.rotate(-1)
        return found

    def _return_credit(self, size_bytes: int) -> None:
        self._taken_bytes += size_bytes
        if self._taken_bytes >= _CREDIT_RETURNED_AT_BYTES:
            self._log.link.send(protocol.frame(protocol.Credit(self.number, self._taken_bytes)))
            self._taken_bytes = 0

    def _set_paused(self, partitions: Sequence[TopicPartition], paused: bool) -> None:
        with self._lock:
            places = []
            for place in partitions:
                cursor = self._cursors.get((place[0], place[1]))
                if cursor is not None and cursor.paused != paused:
                    cursor.paused = paused
                    places.append((place[0], place[1]))
                    if cursor.chunks and not paused and not cursor.queued:
                        cursor.queued = True
                        self._ready.append(cursor)
            if places:
                self._log.link.send(protocol.frame(protocol.Pause(self.number, paused, places)))

    def _drop(self, place: tuple[str, int]) -> None:
        cursor = self._cursors.pop((place[0], place[1]), None)
        if cursor is not None:
            for _, size_bytes in cursor.chunks:
                self._return_credit(size_bytes)
            cursor.chunks.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosedError(f"reader {self.name!r} is closed")
        self._log.check_open()
