"""The environment whose clock skips, as it is documented: months pass at once, and running activities are safe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import TimeoutError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

DAY_S = 86_400.0
#: How many sleep at once in the default run; the slow one takes ten thousand.
SLEEPERS = 200


@activity.defn
async def takes_real_time() -> float:
    await asyncio.sleep(0.2)
    return activity.info().started_time.timestamp()


@activity.defn
async def fails_thrice() -> int:
    if activity.info().attempt < 4:
        raise RuntimeError("not yet")
    return activity.info().attempt


@workflow.defn
class Approval:
    def __init__(self) -> None:
        self.approved = False
        self.state = "sleeping"

    @workflow.run
    async def run(self) -> float:
        began = workflow.now()
        await workflow.sleep(timedelta(days=30))
        self.state = "waiting"
        await workflow.wait_condition(lambda: self.approved)
        return (workflow.now() - began).total_seconds()

    @workflow.signal
    def approve(self) -> None:
        self.approved = True

    @workflow.query
    def current(self) -> str:
        return self.state


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self, seconds: float) -> float:
        began = workflow.now()
        await workflow.sleep(seconds)
        return (workflow.now() - began).total_seconds()


@workflow.defn
class RunsActivity:
    @workflow.run
    async def run(self) -> list[float]:
        sleeping = asyncio.ensure_future(workflow.sleep(3600))
        began = await workflow.execute_activity(takes_real_time, start_to_close_timeout=timedelta(seconds=10))
        woke_early = sleeping.done()
        await sleeping
        return [began, float(woke_early), workflow.now().timestamp()]


@workflow.defn
class Retries:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(
            fails_thrice,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)),
        )


@pytest.fixture
async def environment(time_skipping_environment: WorkflowEnvironment) -> AsyncIterator[WorkflowEnvironment]:
    worker = Worker(
        time_skipping_environment.client,
        task_queue="q",
        workflows=[Approval, Sleeps, RunsActivity, Retries],
        activities=[takes_real_time, fails_thrice],
    )
    async with worker:
        yield time_skipping_environment


@pytest.fixture
def client(environment: WorkflowEnvironment) -> Client:
    return environment.client


async def _elapsed_s(environment: WorkflowEnvironment, since: datetime) -> float:
    return (await environment.get_current_time() - since).total_seconds()


async def test_a_month_a_signal_and_queries(environment: WorkflowEnvironment, client: Client) -> None:
    assert environment.supports_time_skipping
    handle = await client.start_workflow(Approval.run, id="w", task_queue="q")
    assert await handle.query(Approval.current) == "sleeping"
    await environment.sleep(timedelta(days=29))
    assert await handle.query(Approval.current) == "sleeping"
    await environment.sleep(timedelta(days=2))
    assert await handle.query(Approval.current) == "waiting"
    await handle.signal(Approval.approve)
    assert 31 * DAY_S <= await handle.result() < 31 * DAY_S + 60


async def test_waiting_for_a_result_skips_to_its_timers_only(environment: WorkflowEnvironment, client: Client) -> None:
    began = await environment.get_current_time()
    year = await client.start_workflow(Sleeps.run, 365 * DAY_S, id="year", task_queue="q")
    hour = await client.start_workflow(Sleeps.run, 3600.0, id="hour", task_queue="q")
    assert 3600 <= await hour.result() < 3660
    assert 3600 <= await _elapsed_s(environment, began) < 3660
    await year.result()
    assert 365 * DAY_S <= await _elapsed_s(environment, began) < 365 * DAY_S + 60


async def test_nothing_skips_while_nobody_waits_or_it_is_disabled(
    environment: WorkflowEnvironment, client: Client
) -> None:
    began = await environment.get_current_time()
    with environment.auto_time_skipping_disabled():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.execute_workflow(Sleeps.run, 3600.0, id="w", task_queue="q"), 0.3)
        assert await _elapsed_s(environment, began) < 60
    await client.get_workflow_handle("w").describe()
    assert await _elapsed_s(environment, began) < 60
    assert 3600 <= await client.get_workflow_handle("w", result_type=float).result() < 3660


async def test_time_stands_while_an_activity_runs(environment: WorkflowEnvironment, client: Client) -> None:
    await environment.sleep(timedelta(days=400))
    now = (await environment.get_current_time()).timestamp()
    began, woke_early, ended = await client.execute_workflow(RunsActivity.run, id="w", task_queue="q")
    assert now - 1 <= began < now + 60
    assert woke_early == 0
    assert now + 3600 <= ended < now + 3660


async def test_retries_wait_by_the_clock_that_skips(environment: WorkflowEnvironment, client: Client) -> None:
    began = await environment.get_current_time()
    assert await client.execute_workflow(Retries.run, id="w", task_queue="q") == 4
    assert 7 * 3600 <= await _elapsed_s(environment, began) < 7 * 3600 + 60


async def test_a_workflow_times_out_where_no_worker_is(time_skipping_environment: WorkflowEnvironment) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await time_skipping_environment.client.execute_workflow(
            Sleeps.run, 1.0, id="w", task_queue="nobody", execution_timeout=timedelta(days=1)
        )
    assert isinstance(caught.value.cause, TimeoutError)


async def test_sleep_without_anything_to_do(time_skipping_environment: WorkflowEnvironment) -> None:
    began = await time_skipping_environment.get_current_time()
    await time_skipping_environment.sleep(3 * DAY_S)
    assert 3 * DAY_S <= await _elapsed_s(time_skipping_environment, began) < 3 * DAY_S + 60


async def _sleep_together(client: Client, count: int) -> None:
    handles = []
    for first in range(0, count, 500):
        handles += await asyncio.gather(
            *(
                client.start_workflow(Sleeps.run, 365 * DAY_S, id=f"s{number}", task_queue="q")
                for number in range(first, min(first + 500, count))
            )
        )
    slept = await asyncio.gather(*(handle.result() for handle in handles))
    assert len(slept) == count
    assert min(slept) >= 365 * DAY_S


async def test_many_sleep_a_year(client: Client) -> None:
    await _sleep_together(client, SLEEPERS)


@pytest.mark.slow
@pytest.mark.skipif("PERDURE_SLOW_TESTS" not in os.environ, reason="set PERDURE_SLOW_TESTS=1 to run it")
async def test_ten_thousand_sleep_a_year(client: Client) -> None:
    await _sleep_together(client, 10_000)
