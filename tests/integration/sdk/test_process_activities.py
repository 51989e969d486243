"""Synchronous activities in other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import NamedTuple

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError
from perdure.worker import SharedStateManager, Worker


@activity.defn
def where(number: int) -> tuple[int, int, str]:
    return number + 1, os.getpid(), activity.info().activity_type


@activity.defn
def refuse() -> None:
    raise ApplicationError("no", "detail", type="Refused", non_retryable=True)


@activity.defn
def measure() -> str:
    try:
        activity.metric_meter()
    except RuntimeError as error:
        return str(error)
    return "there is one"


@activity.defn
def beat_and_fail() -> str:
    if activity.info().attempt > 1:
        return f"{activity.info().heartbeat_details}"
    activity.heartbeat("one")
    activity.heartbeat("two")
    raise RuntimeError("once more")


@activity.defn
def wait_for_cancellation() -> str:
    activity.heartbeat()
    activity.wait_for_cancelled_sync(20)
    return f"{activity.is_cancelled()} {activity.cancellation_details()}"


@workflow.defn
class InProcess:
    def __init__(self) -> None:
        self.may_cancel = False

    @workflow.run
    async def run(self, name: str) -> str:
        handle = workflow.start_activity(
            name,
            args=[1] if name == "where" else [],
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=5)),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        if name == "wait_for_cancellation":
            await workflow.wait_condition(lambda: self.may_cancel)
            handle.cancel()
        return str(await handle)

    @workflow.signal
    def cancel(self) -> None:
        self.may_cancel = True


class Pool(NamedTuple):
    executor: ProcessPoolExecutor
    manager: SharedStateManager


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(1, mp_context=context) as executor:
        yield Pool(executor, SharedStateManager.create_from_multiprocessing(manager))


def _worker(client: Client, task_queue: str, pool: Pool) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[InProcess],
        activities=[where, refuse, measure, beat_and_fail, wait_for_cancellation],
        activity_executor=pool.executor,
        shared_state_manager=pool.manager,
    )


async def test_results_failures_and_heartbeats_cross(embedded_client: Client, task_queue: str, pool: Pool) -> None:
    async def run(name: str) -> str:
        return await embedded_client.execute_workflow(
            InProcess.run, name, id=f"{task_queue}-{name}", task_queue=task_queue
        )

    async with _worker(embedded_client, task_queue, pool):
        number, process_id, name = (await run("where"))[1:-1].split(", ")
        assert (number, name) == ("2", "'where'")
        assert int(process_id) != os.getpid()
        assert (await run("measure")).startswith("there is no metric_meter in an activity that runs in a process pool")
        with pytest.raises(WorkflowFailureError) as caught:
            await run("refuse")
        assert isinstance(caught.value.cause, ActivityError)
        cause = caught.value.cause.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.message, cause.type, cause.details) == ("no", "Refused", ("detail",))
        assert await run("beat_and_fail") == "['two']"


async def test_a_cancellation_crosses(embedded_client: Client, task_queue: str, pool: Pool) -> None:
    async with _worker(embedded_client, task_queue, pool):
        handle = await embedded_client.start_workflow(
            InProcess.run, "wait_for_cancellation", id=task_queue, task_queue=task_queue
        )
        while not (pending := (await handle.describe()).raw_description.pending_activities) or not (
            pending[0].last_heartbeat_time_ms
        ):
            await asyncio.sleep(0.01)
        await handle.signal(InProcess.cancel)
        result = await handle.result()
    assert result.startswith("True ActivityCancellationDetails(")
    assert "cancel_requested=True" in result


async def test_an_activity_that_cannot_be_sent_is_refused(embedded_client: Client, pool: Pool) -> None:
    @activity.defn
    def local_function() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="local_function cannot be sent"):
        Worker(
            embedded_client,
            task_queue="q",
            activities=[local_function],
            activity_executor=pool.executor,
            shared_state_manager=pool.manager,
        )
