"""Positions: where a reader starts, how it is moved, paused and woken, and what the log says about offsets."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from perdure_runtime.log import Log, LogError, LogRecord, NewRecord, Reader, TopicPartition
from tests.contract.conftest import TopicFactory
from tests.contract.reading import DEADLINE_S, append, read, values

LETTERS = [b"a", b"b", b"c", b"d", b"e"]


def contents(records: list[LogRecord]) -> list[bytes | None]:
    return [record.value for record in records]


def in_thread(work: Callable[[], object]) -> Callable[[], object]:
    """Run in a thread; returns a function that waits for the result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def result() -> object:
        thread.join(DEADLINE_S)
        assert results, "the call did not return"
        return results[0]

    return result


def open_at(log: Log, topic: str, offset: int) -> Reader:
    reader = log.reader("r")
    reader.assign({TopicPartition(topic, 0): offset})
    return reader


def test_begin_end_and_offset(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    append(log, values(topic, LETTERS))
    begin, middle, end = (open_at(log, topic, offset) for offset in (log.BEGIN, 3, log.END))
    append(log, values(topic, [b"new"]))
    assert contents(read(begin, 6)) == [*LETTERS, b"new"]
    assert contents(read(middle, 3)) == [b"d", b"e", b"new"]
    assert contents(read(end, 1)) == [b"new"]


def test_an_offset_that_is_the_end_waits_for_the_next_record(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    append(log, values(topic, LETTERS))
    reader = open_at(log, topic, 5)
    assert reader.poll(10, 0.1) == []
    append(log, values(topic, [b"new"]))
    assert contents(read(reader, 1)) == [b"new"]


def test_assigning_adds_partitions_and_moves_those_that_are_read(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    append(log, values(topic, LETTERS))
    append(log, values(topic, [b"other"], partition=1))
    reader = open_at(log, topic, 0)
    assert contents(read(reader, 5)) == LETTERS
    reader.assign({TopicPartition(topic, 1): log.BEGIN})
    assert contents(read(reader, 1)) == [b"other"]
    reader.assign({TopicPartition(topic, 0): 3})
    assert contents(read(reader, 2)) == [b"d", b"e"]
    assert reader.poll(10, 0.1) == []


def test_moving_back_and_forth_returns_nothing_of_the_old_position(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    append(log, values(topic, [str(n).encode() for n in range(200)]))
    reader = open_at(log, topic, 0)
    for start in (150, 20, 198, 0, 77):
        read(reader, 1)
        reader.assign({TopicPartition(topic, 0): start})
        assert reader.position(TopicPartition(topic, 0)) == start
        assert read(reader, 1)[0].offset == start


def test_nothing_comes_from_an_unassigned_partition(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    append(log, values(topic, LETTERS * 20))
    reader = log.reader("r")
    reader.assign({TopicPartition(topic, 0): log.BEGIN, TopicPartition(topic, 1): log.BEGIN})
    read(reader, 1)
    reader.unassign([TopicPartition(topic, 0)])
    append(log, values(topic, [b"still read"], partition=1))
    assert contents(read(reader, 1)) == [b"still read"]
    assert reader.poll(10, 0.1) == []


def test_pausing_keeps_the_position(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    append(log, values(topic, LETTERS))
    reader = log.reader("r")
    reader.assign({TopicPartition(topic, 0): log.BEGIN, TopicPartition(topic, 1): log.BEGIN})
    assert contents(read(reader, 2)) == [b"a", b"b"]
    reader.pause([TopicPartition(topic, 0)])
    append(log, values(topic, [b"other"], partition=1))
    assert contents(read(reader, 1)) == [b"other"]
    assert reader.poll(10, 0.1) == []
    assert reader.position(TopicPartition(topic, 0)) == 2
    reader.resume([TopicPartition(topic, 0)])
    assert contents(read(reader, 3)) == [b"c", b"d", b"e"]


def test_the_position_is_the_next_offset(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    partition = TopicPartition(topic, 0)
    append(log, values(topic, LETTERS))
    reader = open_at(log, topic, log.BEGIN)
    assert reader.position(partition) == 0
    read(reader, 2)
    assert reader.position(partition) == 2
    read(reader, 3)
    assert reader.position(partition) == 5
    reader.assign({partition: log.END})
    assert reader.position(partition) == 5


def test_a_poll_returns_at_most_what_was_asked_for(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    append(log, values(topic, LETTERS))
    reader = open_at(log, topic, log.BEGIN)
    records: list[LogRecord] = []
    while len(records) < 5:
        batch = reader.poll(2, 1.0)
        assert len(batch) <= 2
        records += batch
    assert contents(records) == LETTERS


def test_a_waiting_poll_returns_with_the_first_record(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    reader = open_at(log, topic, log.END)
    result = in_thread(lambda: reader.poll(100, 4 * DEADLINE_S))
    append(log, values(topic, [b"new"]))
    assert contents(result()) == [b"new"]  # type: ignore[arg-type]


def test_a_poll_without_records_returns_after_its_time(log: Log, new_topic: TopicFactory) -> None:
    reader = open_at(log, new_topic(), log.BEGIN)
    assert reader.poll(10, 0) == []
    assert reader.poll(10, 0.05) == []


def test_wake_makes_a_waiting_poll_return(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    reader = open_at(log, topic, log.BEGIN)
    result = in_thread(lambda: reader.poll(10, 4 * DEADLINE_S))
    reader.wake()
    assert result() == []
    append(log, values(topic, [b"after"]))
    assert contents(read(reader, 1)) == [b"after"]


def test_a_wake_between_polls_is_not_lost(log: Log, new_topic: TopicFactory) -> None:
    reader = open_at(log, new_topic(), log.BEGIN)
    reader.wake()
    assert in_thread(lambda: reader.poll(10, 4 * DEADLINE_S))() == []


def test_a_reader_without_partitions_waits_and_can_be_woken(log: Log) -> None:
    reader = log.reader("r")
    assert reader.poll(10, 0.01) == []
    result = in_thread(lambda: reader.poll(10, 4 * DEADLINE_S))
    reader.wake()
    assert result() == []


def test_readers_are_independent(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    append(log, values(topic, LETTERS))
    one, other = open_at(log, topic, log.BEGIN), open_at(log, topic, log.BEGIN)
    assert contents(read(one, 5)) == LETTERS
    one.close()
    assert contents(read(other, 5)) == LETTERS


def test_an_unknown_topic_or_partition_cannot_be_assigned(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    reader = log.reader("r")
    for offset in (log.BEGIN, log.END, 0):
        with pytest.raises(LogError, match="no-such-topic"):
            reader.assign({TopicPartition("no-such-topic", 0): offset})
        with pytest.raises(LogError, match=topic):
            reader.assign({TopicPartition(topic, 2): offset})
    append(log, values(topic, [b"works"]))
    reader.assign({TopicPartition(topic, 0): log.BEGIN})
    assert contents(read(reader, 1)) == [b"works"]


def test_a_closed_reader_reads_nothing(log: Log, new_topic: TopicFactory) -> None:
    reader = open_at(log, new_topic(), log.BEGIN)
    reader.close()
    reader.close()
    with pytest.raises(LogError):
        reader.poll(1, 0)


def test_watermarks(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    assert log.watermarks(TopicPartition(topic, 0)) == (0, 0)
    append(log, values(topic, LETTERS))
    assert log.watermarks(TopicPartition(topic, 0)) == (0, 5)
    assert log.watermarks(TopicPartition(topic, 1)) == (0, 0)
    with pytest.raises(LogError, match="no-such-topic"):
        log.watermarks(TopicPartition("no-such-topic", 0))


def test_offset_for_time(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    partition = TopicPartition(topic, 0)
    start_ms = 1_700_000_000_000
    assert log.offset_for_time(partition, start_ms) == 0
    append(log, [NewRecord(topic, 0, b"k", b"v", start_ms + 100 * n) for n in range(5)])
    assert log.offset_for_time(partition, start_ms - 1) == 0
    assert log.offset_for_time(partition, start_ms + 200) == 2
    assert log.offset_for_time(partition, start_ms + 201) == 3
    assert log.offset_for_time(partition, start_ms + 401) == 5
