"""Small helpers for the contract tests: records, reading with a deadline, driving group members."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from perdure_runtime.log import Log, LogRecord, Membership, NewRecord, Reader, TopicPartition

DEADLINE_S = 30.0


def values(topic: str, contents: Sequence[bytes], partition: int = 0) -> list[NewRecord]:
    """Records with these values."""
    return [NewRecord(topic, partition, b"key", content) for content in contents]


def append(log: Log, records: Sequence[NewRecord]) -> Mapping[TopicPartition, int]:
    """Append with a producer made for it, wait for the acknowledgement, and return its offsets."""
    producer = log.producer("helper")
    ack = producer.append(records)
    assert ack.wait(DEADLINE_S), "no acknowledgement in time"
    producer.close()
    return ack.offsets()


def read(reader: Reader, count: int) -> list[LogRecord]:
    """Read exactly ``count`` records."""
    records: list[LogRecord] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"only {len(records)} of {count} records came in time"
        records += reader.poll(count - len(records), 1.0)
    return records


def read_from(log: Log, offsets: Mapping[TopicPartition, int], count: int) -> list[LogRecord]:
    """Read exactly ``count`` records with a reader made for it."""
    reader = log.reader("helper")
    reader.assign(offsets)
    try:
        return read(reader, count)
    finally:
        reader.close()


class Member:
    """A group member that notes what it is told."""

    def __init__(self, log: Log, group: str, topic: str, instance: str = "") -> None:
        self.owned: set[int] = set()
        self.calls: list[tuple[str, list[int]]] = []
        self.when_revoked: Callable[[list[int]], None] = lambda _: None
        self.membership: Membership = log.join(group, topic, instance, self._assigned, self._revoked)

    def _assigned(self, partitions: list[int]) -> None:
        self.calls.append(("assigned", partitions))
        self.owned.update(partitions)

    def _revoked(self, partitions: list[int], lost: bool) -> None:
        self.calls.append(("lost" if lost else "revoked", partitions))
        self.when_revoked(partitions)
        self.owned.difference_update(partitions)


def drive(members: Sequence[Member], until: Callable[[], bool]) -> None:
    """Poll all members until the condition holds."""
    pause = threading.Event()
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline, f"members own {[sorted(member.owned) for member in members]}"
        for member in members:
            member.membership.poll()
        pause.wait(0.01)
