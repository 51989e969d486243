"""Appending and reading: what :mod:`perdure_runtime.log` promises about records, acknowledgements and order."""

from __future__ import annotations

import threading
import time

import pytest

from perdure_runtime.log import Ack, Log, LogError, NewRecord, TopicPartition
from perdure_schemas.topics import HISTORY, RECORD_BYTES_MAX, REPLIES
from tests.contract.conftest import LogFactory, TopicFactory
from tests.contract.reading import DEADLINE_S, append, read, read_from, values


def test_records_of_a_partition_keep_the_order_of_their_appends(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    producer = log.producer("p")
    for start in range(0, 300, 3):
        producer.append([NewRecord(topic, n % 2, None, str(n).encode()) for n in range(start, start + 3)])
    assert producer.flush(DEADLINE_S)
    for partition in (0, 1):
        records = read_from(log, {TopicPartition(topic, partition): log.BEGIN}, 150)
        assert [int(record.value or b"") for record in records] == list(range(partition, 300, 2))
        assert [record.offset for record in records] == list(range(150))
        assert {(record.topic, record.partition) for record in records} == {(topic, partition)}


def test_an_acknowledgement_knows_the_last_offset_of_each_partition(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=3)
    append(log, values(topic, [b"before"]))
    ack = log.producer("p").append([NewRecord(topic, n % 2, b"k", b"v") for n in range(5)])
    assert ack.wait(DEADLINE_S)
    assert ack.done()
    assert ack.error() is None
    assert ack.offsets() == {TopicPartition(topic, 0): 3, TopicPartition(topic, 1): 1}


def test_appending_nothing_is_acknowledged(log: Log) -> None:
    ack = log.producer("p").append([])
    assert ack.wait(DEADLINE_S)
    assert ack.offsets() == {}


def test_callbacks_run_once_when_decided_or_at_once_when_it_is(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    seen: list[str] = []
    early = threading.Event()

    def first(ack: Ack) -> None:
        seen.append(f"early {ack.done()} {ack.offsets()[TopicPartition(topic, 0)]}")
        early.set()

    ack = log.producer("p").append(values(topic, [b"a", b"b"]))
    ack.on_done(first)
    assert early.wait(DEADLINE_S)
    ack.on_done(lambda _: seen.append("late"))
    assert seen == ["early True 1", "late"]


def test_acknowledgements_of_a_partition_come_in_the_order_of_the_appends(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    producer = log.producer("p")
    order: list[int] = []
    acks = [producer.append(values(topic, [str(n).encode()] * 3)) for n in range(50)]
    for n, ack in enumerate(acks):
        ack.on_done(lambda _, n=n: order.append(n))  # type: ignore[misc]
    assert acks[-1].wait(DEADLINE_S)
    assert all(ack.done() for ack in acks), "an earlier append was undecided when a later one was acknowledged"
    assert [ack.offsets()[TopicPartition(topic, 0)] for ack in acks] == list(range(2, 150, 3))


def test_tombstones_empty_values_and_missing_keys_are_told_apart(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    written = [(b"k", None), (b"k", b""), (None, b"v"), (b"", b"v"), (None, None)]
    append(log, [NewRecord(topic, 0, key, value) for key, value in written])
    records = read_from(log, {TopicPartition(topic, 0): log.BEGIN}, len(written))
    assert [(record.key, record.value) for record in records] == written


def test_headers_come_back_as_they_were(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    headers = (("type", b"Command"), ("empty", b""), ("type", b"\x00\xff again"), ("späte", "größe".encode()))
    append(log, [NewRecord(topic, 0, b"k", b"v", headers=headers), NewRecord(topic, 0, b"k", b"v")])
    records = read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 2)
    assert records[0].headers == headers
    assert records[1].headers == ()


def test_timestamps_are_the_producers_or_the_current_time(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    before_ms = int(time.time() * 1000)
    append(log, [NewRecord(topic, 0, b"k", b"v", 1_700_000_000_123), NewRecord(topic, 0, b"k", b"v")])
    after_ms = int(time.time() * 1000)
    given, current = read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 2)
    assert given.timestamp_ms == 1_700_000_000_123
    assert before_ms <= current.timestamp_ms <= after_ms


def test_a_record_just_below_the_limit_is_taken(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    value = bytes(range(256)) * ((RECORD_BYTES_MAX - 4096) // 256)
    append(log, [NewRecord(topic, 0, b"big", value), NewRecord(topic, 0, b"small", b"after")])
    big, small = read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 2)
    assert big.value == value
    assert small.value == b"after"


def test_a_record_over_the_limit_is_refused_with_its_whole_call(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    producer = log.producer("p")
    too_large = NewRecord(topic, 0, b"the-key", b"x" * (RECORD_BYTES_MAX + 1))
    with pytest.raises(LogError, match=str(RECORD_BYTES_MAX)) as refusal:
        producer.append([NewRecord(topic, 0, b"k", b"same call"), too_large])
    assert topic in str(refusal.value)
    ack = producer.append(values(topic, [b"the producer still works"]))
    assert ack.wait(DEADLINE_S)
    assert ack.offsets() == {TopicPartition(topic, 0): 0}


def test_keys_and_headers_count_against_the_limit(log: Log, new_topic: TopicFactory) -> None:
    half = b"x" * (RECORD_BYTES_MAX // 2)
    topic = new_topic()
    producer = log.producer("p")
    with pytest.raises(LogError):
        producer.append([NewRecord(topic, 0, half, half)])
    with pytest.raises(LogError):
        producer.append([NewRecord(topic, 0, None, half, headers=(("h", half),))])


def test_a_closed_producer_takes_nothing(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    producer = log.producer("p")
    ack = producer.append(values(topic, [b"v"]))
    producer.close()
    producer.close()
    assert ack.done()
    assert ack.error() is None
    with pytest.raises(LogError):
        producer.append(values(topic, [b"late"]))


@pytest.mark.parametrize("spec", [HISTORY, REPLIES], ids=["compacted", "answers clients"])
def test_every_kind_of_topic_can_be_written_and_read(log: Log, new_topic: TopicFactory, spec) -> None:  # type: ignore[no-untyped-def]
    topic = new_topic(spec=spec)
    append(log, [NewRecord(topic, 0, f"k{n}".encode(), b"v") for n in range(10)])
    assert len(read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 10)) == 10


def test_one_producer_may_be_used_by_many_threads(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    producer = log.producer("shared")

    def work(name: int) -> None:
        for n in range(50):
            producer.append([NewRecord(topic, 0, str(name).encode(), str(n).encode())])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(DEADLINE_S)
    records = read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 200)
    for name in range(4):
        own = [int(record.value or b"") for record in records if record.key == str(name).encode()]
        assert own == list(range(50)), f"thread {name}"


def test_many_producers_write_to_one_partition(log_factory: LogFactory, log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()

    def work(name: int) -> None:
        producer = log.producer(f"p{name}")
        for n in range(40):
            producer.append([NewRecord(topic, 0, str(name).encode(), str(n).encode())])
        producer.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = read_from(log_factory(), {TopicPartition(topic, 0): log.BEGIN}, 120)
    assert [record.offset for record in records] == list(range(120))
    for name in range(3):
        assert [int(r.value or b"") for r in records if r.key == str(name).encode()] == list(range(40))


def test_appending_to_an_unknown_topic_is_an_error_that_names_it(log: Log) -> None:
    producer = log.producer("p")
    with pytest.raises(LogError, match="no-such-topic"):
        ack = producer.append(values("no-such-topic", [b"v"]))
        assert ack.wait(DEADLINE_S)
        ack.offsets()


def test_appending_to_an_unknown_partition_is_an_error_that_names_it(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    producer = log.producer("p")
    with pytest.raises(LogError, match=topic):
        ack = producer.append(values(topic, [b"v"], partition=2))
        assert ack.wait(DEADLINE_S)
        ack.offsets()


def test_closing_the_log_closes_what_it_opened(log_factory: LogFactory, new_topic: TopicFactory) -> None:
    log = log_factory()
    topic = new_topic()
    producer, reader = log.producer("p"), log.reader("r")
    reader.assign({TopicPartition(topic, 0): log.BEGIN})
    ack = producer.append(values(topic, [b"v"]))
    read(reader, 1)
    log.close()
    log.close()
    assert ack.done()
    with pytest.raises(LogError):
        producer.append(values(topic, [b"late"]))
    with pytest.raises(LogError):
        reader.poll(1, 0)
    with pytest.raises(LogError):
        log.producer("late")
