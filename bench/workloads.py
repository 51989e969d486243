"""The workloads, written as a user would write them, and the two ways of driving them.

Closed loop: one workflow at a time, for latency. Saturation: a fixed number in flight, for throughput.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client

TASK_QUEUE = "bench"


@activity.defn
async def echo(text: str) -> str:
    """The cheapest activity there is."""
    return text


@workflow.defn
class One:
    """One activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Run it."""
        return await workflow.execute_activity(echo, text, start_to_close_timeout=timedelta(seconds=60))


@workflow.defn
class Ten:
    """Ten activities, one after the other."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Run them."""
        for _ in range(10):
            text = await workflow.execute_activity(echo, text, start_to_close_timeout=timedelta(seconds=60))
        return text


WORKFLOWS = {"one": One, "ten": Ten}
ACTIVITIES_EACH = {"one": 1, "ten": 10}


@dataclass(frozen=True)
class Figures:
    """What one measurement gave."""

    workload: str
    target: str
    latency_ms_p50: float
    latency_ms_p99: float
    workflows_per_s: float
    activities_per_s: float


async def _execute(client: Client, name: str) -> None:
    result = await client.execute_workflow(
        WORKFLOWS[name].run, "x", id=f"bench-{uuid.uuid4().hex}", task_queue=TASK_QUEUE
    )
    if result != "x":
        raise RuntimeError(f"workload {name} returned {result!r}")


async def _one_at_a_time(execute: Callable[[], Awaitable[None]], count: int) -> list[float]:
    latencies_ms = []
    for _ in range(count):
        started_s = time.perf_counter()
        await execute()
        latencies_ms.append((time.perf_counter() - started_s) * 1000)
    return sorted(latencies_ms)


async def _saturated(execute: Callable[[], Awaitable[None]], count: int, in_flight: int) -> float:
    left = iter(range(count))

    async def lane() -> None:
        for _ in left:
            await execute()

    started_s = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(in_flight)))
    return count / (time.perf_counter() - started_s)


async def measure(client: Client, name: str, target: str, *, latency_count: int, count: int, in_flight: int) -> Figures:
    """Measure one workload on a running engine and worker, after a warm-up."""

    async def execute() -> None:
        await _execute(client, name)

    await _one_at_a_time(execute, 20)
    latencies_ms = await _one_at_a_time(execute, latency_count)
    await _saturated(execute, in_flight, in_flight)
    per_s = await _saturated(execute, count, in_flight)
    return Figures(
        workload=name,
        target=target,
        latency_ms_p50=latencies_ms[len(latencies_ms) // 2],
        latency_ms_p99=latencies_ms[min(len(latencies_ms) - 1, len(latencies_ms) * 99 // 100)],
        workflows_per_s=per_s,
        activities_per_s=per_s * ACTIVITIES_EACH[name],
    )
