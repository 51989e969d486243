"""A broker that is killed, hangs, or was never there."""

from __future__ import annotations

import threading
import uuid

import pytest

from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import LogUnavailableError, NewRecord, TopicPartition
from perdure_schemas.topics import COMMANDS
from tests.contract.reading import DEADLINE_S, append, read, values
from tests.support.kafka_broker import NativeBroker, NativeCluster
from tests.support.kafka_native import free_port

pytestmark = pytest.mark.kafka


def numbered(topic: str, first: int, last: int) -> list[NewRecord]:
    return values(topic, [str(n).encode() for n in range(first, last)])


def test_nothing_is_lost_doubled_or_reordered_when_the_broker_is_killed(kafka_broker: NativeBroker) -> None:
    log = KafkaLog(kafka_broker.bootstrap)
    log.create_topics({"t": COMMANDS}, 1)
    producer, reader = log.producer("p"), log.reader("r")
    reader.assign({TopicPartition("t", 0): log.BEGIN})
    acks = [producer.append(numbered("t", 0, 50))]
    assert acks[0].wait(DEADLINE_S)
    assert len(read(reader, 50)) == 50

    for n in range(50, 100):
        acks.append(producer.append(numbered("t", n, n + 1)))
    kafka_broker.kill()
    for n in range(100, 150):
        acks.append(producer.append(numbered("t", n, n + 1)))
    assert not acks[-1].wait(0.3), "an acknowledgement without a broker"
    kafka_broker.start()

    assert acks[-1].wait(2 * DEADLINE_S)
    assert [ack.error() for ack in acks] == [None] * len(acks)
    fresh = log.reader("fresh")
    fresh.assign({TopicPartition("t", 0): log.BEGIN})
    assert [int(record.value or b"") for record in read(fresh, 150)] == list(range(150))
    log.close()


def test_a_reader_goes_on_where_it_was_after_a_restart(kafka_broker: NativeBroker) -> None:
    log = KafkaLog(kafka_broker.bootstrap)
    log.create_topics({"t": COMMANDS}, 1)
    append(log, numbered("t", 0, 10))
    reader = log.reader("r")
    reader.assign({TopicPartition("t", 0): log.BEGIN})
    read(reader, 10)
    kafka_broker.kill()
    assert reader.poll(10, 0.5) == []
    kafka_broker.start()
    append(log, numbered("t", 10, 20))
    assert [int(record.value or b"") for record in read(reader, 10)] == list(range(10, 20))
    log.close()


def test_a_broker_that_hangs_delays_acknowledgements_and_no_more(kafka_broker: NativeBroker) -> None:
    log = KafkaLog(kafka_broker.bootstrap)
    log.create_topics({"t": COMMANDS}, 1)
    producer = log.producer("p")
    assert producer.append(numbered("t", 0, 1)).wait(DEADLINE_S)
    kafka_broker.suspend()
    ack = producer.append(numbered("t", 1, 2))
    assert not ack.wait(0.5)
    assert not producer.flush(0.1)
    kafka_broker.resume()
    assert ack.wait(DEADLINE_S)
    assert ack.offsets() == {TopicPartition("t", 0): 1}
    log.close()


def test_what_is_undecided_when_a_producer_is_closed_fails(kafka_broker: NativeBroker) -> None:
    log = KafkaLog(kafka_broker.bootstrap)
    log.create_topics({"t": COMMANDS}, 1)
    producer = log.producer("p")
    assert producer.append(numbered("t", 0, 1)).wait(DEADLINE_S)
    kafka_broker.kill()
    ack = producer.append(numbered("t", 1, 2))
    producer.close()
    assert ack.done()
    assert ack.error() is not None
    log.close()


def test_nobody_there_is_an_error_in_bounded_time_that_says_what_to_check() -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    log = KafkaLog(bootstrap, timeout_s=1)
    partition = TopicPartition("t", 0)
    reader = log.reader("r")
    for ask in (
        lambda: log.create_topics({"t": COMMANDS}, 1),
        lambda: log.describe_topics(["t"]),
        lambda: log.watermarks(partition),
        lambda: log.offset_for_time(partition, 0),
        lambda: reader.assign({partition: log.END}),
    ):
        with pytest.raises(LogUnavailableError, match=bootstrap) as error:
            ask()
        assert "advertised.listeners" in str(error.value)
    log.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_cluster_loses_its_leader_and_no_acknowledged_record() -> None:
    topic = f"t{uuid.uuid4().hex[:6]}"
    with NativeCluster(3) as cluster:
        log = KafkaLog(cluster.bootstrap)
        log.create_topics({topic: COMMANDS}, 3)
        assert log.describe_topics([topic])[topic].replication == 3
        producer = log.producer("p")
        acks = []
        stop = threading.Event()

        def write() -> None:
            n = 0
            while not stop.is_set():
                records = [NewRecord(topic, partition, None, str(n).encode()) for partition in range(3)]
                acks.append(producer.append(records))
                n += 1
                acks[-1].wait(DEADLINE_S)

        writer = threading.Thread(target=write)
        writer.start()
        while len(acks) < 20:
            assert not stop.wait(0.05)
        cluster.brokers[0].kill()
        target = len(acks) + 20
        while len(acks) < target:
            assert not stop.wait(0.05)
        stop.set()
        writer.join()
        assert producer.flush(DEADLINE_S)
        assert [ack.error() for ack in acks] == [None] * len(acks)
        for partition in range(3):
            reader = log.reader("r")
            reader.assign({TopicPartition(topic, partition): log.BEGIN})
            records = read(reader, len(acks))
            assert [int(record.value or b"") for record in records] == list(range(len(acks)))
        log.close()
