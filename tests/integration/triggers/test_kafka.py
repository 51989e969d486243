"""Triggers on a real broker: groups that share partitions, and topics that others write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from confluent_kafka import Producer

from perdure.client import Client
from perdure.kafka import Record, RecordTriggers, on_record
from perdure.kafka import _source as source_module
from perdure.kafka._letters import letters_of
from perdure_ops import cli
from perdure_runtime.log import Log, TopicPartition
from perdure_schemas.topics import TopicNames
from tests.integration.triggers.conftest import Topics, signals_of, started_with
from tests.support.waiting import until

pytestmark = pytest.mark.kafka
COUNT = 100


def value_of(record: Record) -> Any:
    return record.value


@pytest_asyncio.fixture
async def kafka_client(kafka_engine: tuple[Log, TopicNames]) -> AsyncIterator[Client]:
    log, names = kafka_engine
    client = Client.from_log(log, namespace=names.namespace)
    yield client
    await client.close()


@pytest.fixture
def kafka_topics(kafka_engine: tuple[Log, TopicNames]) -> Iterator[Topics]:
    topics = Topics(kafka_engine[0])
    yield topics
    topics.close()


async def test_starts_are_made_once_dead_letters_come_back_and_aborted_records_are_not_seen(
    kafka_client: Client, kafka_topics: Topics, kafka_bootstrap: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka_topics.create(partitions=2)
    config = {"bootstrap.servers": kafka_bootstrap, "transactional.id": task_queue}

    def write() -> None:
        producer = Producer(config)
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(topic, b'"aborted"', b"k", partition=0)
        producer.flush()
        producer.abort_transaction()
        producer.begin_transaction()
        for number in range(COUNT):
            value = b"poison" if number == 50 else json.dumps(number).encode()
            producer.produce(topic, value, str(number).encode(), partition=number % 2, headers=[("h", b"x")])
        producer.commit_transaction()

    await asyncio.to_thread(write)

    def trigger(**options: Any) -> Any:
        return on_record(topic, workflow="Order", task_queue="nobody", id=f"{task_queue}-{{key}}", **options)(value_of)

    with monkeypatch.context() as patched:
        # A consumer that is gone before it commits: all it did is delivered again.
        patched.setattr(source_module.Source, "_send_commit", lambda *_, **__: None)
        async with RecordTriggers(kafka_client, triggers=[trigger()], group=task_queue) as made:
            await until(lambda: made.counts.get("requested", 0) >= COUNT // 2)
    async with (
        RecordTriggers(kafka_client, triggers=[trigger()], group=task_queue) as first,
        RecordTriggers(
            kafka_client, triggers=[trigger(name="other", singleton="skip")], group=f"{task_queue}-2"
        ) as other,
    ):
        await until(lambda: first.counts.get("requested", 0) == COUNT - 1, "the first group")
        # The other group gets all records, too, and finds their workflow ids taken.
        await until(lambda: other.counts.get("skipped", 0) == COUNT - 1, "the other group")
    ids = [f"{task_queue}-{number}" for number in range(COUNT) if number != 50]
    assert await started_with(kafka_client, ids) == [number for number in range(COUNT) if number != 50]

    mine = [
        letter for letter in await asyncio.to_thread(letters_of, kafka_topics.log, topic) if letter.group == task_queue
    ]
    assert {letter.value for letter in mine} == {b"poison"}
    assert mine[-1].headers == (("h", b"x"),)
    letters = [letter.id for letter in mine]
    with pytest.raises(SystemExit) as ended:
        arguments = ["dlq", "replay", *letters, "--topic", topic, "--address", f"kafka://{kafka_bootstrap}", "--yes"]
        await asyncio.to_thread(cli.main, arguments)
    assert not ended.value.code
    async with RecordTriggers(kafka_client, triggers=[trigger(value=bytes.decode)], group=task_queue) as made:
        await until(lambda: made.counts.get("requested", 0) == len(mine))
    assert await started_with(kafka_client, [f"{task_queue}-50"]) == ["poison"]
    assert len(set(kafka_topics.committed(task_queue, topic))) == 2


async def test_records_of_a_key_reach_their_entity_in_order_through_a_rebalance(
    kafka_client: Client, kafka_topics: Topics, task_queue: str
) -> None:
    topic = kafka_topics.create(partitions=4)
    trigger = on_record(topic, workflow="Device", signal="measured", task_queue="nobody", id=f"{task_queue}-{{key}}")(
        value_of
    )

    def append(numbers: range) -> None:
        for number in numbers:
            for partition, key in enumerate("abcd"):
                kafka_topics.append(topic, (key, json.dumps(number).encode()), partition=partition)

    def runner() -> RecordTriggers:
        return RecordTriggers(kafka_client, triggers=[trigger], group=task_queue, records_in_flight_max=20)

    async with runner() as first:
        await asyncio.to_thread(append, range(50))
        await until(lambda: first.counts.get("requested", 0) >= 40)
        async with runner() as second:
            await asyncio.to_thread(append, range(50, COUNT))
            await until(lambda: len(first.assignment) == len(second.assignment) == 2, "the group to share")
        ends = dict.fromkeys(range(4), COUNT)
        await until(lambda: kafka_topics.committed(task_queue, topic) == ends, "all to be committed")
    for key in "abcd":
        assert await signals_of(kafka_client, f"{task_queue}-{key}") == list(range(COUNT))


def test_a_partition_that_was_given_away_while_paused_is_read_when_it_comes_back(
    kafka_engine: tuple[Log, TopicNames], kafka_topics: Topics
) -> None:
    place = TopicPartition(kafka_topics.create(partitions=1), 0)
    kafka_topics.append(place.topic, ("k", b"1"), partition=0)
    reader = kafka_engine[0].reader("given-away")
    reader.assign({place: 0})
    assert reader.poll(1, 10.0)
    reader.pause([place])
    reader.unassign([place])
    reader.assign({place: 0})
    assert reader.poll(1, 10.0)
    reader.close()
