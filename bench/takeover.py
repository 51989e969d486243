"""``python -m bench.takeover``: how long partitions stand still when their engine stops or is killed, on Kafka.

Two engines share the partitions, open workflows with large inputs make up the state, then one engine goes. Measured is
on every partition the longest time that a workflow with one activity takes meanwhile, as a client sees it; with hot
standbys, and without. Bounded: each of the four runs has a deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.stage import TASK_QUEUE
from bench.workloads.base import echo
from bench.workloads.sequence import WORKFLOWS, One
from perdure.client import Client
from perdure.worker import Worker
from perdure_schemas import keys
from tests.support.kafka_broker import NativeBroker
from tests.support.processes import PythonProcess, free_port

PARTITIONS = 4
INPUT_BYTES = 128 * 1024
FILL_IN_FLIGHT = 32
DEADLINE_S = 300.0
#: A queue without workers: its workflows stay open, and are the state.
IDLE_QUEUE = "nobody"

_LIVE = re.compile(r"role=(\w+) partition=(\d+) event=live epoch=\d+ folded=(\d+) seconds=([\d.]+)")


@dataclass(frozen=True)
class Takeover:
    """What one run gave."""

    standbys: bool
    how: str
    state_mb: int
    session_timeout_s: float
    #: For each partition the longest time that a workflow of one activity took; then how long the process took to end.
    stalls_s: list[float]
    stopping_s: float
    #: What the new owner had to fold.
    partitions_taken: int
    records_folded: int
    longest_restore_s: float


class _Engine(PythonProcess):
    """An engine with a page that tells where its partitions stand."""

    def __init__(self, name: str, address: str, namespace: str, folder: Path, options: argparse.Namespace, hot: bool):
        self.port = free_port()
        arguments = ["-m", "perdure_ops", "server", "--address", address, "--namespace", namespace]
        arguments += ["--partitions", str(PARTITIONS), "--state-dir", str(folder / f"state-{name}"), "--instance", name]
        arguments += ["--session-timeout-ms", str(int(options.session_timeout_s * 1000))]
        arguments += ["--http-port", str(self.port), "--standbys" if hot else "--no-standbys"]
        super().__init__(name, arguments, folder, ready="ready")

    def states(self) -> list[str]:
        """The state of every partition of every role that it has to do with."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/partitions", timeout=10) as answer:
            return [status["state"] for status in json.load(answer)]

    def takeovers(self) -> list[tuple[int, float]]:
        """Records folded, and seconds, for every partition that went live."""
        found = _LIVE.findall(self.log_path.read_text(errors="replace"))
        return [(int(folded), float(seconds)) for _, _, folded, seconds in found]


def _id_on(partition: int) -> str:
    """A workflow id that belongs to a partition."""
    for _ in itertools.count():
        found = f"probe-{uuid.uuid4().hex}"
        if keys.partition_of(found, PARTITIONS) == partition:
            return found
    raise AssertionError


