"""Where a relay begins to read which waits are open, after another one: it comes to the same, and reads little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord, Producer, TopicPartition
from perdure_runtime.relay.waits import Waits
from perdure_schemas import codec, keys
from perdure_schemas.records import ExecutionSummary, OwnerMark, RecordWait, WorkflowStatus
from perdure_schemas.topics import EXECUTIONS, TopicNames

NAMES = TopicNames(namespace="n", partitions=1)
PLACE = TopicPartition(NAMES.executions, 0)


class Executions:
    """The topic, and what an engine writes into it."""

    def __init__(self, log: EmbeddedLog, producer: Producer) -> None:
        self.log = log
        self._producer = producer

    def mark(self, epoch: int) -> int:
        mark = OwnerMark(source="history/0", epoch=epoch, owner="o", time_ms=1)
        return self._append(keys.mark_key("history/0", str(epoch)), codec.encode(mark), ())

    def summary(self, run_id: str, epoch: int, *wait_ids: str) -> int:
        """A run's summary with these waits; returns its offset."""
        waits = [RecordWait(wait_id=wait_id, topic="payments") for wait_id in wait_ids]
        summary = ExecutionSummary(
            workflow_id="w", run_id=run_id, workflow_type="T", task_queue="q", status=WorkflowStatus.RUNNING,
            start_time_ms=1, version=3, first_execution_run_id="r", execution_time_ms=1, history_length=1,
            record_waits=waits,
        )  # fmt: skip
        headers = keys.WAITS_HEADERS if waits else ()
        return self._append(keys.fenced_key(run_id, 0, epoch), codec.encode(summary), headers)

    def removed(self, run_id: str, epoch: int) -> int:
        return self._append(keys.fenced_key(run_id, 0, epoch), None, ())

    def _append(self, key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> int:
        _, end = self.log.watermarks(PLACE)
        ack = self._producer.append([NewRecord(NAMES.executions, 0, key, value, 1, headers)])
        assert ack.wait(60)
        assert ack.error() is None
        return end


class Life(NamedTuple):
    """What a relay read, and which waits it found open."""

    offsets: list[int]
    waits: dict[str, list[str]]


@pytest.fixture
def executions() -> Iterator[Executions]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.executions: EXECUTIONS}, 1)
    producer = log.producer("test")
    yield Executions(log, producer)
    producer.close()
    log.close()


def live(log: EmbeddedLog) -> Life:
    """A relay comes, reads to the end, keeps where its successor has to begin, and goes."""
    offsets = []
    with ExitStack() as opened:
        waits = Waits(log, NAMES, "", opened)
        while not waits._partitions:
            waits._carrier.poll()
        _, end = log.watermarks(PLACE)
        while waits.reader.position(PLACE) < end:
            for record in waits.reader.poll(1_000, 1.0):
                offsets.append(record.offset)
                waits._fold(record)
        waits._advance([0])
        found = {run_id: sorted(run.waits) for run_id, run in waits._partitions[0].runs.items()}
    return Life(offsets, found)


def test_a_relay_begins_where_the_oldest_open_wait_stands(executions: Executions) -> None:
    executions.mark(5)
    first = executions.summary("a", 5, "a1", "a2")
    executions.summary("b", 5, "b1")
    for number in range(20):
        executions.summary(f"done-{number}", 5)
    end = executions.summary("b", 5) + 1
    assert live(executions.log) == Life(list(range(end)), {"a": ["a1", "a2"]})
    assert live(executions.log) == Life(list(range(first, end)), {"a": ["a1", "a2"]})
    newer = executions.summary("a", 5, "a2")
    assert live(executions.log).waits == {"a": ["a2"]}
    # The newest summary of the run is enough: compaction may have removed the one before.
    assert live(executions.log) == Life([newer], {"a": ["a2"]})
    executions.removed("a", 5)
    assert live(executions.log).waits == {}
    assert live(executions.log) == Life([], {})


def test_what_is_void_stays_void_for_one_that_begins_behind_the_mark(executions: Executions) -> None:
    executions.mark(5)
    old = executions.summary("a", 5, "a1")
    executions.mark(9)
    executions.summary("b", 9, "b1")
    executions.summary("b", 5)  # written late by the owner before
    executions.summary("c", 5, "c1")
    assert live(executions.log).waits == {"a": ["a1"], "b": ["b1"]}
    # It begins before the newer mark, where a record of the older epoch counts.
    assert live(executions.log) == Life(list(range(old, 6)), {"a": ["a1"], "b": ["b1"]})
    end = executions.summary("a", 9) + 1
    assert live(executions.log).waits == {"b": ["b1"]}
    # It begins behind the mark, and knows it all the same.
    assert live(executions.log) == Life(list(range(3, end)), {"b": ["b1"]})
    executions.summary("b", 5)
    executions.summary("b", 9, "b1")
    executions.summary("b", 5)
    live(executions.log)
    assert live(executions.log).waits == {"b": ["b1"]}
