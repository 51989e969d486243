"""Workflows that wait for records: nothing between the wait and the engine's noticing is missed, on both logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log, NewRecord
from perdure_schemas.topics import TopicNames
from tests.support.platform import engine_without_relay, relaying

WAIT_S = 60.0


@workflow.defn
class Paid:
    """Waits for a payment of its own; says what it was."""

    @workflow.run
    async def run(self, topic: str, key: str, where: dict[str, Any] | None, timeout_s: float | None) -> list[Any]:
        try:
            record = await workflow.wait_for_record(topic, key, where=where, timeout=timeout_s)
        except TimeoutError:
            return ["timed out"]
        return [record.value, record.offset, dict(record.headers).get("h", b"").decode()]


def produce(log: Log, topic: str, key: str, *values: Any) -> None:
    producer = log.producer("test")
    try:
        records = [NewRecord(topic, 0, key.encode(), json.dumps(v).encode(), 0, (("h", b"x"),)) for v in values]
        assert producer.append(records).wait(WAIT_S)
    finally:
        producer.close()


async def wait_until_begun(handle: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not any(
            type(event.attributes).__name__ == "RecordWaitStarted" for event in (await handle.fetch_history()).events
        ):
            await asyncio.sleep(0.05)


async def test_the_first_record_that_fits_wakes_the_workflow(
    client: Client, platform: tuple[Log, TopicNames], task_queue: str
) -> None:
    log, _ = platform
    topic = f"payments-{task_queue}"
    await asyncio.to_thread(log.create_topics, {topic: user_topic_spec(topic)}, 1, 1)
    await asyncio.to_thread(produce, log, topic, "mine", {"state": "ok", "n": 0})
    async with Worker(client, task_queue=task_queue, workflows=[Paid]):

        async def start(name: str, *args: Any) -> Any:
            handle = await client.start_workflow(
                Paid.run, args=[topic, *args], id=f"{task_queue}-{name}", task_queue=task_queue
            )
            await wait_until_begun(handle)
            return handle

        any_of_mine = await start("any", "mine", None, None)
        ok = await start("ok", "mine", {"state": "ok", "more.0": 1}, None)
        never = await start("never", "nobody", None, 1)
        await asyncio.to_thread(produce, log, topic, "other", {"state": "ok", "more": [1]})
        await asyncio.to_thread(produce, log, topic, "mine", {"state": "bad"}, {"state": "ok", "more": [1]})
        assert await any_of_mine.result() == [{"state": "bad"}, 2, "x"]
        assert await ok.result() == [{"state": "ok", "more": [1]}, 3, "x"]
        assert await never.result() == ["timed out"]
    kinds = [type(e.attributes).__name__ for e in (await never.fetch_history()).events]
    assert kinds.count("RecordWaitStarted") == kinds.count("RecordWaitCanceled") == 1


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bare_platform(request: pytest.FixtureRequest, kafka_namespace: str) -> Iterator[tuple[Log, TopicNames]]:
    """A running engine without a relay."""
    is_kafka = request.param == "kafka"
    log: Log = KafkaLog(request.getfixturevalue("kafka_bootstrap"), {}) if is_kafka else EmbeddedLog(None)
    names = TopicNames(namespace=kafka_namespace, partitions=1)
    with engine_without_relay(log, names):
        yield log, names
    log.close()


async def test_what_comes_while_no_relay_is_there_is_not_missed(
    bare_platform: tuple[Log, TopicNames], task_queue: str
) -> None:
    log, names = bare_platform
    client = Client.from_log(log, namespace=names.namespace)
    topic = f"payments-{task_queue}"
    async with Worker(client, task_queue=task_queue, workflows=[Paid]):
        await asyncio.to_thread(log.create_topics, {topic: user_topic_spec(topic)}, 1, 1)
        await asyncio.to_thread(produce, log, topic, "first", "before the wait")
        handles = {}
        for key in ("first", "second"):
            arguments = [topic, key, None, None]
            handles[key] = await client.start_workflow(
                Paid.run, args=arguments, id=f"{task_queue}-{key}", task_queue=task_queue
            )
        await wait_until_begun(handles["first"])
        await asyncio.to_thread(produce, log, topic, "first", "between")
        with relaying(log, names):
            assert (await handles["first"].result())[0] == "between"
        # The first relay has noticed the second wait, and is gone when its record comes.
        await wait_until_begun(handles["second"])
        await asyncio.to_thread(produce, log, topic, "second", "later")
        with relaying(log, names):
            assert (await handles["second"].result())[0] == "later"
    await client.close()
