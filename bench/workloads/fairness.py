"""``fairness``: one fairness key floods a task queue with a hundred times the tasks of others. Who gets how many turns?

The tasks are in the log before there is a worker; then one with few slots begins, and notes what it is given. Shares
count as long as every key has tasks that wait, because only then weights say anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import Counter
from datetime import timedelta

from bench.stage import TASK_QUEUE, Stage
from bench.stats import Figures
from bench.workloads.base import Workload, fresh_id
from perdure import activity, workflow
from perdure.client import RPCError
from perdure.common import Priority
from perdure.worker import Worker
from perdure_runtime.log import TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import TaskRecord

#: Each key's weight. The first one has so many times the tasks of each of the others.
WEIGHTS = {"flood": 1.0, "two": 2.0, "four": 4.0}
SKEW = 100
#: More than this between a share and its weight, and the run has failed.
DEVIATION_PERCENT_MAX = 10.0
#: A run may hold 2,000.
_ACTIVITIES_PER_RUN = 1_000
_SLOTS = 4
_TIMEOUT = timedelta(minutes=30)
_PATIENCE_S = 120.0


@workflow.defn
class Crowd:
    """Activities of one fairness key, all at once, on another task queue."""

    @workflow.run
    async def run(self, task_queue: str, key: str, weight: float, count: int) -> None:
        """Schedule ``count`` of them, and wait."""
        priority = Priority(fairness_key=key, fairness_weight=weight)
        handles = [
            workflow.start_activity(
                "note_turn", key, task_queue=task_queue, start_to_close_timeout=_TIMEOUT, priority=priority
            )
            for _ in range(count)
        ]
        await asyncio.gather(*handles)


def shares(turns: list[str], tasks: dict[str, int]) -> dict[str, float]:
    """Each key's part of the turns while all keys had tasks that waited.

    That is from when each was seen once (matching may still have been reading when the worker came) to the turn with
    which the first key has no task left.
    """
    taken: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for key in turns:
        if len(taken) == len(tasks):
            counted[key] += 1
        taken[key] += 1
        if taken[key] == tasks[key]:
            break
    return {key: counted[key] / max(1, counted.total()) for key in tasks}


async def _until_waiting(stage: Stage, task_queue: str, count: int) -> None:
    """Wait until so many tasks of a task queue are in the log."""
    where = TopicPartition(stage.names.tasks, keys.partition_of(task_queue, stage.names.partitions))
    reader = stage.log.reader("bench-fairness")

    def read() -> None:
        reader.assign({where: stage.log.BEGIN})
        seen: set[str] = set()
        while len(seen) < count:
            records = reader.poll(10_000, _PATIENCE_S)
            if not records:
                raise RuntimeError(f"{len(seen)} of {count} tasks came, and no further one in {_PATIENCE_S:g} s")
            for record in records:
                if record.value is not None and not keys.is_mark(record.key):
                    task = codec.decode_as(record.value, TaskRecord)
                    if task.task_queue == task_queue and task.kind == "activity":
                        seen.add(task.task_id)

    try:
        await asyncio.to_thread(read)
    finally:
        reader.close()


async def _fairness(stage: Stage, options: argparse.Namespace) -> Figures:
    task_queue = fresh_id("fairness")
    tasks = {key: options.fair_tasks * (SKEW if key == "flood" else 1) for key in WEIGHTS}
    turns: list[str] = []
    enough = asyncio.Event()

    @activity.defn
    async def note_turn(key: str) -> None:
        turns.append(key)
        if turns.count(key) == tasks[key]:
            enough.set()

    handles = []
    for key, count in tasks.items():
        for begun in range(0, count, _ACTIVITIES_PER_RUN):
            part = min(_ACTIVITIES_PER_RUN, count - begun)
            arguments = [task_queue, key, WEIGHTS[key], part]
            handles.append(
                await stage.client.start_workflow(Crowd.run, args=arguments, id=fresh_id(key), task_queue=TASK_QUEUE)
            )
    await _until_waiting(stage, task_queue, sum(tasks.values()))
    async with Worker(stage.client, task_queue=task_queue, activities=[note_turn], max_concurrent_activities=_SLOTS):
        async with asyncio.timeout(_PATIENCE_S):
            await enough.wait()
    for handle in handles:
        with contextlib.suppress(RPCError):  # that of the key which got all its turns is over
            await handle.terminate()
    found, total = shares(turns, tasks), sum(WEIGHTS.values())
    figures: Figures = {"tasks": float(sum(tasks.values())), "turns": float(len(turns)), "skew": float(SKEW)}
    deviations = []
    for key, weight in WEIGHTS.items():
        fair = weight / total
        deviations.append(abs(found[key] - fair) / fair * 100)
        figures |= {f"{key}_share_percent": found[key] * 100, f"{key}_fair_percent": fair * 100}
    figures["deviation_percent_max"] = max(deviations)
    if max(deviations) > DEVIATION_PERCENT_MAX:
        raise RuntimeError(f"a share is {max(deviations):.1f} % off its weight; {DEVIATION_PERCENT_MAX:g} % may be")
    return figures


WORKLOADS = (Workload("fairness", "turns of fairness keys, one of which floods the queue", _fairness, [Crowd]),)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    group = parser.add_argument_group("fairness")
    group.add_argument(
        "--fair-tasks", type=int, default=200, help=f"activities of a key; the flood has {SKEW} times as many (200)"
    )
