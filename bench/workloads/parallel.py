"""``fan`` and ``batch``: one workflow with very many activities, or very many children, at a time."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta

from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures
from bench.usage import Meter
from bench.workloads.base import Workload, echo, fresh_id, scaled
from perdure import workflow

_TIMEOUT = timedelta(minutes=10)
#: A run of ``batch`` goes on as a new one behind so many items, so that its history stays short.
_ITEMS_PER_RUN = 500


@workflow.defn
class Fan:
    """Activities in parallel."""

    @workflow.run
    async def run(self, width: int) -> int:
        """Run ``width`` of them, all at a time; returns how many gave what they had to."""
        handles = [
            workflow.start_activity(echo, str(number), start_to_close_timeout=_TIMEOUT) for number in range(width)
        ]
        results = await asyncio.gather(*handles)
        return sum(result == str(number) for number, result in enumerate(results))


@workflow.defn
class Item:
    """One item of a batch: one activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Run it."""
        return await workflow.execute_activity(echo, text, start_to_close_timeout=_TIMEOUT)


@dataclass(frozen=True)
class BatchState:
    """How far a batch is: items done, items in all, and how many may run at a time."""

    done: int
    items: int
    window: int


@workflow.defn
class Batch:
    """Items as children, a bounded number of them at a time."""

    @workflow.run
    async def run(self, state: BatchState) -> int:
        """Run all items; returns how many were done."""
        places = asyncio.Semaphore(state.window)
        end = min(state.done + _ITEMS_PER_RUN, state.items)

        async def item(number: int) -> None:
            async with places:
                result = await workflow.execute_child_workflow(
                    Item.run, str(number), id=f"{workflow.info().workflow_id}/{number}"
                )
            if result != str(number):
                raise RuntimeError(f"item {number} gave {result!r}")

        await asyncio.gather(*(item(number) for number in range(state.done, end)))
        if end < state.items:
            workflow.continue_as_new(BatchState(end, state.items, state.window))
        return end


async def _fan(stage: Stage, options: argparse.Namespace) -> Figures:
    width = options.fan_width

    async def once() -> float:
        started_s = time.perf_counter()
        done = await stage.client.execute_workflow(Fan.run, width, id=fresh_id("fan"), task_queue=TASK_QUEUE)
        if done != width:
            raise RuntimeError(f"{width - done} of {width} activities gave something else")
        return time.perf_counter() - started_s

    await once()
    meter = Meter(stage.processes)
    seconds = [await once() for _ in range(options.fan_rounds)]
    used = meter.read()
    return {
        "fan_width": float(width),
        "fan_s_median": statistics.median(seconds),
        "fan_s_best": min(seconds),
        "cpu_s_per_fan": used.total_cpu_s / len(seconds),
        "cpu_s_per_1000_activities": used.total_cpu_s * 1000 / (width * len(seconds)),
        "others_cores": used.others_cores,
    }


async def _batch(stage: Stage, options: argparse.Namespace) -> Figures:
    items = options.items or scaled(options, 100_000)
    meter = Meter(stage.processes)
    state = BatchState(0, items, options.window)
    done = await stage.client.execute_workflow(Batch.run, state, id=fresh_id("batch"), task_queue=TASK_QUEUE)
    used = meter.read()
    if done != items:
        raise RuntimeError(f"{done} of {items} items were done")
    return {
        "items": float(items),
        "window": float(options.window),
        "items_per_s": items / used.seconds,
        "cpu_s_per_1000_items": used.total_cpu_s * 1000 / items,
        "others_cores": used.others_cores,
    }


WORKLOADS = (
    Workload("fan", "activities in parallel", _fan, [Fan]),
    Workload("batch", "children in a sliding window", _batch, [Batch, Item]),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of these workloads."""
    fan = parser.add_argument_group("fan")
    fan.add_argument("--fan-width", type=int, default=500, help="activities at a time (500)")
    fan.add_argument("--fan-rounds", type=int, default=5, help="how often (5)")
    batch = parser.add_argument_group("batch")
    batch.add_argument("--items", type=int, help="children (100,000 times --scale)")
    batch.add_argument("--window", type=int, default=200, help="of them at a time (200)")
