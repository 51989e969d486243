"""``history`` and ``executions`` in a schema registry's wire format, on a broker: written, read, and folded again.

The registry's own deserialiser reads them then, with the registry's ids alone, and so does everything of the platform.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from examples.recipes.records import Reading, Schemas
from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops import cli
from perdure_ops.options import SubjectNaming
from perdure_ops.output import OutputFormat
from perdure_ops.registry_client import RegistryClient
from perdure_ops.schema_framing import learn_schema_ids
from perdure_ops.schema_registration import run, wanted_schemas
from perdure_runtime.kafka import KafkaLog
from perdure_schemas.topics import TopicNames
from tests.support.auditing import assert_sound
from tests.support.platform import running_engine
from tests.support.schema_registry import schema_registry

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

DEADLINE_S = 120


@workflow.defn
class Tally:
    """Adds up signals until one is 0."""

    def __init__(self) -> None:
        self._sum = 0
        self._done = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self._done)
        return self._sum

    @workflow.signal
    def add(self, amount: int) -> None:
        self._sum += amount
        self._done = amount == 0

    @workflow.query
    def total(self) -> int:
        return self._sum


async def test_an_engine_frames_what_it_writes_and_one_without_a_registry_goes_on(
    kafka_bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = TopicNames(namespace=f"framed{uuid.uuid4().hex[:8]}", partitions=2)
    with schema_registry() as registry:
        asker = RegistryClient(registry.address)
        wanted = wanted_schemas(names, SubjectNaming.TOPIC_RECORD)
        run(asker, wanted, dry_run=False, assume_yes=True, output=OutputFormat.JSON)
        ids = learn_schema_ids(asker, names, tmp_path)
        await asyncio.to_thread(_with_engine, kafka_bootstrap, names, ids, _begin)
        framed = await asyncio.to_thread(_check_framed, kafka_bootstrap, names, registry.address)
    assert set(framed) == {"HistoryRecord", "ExecutionSummary", "OwnerMark"}
    assert framed["OwnerMark"] >= 2 * names.partitions
    # It folds what the other one has framed, and writes in the platform's own form behind it.
    await asyncio.to_thread(_with_engine, kafka_bootstrap, names, None, _end)
    await asyncio.to_thread(_check_recipes, kafka_bootstrap, names)
    capsys.readouterr()
    arguments = ["history", "tail", "--address", f"kafka://{kafka_bootstrap}", "-n", names.namespace, "-o", "jsonl"]
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(cli.main, arguments)
    assert not ended.value.code
    assert {json.loads(line).get("workflow_id") for line in capsys.readouterr().out.splitlines()} >= {"one", "two"}


def _with_engine(bootstrap: str, names: TopicNames, ids: Mapping[str, Mapping[bytes, int]] | None, what: Any) -> None:
    """One life of an engine, with an empty state folder: it folds all that was written before."""

    async def work(log: KafkaLog) -> None:
        client = Client.from_log(log, namespace=names.namespace)
        async with Worker(client, task_queue="tallies", workflows=[Tally]), asyncio.timeout(DEADLINE_S):
            await what(client)
        await client.close()

    log = KafkaLog(bootstrap, {}, schema_ids=ids)
    try:
        with running_engine(log, names):
            asyncio.run(work(log))
            if ids is None:
                assert_sound(log, names)
    finally:
        log.close()


async def _begin(client: Client) -> None:
    for workflow_id, amount in (("one", 1), ("two", 2)):
        handle = await client.start_workflow(Tally.run, id=workflow_id, task_queue="tallies")
        await handle.signal(Tally.add, amount)
        assert await handle.query(Tally.total) == amount
    while (await client.count_workflows("ExecutionStatus = 'Running'")).count < 2:
        await asyncio.sleep(0.05)


async def _end(client: Client) -> None:
    for workflow_id, amount in (("one", 1), ("two", 2)):
        handle = client.get_workflow_handle_for(Tally.run, workflow_id)
        await handle.signal(Tally.add, 0)
        assert await handle.result() == amount


def _check_framed(bootstrap: str, names: TopicNames, registry: str) -> Counter[str]:
    """Every value is framed, and read by the registry's own deserialiser; returns how many there are of each kind."""
    client = SchemaRegistryClient({"url": registry})
    deserialise = AvroDeserializer(client)
    found: Counter[str] = Counter()
    for topic in (names.history, names.executions):
        where = SerializationContext(topic, MessageField.VALUE)
        for partition in range(names.partitions):
            for value in _values(bootstrap, topic, partition):
                if value is not None:
                    assert value[0] == 0
                    assert isinstance(deserialise(value, where), dict)
                    schema = client.get_schema(int.from_bytes(value[1:5], "big")).schema_str
                    found[json.loads(schema)["name"].rpartition(".")[2]] += 1
    return found


def _values(bootstrap: str, topic: str, partition: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    try:
        place = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=30)
        consumer.assign([TopicPartition(topic, partition, low)])
        found = []
        while consumer.position([place])[0].offset < high:
            message = consumer.poll(1.0)
            if message is not None:
                assert message.error() is None
                found.append(message.value())
        return found
    finally:
        consumer.close()


def _check_recipes(bootstrap: str, names: TopicNames) -> None:
    """Readers without the platform's code, and without the registry, read both forms."""
    for topic in (names.history, names.executions):
        reading = Reading(bootstrap, topic, Schemas.of_folder())
        ids = {change.fields["workflow_id"] for batch in reading.changes() for change in batch if change.fields}
        reading.close()
        assert ids == {"one", "two"}
