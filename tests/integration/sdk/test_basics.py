"""The programming model against a running engine, on both logs: what a first program uses."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, CancelledError, TerminatedError
from perdure.worker import Worker


@activity.defn
async def double(number: int) -> int:
    return number * 2


@activity.defn
def triple_in_a_thread(number: int) -> int:
    return number * 3


@activity.defn
async def fail_twice(number: int) -> int:
    if activity.info().attempt < 3:
        raise RuntimeError("not yet")
    return number


@activity.defn
async def refuse(reason: str) -> None:
    raise ApplicationError(reason, "detail", type="Refused", non_retryable=True)


@workflow.defn
class Basics:
    def __init__(self) -> None:
        self.total = 0
        self.done = False

    @workflow.run
    async def run(self, number: int) -> int:
        options = {"start_to_close_timeout": timedelta(seconds=20)}
        doubled, tripled = await asyncio.gather(
            workflow.execute_activity(double, number, **options),
            workflow.execute_activity(triple_in_a_thread, number, **options),
        )
        retried = await workflow.execute_activity(
            fail_twice, number, retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)), **options
        )
        await workflow.sleep(0.01)
        self.total += doubled + tripled + retried
        await workflow.wait_condition(lambda: self.done)
        return self.total

    @workflow.signal
    def add(self, number: int) -> None:
        self.total += number

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.query
    def current(self) -> int:
        return self.total


@workflow.defn
class Refused:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(refuse, "no", start_to_close_timeout=timedelta(seconds=20))


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.sleep(3600)
        finally:
            workflow.logger.info("cleaning up")
        return "woke up"


def _worker(client: Client, task_queue: str) -> Worker:
    from concurrent.futures import ThreadPoolExecutor

    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Basics, Refused, Sleeper],
        activities=[double, triple_in_a_thread, fail_twice, refuse],
        activity_executor=ThreadPoolExecutor(2),
    )


async def test_activities_timers_signals_and_queries(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        handle = await client.start_workflow(Basics.run, 5, id=task_queue, task_queue=task_queue)
        await handle.signal(Basics.add, 100)
        await handle.signal(Basics.finish)
        assert await handle.result() == 10 + 15 + 5 + 100
        assert await handle.query(Basics.current) == 130


async def test_a_failure_keeps_its_chain_type_and_details(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await client.execute_workflow(Refused.run, id=task_queue, task_queue=task_queue)
    activity_error = caught.value.cause
    assert isinstance(activity_error, ActivityError)
    cause = activity_error.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.details) == ("no", "Refused", ("detail",))


async def test_cancel_and_terminate(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        cancelled = await client.start_workflow(Sleeper.run, id=f"{task_queue}-c", task_queue=task_queue)
        terminated = await client.start_workflow(Sleeper.run, id=f"{task_queue}-t", task_queue=task_queue)
        await cancelled.cancel()
        await terminated.terminate(reason="enough")
        with pytest.raises(WorkflowFailureError) as caught:
            await cancelled.result()
        assert isinstance(caught.value.cause, CancelledError)
        with pytest.raises(WorkflowFailureError) as caught:
            await terminated.result()
        assert isinstance(caught.value.cause, TerminatedError)
