"""The heart of the embedded log: appending to memory, and the one thread that makes everything durable in order.

Invariants:

* all that happens to the log — records, committed offsets, topics, the cleaner's removals — goes through one lock into
  one sequence of commits, each an atomic write; so a crash leaves a prefix that is consistent across all partitions;
* a record is visible to readers at once (to other processes, and in topics that answer clients, when it is synced), and
  its acknowledgement is decided after the sync of its commit, in the order of the calls;
* the commit thread takes whatever came meanwhile (group commit), and sleeps without a timeout when there is nothing;
* what somebody waits for is committed at once: answers to clients, records that other processes read, awaited
  acknowledgements; the rest may wait :data:`PATIENCE_S_MAX` for company, which spares most writes and syncs;
* when the storage fails, the log has failed for good: every acknowledgement, append and poll says so.

Called by :class:`perdure_runtime.embedded.log.EmbeddedLog` and the classes it hands out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from perdure_runtime.acks import LocalAck, call_back
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.embedded import layout
from perdure_runtime.embedded.partition import Partition
from perdure_runtime.embedded.reader import EmbeddedReader
from perdure_runtime.embedded.storage import Storage
from perdure_runtime.log import LogClosedError, LogError, LogRecord, LogUnavailableError, NewRecord
from perdure_runtime.sizes import RECORD_OVERHEAD_BYTES, record_bytes, too_large
from perdure_runtime.waker import Waker
from perdure_schemas.limits import RECORD_BYTES_MAX, UNWRITTEN_BYTES_MAX

_logger = logging.getLogger("perdure.log")
_new_tuple = tuple.__new__

#: How long ``append`` waits for the disk, where too much waits for it already, before it gives up.
BACKPRESSURE_S_MAX = 30.0
#: How long a commit that nobody waits for waits for more.
PATIENCE_S_MAX = 0.002
#: Acknowledgements of a remote producer kept to answer what is sent again after a reconnect.
RECENT_ACKS_KEPT = 4096


class RemoteProducer:
    """The last appends of one remote producer."""

    __slots__ = ("recent", "sequence", "time_ms")

    def __init__(self, sequence: int, time_ms: int) -> None:
        self.sequence = sequence
        self.time_ms = time_ms
        self.recent: deque[tuple[int, LocalAck]] = deque(maxlen=RECENT_ACKS_KEPT)


class LogCore:
    """Memory and commit thread of an embedded log on an opened storage. ``clock`` gives records their timestamps."""

    def __init__(self, storage: Storage, where: str, clock: Callable[[], int] = wall_clock_ms) -> None:
        self.lock = threading.Lock()
        self._clock = clock
        self.storage = storage
        self.where = where
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.topics: dict[str, layout.TopicEntry] = {}
        self.committed: dict[tuple[str, str, int], int] = {}
        #: What stands with a committed offset of a relay: see ``layout.GroupOffset``.
        self.epochs: dict[tuple[str, str, int], int] = {}
        self.producers: dict[bytes, RemoteProducer] = {}
        self.readers: list[EmbeddedReader] = []
        self.failure: LogError | None = None
        self.closed = False
        self._dirty: list[Partition] = []
        self._acks: list[LocalAck] = []
        self._entries: dict[bytes, bytes | None] = {}
        self._ranges: list[tuple[bytes, bytes]] = []
        self._unwritten_bytes = 0
        self._waker = Waker()
        self._urgent = False
        self._room = threading.Condition(self.lock)
        self._thread = threading.Thread(target=self._commit_loop, name="perdure-log-commit", daemon=True)

    def start(self) -> None:
        """Start the commit thread."""
        self._thread.start()

    def check_open(self) -> None:
        """Raise if the log is closed or has failed."""
        if self.failure is not None:
            raise self.failure
        if self.closed:
            raise LogClosedError(f"the log {self.where} is closed")

    # --- appending ------------------------------------------------------------------------------------------------

    def append(
        self,
        records: Sequence[NewRecord],
        producer_id: bytes | None = None,
        sequence: int = 0,
        *,
        together_with: Callable[[], dict[bytes, bytes | None]] | None = None,
    ) -> LocalAck:
        """Append records; with a producer id and sequence, one that was appended already is only acknowledged again.

        ``together_with`` is called with the lock held, and may refuse; the entries it returns are in the same commit.

        Raises:
            LogError: unknown partition, record too large, no key in a compacted topic, the log closed or failed.
        """
        prepared, size_bytes = self._prepare(records)
        time_ms = 0
        with self.lock:
            if self.closed or self.failure is not None:
                self.check_open()
            if self._unwritten_bytes > UNWRITTEN_BYTES_MAX:
                self._urge()
                self._wait_for_room()
            urgent = False
            remote = None
            if producer_id is not None:
                remote = self.producers.get(producer_id)
                if remote is not None and sequence <= remote.sequence:
                    return self._appended_before(remote, sequence)
            if together_with is not None:
                self._entries.update(together_with())
            written: list[LogRecord] = []
            for partition, record, size in prepared:
                topic, number, key, value, given_ms, headers = record
                if not given_ms:
                    given_ms = time_ms = time_ms or self._clock()
                offset = partition.end
                kept = _new_tuple(LogRecord, (topic, number, offset, key, value, given_ms, headers))
                partition.end = offset + 1
                partition.tail.append(kept)
                partition.tail_bytes += size
                partition.unwritten_bytes += size
                written.append(kept)
                if not partition.dirty:
                    partition.dirty = True
                    self._dirty.append(partition)
                if partition.cursors:
                    for cursor in partition.cursors:
                        if cursor.gated:
                            urgent = True
                        elif not cursor.queued:
                            cursor.queued = True
                            reader = cursor.reader
                            reader.ready.append(cursor)
                            reader.waker.wake()
            ack = LocalAck(self.lock, written, self._urge)
            if producer_id is not None:
                if remote is None:
                    remote = self.producers[producer_id] = RemoteProducer(sequence, 0)
                remote.sequence = sequence
                remote.time_ms = time_ms or self._clock()
                remote.recent.append((sequence, ack))
                self._entries[layout.PRODUCER_PREFIX + producer_id] = layout.encode(
                    layout.ProducerEntry(sequence, remote.time_ms)
                )
            self._unwritten_bytes += size_bytes
            self._acks.append(ack)
            if urgent:
                self._urge()
            elif len(self._acks) == 1:
                self._waker.wake()
        return ack

    def _urge(self) -> None:
        """Somebody waits for what is not committed yet (lock held)."""
        self._urgent = True
        self._waker.wake()

    def _prepare(self, records: Sequence[NewRecord]) -> tuple[list[tuple[Partition, NewRecord, int]], int]:
        """Check all records before any is appended, so that a call is appended as a whole or not at all."""
        partitions = self.partitions
        prepared = []
        total_bytes = 0
        for record in records:
            topic, number, key, value, _, headers = record
            partition = partitions.get((topic, number))
            if partition is None:
                raise self.unknown(topic, number)
            # As in sizes.record_bytes, without the call.
            size = RECORD_OVERHEAD_BYTES + (len(key) if key else 0) + (len(value) if value else 0)
            if headers:
                size = record_bytes(record)
            if size > RECORD_BYTES_MAX:
                raise too_large(record, size)
            if key is None and partition.compacted:
                raise LogError(f"a record for the compacted topic {topic} has no key: give it one")
            prepared.append((partition, record, size))
            total_bytes += size
        return prepared, total_bytes

    def refuse(self, producer_id: bytes, sequence: int, error: LogError) -> None:
        """Remember that this append of a remote producer was answered with an error, in case it is sent again."""
        with self.lock:
            remote = self.producers.setdefault(producer_id, RemoteProducer(sequence, self._clock()))
            remote.sequence = max(remote.sequence, sequence)
            remote.recent.append((sequence, LocalAck.decided(self.lock, error)))

    def _appended_before(self, remote: RemoteProducer, sequence: int) -> LocalAck:
        for known, ack in remote.recent:
            if known == sequence:
                return ack
        # Everything of a producer that is known without its ack was loaded from the storage: it is safe.
        return LocalAck.decided(self.lock, unknown=True)

    def _wait_for_room(self) -> None:
        deadline_s = time.monotonic() + BACKPRESSURE_S_MAX
        while self._unwritten_bytes > UNWRITTEN_BYTES_MAX and self.failure is None and not self.closed:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0 or not self._room.wait(remaining_s):
                raise LogUnavailableError(
                    f"the disk of the log {self.where} did not take {UNWRITTEN_BYTES_MAX} bytes in "
                    f"{BACKPRESSURE_S_MAX} s: append less, or use a faster disk"
                )
        self.check_open()

    def unknown(self, topic: str, partition: int) -> LogError:
        """The error for a partition that does not exist."""
        entry = self.topics.get(topic)
        if entry is None:
            return LogError(f"topic {topic!r} does not exist in the log {self.where}: create it first")
        return LogError(f"topic {topic!r} has partitions 0 to {entry.partitions - 1}, not {partition}")

    def change(self, entries: dict[bytes, bytes | None], ranges: Sequence[tuple[bytes, bytes]] = ()) -> LocalAck:
        """Write other entries in the order of commits (lock held)."""
        ack = LocalAck(self.lock)
        if self.closed or self.failure is not None:
            ack.decide(self.failure or LogClosedError(f"the log {self.where} is closed"))
            return ack
        self._entries.update(entries)
        self._ranges.extend(ranges)
        self._acks.append(ack)
        self._urge()
        return ack

    # --- committing -----------------------------------------------------------------------------------------------

    def _commit_loop(self) -> None:
        while True:
            with self.lock:
                while not self._acks:
                    if self.closed:
                        return
                    self._waker.wait(self.lock, None)
                if not self._urgent and not self.closed:
                    self._waker.wait(self.lock, PATIENCE_S_MAX)
                self._urgent = False
                dirty, self._dirty = self._dirty, []
                acks, self._acks = self._acks, []
                entries, self._entries = self._entries, {}
                ranges, self._ranges = self._ranges, []
                work = [(partition, partition.end, *partition.take_unwritten()) for partition in dirty]
                self._unwritten_bytes = 0
            try:
                for partition, _, records, size_bytes in work:
                    for block in layout.cut_blocks(records, size_bytes):
                        entries[layout.block_key(partition.identity, block[-1][2])] = layout.encode(block)
                self.storage.write(entries, ranges)
                self.storage.sync()
            except Exception as error:
                _logger.exception("log=%s event=commit_failed", self.where)
                self._fail(LogError(f"the log {self.where} could not be written: {error}"), acks)
                return
            self._committed([(partition, end) for partition, end, _, _ in work], acks)

    def _committed(self, synced: list[tuple[Partition, int]], acks: list[LocalAck]) -> None:
        called = []
        with self.lock:
            for partition, end in synced:
                partition.synced = end
                if partition.cursors:
                    for cursor in partition.cursors:
                        if not cursor.queued and cursor.gated:
                            cursor.queued = True
                            cursor.reader.ready.append(cursor)
                            cursor.reader.waker.wake()
                partition.trim()
            for ack in acks:
                callbacks = ack.decide(None)
                if callbacks:
                    called.append((ack, callbacks))
            self._room.notify_all()
        call_back(called)

    def _fail(self, error: LogError, acks: list[LocalAck]) -> None:
        called = []
        with self.lock:
            self.failure = error
            for ack in [*acks, *self._acks]:
                callbacks = ack.decide(error)
                if callbacks:
                    called.append((ack, callbacks))
            self._acks = []
            self._room.notify_all()
            for reader in self.readers:
                reader.waker.wake()
        call_back(called)

    def close(self) -> None:
        """Commit what is pending and stop the commit thread; appends and polls fail from here on."""
        with self.lock:
            self.closed = True
            self._waker.wake()
            self._room.notify_all()
            for reader in self.readers:
                reader.waker.wake()
        self._thread.join()
