"""``timers`` and ``idle``: workflows that wait. How punctual are timers, and what does waiting cost?

Punctuality is read from the history, in two ways: the time at which a timer was recorded as fired, and the time at
which that record could be read, each against when it was due. The former is when TIMERS sent the wake-up; the latter
has HISTORY's queue in it, and what the reader itself takes. None is early if no difference of the former is negative.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bench.driving import saturate
from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures, latency_figures
from bench.usage import Meter, rss_mib
from bench.workloads.base import Workload, fresh_id, scaled
from perdure import workflow
from perdure.client import WorkflowHandle
from perdure_runtime.log import TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, TimerFired, TimerStarted

#: How long nothing may happen before a workload gives up, in s.
_PATIENCE_S = 120.0
_IDLE_FOR = timedelta(days=1)


@workflow.defn
class Wakes:
    """Many timers at a time."""

    @workflow.run
    async def run(self, due_ms: list[int]) -> int:
        """Wait for moments, given in ms since the epoch; returns how many there were."""
        now_ms = workflow.now().timestamp() * 1000
        await asyncio.gather(*(asyncio.sleep(max(0.0, due - now_ms) / 1000) for due in due_ms))
        return len(due_ms)


@workflow.defn
class Sleeps:
    """Sleeps for a day."""

    @workflow.run
    async def run(self) -> None:
        """Sleep."""
        await asyncio.sleep(_IDLE_FOR.total_seconds())


class TimerEvents:
    """Reads what becomes of timers out of the topic ``history``, from the moment it is made on."""

    def __init__(self, stage: Stage) -> None:
        self.started = 0
        self.lateness_ms: list[float] = []
        self.seen_ms: list[float] = []
        self._due_ms: dict[tuple[str, int], int] = {}
        self._reader = stage.log.reader("bench-timers")
        found = stage.log.describe_topics([stage.names.history])[stage.names.history]
        partitions = [TopicPartition(stage.names.history, number) for number in range(found.partitions)]
        self._reader.assign({partition: stage.log.watermarks(partition)[1] for partition in partitions})

    def _poll(self) -> bool:
        """Take in what there is; false if there was nothing for a while."""
        records = self._reader.poll(10_000, 1.0)
        now_ms = time.time() * 1000
        for record in records:
            if record.value is None or keys.is_mark(record.key):
                continue
            value = codec.decode_as(record.value, HistoryRecord)
            for event in value.events:
                what = event.attributes
                if isinstance(what, TimerStarted):
                    self.started += 1
                    self._due_ms[value.run_id, event.event_id] = what.due_time_ms
                elif isinstance(what, TimerFired):
                    due_ms = self._due_ms.pop((value.run_id, what.started_event_id))
                    self.lateness_ms.append(float(event.event_time_ms - due_ms))
                    self.seen_ms.append(now_ms - due_ms)
        return bool(records)

    async def until(self, enough: Callable[[], bool], until_s: float = 0.0) -> None:
        """Read until it is enough.

        Raises:
            RuntimeError: nothing happened for a long time, counted from ``until_s`` (of the monotonic clock) on.
        """
        last_s = max(time.monotonic(), until_s)
        while not enough():
            if await asyncio.to_thread(self._poll):
                last_s = max(last_s, time.monotonic())
            elif time.monotonic() - last_s > _PATIENCE_S:
                raise RuntimeError(f"nothing happened for {_PATIENCE_S:g} s; {len(self.lateness_ms)} timers fired")

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


async def _start_timers(
    stage: Stage, options: argparse.Namespace, events: TimerEvents, count: int, lead_s: float
) -> tuple[list[WorkflowHandle[Any, int]], float]:
    """Start workflows whose timers are due at even distances; gives their handles, and how much time was left."""
    workflows = count // options.timers_per_workflow
    first_ms = time.time() * 1000 + lead_s * 1000
    due_ms = [int(first_ms + number * options.timers_window_s * 1000 / count) for number in range(count)]
    handles: list[WorkflowHandle[Any, int]] = []
    before = events.started

    async def start(number: int) -> None:
        mine = due_ms[number::workflows]
        handles.append(await stage.client.start_workflow(Wakes.run, mine, id=fresh_id("timers"), task_queue=TASK_QUEUE))

    await saturate(start, workflows, options.in_flight)
    await events.until(lambda: events.started - before >= count)
    return handles, first_ms / 1000 - time.time()


async def _timers(stage: Stage, options: argparse.Namespace) -> Figures:
    each = options.timers_per_workflow
    count = max(1, (options.timers or scaled(options, 100_000)) // each) * each
    lead_s = options.timers_lead_s
    while True:
        events = TimerEvents(stage)
        handles, spare_s = await _start_timers(stage, options, events, count, lead_s)
        if spare_s > 0:
            break
        # Some were due before all were started: that tells nothing about punctuality.
        for handle in handles:
            await handle.result()
        events.close()
        lead_s *= 2
    await asyncio.sleep(spare_s)
    meter = Meter(stage.processes)
    await events.until(lambda: len(events.lateness_ms) >= count, time.monotonic() + options.timers_window_s)
    used = meter.read()
    for handle in handles:
        await handle.result()
    events.close()
    figures = {
        "timers": float(count),
        "timers_window_s": float(options.timers_window_s),
        "timers_early": float(sum(late < 0 for late in events.lateness_ms)),
        "timers_fired_per_s": count / used.seconds,
        "cpu_s_per_1000_timers": used.total_cpu_s * 1000 / count,
        "others_cores": used.others_cores,
    }
    figures |= latency_figures(events.lateness_ms, "timer_lateness_ms")
    return figures | latency_figures(events.seen_ms, "timer_seen_late_ms")


async def _idle(stage: Stage, options: argparse.Namespace) -> Figures:
    count = options.idle or scaled(options, 100_000)
    events = TimerEvents(stage)
    disk = stage.disk_bytes()

    async def start(number: int) -> None:
        await stage.client.start_workflow(Sleeps.run, id=fresh_id("idle"), task_queue=TASK_QUEUE)

    started = await saturate(start, count, options.in_flight)
    await events.until(lambda: events.started >= count)
    events.close()
    await asyncio.sleep(options.idle_settle_s)
    meter = Meter(stage.processes)
    await asyncio.sleep(options.idle_window_s)
    used = meter.read()
    figures = {
        "idle_workflows": float(count),
        "starts_per_s": started.per_s,
        "idle_cpu_percent": used.total_cpu_s * 100 / used.seconds,
        "idle_rss_mib": sum(rss_mib(pids) for pids in stage.processes.values()),
    }
    figures |= {f"idle_cpu_percent/{role}": used_s * 100 / used.seconds for role, used_s in used.cpu_s.items()}
    figures |= {f"idle_rss_mib/{role}": rss_mib(pids) for role, pids in stage.processes.items()}
    if stage.folders:
        figures["disk_bytes_per_workflow"] = (stage.disk_bytes() - disk) / count
    return figures | {"others_cores": used.others_cores}


WORKLOADS = (
    Workload("timers", "timers that are due within a short time", _timers, [Wakes]),
    Workload("idle", "open workflows, asleep", _idle, [Sleeps]),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of these workloads."""
    timers = parser.add_argument_group("timers")
    timers.add_argument("--timers", type=int, help="in all (100,000 times --scale)")
    timers.add_argument("--timers-per-workflow", type=int, default=100, help="of them in each workflow (100)")
    timers.add_argument("--timers-window-s", type=float, default=60.0, help="due within this time (60)")
    timers.add_argument(
        "--timers-lead-s", type=float, default=60.0, help="time to start them all; doubled if short (60)"
    )
    idle = parser.add_argument_group("idle")
    idle.add_argument("--idle", type=int, help="open workflows (100,000 times --scale)")
    idle.add_argument("--idle-settle-s", type=float, default=15.0, help="rest before measuring (15)")
    idle.add_argument("--idle-window-s", type=float, default=30.0, help="how long is measured (30)")
