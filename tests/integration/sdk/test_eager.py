"""Activities that the worker begins by itself: what the history says of them, and when they take the usual way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.worker import Worker
from perdure_schemas.records import ActivityTaskScheduled

_LIMIT = timedelta(seconds=60)


@activity.defn
async def double(number: int) -> int:
    if number == 3 and activity.info().attempt == 1:
        raise RuntimeError("once more")
    return number * 2


@workflow.defn
class Doubles:
    @workflow.run
    async def run(self, numbers: list[int], attempts_max: int = 0) -> list[int]:
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=attempts_max)
        return [
            await workflow.execute_activity(double, number, start_to_close_timeout=_LIMIT, retry_policy=policy)
            for number in numbers
        ]


@workflow.defn
class Crowd:
    """Many at a time, more than the worker has slots for, while signals come in between."""

    def __init__(self) -> None:
        self.signals = 0

    @workflow.run
    async def run(self, count: int, signals: int) -> list[int]:
        found = await asyncio.gather(
            *(
                workflow.execute_activity(double, number, start_to_close_timeout=_LIMIT)
                for number in range(10, 10 + count)
            )
        )
        await workflow.wait_condition(lambda: self.signals == signals)
        return found

    @workflow.signal
    def poke(self) -> None:
        self.signals += 1


async def _begun(handle: WorkflowHandle) -> list[bool]:
    """For each activity, in order, whether the worker began it by itself."""
    history = await handle.fetch_history()
    scheduled = [one.attributes for one in history.events if isinstance(one.attributes, ActivityTaskScheduled)]
    assert all(bool(one.eager_event_id) == bool(one.eager_worker_id) for one in scheduled)
    return [one.eager_event_id < 0 for one in scheduled]


async def test_a_sequence_is_begun_by_the_worker_and_a_retry_comes_by_the_task_queue(
    client: Client, task_queue: str
) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[Doubles], activities=[double]):
        handle = await client.start_workflow(Doubles.run, args=[[1, 3, 5]], id=task_queue, task_queue=task_queue)
        assert await handle.result() == [2, 6, 10]
    begun = await _begun(handle)
    assert begun == [True, True, True]


@pytest.mark.parametrize("attempts_max", [0, 1], ids=["switched off", "only one attempt"])
async def test_an_activity_takes_the_usual_way(embedded_client: Client, task_queue: str, attempts_max: int) -> None:
    options = {"workflows": [Doubles], "activities": [double]}
    async with Worker(
        embedded_client, task_queue=task_queue, disable_eager_activity_execution=not attempts_max, **options
    ):
        handle = await embedded_client.start_workflow(
            Doubles.run, args=[[1, 2], attempts_max], id=task_queue, task_queue=task_queue
        )
        assert await handle.result() == [2, 4]
    assert await _begun(handle) == [False, False]


async def test_a_crowd_is_shared_out_and_every_activity_runs_once(embedded_client: Client, task_queue: str) -> None:
    runs: list[int] = []

    @activity.defn(name="double")
    async def counted(number: int) -> int:
        runs.append(number)
        return number * 2

    async with Worker(
        embedded_client, task_queue=task_queue, workflows=[Crowd], activities=[counted], max_concurrent_activities=2
    ):
        handle = await embedded_client.start_workflow(Crowd.run, args=[12, 20], id=task_queue, task_queue=task_queue)
        for _ in range(20):
            await handle.signal(Crowd.poke)
        assert await handle.result() == [number * 2 for number in range(10, 22)]
    assert sorted(runs) == list(range(10, 22))
    begun = await _begun(handle)
    assert sum(begun) <= 2
