"""A record that a workflow emitted into a topic that was not there gets there by ``perdure dlq replay``, once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.kafka import KafkaLog
from perdure_schemas.topics import TopicNames
from tests.integration.ops.conftest import Run
from tests.support.platform import running_engine
from tests.support.user_topics import read, read_all

pytestmark = pytest.mark.kafka

WAIT_S = 90.0


@workflow.defn
class Parcel:
    """Emits one record at once, and one when it is told to."""

    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, topic: str) -> None:
        workflow.emit(topic, "the key", "first")
        await workflow.wait_condition(lambda: self.told)
        workflow.emit(topic, "the key", "second")

    @workflow.signal
    def go_on(self) -> None:
        self.told = True


def wait_for(look: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    return found


async def test_an_emitted_record_is_put_back_where_the_relay_would_have_written_it(
    kafka_bootstrap: str, kafka_namespace: str, task_queue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log, names = KafkaLog(kafka_bootstrap, {}), TopicNames(kafka_namespace, partitions=1)
    topic = f"{kafka_namespace}.parcels"
    run = Run(f"kafka://{kafka_bootstrap}", names.namespace, capsys)
    with running_engine(log, names):
        client = Client.from_log(log, namespace=names.namespace)
        async with Worker(client, task_queue=task_queue, workflows=[Parcel]):
            handle = await client.start_workflow(Parcel.run, topic, id=task_queue, task_queue=task_queue)
            letters = await asyncio.to_thread(wait_for, lambda: json.loads(run.ok("dlq", "list", "-o", "json")))
            (letter,) = [one["id"] for one in letters]
            assert letter.startswith(f"emit/{handle.first_execution_run_id}/")
            assert f"there is no topic {topic}" in run.ok("dlq", "replay", letter, "--yes", "-o", "json")
            log.create_topics({topic: user_topic_spec(topic)}, 5, 1)
            assert "1 records put back" in run("dlq", "replay", letter, "--yes")[1]
            assert "nothing to put back" in run("dlq", "replay", letter, "--yes")[1]
            await handle.signal(Parcel.go_on)
            await handle.result()
        found = await asyncio.to_thread(read, log, topic, 2, WAIT_S)
        assert [record.value for record in found] == [b"first", b"second"]
        assert found[0].partition == found[1].partition
        assert len(read_all(log, topic)) == 2
        await client.close()
    log.close()
