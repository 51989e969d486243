"""The engine, and the relay in it, is killed while workflows emit: each record is in its topic exactly once.

``PERDURE_SLOW_TESTS=1`` makes it 10,000 workflows and twenty kills.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import defaultdict
from pathlib import Path

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.kafka import KafkaLog
from tests.support.processes import PythonProcess, free_port
from tests.support.user_topics import emit_id_of, read, read_all, wait_until_relayed

SLOW = "PERDURE_SLOW_TESTS" in os.environ
WORKFLOWS, KILLS = (10_000, 20) if SLOW else (40, 1)
IN_FLIGHT = 20
EMITS = 3

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(7_200 if SLOW else 300)]


@workflow.defn
class Emitting:
    """Emits a record in each of its tasks."""

    @workflow.run
    async def run(self, topic: str) -> None:
        for number in range(EMITS):
            workflow.emit(topic, workflow.info().workflow_id, {"number": number})
            await workflow.sleep(0.05)


def _engine(folder: Path, bootstrap: str | None) -> tuple[PythonProcess, str, str]:
    if bootstrap is None:
        address = f"localhost:{free_port()}"
        arguments = ["dev", "--port", address.partition(":")[2], "--ui-port", "0", "--data", str(folder / "data")]
        return PythonProcess("engine", ["-m", "perdure_ops", *arguments], folder, ready="ready"), address, "default"
    address, namespace = f"kafka://{bootstrap}", f"emits{uuid.uuid4().hex[:8]}"
    arguments = ["server", "--address", address, "--namespace", namespace, "--partitions", "4"]
    arguments += ["--state-dir", str(folder / "state"), "--session-timeout-ms", "6000", "--instance", namespace]
    return PythonProcess("engine", ["-m", "perdure_ops", *arguments], folder, ready="ready"), address, namespace


@pytest.mark.parametrize("where", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def test_each_record_is_emitted_once(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bootstrap = None if where == "embedded" else request.getfixturevalue("kafka_bootstrap")
    topic = f"shipments-{uuid.uuid4().hex[:8]}"
    if bootstrap is not None:
        log = KafkaLog(bootstrap, {})
        await asyncio.to_thread(log.create_topics, {topic: user_topic_spec(topic)}, 3, 1)
        log.close()
    engine, address, namespace = _engine(tmp_path, bootstrap)
    engine.start(60)
    try:
        await _run_with_kills(engine, address, namespace, topic)
        await asyncio.to_thread(_check, address, namespace, topic)
    finally:
        engine.kill()


async def _run_with_kills(engine: PythonProcess, address: str, namespace: str, topic: str) -> None:
    client = await Client.connect(address, namespace=namespace)
    kills = {(number + 1) * WORKFLOWS // (KILLS + 1) for number in range(KILLS)}
    numbers = iter(range(WORKFLOWS))

    async def lane() -> None:
        for number in numbers:
            if number in kills:
                await asyncio.to_thread(engine.kill)
                await asyncio.to_thread(engine.start, 60)
            await client.execute_workflow(Emitting.run, topic, id=f"emitting-{number}", task_queue="emitting")

    try:
        async with Worker(client, task_queue="emitting", workflows=[Emitting]):
            await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    finally:
        await client.close()


def _check(address: str, namespace: str, topic: str) -> None:
    log = open_log(address)
    try:
        count = WORKFLOWS * EMITS
        assert len(read(log, topic, count)) == count
        wait_until_relayed(log, names_of(log, namespace))
        found = read_all(log, topic)
        assert len(found) == len({emit_id_of(record) for record in found}) == count
        of: dict[bytes, list[bytes | None]] = defaultdict(list)
        for record in found:
            of[record.key or b""].append(record.value)
        assert len(of) == WORKFLOWS
        assert all(values == [b'{"number":%d}' % number for number in range(EMITS)] for values in of.values())
    finally:
        log.close()
