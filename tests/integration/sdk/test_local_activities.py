"""Local activities against a running engine."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError
from perdure.worker import Worker

_LIMIT = {"start_to_close_timeout": timedelta(seconds=20)}


class Shop:
    """Activities, and what happened to them."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_go_on = threading.Event()
        self.cancelled = asyncio.Event()

    @activity.defn
    async def price(self, article: str) -> int:
        assert activity.info().is_local
        return len(article)

    @activity.defn
    def stock(self, article: str) -> str:
        return f"{article} on {activity.info().activity_id}"

    @activity.defn
    async def fail_twice(self) -> int:
        self.calls += 1
        if activity.info().attempt < 3:
            raise RuntimeError("not yet")
        return activity.info().attempt

    @activity.defn
    async def refuse(self) -> None:
        raise ApplicationError("no", type="Refused", non_retryable=True)

    @activity.defn
    async def hang(self) -> str:
        self.calls += 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "never"

    @activity.defn
    def wait_for_the_test(self) -> str:
        self.calls += 1
        assert self.may_go_on.wait(20)
        return "went on"


@workflow.defn
class Orders:
    @workflow.run
    async def run(self, article: str) -> list[object]:
        price, stock = await asyncio.gather(
            workflow.execute_local_activity_method(Shop.price, article, **_LIMIT),
            workflow.execute_local_activity_method(Shop.stock, article, activity_id="stock", **_LIMIT),
        )
        await workflow.sleep(0.01)
        again = await workflow.execute_local_activity("price", "four", result_type=int, **_LIMIT)
        return [price, stock, again]


@workflow.defn
class Single:
    """One local activity by name, with options of the test's."""

    def __init__(self) -> None:
        self.signals = 0

    @workflow.run
    async def run(self, name: str, kind: str = "") -> str:
        fast = RetryPolicy(initial_interval=timedelta(milliseconds=5), maximum_attempts=3)
        if kind == "short":
            return str(
                await workflow.execute_local_activity(
                    name,
                    start_to_close_timeout=timedelta(milliseconds=50),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            )
        if kind == "threshold":
            fast = RetryPolicy(initial_interval=timedelta(milliseconds=5))
            return str(
                await workflow.execute_local_activity(
                    name, retry_policy=fast, local_retry_threshold=timedelta(milliseconds=1), **_LIMIT
                )
            )
        if kind == "cancel":
            handle = workflow.start_local_activity(
                name, cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED, **_LIMIT
            )
            await workflow.sleep(0.05)
            handle.cancel()
            try:
                return str(await handle)
            except ActivityError as error:
                assert isinstance(error.cause, CancelledError)
                return "cancelled"
        result = str(await workflow.execute_local_activity(name, retry_policy=fast, **_LIMIT))
        return f"{result} {self.signals}" if kind == "signals" else result

    @workflow.signal
    def count(self) -> None:
        self.signals += 1


def _worker(client: Client, task_queue: str, shop: Shop, **options: int) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Orders, Single],
        activities=[shop.price, shop.stock, shop.fail_twice, shop.refuse, shop.hang, shop.wait_for_the_test],
        activity_executor=ThreadPoolExecutor(2),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("cached", [1000, 0])
async def test_results_are_kept_as_markers(client: Client, task_queue: str, cached: int) -> None:
    async with _worker(client, task_queue, Shop(), max_cached_workflows=cached):
        handle = await client.start_workflow(Orders.run, "apple", id=task_queue, task_queue=task_queue)
        assert await handle.result() == [5, "apple on stock", 4]
        kinds = [type(event.attributes).__name__ async for event in handle.fetch_history_events()]
    assert kinds.count("MarkerRecorded") == 3
    assert "ActivityTaskScheduled" not in kinds


async def test_retries_happen_in_the_workflow_task(embedded_client: Client, task_queue: str) -> None:
    shop = Shop()
    async with _worker(embedded_client, task_queue, shop):
        handle = await embedded_client.start_workflow(
            Single.run, args=["fail_twice"], id=task_queue, task_queue=task_queue
        )
        assert await handle.result() == "3"
        kinds = [type(event.attributes).__name__ async for event in handle.fetch_history_events()]
    assert kinds.count("WorkflowTaskCompletedEvent") == 1
    assert shop.calls == 3


async def test_a_long_wait_between_attempts_is_a_timer(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue, Shop()):
        handle = await embedded_client.start_workflow(
            Single.run, args=["fail_twice", "threshold"], id=task_queue, task_queue=task_queue
        )
        assert await handle.result() == "3"
        kinds = [type(event.attributes).__name__ async for event in handle.fetch_history_events()]
    assert kinds.count("TimerFired") == 2


async def test_failures_and_timeouts(embedded_client: Client, task_queue: str) -> None:
    shop = Shop()
    async with _worker(embedded_client, task_queue, shop):
        refused = await embedded_client.start_workflow(
            Single.run, args=["refuse"], id=f"{task_queue}-r", task_queue=task_queue
        )
        late = await embedded_client.start_workflow(
            Single.run, args=["hang", "short"], id=f"{task_queue}-t", task_queue=task_queue
        )
        for handle, kind in ((refused, ApplicationError), (late, TimeoutError)):
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
            assert isinstance(caught.value.cause, ActivityError)
            assert isinstance(caught.value.cause.cause, kind)
        await asyncio.wait_for(shop.cancelled.wait(), 10)


async def test_cancellation_waits_for_the_activity(embedded_client: Client, task_queue: str) -> None:
    shop = Shop()
    async with _worker(embedded_client, task_queue, shop):
        handle = await embedded_client.start_workflow(
            Single.run, args=["hang", "cancel"], id=task_queue, task_queue=task_queue, task_timeout=timedelta(seconds=1)
        )
        assert await handle.result() == "cancelled"
    assert shop.cancelled.is_set()


async def test_one_that_outlasts_the_workflow_task_runs_once(embedded_client: Client, task_queue: str) -> None:
    shop = Shop()
    async with _worker(embedded_client, task_queue, shop):
        handle = await embedded_client.start_workflow(
            Single.run,
            args=["wait_for_the_test", "signals"],
            id=task_queue,
            task_queue=task_queue,
            task_timeout=timedelta(milliseconds=200),
        )
        await handle.signal(Single.count)
        completed = 0
        while completed < 2:
            kinds = [type(event.attributes).__name__ async for event in handle.fetch_history_events()]
            completed = kinds.count("WorkflowTaskCompletedEvent")
        shop.may_go_on.set()
        assert await handle.result() == "went on 1"
    assert shop.calls == 1


async def test_another_worker_goes_on_when_the_first_one_stops(embedded_client: Client, task_queue: str) -> None:
    first, second = Shop(), Shop()
    second.may_go_on.set()
    async with _worker(embedded_client, task_queue, first):
        handle = await embedded_client.start_workflow(Single.run, args=["hang"], id=task_queue, task_queue=task_queue)
        while not first.calls:
            await asyncio.sleep(0.01)
    async with _worker(embedded_client, task_queue, second):
        while not second.calls:
            await asyncio.sleep(0.01)
        await handle.terminate()
