"""What stands in a topic of the user's, as a consumer sees it that reads committed records only.

Called by tests of what workflows emit and wait for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from perdure_ops.group_lag import lags_of
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_runtime.relay.service import RELAY
from perdure_schemas.topics import EMIT_ID_HEADER, TopicNames

_POLL_S = 0.2


def read(log: Log, topic: str, count: int, timeout_s: float = 60.0) -> list[LogRecord]:
    """The first ``count`` records of a topic, as soon as they are there; fewer after ``timeout_s``."""
    found: list[LogRecord] = []
    for record in _records(log, topic, timeout_s):
        found.append(record)
        if len(found) == count:
            break
    return found


def read_all(log: Log, topic: str) -> list[LogRecord]:
    """All that stands in a topic now; an uncommitted record at its end would make this wait for a minute."""
    partitions = log.describe_topics([topic])[topic].partitions
    ends = {number: log.watermarks(TopicPartition(topic, number))[1] for number in range(partitions)}
    reader = log.reader("test", committed_only=True)
    found: list[LogRecord] = []
    deadline_s = time.monotonic() + 60
    try:
        reader.assign({TopicPartition(topic, number): log.BEGIN for number in ends})
        while any(reader.position(TopicPartition(topic, number)) < end for number, end in ends.items()):
            assert time.monotonic() < deadline_s
            found += reader.poll(1_000, _POLL_S)
    finally:
        reader.close()
    return found


def wait_until_relayed(log: Log, names: TopicNames, timeout_s: float = 90.0) -> None:
    """Wait until the relay is done with all that stands in the history."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        lags = [one for one in lags_of(log, names, ages=False) if one.group.role == RELAY]
        if lags and all(one.lag == 0 or (one.lag is None and one.end == 0) for one in lags):
            return
        assert time.monotonic() < deadline_s, f"the relay is behind: {lags}"
        time.sleep(0.2)


def emit_id_of(record: LogRecord) -> str:
    return dict(record.headers)[EMIT_ID_HEADER].decode()


def _records(log: Log, topic: str, timeout_s: float) -> Iterator[LogRecord]:
    deadline_s = time.monotonic() + timeout_s
    while topic not in log.describe_topics([topic]):
        if time.monotonic() > deadline_s:
            return
        time.sleep(0.05)
    reader = log.reader("test", committed_only=True)
    try:
        partitions = log.describe_topics([topic])[topic].partitions
        reader.assign({TopicPartition(topic, number): log.BEGIN for number in range(partitions)})
        while time.monotonic() < deadline_s:
            yield from reader.poll(1_000, _POLL_S)
    finally:
        reader.close()
