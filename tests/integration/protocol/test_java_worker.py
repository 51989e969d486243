"""Workflows in Python whose activities a Java program runs: it knows nothing but docs/protocol.md and the schemas."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.java_worker.build import JavaUnavailableError, command
from perdure import workflow
from perdure.client import Client, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError
from perdure.worker import Worker
from perdure_runtime.log import Log
from perdure_schemas.records import PendingActivity
from perdure_schemas.topics import TopicNames
from tests.support.skipping import skip_without_java

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SOON = timedelta(seconds=120)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=50))
DEADLINE_S = 120


@workflow.defn
class Order:
    """A result, a failure that is repeated, one that is not, and an activity that is told to stop."""

    def __init__(self) -> None:
        self._enough = False

    @workflow.signal
    def enough(self) -> None:
        self._enough = True

    @workflow.run
    async def run(self, queue: str) -> dict[str, Any]:
        options: dict[str, Any] = {"task_queue": queue, "start_to_close_timeout": SOON, "retry_policy": QUICKLY}
        greeting = await workflow.execute_activity("greet", "Zoë", **options)
        reserved = await workflow.execute_activity("reserve", args=[7, 1], **options)
        refused = await self._failure_of("reserve", [-1, 0], options)
        unknown = await self._failure_of("fly", [], options)
        waiting = workflow.start_activity(
            "wait_until_cancelled",
            heartbeat_timeout=timedelta(seconds=60),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            **options,
        )
        await workflow.wait_condition(lambda: self._enough)
        waiting.cancel()
        try:
            await waiting
        except ActivityError as error:
            stopped = type(error.cause).__name__
        return {
            "greeting": greeting,
            "reserved": reserved,
            "refused": refused,
            "unknown": unknown,
            "stopped": stopped,
        }

    async def _failure_of(self, name: str, arguments: list[Any], options: dict[str, Any]) -> list[Any]:
        try:
            await workflow.execute_activity(name, args=arguments, **options)
        except ActivityError as error:
            assert isinstance(error.cause, ApplicationError)
            return [error.cause.type, error.cause.non_retryable]
        raise AssertionError(f"{name} did not fail")


@workflow.defn
class Import:
    @workflow.run
    async def run(self, queue: str, file: str) -> dict[str, Any]:
        found: dict[str, Any] = await workflow.execute_activity(
            "import_rows",
            file,
            task_queue=queue,
            start_to_close_timeout=SOON,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=QUICKLY,
        )
        return found


@pytest.fixture
def start_java(
    kafka_bootstrap: str, kafka_engine: tuple[Log, TopicNames], task_queue: str, tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts one more Java worker on the task queue ``<task_queue>-java``."""
    try:
        arguments = command(kafka_bootstrap, kafka_engine[1].namespace, f"{task_queue}-java")
    except JavaUnavailableError as error:
        skip_without_java(error)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / f"java-{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for log in sorted(tmp_path.glob("java-*.log")):
        print(f"--- {log.name}:\n{log.read_text()}")


async def heartbeat_seen(handle: WorkflowHandle[Any, Any]) -> PendingActivity:
    """The run's activity, as soon as the engine has a heartbeat of it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if pending and pending[0].last_heartbeat_time_ms is not None:
                return pending[0]
            await asyncio.sleep(0.05)


async def test_a_java_worker_runs_activities(
    kafka_engine: tuple[Log, TopicNames],
    task_queue: str,
    start_java: Callable[[], subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    log, names = kafka_engine
    client = Client.from_log(log, namespace=names.namespace)
    queue = f"{task_queue}-java"
    rows = tmp_path / "rows.txt"
    rows.write_text("a\nb\nc\n")
    first = start_java()
    async with Worker(client, task_queue=task_queue, workflows=[Order, Import]):
        order = await client.start_workflow(Order.run, queue, id=f"{task_queue}-order", task_queue=task_queue)
        importing = await client.start_workflow(
            Import.run, args=[queue, str(rows)], id=f"{task_queue}-import", task_queue=task_queue
        )
        assert (await heartbeat_seen(order)).activity_type == "wait_until_cancelled"
        await order.signal(Order.enough)
        done = await asyncio.wait_for(order.result(), DEADLINE_S)
        reserved = done.pop("reserved")
        assert reserved["quantity"] == 7
        assert reserved["attempt"] >= 2  # more, if the machine stood still for so long that the worker was missed
        assert done == {
            "greeting": "Hello, Zoë, from Java!",
            "refused": ["InvalidQuantity", True],
            "unknown": ["NotFoundError", True],
            "stopped": "CancelledError",
        }

        await heartbeat_seen(importing)
        first.send_signal(signal.SIGKILL)
        second = start_java()
        with rows.open("a") as more:
            more.write("d\nend\n")
        result = await asyncio.wait_for(importing.result(), DEADLINE_S)
        assert result["resumed_at"] in (1, 2, 3)
        assert result["rows"] == ["a", "b", "c", "d"][result["resumed_at"] :]

        second.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.wait, DEADLINE_S) == 128 + signal.SIGTERM
    await client.close()