async def _fill(client: Client, megabytes: int) -> None:
    left = iter(range(megabytes * 1024 * 1024 // INPUT_BYTES))
    text = "x" * INPUT_BYTES

    async def lane() -> None:
        for number in left:
            await client.start_workflow(One.run, text, id=f"state-{number}", task_queue=IDLE_QUEUE)

    await asyncio.gather(*(lane() for _ in range(FILL_IN_FLIGHT)))


async def _until(states: set[str], *engines: _Engine) -> None:
    """Wait until the engines say only this of all partitions, and have something to say of all of them."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            told = [await asyncio.to_thread(engine.states) for engine in engines]
            if all(set(found) <= states for found in told) and sum(map(len, told)) >= 3 * PARTITIONS:
                return
            await asyncio.sleep(0.1)


async def _probe(client: Client, partition: int, end: asyncio.Event) -> float:
    """Run one workflow after the other on a partition, one more after ``end``; the longest time one took, in s."""
    longest_s = 0.0
    while True:
        last = end.is_set()
        started_s = time.perf_counter()
        await client.execute_workflow(One.run, "x", id=_id_on(partition), task_queue=TASK_QUEUE)
        longest_s = max(longest_s, time.perf_counter() - started_s)
        if last:
            return longest_s


async def _go(client: Client, victim: _Engine, successor: _Engine, how: str) -> tuple[list[float], float]:
    """End one engine while all partitions are in use; returns the longest stalls, and how long its process took."""
    end = asyncio.Event()
    probes = [asyncio.create_task(_probe(client, partition, end)) for partition in range(PARTITIONS)]
    await asyncio.sleep(1)
    started_s = time.perf_counter()
    await asyncio.to_thread(victim.kill if how == "kill" else victim.terminate)
    stopping_s = time.perf_counter() - started_s
    async with asyncio.timeout(DEADLINE_S):
        while (await asyncio.to_thread(successor.states)).count("live") < 3 * PARTITIONS:
            await asyncio.sleep(0.05)
        end.set()
        return sorted(await asyncio.gather(*probes)), stopping_s


async def _measure(bootstrap: str, options: argparse.Namespace, how: str, hot: bool) -> Takeover:
    address, namespace = f"kafka://{bootstrap}", f"takeover{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="perdure-takeover-") as folder:
        engines = [_Engine(name, address, namespace, Path(folder), options, hot) for name in ("one", "two")]
        victim, successor = engines
        try:
            for engine in engines:
                await asyncio.to_thread(engine.start)
            async with asyncio.timeout(DEADLINE_S):
                while not all(engine.states().count("live") == 3 * PARTITIONS // 2 for engine in engines):
                    await asyncio.sleep(0.2)
            client = await Client.connect(address, namespace=namespace)
            workflows = list(WORKFLOWS.values())
            async with Worker(client, task_queue=TASK_QUEUE, workflows=workflows, activities=[echo]):
                await _fill(client, options.mb)
                await _until({"live", "standby"}, *engines)
                await asyncio.sleep(3)  # commits and heartbeats settle
                before = len(successor.takeovers())
                stalls_s, stopping_s = await _go(client, victim, successor, how)
            taken = successor.takeovers()[before:]
            await client.close()
        finally:
            for engine in engines:
                if engine.running:
                    engine.kill()
    return Takeover(
        standbys=hot,
        how=how,
        state_mb=options.mb,
        session_timeout_s=options.session_timeout_s,
        stalls_s=[round(stall_s, 2) for stall_s in stalls_s],
        stopping_s=round(stopping_s, 2),
        partitions_taken=len(taken),
        records_folded=sum(folded for folded, _ in taken),
        longest_restore_s=round(max((seconds for _, seconds in taken), default=0.0), 2),
    )


async def _run(options: argparse.Namespace) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        bootstrap = options.bootstrap or stack.enter_context(NativeBroker(heap_mb=1024)).bootstrap
        for hot in [True, False] if options.standbys == "both" else [options.standbys == "yes"]:
            for how in ("stop", "kill") if options.how == "both" else (options.how,):
                print(json.dumps((await _measure(bootstrap, options, how, hot)).__dict__), flush=True)


def main() -> None:
    """Parse the command line, measure, print a JSON line for each run."""
    parser = argparse.ArgumentParser(prog="python -m bench.takeover", description=__doc__)
    parser.add_argument("--bootstrap", help="a Kafka broker; default: one is started natively")
    parser.add_argument("--mb", type=int, default=200, help="state, in MiB of workflow inputs")
    parser.add_argument("--session-timeout-s", type=float, default=6.0)
    parser.add_argument("--standbys", choices=["yes", "no", "both"], default="both")
    parser.add_argument("--how", choices=["stop", "kill", "both"], default="both")
    options = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    asyncio.run(_run(options))


if __name__ == "__main__":
    main()
