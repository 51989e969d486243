"""``python -m bench growth``: what many closed and open workflows do to speed, start-up and restore.

In order: ``one`` on an empty system; the same right after so many closed and open workflows, while the log is still
cleaned and the state stores are still compacted; the same after a rest; start-up with that state on disk; and once
more with the state folders deleted, so that everything is folded from the log.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.driving import closed_loop, saturate
from bench.report import Result
from bench.running import add_output_options, add_target_options, emit, target_options
from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures, latency_figures
from bench.targets import TargetOptions, open_target
from bench.usage import Meter, rss_mib
from bench.workloads.base import fresh_id
from bench.workloads.sequence import One
from bench.workloads.waiting import Sleeps, TimerEvents
from perdure_runtime.log import TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord

_TARGETS = ("embedded", "embedded-2p")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``growth``."""
    parser.add_argument("--target", choices=_TARGETS, default="embedded", help="what to fill (embedded)")
    parser.add_argument("--closed", type=int, default=1_000_000, help="closed workflows (1,000,000)")
    parser.add_argument("--open", type=int, default=100_000, help="open workflows (100,000)")
    parser.add_argument("--rest-s", type=float, default=120.0, help="seconds of rest before it is measured again (120)")
    parser.add_argument("--latency-count", type=int, default=300, help="workflows one at a time (300)")
    parser.add_argument("--count", type=int, default=2_000, help="workflows at saturation (2000)")
    parser.add_argument("--in-flight", type=int, default=100, help="workflows at a time at saturation (100)")
    add_target_options(parser)
    add_output_options(parser)


async def _speed(stage: Stage, options: argparse.Namespace) -> Figures:
    async def execute(_: int) -> None:
        await stage.client.execute_workflow(One.run, "x", id=fresh_id("one"), task_queue=TASK_QUEUE)

    await saturate(execute, options.in_flight, options.in_flight)
    figures = latency_figures(await closed_loop(execute, options.latency_count))
    meter = Meter(stage.processes)
    run = await saturate(execute, options.count, options.in_flight)
    used = meter.read()
    figures |= {"workflows_per_s": run.per_s, "cpu_s_per_1000": used.total_cpu_s * 1000 / run.count}
    figures["rss_mib"] = sum(rss_mib(pids) for pids in stage.processes.values())
    return figures | {"others_cores": used.others_cores}


async def _fill(stage: Stage, options: argparse.Namespace) -> None:
    async def close_one(_: int) -> None:
        await stage.client.execute_workflow(One.run, "x", id=fresh_id("closed"), task_queue=TASK_QUEUE)

    async def leave_one(_: int) -> None:
        await stage.client.start_workflow(Sleeps.run, id=fresh_id("open"), task_queue=TASK_QUEUE)

    if options.closed:
        await saturate(close_one, options.closed, options.in_flight)
    if options.open:
        events = TimerEvents(stage)
        await saturate(leave_one, options.open, options.in_flight)
        await events.until(lambda: events.started >= options.open)
        events.close()


def _history_events(stage: Stage) -> int:
    """How many events are in the topic ``history``: what compaction has left of it."""
    found, partitions = 0, stage.log.describe_topics([stage.names.history])[stage.names.history].partitions
    reader = stage.log.reader("bench-count")
    for number in range(partitions):
        partition = TopicPartition(stage.names.history, number)
        end = stage.log.watermarks(partition)[1]
        reader.assign({partition: stage.log.BEGIN})
        while reader.position(partition) < end:
            for record in reader.poll(10_000, 1.0):
                if record.value is not None and not keys.is_mark(record.key):
                    found += len(codec.decode_as(record.value, HistoryRecord).events)
        reader.unassign([partition])
    reader.close()
    return found


async def measure(options: argparse.Namespace, setting: TargetOptions) -> list[Result]:
    """All five parts, on one folder of data."""
    empty, filling, full = (f"{options.target}, {when}" for when in ("empty", "just filled", "full, after a rest"))
    async with open_target(options.target, setting) as stage:
        found = [Result("growth", empty, {"start_s": stage.start_s} | await _speed(stage, options))]
        await _fill(stage, options)
        found.append(Result("growth", filling, await _speed(stage, options)))
        await asyncio.sleep(options.rest_s)
        figures = await _speed(stage, options)
        events = await asyncio.to_thread(_history_events, stage)
        figures |= {"closed_workflows": float(options.closed), "open_workflows": float(options.open)}
        figures |= {"history_events": float(events), "disk_bytes": float(stage.disk_bytes())}
        state_folder = stage.state_folder
    async with open_target(options.target, setting) as stage:
        figures = {"start_s": stage.start_s} | figures
    shutil.rmtree(state_folder)
    async with open_target(options.target, setting) as stage:
        figures["restore_s"] = stage.start_s
        figures["restored_events_per_s"] = events / stage.start_s
    return [*found, Result("growth", full, figures)]


def main(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory(prefix="perdure-growth-") as temporary:
        setting = replace(target_options(options), data=options.data or Path(temporary))
        emit(asyncio.run(measure(options, setting)), options, "this machine, one run")
    return 0
