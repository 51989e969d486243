"""Activities that are completed from outside of their worker."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import (
    AsyncActivityCancelledError,
    AsyncActivityHandle,
    Client,
    WorkflowFailureError,
    WorkflowHandle,
)
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, CancelledError
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import Worker


class Desk:
    """Activities that tell their token and leave."""

    def __init__(self) -> None:
        self.tokens: asyncio.Queue[bytes] = asyncio.Queue()

    @activity.defn
    async def leave(self) -> str:
        await self.tokens.put(activity.info().task_token)
        activity.raise_complete_async()

    @activity.defn
    async def details_or_leave(self) -> str:
        if activity.info().attempt == 1:
            await self.tokens.put(activity.info().task_token)
            activity.raise_complete_async()
        return f"attempt {activity.info().attempt}: {activity.info().heartbeat_details}"


@workflow.defn
class LeavesOpen:
    @workflow.run
    async def run(self, name: str, wait_for_cancellation: bool = False) -> str:
        return await workflow.execute_activity(
            name,
            result_type=str,
            activity_id="desk",
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=2),
            cancellation_type=(
                workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
                if wait_for_cancellation
                else workflow.ActivityCancellationType.TRY_CANCEL
            ),
        )


def _worker(client: Client, task_queue: str, desk: Desk, **options: int) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[LeavesOpen],
        activities=[desk.leave, desk.details_or_leave],
        **options,  # type: ignore[arg-type]
    )


async def _start(client: Client, task_queue: str, *args: object, id: str = "") -> WorkflowHandle[LeavesOpen, str]:
    handle: WorkflowHandle[LeavesOpen, str] = await client.start_workflow(
        "LeavesOpen", args=list(args), id=id or task_queue, task_queue=task_queue, result_type=str
    )
    return handle


async def test_completed_by_token_after_its_worker_left(client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(client, task_queue, desk):
        handle = await _start(client, task_queue, "leave")
        token = await desk.tokens.get()
    open_activity = client.get_async_activity_handle(task_token=token)
    await open_activity.heartbeat("half")
    await open_activity.complete("from outside")
    async with _worker(client, task_queue, Desk()):
        assert await handle.result() == "from outside"
    with pytest.raises(RPCError) as caught:
        await open_activity.complete("again")
    assert caught.value.status is RPCStatusCode.NOT_FOUND


async def test_an_open_activity_takes_no_slot(embedded_client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(embedded_client, task_queue, desk, max_concurrent_activities=1):
        first = await _start(embedded_client, task_queue, "leave", id=f"{task_queue}-1")
        second = await _start(embedded_client, task_queue, "leave", id=f"{task_queue}-2")
        for _ in range(2):
            token = await asyncio.wait_for(desk.tokens.get(), 10)
            await embedded_client.get_async_activity_handle(task_token=token).complete("done")
        assert [await first.result(), await second.result()] == ["done", "done"]


async def test_completed_by_ids(embedded_client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(embedded_client, task_queue, desk):
        handle = await _start(embedded_client, task_queue, "leave")
        await desk.tokens.get()
        open_activity = embedded_client.get_async_activity_handle(workflow_id=task_queue, activity_id="desk")
        await open_activity.complete("by id")
        assert await handle.result() == "by id"


async def test_a_failure_is_retried_with_the_last_heartbeat(embedded_client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(embedded_client, task_queue, desk):
        handle = await _start(embedded_client, task_queue, "details_or_leave")
        open_activity = embedded_client.get_async_activity_handle(task_token=await desk.tokens.get())
        await open_activity.fail(RuntimeError("not today"), last_heartbeat_details=["page", 7])
        assert await handle.result() == "attempt 2: ['page', 7]"


async def test_a_failure_that_is_not_retried_fails_the_activity(embedded_client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(embedded_client, task_queue, desk):
        handle = await _start(embedded_client, task_queue, "leave")
        open_activity = embedded_client.get_async_activity_handle(task_token=await desk.tokens.get())
        await open_activity.fail(ApplicationError("never", type="Never", non_retryable=True))
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "Never"


async def _heartbeat_until_cancelled(open_activity: AsyncActivityHandle) -> AsyncActivityCancelledError:
    """Heartbeats are answered in order, so it takes only until the engine has decided the cancellation."""
    for number in range(1_000):
        try:
            await open_activity.heartbeat(number)
        except AsyncActivityCancelledError as error:
            return error
    raise AssertionError("no heartbeat was answered with the cancellation")


async def test_a_heartbeat_tells_of_the_cancellation(embedded_client: Client, task_queue: str) -> None:
    desk = Desk()
    async with _worker(embedded_client, task_queue, desk):
        handle = await _start(embedded_client, task_queue, "leave", True)
        open_activity = embedded_client.get_async_activity_handle(task_token=await desk.tokens.get())
        with pytest.raises(RPCError) as refused:
            await open_activity.report_cancellation()
        assert refused.value.status is RPCStatusCode.FAILED_PRECONDITION
        await handle.cancel()
        error = await _heartbeat_until_cancelled(open_activity)
        assert error.details is not None
        assert error.details.cancel_requested
        await open_activity.report_cancellation("stopped in time")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def test_a_reference_must_be_whole(embedded_client: Client) -> None:
    with pytest.raises(ValueError, match="task_token"):
        embedded_client.get_async_activity_handle()
    with pytest.raises(ValueError, match="not both"):
        embedded_client.get_async_activity_handle(workflow_id="w", activity_id="a", task_token=b"x")
    with pytest.raises(ValueError, match="activity_id"):
        embedded_client.get_async_activity_handle(workflow_id="w")
    with pytest.raises(ValueError, match="no task token"):
        embedded_client.get_async_activity_handle(task_token=b"something else")
