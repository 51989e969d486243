"""The recipes of docs/recipes.md on a broker: what they find is what the workflows did."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from examples.recipes import activity_times, executions_to_duckdb
from examples.recipes.confluent_framing import Framing
from examples.recipes.records import Reading, Schemas
from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_ops.options import SubjectNaming
from perdure_ops.output import OutputFormat
from perdure_ops.registry_client import RegistryClient
from perdure_ops.schema_registration import run, wanted_schemas
from perdure_runtime.log import Log
from perdure_schemas.topics import EXECUTIONS, TopicNames
from tests.support.platform import kafka_platform
from tests.support.schema_registry import schema_registry
from tests.support.user_topics import read_all

faust = pytest.importorskip("faust", reason="faust-streaming is not installed: pip install perdure[faust]")

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

CUSTOMER = SearchAttributeKey.for_keyword("Customer")
DEADLINE_S = 120


@activity.defn
async def weigh(item: str) -> int:
    return len(item)


@activity.defn
async def ship(item: str) -> str:
    if activity.info().attempt == 1:
        raise ApplicationError("the van is late")
    return f"{item} is on its way"


@activity.defn
async def insure(item: str) -> None:
    raise ApplicationError(f"nobody insures {item}", non_retryable=True)


@workflow.defn
class Parcel:
    def __init__(self) -> None:
        self._waits = False

    @workflow.query
    def waits(self) -> bool:
        return self._waits

    @workflow.run
    async def run(self, item: str, waits: bool) -> None:
        soon = {"start_to_close_timeout": timedelta(seconds=60)}
        await workflow.execute_activity(weigh, item, **soon)
        quickly = RetryPolicy(initial_interval=timedelta(milliseconds=20))
        await workflow.execute_activity(ship, item, retry_policy=quickly, **soon)
        if waits:
            self._waits = True
            await workflow.wait_condition(lambda: False)
        await workflow.execute_activity(insure, item, **soon)


@pytest.fixture(scope="module")
def parcels(kafka_bootstrap: str) -> Iterator[tuple[Log, TopicNames]]:
    """A namespace of its own, in which two parcels have failed and one is open."""
    with kafka_platform(kafka_bootstrap) as (log, names):
        asyncio.run(send_parcels(log, names))
        yield log, names


async def send_parcels(log: Log, names: TopicNames) -> None:
    client = Client.from_log(log, namespace=names.namespace)
    async with Worker(client, task_queue="parcels", workflows=[Parcel], activities=[weigh, ship, insure]):
        handles = [
            await client.start_workflow(
                Parcel.run,
                args=[f"item-{number}", number == 2],
                id=f"parcel-{number}",
                task_queue="parcels",
                search_attributes=TypedSearchAttributes([SearchAttributePair(CUSTOMER, f"c-{number}")]),
            )
            for number in range(3)
        ]
        for handle in handles[:2]:
            with pytest.raises(Exception, match="Workflow execution failed"):
                await asyncio.wait_for(handle.result(), DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            while not await handles[2].query(Parcel.waits):
                await asyncio.sleep(0.05)
    await client.close()


def test_executions_become_rows(parcels: tuple[Log, TopicNames], kafka_bootstrap: str, tmp_path: Path) -> None:
    namespace, file = parcels[1].namespace, str(tmp_path / "runs.duckdb")
    first = executions_to_duckdb.copy(kafka_bootstrap, namespace, file)
    assert first >= 3
    with duckdb.connect(file) as database:
        query = (
            "SELECT workflow_id, workflow_type, status, closed IS NULL, search_attributes->>'Customer'"
            " FROM executions ORDER BY workflow_id"
        )
        assert database.execute(query).fetchall() == [
            ("parcel-0", "Parcel", "FAILED", False, "c-0"),
            ("parcel-1", "Parcel", "FAILED", False, "c-1"),
            ("parcel-2", "Parcel", "RUNNING", True, "c-2"),
        ]
        database.execute("DELETE FROM executions")
    # It goes on where it was: at most, an owner that took over since has written what its predecessor had written.
    assert executions_to_duckdb.copy(kafka_bootstrap, namespace, file) < first


def test_a_new_projection_is_folded_from_the_beginning(parcels: tuple[Log, TopicNames], kafka_bootstrap: str) -> None:
    found = activity_times.replay(kafka_bootstrap, parcels[1].namespace)
    counts = {name: (one.scheduled, one.completed, one.failed) for name, one in found.items()}
    assert counts == {"weigh": (3, 3, 0), "ship": (3, 3, 0), "insure": (2, 0, 2)}
    # A machine that stands still for seconds loses workers, and has attempts made again.
    assert found["ship"].attempts >= 6
    assert all(0 <= one.total_ms <= one.completed * one.longest_ms for one in found.values())


def test_a_registry_knows_the_schema_of_every_record(parcels: tuple[Log, TopicNames], kafka_bootstrap: str) -> None:
    log, names = parcels
    with schema_registry() as registry:
        wanted = wanted_schemas(names, SubjectNaming.TOPIC_RECORD)
        run(RegistryClient(registry.address), wanted, dry_run=False, assume_yes=True, output=OutputFormat.JSON)
        client = SchemaRegistryClient({"url": registry.address})
        for topic in (names.history, names.executions):
            schemas = Schemas.of_registry(client, topic)
            values = [record.value for record in read_all(log, topic) if record.value is not None]
            assert {schemas.decode(value)[0] for value in values} <= {"HistoryRecord", "ExecutionSummary", "OwnerMark"}
            reading = Reading(kafka_bootstrap, topic, schemas)
            ids = {change.fields["workflow_id"] for batch in reading.changes() for change in batch if change.fields}
            reading.close()
            assert ids == {"parcel-0", "parcel-1", "parcel-2"}


def test_a_framed_copy_is_read_by_the_registrys_own_deserialiser(
    parcels: tuple[Log, TopicNames], kafka_bootstrap: str
) -> None:
    log, names = parcels
    with schema_registry() as registry:
        wanted = wanted_schemas(names, SubjectNaming.TOPIC_RECORD, ["executions"])
        run(RegistryClient(registry.address), wanted, dry_run=False, assume_yes=True, output=OutputFormat.JSON)
        client = SchemaRegistryClient({"url": registry.address})
        log.create_topics({f"{names.executions}.framed": EXECUTIONS}, names.partitions)
        counts = []
        for _ in range(2):  # the second one goes on where the first one was
            framing = Framing(kafka_bootstrap, client, names.executions)
            counts.append(framing.copy())
            framing.close()
        assert counts[0] >= 3
        assert counts[1] < counts[0]
        deserialise = AvroDeserializer(client)
        records = read_all(log, framing.target)
        assert len(records) == sum(counts)
        where = SerializationContext(framing.target, MessageField.VALUE)
        runs = {record.key: deserialise(record.value, where) for record in records}
        assert {run["workflow_id"]: run["status"] for run in runs.values()} == {
            "parcel-0": "FAILED",
            "parcel-1": "FAILED",
            "parcel-2": "RUNNING",
        }
        assert set(runs) == {run["run_id"].encode() for run in runs.values()}


async def test_a_table_shows_what_runs(parcels: tuple[Log, TopicNames], kafka_bootstrap: str) -> None:
    from examples.recipes.dashboard import make_app

    app: Any = make_app(
        kafka_bootstrap,
        parcels[1].namespace,
        parcels[1].partitions,
        name=f"dashboard-{uuid.uuid4().hex[:8]}",
        web_enabled=False,
        topic_replication_factor=1,
    )
    app.finalize()
    await app.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while app.shown() != {"Parcel": {"FAILED": 2, "RUNNING": 1}}:
                await asyncio.sleep(0.05)
    finally:
        await app.stop()
