"""``signal``: very many signals to entities, workflows that live on what they are told."""

from __future__ import annotations

import argparse

from bench.driving import saturate
from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures, latency_figures
from bench.usage import Meter
from bench.workloads.base import Workload, fresh_id, scaled
from perdure import workflow


@workflow.defn
class Entity:
    """Adds up what it is told, until it was told often enough."""

    def __init__(self) -> None:
        self.told = 0
        self.total = 0

    @workflow.run
    async def run(self, expected: int) -> int:
        """Wait for so many signals; returns their sum."""
        await workflow.wait_condition(lambda: self.told >= expected)
        return self.total

    @workflow.signal
    def add(self, number: int) -> None:
        """Add a number."""
        self.told += 1
        self.total += number


async def _signal(stage: Stage, options: argparse.Namespace) -> Figures:
    signals, entities = options.signals or scaled(options, 10_000), options.entities
    each = max(1, signals // entities)
    handles = [
        await stage.client.start_workflow(Entity.run, each, id=fresh_id("entity"), task_queue=TASK_QUEUE)
        for _ in range(entities)
    ]

    async def tell(number: int) -> None:
        await handles[number % entities].signal(Entity.add, 1)

    count = each * entities
    meter = Meter(stage.processes)
    sent = await saturate(tell, count, options.in_flight)
    totals = [await handle.result() for handle in handles]
    used = meter.read()
    if totals != [each] * entities:
        raise RuntimeError(f"the entities were told {sum(totals)} of {count} signals")
    return {
        "signals": float(count),
        "entities": float(entities),
        "signals_acknowledged_per_s": sent.per_s,
        "signals_handled_per_s": count / used.seconds,
        "cpu_s_per_1000_signals": used.total_cpu_s * 1000 / count,
        "others_cores": used.others_cores,
    } | latency_figures(sent.latencies_ms, "signal_latency_ms")


WORKLOADS = (Workload("signal", "signals to entities", _signal, [Entity]),)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    group = parser.add_argument_group("signal")
    group.add_argument("--signals", type=int, help="in all (10,000 times --scale)")
    group.add_argument("--entities", type=int, default=100, help="workflows that are told (100)")
