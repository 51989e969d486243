"""What a broker refuses: records, offsets, topics; and what the log makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient

from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import LogError, NewRecord, ProducerFencedError, TopicPartition
from perdure_schemas.topics import COMMANDS, HISTORY
from tests.contract.reading import DEADLINE_S, append, read_from, values

pytestmark = pytest.mark.kafka


@pytest.fixture
def log(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    log = KafkaLog(kafka_bootstrap)
    yield log
    log.close()


def test_a_refused_record_fences_its_producer_and_nothing_after_it_counts(log: KafkaLog, kafka_namespace: str) -> None:
    topic, other = f"{kafka_namespace}-a", f"{kafka_namespace}-b"
    log.create_topics({topic: COMMANDS, other: COMMANDS}, 1)
    log.alter_topic(topic, {"max.message.bytes": "2000"})
    producer = log.producer("p")
    before = producer.append(values(topic, [b"before"]))
    assert before.wait(DEADLINE_S)
    refused = producer.append(values(topic, [bytes(range(256)) * 40, b"same call"]))
    assert refused.wait(DEADLINE_S)
    error = refused.error()
    assert isinstance(error, ProducerFencedError)
    assert topic in str(error)
    with pytest.raises(LogError):
        refused.offsets()
    with pytest.raises(ProducerFencedError):
        producer.append(values(other, [b"after"]))
    producer.close()
    assert before.error() is None
    append(log, values(topic, [b"a new producer works"]))
    contents = [record.value for record in read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 2)]
    assert contents == [b"before", b"a new producer works"]


def test_a_fenced_producer_fails_and_drops_at_once_what_still_waits(log: KafkaLog, kafka_namespace: str) -> None:
    """The client would report it, and let itself be closed, only when it times out."""
    log.create_topics({kafka_namespace: COMMANDS}, 1)
    log.alter_topic(kafka_namespace, {"max.message.bytes": "2000"})
    for number in range(5):
        producer = log.producer(f"p{number}")
        acks = []
        try:
            for value in (b"before", bytes(range(256)) * 40, *[b"behind"] * 20):
                acks.append(producer.append(values(kafka_namespace, [value])))
        except ProducerFencedError:
            pass  # it knew already
        assert all(ack.wait(DEADLINE_S) for ack in acks)
        assert isinstance(acks[1].error(), ProducerFencedError)
        producer.close()


def test_a_refusal_in_the_middle_of_a_call_fails_the_call(log: KafkaLog, kafka_namespace: str) -> None:
    """Only the last record of a partition has a callback: the others' failures must not go unnoticed."""
    topic = kafka_namespace
    log.create_topics({topic: HISTORY}, 1)
    producer = log.producer("p")
    ack = producer.append(
        [NewRecord(topic, 0, b"key", b"v"), NewRecord(topic, 0, None, b"v"), NewRecord(topic, 0, b"key", b"v")]
    )
    assert ack.wait(DEADLINE_S)
    assert isinstance(ack.error(), ProducerFencedError)


def test_an_offset_behind_the_end_is_an_error_that_names_it(log: KafkaLog, kafka_namespace: str) -> None:
    log.create_topics({kafka_namespace: COMMANDS}, 1)
    reader = log.reader("r")
    reader.assign({TopicPartition(kafka_namespace, 0): 12345})
    with pytest.raises(LogError) as error:
        for _ in range(30):
            reader.poll(1, 1.0)
    assert "12345" in str(error.value)
    assert f"{kafka_namespace}[0]" in str(error.value)


def test_a_truncated_offset_is_an_error_and_not_a_jump(
    log: KafkaLog, kafka_bootstrap: str, kafka_namespace: str
) -> None:
    log.create_topics({kafka_namespace: COMMANDS}, 1)
    partition = TopicPartition(kafka_namespace, 0)
    append(log, values(kafka_namespace, [b"a", b"b", b"c", b"d"]))
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.delete_records([ClientPartition(kafka_namespace, 0, 3)]).values():
        future.result(DEADLINE_S)
    assert log.watermarks(partition) == (3, 4)
    reader = log.reader("r")
    reader.assign({partition: 1})
    with pytest.raises(LogError, match=f"offset 1 of {kafka_namespace}"):
        for _ in range(30):
            reader.poll(1, 1.0)
    reader.assign({partition: log.BEGIN})
    assert reader.position(partition) == 3
    assert [record.offset for record in reader.poll(10, DEADLINE_S)] == [3]


def test_what_the_cluster_cannot_do_is_said_with_its_reason(log: KafkaLog, kafka_namespace: str) -> None:
    with pytest.raises(LogError, match="replica"):
        log.create_topics({kafka_namespace: COMMANDS}, 1, replication=99)
    log.create_topics({kafka_namespace: COMMANDS}, 1)
    with pytest.raises(LogError, match=kafka_namespace):
        log.alter_topic(kafka_namespace, {"retention.ms": "soon"})
