"""``mixed``: different workflows at a fixed offered rate, as a system in use has them."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

from bench.driving import open_loop
from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures, latency_figures
from bench.usage import Meter
from bench.workloads.base import Workload, fresh_id
from bench.workloads.messages import Entity
from bench.workloads.parallel import Fan
from bench.workloads.sequence import One, Ten
from perdure.client import Client

_FAN_WIDTH = 10
_SIGNALS = 3


async def _one(client: Client) -> None:
    await client.execute_workflow(One.run, "x", id=fresh_id("mixed"), task_queue=TASK_QUEUE)


async def _ten(client: Client) -> None:
    await client.execute_workflow(Ten.run, "x", id=fresh_id("mixed"), task_queue=TASK_QUEUE)


async def _fan(client: Client) -> None:
    await client.execute_workflow(Fan.run, _FAN_WIDTH, id=fresh_id("mixed"), task_queue=TASK_QUEUE)


async def _entity(client: Client) -> None:
    handle = await client.start_workflow(Entity.run, _SIGNALS, id=fresh_id("mixed"), task_queue=TASK_QUEUE)
    for number in range(_SIGNALS):
        await handle.signal(Entity.add, number)
    await handle.result()


#: Of ten workflows in turn: six with one activity, one with ten, one that fans out, two that are signalled.
_TURNS: tuple[tuple[str, Callable[[Client], Awaitable[None]]], ...] = (
    *(("one", _one),) * 3,
    ("ten", _ten),
    ("entity", _entity),
    *(("one", _one),) * 3,
    ("fan", _fan),
    ("entity", _entity),
)


async def _mixed(stage: Stage, options: argparse.Namespace) -> Figures:
    count = max(1, round(options.mixed_rate * options.mixed_seconds))

    async def execute(number: int) -> None:
        await _TURNS[number % len(_TURNS)][1](stage.client)

    await open_loop(execute, options.mixed_rate, min(count, 2 * len(_TURNS)))
    meter = Meter(stage.processes)
    latencies_ms = await open_loop(execute, options.mixed_rate, count)
    used = meter.read()
    return {
        "mixed_offered_per_s": options.mixed_rate,
        "mixed_workflows_per_s": count / used.seconds,
        "cpu_s_per_1000": used.total_cpu_s * 1000 / count,
        "others_cores": used.others_cores,
    } | latency_figures(latencies_ms, "mixed_latency_ms")


WORKLOADS = (Workload("mixed", "different workflows at a fixed rate", _mixed, [One, Ten, Fan, Entity]),)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    group = parser.add_argument_group("mixed")
    group.add_argument("--mixed-rate", type=float, default=50.0, help="workflows per second (50)")
    group.add_argument("--mixed-seconds", type=float, default=20.0, help="for how long (20)")
