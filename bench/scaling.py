"""``python -m bench scale``: throughput on Kafka by partitions and worker processes, as a curve."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.chart import NoChartError, lines, require_charts
from bench.driving import saturate
from bench.report import Result, number, show_table, to_json_line
from bench.stage import TASK_QUEUE
from bench.stats import Figures
from bench.targets import TargetOptions, open_target
from bench.usage import Meter
from bench.workloads.base import fresh_id
from bench.workloads.sequence import WORKFLOWS


def _counts(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 1,2,4")
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``scale``."""
    parser.add_argument("--partitions", type=_counts, default=[1, 2, 4, 8], help="of the namespace (1,2,4,8)")
    parser.add_argument("--workers", type=_counts, default=[1, 2, 4], help="worker processes (1,2,4)")
    parser.add_argument("--engine-processes", default="roles", help="one, roles, or a number (roles)")
    parser.add_argument("--workload", choices=list(WORKFLOWS), default="one", help="what is run (one)")
    parser.add_argument("--seconds", type=float, default=10.0, help="at saturation, for each point (10)")
    parser.add_argument("--in-flight", type=int, default=200, help="workflows at a time (200)")
    parser.add_argument("--bootstrap", help="a Kafka broker; default: one is started natively")
    parser.add_argument("--chart", type=Path, help="an SVG file to write")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


async def _point(setting: TargetOptions, options: argparse.Namespace) -> Figures:
    async with open_target("kafka", setting) as stage:

        async def execute(_: int) -> None:
            run = WORKFLOWS[options.workload].run
            await stage.client.execute_workflow(run, "x", id=fresh_id("scale"), task_queue=TASK_QUEUE)

        await saturate(execute, None, options.in_flight, seconds_max=min(3.0, options.seconds))
        meter = Meter(stage.processes)
        run = await saturate(execute, None, options.in_flight, seconds_max=options.seconds)
        used = meter.read()
    figures = {
        "partitions": float(setting.partitions),
        "workers": float(setting.workers),
        "workflows_per_s": run.per_s,
        "cpu_s_per_1000": used.total_cpu_s * 1000 / run.count,
        "cores_used": used.total_cpu_s / used.seconds,
    }
    figures |= {f"cpu_s_per_1000/{role}": used_s * 1000 / run.count for role, used_s in used.cpu_s.items()}
    return figures | {"others_cores": used.others_cores}


async def measure(options: argparse.Namespace, bootstrap: str) -> list[Figures]:
    """A point for each number of workers and partitions, all on one broker."""
    found = []
    for workers in options.workers:
        for partitions in options.partitions:
            setting = TargetOptions(bootstrap=bootstrap, engine_processes=options.engine_processes)
            figures = await _point(replace(setting, partitions=partitions, workers=workers), options)
            found.append(figures)
            told = f"{workers} workers, {partitions} partitions: {number(figures['workflows_per_s'])} workflows/s"
            print(told, file=sys.stderr, flush=True)
    return found


def main(options: argparse.Namespace) -> int:
    """Measure, print, draw."""
    try:
        if options.chart is not None:
            require_charts()
    except NoChartError as error:
        raise SystemExit(f"error: {error}") from None
    with ExitStack() as stack:
        bootstrap = options.bootstrap
        if bootstrap is None:
            from tests.support.kafka_broker import NativeBroker

            bootstrap = stack.enter_context(NativeBroker(heap_mb=1024, full_jit=True)).bootstrap
        found = asyncio.run(measure(options, bootstrap))
    if options.json:
        print("\n".join(to_json_line(Result(f"scale/{options.workload}", "kafka", figures)) for figures in found))
    else:
        names = ("workers", "partitions", "workflows_per_s", "cpu_s_per_1000", "cores_used", "others_cores")
        rows = [[number(figures[name]) for name in names] for figures in found]
        show_table([name.replace("_", " ") for name in names], rows, f"{options.workload} on Kafka")
    if options.chart is not None:
        curves: dict[str, list[tuple[float, float]]] = {}
        for figures in found:
            name = f"{number(figures['workers'])} worker processes"
            curves.setdefault(name, []).append((figures["partitions"], figures["workflows_per_s"]))
        lines(options.chart, curves, f"{options.workload} on Kafka", "partitions", "workflows per second")
    return 0
