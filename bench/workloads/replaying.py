"""``replay``: how fast a long history is replayed against the code that made it."""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import timedelta

from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures
from bench.workloads.base import Workload, echo, fresh_id, scaled
from perdure import workflow
from perdure.worker import Replayer


@workflow.defn
class Long:
    """Activities, one after the other."""

    @workflow.run
    async def run(self, activities: int) -> int:
        """Run so many."""
        for number in range(activities):
            await workflow.execute_activity(echo, str(number), start_to_close_timeout=timedelta(minutes=10))
        return activities


#: Of each activity: scheduled and completed, and of the workflow task behind it as many.
_EVENTS_EACH = 4


async def _replay(stage: Stage, options: argparse.Namespace) -> Figures:
    activities = max(1, (options.events or scaled(options, 10_000)) // _EVENTS_EACH)
    handle = await stage.client.start_workflow(Long.run, activities, id=fresh_id("replay"), task_queue=TASK_QUEUE)
    await handle.result()
    started_s = time.perf_counter()
    history = await handle.fetch_history()
    fetched_s = time.perf_counter() - started_s
    replayer = Replayer(workflows=[Long])
    wall_s, cpu_s = [], []
    for _ in range(options.replay_rounds):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        await replayer.replay_workflow(history)
        wall_s.append(time.perf_counter() - started_s)
        cpu_s.append(time.process_time() - started_cpu_s)
    events = len(history.events)
    return {
        "history_events": float(events),
        "replay_events_per_s": events / statistics.median(wall_s),
        "replay_events_per_s_best": events / min(wall_s),
        "replay_events_per_cpu_s": events / statistics.median(cpu_s),
        "fetched_events_per_s": events / fetched_s,
    }


WORKLOADS = (Workload("replay", "a long history, replayed", _replay, [Long]),)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    group = parser.add_argument_group("replay")
    group.add_argument("--events", type=int, help="of the history (10,000 times --scale)")
    group.add_argument("--replay-rounds", type=int, default=5, help="how often it is replayed (5)")
