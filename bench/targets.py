"""What is measured: an engine and workers on a log, set up and torn down around a measurement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.stage import TASK_QUEUE, Stage
from bench.usage import descendants
from bench.workloads import all_activities, all_workflows
from perdure.client import Client
from perdure.runtime import switch_less_often
from perdure.worker import Worker
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics, names_of, open_log
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_schemas.topics import TopicNames
from tests.support.processes import PythonProcess, free_port

#: The targets by name, and what each means.
TARGETS = {
    "embedded": "embedded log, engine, worker and client in one process; synced writes",
    "embedded-2p": "embedded log and engine in one process, worker and client in another",
    "kafka": "one Kafka broker, acks=all; the engine in one process, worker and client in another",
}
#: Folding everything from the log takes its time.
READY_TIMEOUT_S = 600.0
PARTITIONS = 4
#: How many tasks of each kind a worker takes at a time.
SLOTS = 200
#: Roles of processes, as they stand in the figures.
ALL, CLIENT, CLIENT_AND_WORKER, WORKER, ENGINE, BROKER = "all", "client", "client+worker", "worker", "engine", "broker"


@dataclass(frozen=True)
class TargetOptions:
    """How a target is set up.

    Attributes:
        bootstrap: a Kafka broker that runs; ``None``: one is started for the measurement.
        partitions: of the namespace.
        workers: worker processes; 0: the worker runs in the process of the client.
        engine_processes: on Kafka: ``one``, ``roles``, or a number.
        data: folder for all data, kept; ``None``: a temporary one.
        profiles: profile the engine and worker processes, and write their profiles to this folder.
    """

    bootstrap: str | None = None
    partitions: int = PARTITIONS
    workers: int = 0
    engine_processes: str = "one"
    data: Path | None = None
    profiles: Path | None = None


def make_worker(client: Client) -> Worker:
    """A worker for all workloads. Also named on the command line of worker processes."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=all_workflows(),
        activities=all_activities(),
        max_concurrent_activities=SLOTS,
        max_concurrent_workflow_tasks=SLOTS,
    )


@contextlib.asynccontextmanager
async def _process(
    name: str, module: str, arguments: list[str], folder: Path, ready: str | None, profiles: Path | None
) -> AsyncIterator[int]:
    """A child process, from the line that says it is ready until the end of the block; gives its id."""
    command = ["-m", module, *arguments]
    if profiles is not None:
        command = ["-m", "bench.profiled", str(profiles / f"{name}.json"), module, *arguments]
    process = PythonProcess(name, command, folder, ready=ready)
    await asyncio.to_thread(process.start, READY_TIMEOUT_S)
    if profiles is not None:
        (profiles / f"pid-{process.pid}").touch()
    try:
        yield process.pid
    finally:
        await asyncio.to_thread(process.terminate)


@contextlib.asynccontextmanager
async def _workers(client: Client, options: TargetOptions, address: str, folder: Path) -> AsyncIterator[list[int]]:
    """Workers in processes of their own, or here; gives the ids of the former."""
    async with contextlib.AsyncExitStack() as stack:
        pids = []
        for number in range(options.workers):
            arguments = ["bench.targets:make_worker", "--address", address, "--namespace", client.namespace]
            process = _process(f"worker-{number}", "perdure.worker", arguments, folder, None, options.profiles)
            pids.append(await stack.enter_async_context(process))
        if not options.workers:
            await stack.enter_async_context(make_worker(client))
        yield pids


def _processes(workers: list[int], **others: list[int]) -> dict[str, list[int]]:
    if workers:
        return {CLIENT: [os.getpid()], WORKER: workers, **others}
    return {CLIENT_AND_WORKER: [os.getpid()], **others}


