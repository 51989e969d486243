"""Cancelled activities: what the workflow waits for, what the activity is told, async and in threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.activity import ActivityCancellationDetails
from perdure.client import Client, WorkflowFailureError
from perdure.exceptions import ActivityError, CancelledError
from perdure.worker import Worker

_PATIENCE_S = 20


class Bench:
    """Activities that run until they are told to stop, and tell how they were told."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.told: asyncio.Queue[ActivityCancellationDetails | None] = asyncio.Queue()

    @activity.defn
    async def run_async(self) -> str:
        self.started.set()
        try:
            await asyncio.sleep(_PATIENCE_S)
        except asyncio.CancelledError:
            self.told.put_nowait(activity.cancellation_details())
            raise
        return "never told"

    @activity.defn
    async def finish_although_cancelled(self) -> str:
        self.started.set()
        await_end = asyncio.ensure_future(activity.wait_for_cancelled())
        try:
            await asyncio.wait_for(await_end, _PATIENCE_S)
        except asyncio.CancelledError:
            self.told.put_nowait(activity.cancellation_details())
        return "finished although cancelled"

    @activity.defn
    def run_in_a_thread(self) -> str:
        self.loop.call_soon_threadsafe(self.started.set)
        try:
            for _ in range(_PATIENCE_S * 100):
                activity.heartbeat()
                activity.wait_for_cancelled_sync(0.01)
        except CancelledError:
            self.loop.call_soon_threadsafe(self.told.put_nowait, activity.cancellation_details())
            raise
        return "never told"


@workflow.defn
class Cancels:
    @workflow.run
    async def run(self, name: str, kind: int) -> str:
        handle = workflow.start_activity(
            name,
            result_type=str,
            start_to_close_timeout=timedelta(seconds=_PATIENCE_S),
            heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=workflow.ActivityCancellationType(kind),
        )
        await self._started()
        handle.cancel()
        try:
            return str(await handle)
        except ActivityError as error:
            assert isinstance(error.cause, CancelledError)
        await workflow.wait_condition(lambda: self.may_end)
        return "cancelled"

    async def _started(self) -> None:
        await workflow.wait_condition(lambda: self.may_cancel)

    def __init__(self) -> None:
        self.may_cancel = False
        self.may_end = False

    @workflow.signal
    def end(self) -> None:
        self.may_end = True

    @workflow.signal
    def cancel_it(self) -> None:
        self.may_cancel = True


@workflow.defn
class Waits:
    @workflow.run
    async def run(self, name: str) -> str:
        result: str = await workflow.execute_activity(
            name, result_type=str, start_to_close_timeout=timedelta(seconds=_PATIENCE_S)
        )
        return result


def _worker(client: Client, task_queue: str, bench: Bench) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Cancels, Waits],
        activities=[bench.run_async, bench.run_in_a_thread, bench.finish_although_cancelled],
        activity_executor=ThreadPoolExecutor(2),
    )


_TRY, _WAIT, _ABANDON = (
    workflow.ActivityCancellationType.TRY_CANCEL,
    workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    workflow.ActivityCancellationType.ABANDON,
)


@pytest.mark.parametrize("name", ["run_async", "run_in_a_thread"])
@pytest.mark.parametrize("kind", [_TRY, _WAIT])
async def test_the_activity_is_told(
    embedded_client: Client, task_queue: str, name: str, kind: workflow.ActivityCancellationType
) -> None:
    bench = Bench()
    async with _worker(embedded_client, task_queue, bench):
        handle = await embedded_client.start_workflow(
            Cancels.run, args=[name, kind], id=task_queue, task_queue=task_queue
        )
        await bench.started.wait()
        await handle.signal(Cancels.cancel_it)
        told = await asyncio.wait_for(bench.told.get(), 10)
        await handle.signal(Cancels.end)
        assert await handle.result() == "cancelled"
    assert told is not None
    assert told.cancel_requested


async def test_waiting_for_the_cancellation_gets_the_result(embedded_client: Client, task_queue: str) -> None:
    bench = Bench()
    async with _worker(embedded_client, task_queue, bench):
        handle = await embedded_client.start_workflow(
            Cancels.run, args=["finish_although_cancelled", _WAIT], id=task_queue, task_queue=task_queue
        )
        await bench.started.wait()
        await handle.signal(Cancels.cancel_it)
        assert await handle.result() == "finished although cancelled"


async def test_an_abandoned_activity_is_not_told_until_its_workflow_is_closed(
    embedded_client: Client, task_queue: str
) -> None:
    bench = Bench()
    async with _worker(embedded_client, task_queue, bench):
        handle = await embedded_client.start_workflow(
            Cancels.run, args=["run_async", _ABANDON], id=task_queue, task_queue=task_queue
        )
        await bench.started.wait()
        await handle.signal(Cancels.cancel_it)
        await handle.signal(Cancels.end)
        assert await handle.result() == "cancelled"
        told = await asyncio.wait_for(bench.told.get(), 10)
    assert told == ActivityCancellationDetails(not_found=True)


@pytest.mark.parametrize("name", ["run_async", "run_in_a_thread"])
async def test_an_activity_learns_at_once_that_its_workflow_was_terminated(
    embedded_client: Client, task_queue: str, name: str
) -> None:
    bench = Bench()
    async with _worker(embedded_client, task_queue, bench):
        handle = await embedded_client.start_workflow(Waits.run, name, id=task_queue, task_queue=task_queue)
        await bench.started.wait()
        await handle.terminate()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        told = await asyncio.wait_for(bench.told.get(), 10)
    assert told == ActivityCancellationDetails(not_found=True)


async def test_an_activity_learns_that_its_worker_stops(embedded_client: Client, task_queue: str) -> None:
    bench = Bench()
    async with _worker(embedded_client, task_queue, bench):
        await embedded_client.start_workflow(Waits.run, "run_async", id=task_queue, task_queue=task_queue)
        await bench.started.wait()
    assert bench.told.get_nowait() == ActivityCancellationDetails(worker_shutdown=True)
