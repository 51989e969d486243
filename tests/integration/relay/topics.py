"""What stands in a topic of the user's, as a consumer sees it that reads committed records only."""

from __future__ import annotations

import time
from collections.abc import Iterator

from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_runtime.relay.carrier import CarryingLog
from perdure_schemas.topics import EMIT_ID_HEADER

_POLL_S = 0.2


def read(log: Log, topic: str, count: int, timeout_s: float = 60.0) -> list[LogRecord]:
    """The first ``count`` records of a topic, as soon as they are there; fewer after ``timeout_s``."""
    found: list[LogRecord] = []
    for record in _records(log, topic, timeout_s):
        found.append(record)
        if len(found) == count:
            break
    return found


def emit_id_of(record: LogRecord) -> str:
    return dict(record.headers)[EMIT_ID_HEADER].decode()


def _records(log: Log, topic: str, timeout_s: float) -> Iterator[LogRecord]:
    assert isinstance(log, CarryingLog)
    deadline_s = time.monotonic() + timeout_s
    while topic not in log.describe_topics([topic]):
        if time.monotonic() > deadline_s:
            return
        time.sleep(0.05)
    reader = log.committed_reader("test")
    try:
        partitions = log.describe_topics([topic])[topic].partitions
        reader.assign({TopicPartition(topic, number): log.BEGIN for number in range(partitions)})
        while time.monotonic() < deadline_s:
            yield from reader.poll(1_000, _POLL_S)
    finally:
        reader.close()