@contextlib.asynccontextmanager
async def _embedded(folder: Path, options: TargetOptions) -> AsyncIterator[Stage]:
    if options.workers:
        raise SystemExit("target embedded is one process: --workers needs embedded-2p or kafka")
    started_s = time.perf_counter()
    log = EmbeddedLog(folder / "log")
    names = TopicNames(partitions=options.partitions)
    create_platform_topics(log, names)
    roles = make_roles(ROLE_NAMES, names)
    engine = Engine(log, names, folder / "state", roles, instance="bench")
    engine.start()
    interval_s = sys.getswitchinterval()
    try:
        switch_less_often()
        if not await asyncio.to_thread(engine.wait_ready, READY_TIMEOUT_S):
            raise RuntimeError(f"the engine did not start: {engine.failure()}")
        start_s = time.perf_counter() - started_s
        client = Client.from_log(log, namespace=names.namespace)
        folders = [folder / "log", folder / "state"]
        async with make_worker(client):
            yield Stage("embedded", client, log, names, {ALL: [os.getpid()]}, folders, folder / "state", start_s)
        await client.close()
    finally:
        engine.stop()
        log.close()
        sys.setswitchinterval(interval_s)


@contextlib.asynccontextmanager
async def _embedded_two_processes(folder: Path, options: TargetOptions) -> AsyncIterator[Stage]:
    port = str(free_port())
    arguments = ["dev", "--port", port, "--ui-port", "0", "--data", str(folder / "data")]
    arguments += ["--partitions", str(options.partitions)]
    address = f"localhost:{port}"
    async with contextlib.AsyncExitStack() as stack:
        started_s = time.perf_counter()
        engine = await stack.enter_async_context(
            _process("engine", "perdure_ops", arguments, folder, "ready", options.profiles)
        )
        start_s = time.perf_counter() - started_s
        client = await stack.enter_async_context(_connected(address))
        workers = await stack.enter_async_context(_workers(client, options, address, folder))
        log = open_log(address)
        stack.callback(log.close)
        processes = _processes(workers, **{ENGINE: [engine]})
        names, data = names_of(log, client.namespace), folder / "data"
        yield Stage("embedded-2p", client, log, names, processes, [data], data / "state", start_s)


@contextlib.asynccontextmanager
async def _kafka(folder: Path, options: TargetOptions) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        bootstrap, brokers = options.bootstrap, []
        folders = [folder / "state"]
        if bootstrap is None:
            from tests.support.kafka_broker import NativeBroker

            broker = NativeBroker(folder / "kafka", heap_mb=1024, full_jit=True)
            stack.callback(broker.close)
            await asyncio.to_thread(broker.start)
            bootstrap, brokers = broker.bootstrap, [broker.pid]
            folders.append(folder / "kafka" / "data")
        address, namespace = f"kafka://{bootstrap}", f"bench{uuid.uuid4().hex[:8]}"
        arguments = ["server", "--address", address, "--namespace", namespace]
        arguments += ["--partitions", str(options.partitions), "--state-dir", str(folder / "state")]
        arguments += ["--processes", options.engine_processes]
        started_s = time.perf_counter()
        engine = await stack.enter_async_context(
            _process("engine", "perdure_ops", arguments, folder, "ready", options.profiles)
        )
        start_s = time.perf_counter() - started_s
        client = await stack.enter_async_context(_connected(address, namespace))
        workers = await stack.enter_async_context(_workers(client, options, address, folder))
        log = open_log(address)
        stack.callback(log.close)
        processes = _processes(workers, **{ENGINE: [engine, *descendants(engine)]})
        if brokers:
            processes[BROKER] = brokers
        names, state = names_of(log, namespace), folder / "state"
        yield Stage("kafka", client, log, names, processes, folders if brokers else [], state, start_s)


@contextlib.asynccontextmanager
async def _connected(address: str, namespace: str = "default") -> AsyncIterator[Client]:
    client = await Client.connect(address, namespace=namespace)
    try:
        yield client
    finally:
        await client.close()


_OPENERS = {"embedded": _embedded, "embedded-2p": _embedded_two_processes, "kafka": _kafka}


@contextlib.asynccontextmanager
async def open_target(name: str, options: TargetOptions) -> AsyncIterator[Stage]:
    """A freshly started target with running workers."""
    with contextlib.ExitStack() as stack:
        if options.data is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-bench-")))
        else:
            folder = options.data / name
            folder.mkdir(parents=True, exist_ok=True)
        async with _OPENERS[name](folder, options) as stage:
            yield stage
