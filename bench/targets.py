"""What is measured: an engine and a worker on a log, set up and torn down around a measurement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.workloads import TASK_QUEUE, WORKFLOWS, echo
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_schemas.topics import TopicNames

#: The targets by name, and what each means.
TARGETS = {
    "embedded": "embedded log, engine, worker and client in one process; synced writes",
    "embedded-2p": "embedded log and engine in one process, worker and client in another",
    "kafka": "one Kafka broker, acks=all; the engine in one process, worker and client in another",
}
READY_TIMEOUT_S = 30.0
PARTITIONS = 4


@contextlib.asynccontextmanager
async def _process(*arguments: str, ready: str, folder: Path) -> AsyncIterator[None]:
    """A child process, from the line that says it is ready until the end of the block."""
    with (folder / "engine.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(READY_TIMEOUT_S):
                while ready not in (line := (await process.stdout.readline()).decode()):
                    if not line:
                        raise RuntimeError(f"the engine did not start: {(folder / 'engine.log').read_text()[-2000:]}")
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=list(WORKFLOWS.values()),
        activities=[echo],
        max_concurrent_activities=200,
        max_concurrent_workflow_tasks=200,
    )


@contextlib.asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[Client]:
    log = EmbeddedLog(folder / "log")
    names = TopicNames(partitions=PARTITIONS)
    create_platform_topics(log, names)
    roles = make_roles(ROLE_NAMES, names)
    engine = Engine(log, names, folder / "state", roles, instance="bench", single_thread=True)
    engine.start()
    try:
        if not engine.wait_ready(READY_TIMEOUT_S):
            raise RuntimeError(f"the engine did not start: {engine.failure()}")
        client = Client.from_log(log, namespace=names.namespace)
        async with _worker(client):
            yield client
        await client.close()
    finally:
        engine.stop()
        log.close()


@contextlib.asynccontextmanager
async def _embedded_two_processes(folder: Path) -> AsyncIterator[Client]:
    port = str(_free_port())
    arguments = ["-m", "perdure_ops", "dev", "--port", port, "--ui-port", "0", "--data", str(folder / "data")]
    async with _process(*arguments, ready="ready", folder=folder):
        client = await Client.connect(f"localhost:{port}")
        async with _worker(client):
            yield client
        await client.close()


@contextlib.asynccontextmanager
async def _kafka(folder: Path, bootstrap: str | None) -> AsyncIterator[Client]:
    async with contextlib.AsyncExitStack() as stack:
        if bootstrap is None:
            from tests.support.kafka_broker import NativeBroker

            bootstrap = stack.enter_context(NativeBroker(folder / "kafka")).bootstrap
        address = f"kafka://{bootstrap}"
        namespace = f"bench{os.getpid()}"
        arguments = ["-m", "perdure_ops", "server", "--address", address, "--namespace", namespace]
        arguments += ["--partitions", str(PARTITIONS), "--state-dir", str(folder / "state")]
        await stack.enter_async_context(_process(*arguments, ready="ready", folder=folder))
        client = await Client.connect(address, namespace=namespace)
        async with _worker(client):
            yield client
        await client.close()


@contextlib.asynccontextmanager
async def open_target(name: str, bootstrap: str | None) -> AsyncIterator[Client]:
    """A client of a freshly started target with a running worker."""
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as folder:
        path = Path(folder)
        if name == "embedded":
            target = _embedded(path)
        elif name == "embedded-2p":
            target = _embedded_two_processes(path)
        elif name == "kafka":
            target = _kafka(path, bootstrap)
        else:
            raise SystemExit(f"unknown target {name!r}; there are: {', '.join(TARGETS)}")
        async with target as client:
            yield client


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
