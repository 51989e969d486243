"""``one`` and ``ten``: activities one after the other. The figures that everything is compared by."""

from __future__ import annotations

import argparse
import time
from datetime import timedelta

from bench.driving import Execute, closed_loop, open_loop, saturate
from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures, latency_figures
from bench.usage import Meter, Used, rss_mib
from bench.workloads.base import Workload, echo, fresh_id
from perdure import workflow

_WARM_UP_COUNT = 20


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


def cpu_figures(used: Used, workflows: int) -> Figures:
    """CPU seconds per 1,000 workflows, by role of processes and by thread of this one."""
    per_1000 = 1000 / workflows
    found = {"cpu_s_per_1000": used.total_cpu_s * per_1000}
    found |= {f"cpu_s_per_1000/{role}": used_s * per_1000 for role, used_s in used.cpu_s.items()}
    threads = sorted(used.thread_cpu_s.items(), key=lambda item: -item[1])
    found |= {f"cpu_s_per_1000/thread/{name}": used_s * per_1000 for name, used_s in threads}
    return found | {"others_cores": used.others_cores}


async def measure_sequence(stage: Stage, options: argparse.Namespace, name: str) -> Figures:
    """Measure ``one`` or ``ten``: closed loop, saturation, then the open loop at a part of what saturation gave."""

    async def execute(number: int) -> None:
        result = await stage.client.execute_workflow(WORKFLOWS[name].run, "x", id=fresh_id(name), task_queue=TASK_QUEUE)
        if result != "x":
            raise RuntimeError(f"workload {name} returned {result!r}")

    await closed_loop(execute, min(_WARM_UP_COUNT, options.latency_count))
    figures = latency_figures(await closed_loop(execute, options.latency_count))

    await saturate(execute, min(options.in_flight, options.count), options.in_flight)  # a warm-up
    records, disk_bytes = stage.records_written(), stage.disk_bytes()
    meter = Meter(stage.processes)
    run = await saturate(execute, options.count, options.in_flight)
    used = meter.read()
    figures |= {
        "workflows_per_s": run.per_s,
        "activities_per_s": run.per_s * ACTIVITIES_EACH[name],
    }
    if used.total_cpu_s:
        figures["workflows_per_cpu_s"] = run.count / used.total_cpu_s
        figures["activities_per_cpu_s"] = run.count * ACTIVITIES_EACH[name] / used.total_cpu_s
    figures |= cpu_figures(used, run.count)
    figures |= {f"rss_mib/{role}": rss_mib(pids) for role, pids in stage.processes.items()}
    figures["records_per_workflow"] = (stage.records_written() - records) / run.count
    if stage.folders:
        figures["disk_bytes_per_workflow"] = (stage.disk_bytes() - disk_bytes) / run.count
    figures |= latency_figures(run.latencies_ms, "saturated_latency_ms")
    if options.open_seconds > 0:
        figures |= await _open(execute, options, run.per_s)
    return figures


async def _open(execute: Execute, options: argparse.Namespace, saturated_per_s: float) -> Figures:
    rate_per_s = options.rate or saturated_per_s * options.load
    count = max(1, round(rate_per_s * options.open_seconds))
    started_s = time.perf_counter()
    latencies_ms = await open_loop(execute, rate_per_s, count)
    taken_s = time.perf_counter() - started_s
    rates = {"open_offered_per_s": rate_per_s, "open_workflows_per_s": count / taken_s}
    return rates | latency_figures(latencies_ms, "open_latency_ms")


async def _one(stage: Stage, options: argparse.Namespace) -> Figures:
    return await measure_sequence(stage, options, "one")


async def _ten(stage: Stage, options: argparse.Namespace) -> Figures:
    return await measure_sequence(stage, options, "ten")


WORKLOADS = (
    Workload("one", "one activity", _one, [One]),
    Workload("ten", "ten activities, one after the other", _ten, [Ten]),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of these workloads."""
    group = parser.add_argument_group("one, ten")
    group.add_argument("--latency-count", type=int, default=300, help="workflows one at a time (300)")
    group.add_argument("--count", type=int, default=2_000, help="workflows at saturation (2000)")
    group.add_argument("--in-flight", type=int, default=100, help="workflows at a time at saturation (100)")
    group.add_argument("--open-seconds", type=float, default=5.0, help="how long the open loop runs; 0: not at all (5)")
    group.add_argument("--rate", type=float, help="workflows per second offered in the open loop")
    group.add_argument("--load", type=float, default=0.5, help="else this part of what saturation gave (0.5)")
