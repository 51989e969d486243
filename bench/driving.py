"""Three ways to drive a load, each for another question.

Closed loop: one request after the other; the latency of an idle system. Open loop: requests begin at a fixed rate
whatever the answers do, and a latency counts from the *intended* begin, so that a stall is seen by all the requests
that it delays and not only by the one that met it (coordinated omission). Saturation: a fixed number in flight, for
throughput.

The clock may be replaced, so that tests need no time. Called by the workloads and by the peers' programs.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

#: Runs the request with this number to its end.
Execute = Callable[[int], Awaitable[None]]


def collect_less_often() -> None:
    """Make the garbage collector of a measured program as rare as our own programs make it, whatever it measures.

    As :func:`perdure.runtime.collect_less_often`, which is not there in the environments of other systems. Called by
    their programs, and by ours where it is measured beside them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Clock(Protocol):
    """What the open loop needs of time."""

    def now_s(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class RealClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Saturated:
    """What a run at saturation gave."""

    count: int
    seconds: float
    latencies_ms: list[float]

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return self.count / self.seconds


def intended_starts_s(rate_per_s: float, count: int) -> Iterator[float]:
    """When each request is to begin, in seconds from the begin of the run.

    Raises:
        ValueError: the rate is not positive.
    """
    if rate_per_s <= 0:
        raise ValueError(f"an offered rate of {rate_per_s} per second is no rate")
    return (number / rate_per_s for number in range(count))


async def closed_loop(execute: Execute, count: int, *, seconds_max: float = math.inf) -> list[float]:
    """The latencies in ms of ``count`` requests, one at a time; fewer if that takes longer than ``seconds_max``."""
    latencies_ms: list[float] = []
    end_s = time.perf_counter() + seconds_max
    while len(latencies_ms) < count and (not latencies_ms or time.perf_counter() < end_s):
        started_s = time.perf_counter()
        await execute(len(latencies_ms))
        latencies_ms.append((time.perf_counter() - started_s) * 1000)
    return latencies_ms


async def open_loop(execute: Execute, rate_per_s: float, count: int, *, clock: Clock | None = None) -> list[float]:
    """The latencies in ms of ``count`` requests offered at a fixed rate, each from its intended begin."""
    clock = clock or RealClock()
    latencies_ms: list[float] = []

    async def one(number: int, intended_s: float) -> None:
        await execute(number)
        latencies_ms.append((clock.now_s() - intended_s) * 1000)

    started_s = clock.now_s()
    async with asyncio.TaskGroup() as requests:
        for number, intended_s in enumerate(intended_starts_s(rate_per_s, count)):
            early_s = started_s + intended_s - clock.now_s()
            if early_s > 0:
                await clock.sleep(early_s)
            requests.create_task(one(number, started_s + intended_s))
    return latencies_ms


async def saturate(execute: Execute, count: int | None, in_flight: int, *, seconds_max: float = math.inf) -> Saturated:
    """Run requests with ``in_flight`` of them at a time: ``count``, or as many as begin within ``seconds_max``.

    Raises:
        ValueError: neither bounds the run.
    """
    if count is None and seconds_max == math.inf:
        raise ValueError("a run at saturation needs a count or a time")
    left = itertools.count() if count is None else iter(range(count))
    latencies_ms = []
    started_s = time.perf_counter()

    async def lane() -> None:
        for number in left:
            began_s = time.perf_counter()
            if began_s - started_s > seconds_max:
                return
            await execute(number)
            latencies_ms.append((time.perf_counter() - began_s) * 1000)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(in_flight if count is None else min(in_flight, count)):
            lanes.create_task(lane())
    return Saturated(len(latencies_ms), time.perf_counter() - started_s, latencies_ms)
