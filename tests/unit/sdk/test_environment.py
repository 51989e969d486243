"""The whole SDK against a real engine in this process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.converter import DataConverter, Payload, PayloadCodec
from perdure.exceptions import ActivityError, ApplicationError, CancelledError, RetryState, WorkflowAlreadyStartedError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@activity.defn
async def flaky() -> int:
    if activity.info().attempt < 3:
        raise ApplicationError("not yet", activity.info().attempt)
    return activity.info().attempt


@activity.defn
async def hopeless() -> None:
    raise ApplicationError("no", type="Hopeless", non_retryable=True)


@workflow.defn
class Greets:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class Retries:
    @workflow.run
    async def run(self, name: str) -> int:
        return await workflow.execute_activity(
            name,
            result_type=int,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1)),
        )


@workflow.defn
class Counts:
    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.total >= 3)
        return self.total

    @workflow.signal
    def add(self, number: int) -> None:
        self.total += number

    @workflow.query
    def so_far(self) -> int:
        return self.total


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local() as environment:
        worker = Worker(
            environment.client,
            task_queue="q",
            workflows=[Greets, Retries, Counts],
            activities=[greet, flaky, hopeless],
        )
        async with worker:
            yield environment.client


async def test_a_workflow_runs(client: Client) -> None:
    assert await client.execute_workflow(Greets.run, "you", id="w", task_queue="q") == "hello you"
    results = await asyncio.gather(
        *(client.execute_workflow(Greets.run, str(n), id=f"w{n}", task_queue="q") for n in range(20))
    )
    assert results == [f"hello {n}" for n in range(20)]
    assert (await client.count_workflows()).count == 21


async def test_activities_are_retried_and_fail(client: Client) -> None:
    assert await client.execute_workflow(Retries.run, "flaky", id="w1", task_queue="q") == 3
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(Retries.run, "hopeless", id="w2", task_queue="q")
    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert error.retry_state is RetryState.NON_RETRYABLE_FAILURE
    assert isinstance(error.cause, ApplicationError)
    assert error.cause.type == "Hopeless"


async def test_messages_reach_the_workflow(client: Client) -> None:
    handle = await client.start_workflow(Counts.run, id="w", task_queue="q", start_signal="add", start_signal_args=[1])
    assert await handle.query(Counts.so_far) == 1
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(Counts.run, id="w", task_queue="q")
    await handle.signal(Counts.add, 2)
    assert await handle.result() == 3
    assert await handle.query(Counts.so_far) == 3
    description = await handle.describe()
    assert description.status is WorkflowExecutionStatus.COMPLETED
    history = await handle.fetch_history()
    assert [event.event_id for event in history.events] == list(range(1, description.history_length + 1))


async def test_a_workflow_is_cancelled(client: Client) -> None:
    handle = await client.start_workflow(Counts.run, id="w", task_queue="q")
    await handle.cancel(reason="enough")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def test_real_time_is_not_skipped() -> None:
    async with await WorkflowEnvironment.start_local() as environment:
        assert not environment.supports_time_skipping


class Reversing(PayloadCodec):
    """A codec whose work is easy to see."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"reversed", "was": p.metadata["encoding"]}, data=p.data[::-1])
            for p in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": p.metadata["was"]}, data=p.data[::-1]) for p in payloads]


@activity.defn
def in_thread() -> int:
    return 7


async def test_with_a_codec_nothing_readable_stands_in_the_log() -> None:
    converter = dataclasses.replace(DataConverter.default, payload_codec=Reversing())
    with ThreadPoolExecutor(1) as executor:
        async with await WorkflowEnvironment.start_local(data_converter=converter) as environment:
            client = environment.client
            worker = Worker(
                client,
                task_queue="q",
                workflows=[Greets, Counts, Retries],
                activities=[greet, in_thread],
                activity_executor=executor,
            )
            async with worker:
                handle = await client.start_workflow(Greets.run, "you", id="w", task_queue="q", memo={"m": "memo"})
                assert await handle.result() == "hello you"
                assert await client.execute_workflow(Retries.run, "in_thread", id="t", task_queue="q") == 7
                counts = await client.start_workflow(Counts.run, id="c", task_queue="q")
                await counts.signal(Counts.add, 1)
                assert await counts.query(Counts.so_far) == 1
                assert await (await handle.describe()).memo() == {"m": "memo"}
                text = repr((await handle.fetch_history()).events)
                assert "uoy olleh" in text
                assert "hello you" not in text
