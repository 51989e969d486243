"""Fakes of what the shell gives a handler, and a driver that runs one handler as the shell does.

The driver keeps the log of each topic in a list, folds the restored topic up to a mark, and passes live records on; so
unit tests and property tests of a role need no log, no store and no clock of their own.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping

from perdure_runtime.handler import PartitionHandler, Role
from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import OwnerMark, Record


class DictStore:
    """A ``PartitionStore`` in memory that remembers how often it was touched.

    Staged writes are seen at once, as in the real store; :meth:`snapshot` is what is on disk after a checkpoint.
    """

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self.entries: dict[bytes, bytes] = dict(entries or {})
        self._sorted = sorted(self.entries)
        self.reads = self.writes = self.deletes = 0
        self.written_keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.writes += 1
        self.written_keys.append(key)
        if key not in self.entries:
            bisect.insort(self._sorted, key)
        self.entries[key] = value

    def delete(self, key: bytes) -> None:
        self.deletes += 1
        if self.entries.pop(key, None) is not None:
            del self._sorted[bisect.bisect_left(self._sorted, key)]

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        lower = prefix if start is None or start < prefix else start
        for key in self._sorted[bisect.bisect_left(self._sorted, lower) :]:
            if not key.startswith(prefix):
                break
            if key in self.entries:
                yield key, self.entries[key]

    def snapshot(self) -> dict[bytes, bytes]:
        """A copy of all entries."""
        return dict(self.entries)


class ListOutbox:
    """An ``Outbox`` that keeps what is sent."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []

    def send(self, record: NewRecord) -> None:
        self.records.append(record)

    def take(self) -> list[NewRecord]:
        """What was sent since the last call."""
        taken, self.records = self.records, []
        return taken

    def take_values(self) -> list[Record | None]:
        """What was sent since the last call, decoded; ``None`` for tombstones."""
        return [None if record.value is None else codec.decode(record.value) for record in self.take()]


class FakeLog:
    """One partition of each topic, in memory: lists of records with their offsets. Shared by successive owners."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.topics: dict[str, list[LogRecord]] = {}

    def append(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int) -> LogRecord:
        records = self.topics.setdefault(topic, [])
        offset = records[-1].offset + 1 if records else 0
        record = LogRecord(topic, self.partition, offset, key, value, timestamp_ms)
        records.append(record)
        return record

    def mark(self, topic: str, source: str, epoch: int, now_ms: int, owner: str = "owner") -> LogRecord:
        """Append an owner mark."""
        mark = OwnerMark(source=source, epoch=epoch, owner=owner, time_ms=now_ms)
        records = self.topics.get(topic, [])
        unique = f"{owner}-{records[-1].offset + 1 if records else 0}"
        return self.append(topic, keys.mark_key(source, unique), codec.encode(mark), now_ms)

    def end(self, topic: str) -> int:
        """The offset of the next record."""
        records = self.topics.get(topic)
        return records[-1].offset + 1 if records else 0

    def read(self, topic: str, offset: int) -> list[LogRecord]:
        """Everything from ``offset`` on."""
        return [record for record in self.topics.get(topic, []) if record.offset >= offset]


class HandlerDriver:
    """One owner of a partition: what the shell does, step by step and with a clock that the test moves."""

    def __init__(self, role: Role, log: FakeLog, store: DictStore, now_ms: int, committed: int | None = None) -> None:
        self.role = role
        self.log = log
        self.store = store
        self.now_ms = now_ms
        self.outbox = ListOutbox()
        self.positions: dict[str, int] = {}
        self.failures: list[tuple[LogRecord, str]] = []
        self.handler: PartitionHandler = role.open(log.partition, store, committed)
        self._committed = committed

    def take_over(self, owner: str = "owner") -> int:
        """Append the mark, fold up to it, take over. Returns the epoch."""
        source = f"{self.role.name}/{self.log.partition}"
        mark = self.log.mark(self.role.restored_topic, source, -1, self.now_ms, owner)
        restore_offset = self.handler.restore_offset()
        for record in self.log.read(self.role.restored_topic, restore_offset or 0):
            if record.offset < mark.offset:
                self.handler.fold(record)
        positions = self.handler.take_over(mark.offset, self._committed, self.now_ms, self.outbox)
        self.positions = {topic: max(offset, 0) for topic, offset in positions.items()}
        for target in self.role.marks(self.log.partition):
            if target.topic in self.role.live_topics:
                # The shell writes it before, and what stands up to it is short: read at once.
                self.log.mark(target.topic, source, mark.offset, self.now_ms, owner)
                for record in self.log.read(target.topic, self.positions[target.topic]):
                    self.positions[target.topic] = record.offset + 1
                    self.handle(record)
        return mark.offset

    def poll(self) -> None:
        """Handle everything new in the live topics."""
        for topic in self.role.live_topics:
            for record in self.log.read(topic, self.positions[topic]):
                self.positions[topic] = record.offset + 1
                self.handle(record)

    def handle(self, record: LogRecord) -> None:
        """Handle one record as the shell does: a failure quarantines it."""
        try:
            self.handler.handle(record, self.outbox)
        except Exception as error:
            self.failures.append((record, str(error)))
            self.handler.quarantine(record, str(error), self.outbox)

    def tick(self, now_ms: int | None = None) -> None:
        """Let the clock be ``now_ms`` and tick."""
        if now_ms is not None:
            self.now_ms = now_ms
        self.handler.tick(self.now_ms, self.outbox)

    def run_until(self, now_ms: int) -> None:
        """Tick at each wake-up the handler asks for, up to ``now_ms``."""
        while True:
            wakeup = self.handler.next_wakeup_ms()
            if wakeup is None or wakeup > now_ms:
                break
            self.tick(max(wakeup, self.now_ms))
            if self.handler.next_wakeup_ms() == wakeup and wakeup <= self.now_ms:
                raise AssertionError(f"the tick at {wakeup} did not move the next wake-up")
        self.now_ms = now_ms
