"""Lists of workflow runs, read from the ``executions`` topic itself.

Invariant: a list is the topic's state as of the moment it was asked for; records a deposed owner wrote late are left
out (I1). It reads the whole topic, which is compacted to one record for each run that is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from perdure._connection import Connection
from perdure.service import RPCError, RPCStatusCode
from perdure_runtime.fence import Fence
from perdure_runtime.log import LogError, LogRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import is_mark, parse_fenced_key
from perdure_schemas.records import ExecutionSummary, OwnerMark

_RECORDS_PER_POLL_MAX = 5_000
_POLL_S = 1.0


def read_executions(connection: Connection, timeout_s: float) -> list[ExecutionSummary]:
    """The latest summary of every run that is kept, newest start first. Blocks.

    Raises:
        RPCError: the log cannot be reached (``UNAVAILABLE``), or reading takes longer than ``timeout_s``.
    """
    try:
        found = _fold(_records(connection, timeout_s))
    except LogError as error:
        raise RPCError(f"workflows cannot be listed: {error}", RPCStatusCode.UNAVAILABLE) from error
    return sorted(found, key=lambda summary: (-summary.start_time_ms, summary.workflow_id, summary.run_id))


def _records(connection: Connection, timeout_s: float) -> Iterator[LogRecord]:
    log, topic = connection.log, connection.names.executions
    partitions = [TopicPartition(topic, number) for number in range(connection.names.partitions)]
    ends = {partition: log.watermarks(partition)[1] for partition in partitions}
    reader = log.reader("list-workflows")
    try:
        reader.assign(dict.fromkeys(partitions, log.BEGIN))
        deadline_s = time.monotonic() + timeout_s
        open_partitions = {partition for partition, end in ends.items() if end > 0}
        while open_partitions := {p for p in open_partitions if reader.position(p) < ends[p]}:
            if time.monotonic() > deadline_s:
                raise RPCError(
                    f"reading {topic} took longer than {timeout_s:g} s; {len(open_partitions)} partitions are unread",
                    RPCStatusCode.DEADLINE_EXCEEDED,
                )
            yield from reader.poll(_RECORDS_PER_POLL_MAX, _POLL_S)
    finally:
        reader.close()


def _fold(records: Iterator[LogRecord]) -> list[ExecutionSummary]:
    newest: dict[str, ExecutionSummary] = {}
    fences: dict[int, Fence] = {}
    for record in records:
        fence = fences.setdefault(record.partition, Fence())
        if is_mark(record.key):
            mark = codec.decode_as(record.value, OwnerMark)
            fence.mark(mark.source, mark.epoch)
            continue
        if record.key is None:
            continue
        key = parse_fenced_key(record.key)
        if not fence.admits(f"history/{key.source_partition}", key.epoch):
            continue
        if record.value is None:
            newest.pop(key.id, None)
            continue
        summary = codec.decode_as(record.value, ExecutionSummary)
        known = newest.get(key.id)
        if known is None or summary.version >= known.version:
            newest[key.id] = summary
    return list(newest.values())
