"""Runs that follow runs, and what a run carries, from the client to the worker and back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import (
    Client,
    RPCError,
    RPCStatusCode,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from perdure.common import Priority, RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure.exceptions import ApplicationError, CancelledError, TimeoutError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

CUSTOMER = SearchAttributeKey.for_keyword("Customer")
AMOUNT = SearchAttributeKey.for_int("Amount")
DUE = SearchAttributeKey.for_datetime("Due")
TAGS = SearchAttributeKey.for_keyword_list("Tags")
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@activity.defn
async def priority_of() -> tuple[int | None, str | None]:
    """What the activity's own priority is."""
    priority = activity.info().priority
    return priority.priority_key, priority.fairness_key


@workflow.defn
class Sum:
    """Continues as new again and again, and adds up what signals bring meanwhile."""

    @workflow.init
    def __init__(self, runs_left: int, total: int) -> None:
        self.total = total
        self.finished = False
        self.left = runs_left

    @workflow.query
    def runs_left(self) -> int:
        return self.left

    @workflow.run
    async def run(self, runs_left: int, total: int) -> int:
        if runs_left:
            await workflow.sleep(0.001)
            workflow.continue_as_new(args=[runs_left - 1, self.total])
        await workflow.wait_condition(lambda: self.finished)
        return self.total

    @workflow.signal
    def add(self, number: int) -> None:
        self.total += number

    @workflow.signal
    def finish(self) -> None:
        self.finished = True


@workflow.defn
class Third:
    """Succeeds at the third attempt, and says what it knows of the earlier ones."""

    @workflow.run
    async def run(self) -> list[str]:
        info = workflow.info()
        if info.attempt < 3:
            raise ApplicationError(f"attempt {info.attempt}", type="Early")
        failure = workflow.get_last_failure()
        assert isinstance(failure, ApplicationError)
        assert info.continued_run_id is not None
        assert info.continued_run_id not in (info.run_id, info.first_execution_run_id)
        assert info.retry_policy is not None
        return [failure.message, info.first_execution_run_id]


@workflow.defn
class Forever:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@workflow.defn
class At:
    """Tells when it began."""

    def __init__(self) -> None:
        self.signals = 0

    @workflow.run
    async def run(self) -> tuple[float, int]:
        info = workflow.info()
        return (info.start_time - info.workflow_start_time).total_seconds(), self.signals

    @workflow.signal
    def poke(self) -> None:
        self.signals += 1


@workflow.defn
class Carrier:
    """Changes what it carries, then waits."""

    @workflow.run
    async def run(self, again: bool) -> dict[str, object]:
        info = workflow.info()
        if again:
            assert info.typed_search_attributes[CUSTOMER] == "ada"
            workflow.upsert_search_attributes([AMOUNT.value_set(7), TAGS.value_unset()])
            workflow.upsert_memo({"colour": "blue", "gone": None, "new": [1, 2]})
            assert TAGS not in workflow.info().typed_search_attributes
            workflow.set_current_details("half way")
            assert workflow.get_current_details() == "half way"
            assert not info.is_continue_as_new_suggested()
            workflow.continue_as_new(False)
        assert info.priority.priority_key == 2
        key, fairness_key = await workflow.execute_activity(priority_of, start_to_close_timeout=timedelta(seconds=20))
        assert info.get_current_history_size() > 0
        return {
            "memo": dict(workflow.memo()),
            "names": [pair.key.name for pair in info.typed_search_attributes],
            "amount": info.typed_search_attributes[AMOUNT],
            "due": info.typed_search_attributes[DUE].isoformat(),
            "priority": [key, fairness_key],
        }


@workflow.defn
class Hourly:
    """Counts its runs by what the one before returned."""

    @workflow.run
    async def run(self) -> int:
        assert workflow.info().start_time.minute == 0
        last = workflow.get_last_completion_result(int) if workflow.has_last_completion_result() else 0
        if last == 2 and workflow.get_last_failure() is None:
            raise ApplicationError("not this time", non_retryable=True)
        return int(last or 0) + 1


def _worker(client: Client, task_queue: str) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Sum, Third, Forever, At, Carrier, Hourly],
        activities=[priority_of],
        workflow_failure_exception_types=[Exception],  # a failed assertion shall end the test, not be retried
    )


async def _until_the_last_run(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait until the current run of ``Sum`` is the last one of its chain."""
    while True:
        try:
            if await handle.query("runs_left") == 0:
                return
        except (RPCError, WorkflowQueryFailedError):
            continue  # not started yet, or between two runs


async def test_no_signal_is_lost_in_a_chain_of_runs(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        handle = await client.start_workflow(Sum.run, args=[20, 0], id=task_queue, task_queue=task_queue)
        following = asyncio.ensure_future(handle.result())
        last_run = asyncio.ensure_future(_until_the_last_run(handle))
        sent = 0
        while sent < 20 or (sent < 400 and not last_run.done()):
            await asyncio.gather(*(handle.signal(Sum.add, 1) for _ in range(2)))
            sent += 2
        await last_run
        await handle.signal(Sum.finish)
        assert await following == sent
        with pytest.raises(WorkflowContinuedAsNewError):
            await handle.result(follow_runs=False)
        last = await client.get_workflow_handle(task_queue).describe()
        assert last.raw_info.continued_run_id
        assert last.raw_info.first_execution_run_id == handle.first_execution_run_id
        first = await client.get_workflow_handle(task_queue, run_id=handle.result_run_id).describe()
        assert first.status is WorkflowExecutionStatus.CONTINUED_AS_NEW


async def test_executing_follows_the_chain(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue):
        executing = asyncio.ensure_future(
            embedded_client.execute_workflow(Sum.run, args=[3, 5], id=task_queue, task_queue=task_queue)
        )
        handle = embedded_client.get_workflow_handle(task_queue)
        await _until_the_last_run(handle)
        await handle.signal(Sum.finish)
        assert await executing == 5


async def test_a_failed_workflow_is_tried_again(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        handle = await client.start_workflow(
            Third.run,
            id=task_queue,
            task_queue=task_queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
        )
        assert await handle.result() == ["attempt 2", handle.first_execution_run_id]
        with pytest.raises(WorkflowFailureError):
            await handle.result(follow_runs=False)


async def test_attempts_end(embedded_client: Client, task_queue: str) -> None:
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=2)
    async with _worker(embedded_client, task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await embedded_client.execute_workflow(Third.run, id=task_queue, task_queue=task_queue, retry_policy=policy)
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.message == "attempt 2"


@pytest.mark.parametrize("option", ["execution_timeout", "run_timeout"])
async def test_timeouts_end_a_workflow(embedded_client: Client, task_queue: str, option: str) -> None:
    async with _worker(embedded_client, task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await embedded_client.execute_workflow(
                Forever.run, id=task_queue, task_queue=task_queue, **{option: timedelta(milliseconds=50)}
            )
        assert isinstance(caught.value.cause, TimeoutError)


async def test_the_execution_timeout_bounds_the_attempts(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(
            Forever.run,
            id=task_queue,
            task_queue=task_queue,
            run_timeout=timedelta(milliseconds=50),
            execution_timeout=timedelta(milliseconds=140),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), backoff_coefficient=1),
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        assert isinstance(caught.value.cause, TimeoutError)
        last = await handle.describe()
        assert last.raw_description.attempt > 1
        assert last.close_time is not None


async def test_a_start_may_be_delayed(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue):
        delayed_s, signals = await embedded_client.execute_workflow(
            At.run,
            id=f"{task_queue}-1",
            task_queue=task_queue,
            start_delay=timedelta(milliseconds=80),
            start_signal="poke",
        )
        assert delayed_s >= 0.08
        assert signals == 1
        handle = await embedded_client.start_workflow(
            At.run, id=f"{task_queue}-2", task_queue=task_queue, start_delay=timedelta(hours=1)
        )
        described = await handle.describe()
        assert described.execution_time == described.start_time + timedelta(hours=1)
        await handle.signal(At.poke)
        assert (await handle.result())[1] == 1


async def test_a_cron_workflow_waits_for_its_time(embedded_client: Client, task_queue: str) -> None:
    handle = await embedded_client.start_workflow(
        Forever.run, id=task_queue, task_queue=task_queue, cron_schedule="CRON_TZ=Europe/Zurich 0 12 1 1 *"
    )
    described = await handle.describe()
    assert described.execution_time is not None
    assert (described.execution_time.hour, described.execution_time.day) == (11, 1)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    with pytest.raises(RPCError, match="five fields") as refused:
        await embedded_client.start_workflow(
            Forever.run, id=f"{task_queue}-bad", task_queue=task_queue, cron_schedule="now and then"
        )
    assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT


async def test_a_cron_workflow_runs_hour_by_hour(task_queue: str) -> None:
    async with await WorkflowEnvironment.start_time_skipping() as environment, _worker(environment.client, task_queue):
        client = environment.client
        handle = await client.start_workflow(Hourly.run, id=task_queue, task_queue=task_queue, cron_schedule="@hourly")
        run_id = handle.result_run_id
        results: list[object] = []
        for _ in range(4):
            run = client.get_workflow_handle(task_queue, run_id=run_id, result_type=int)
            try:
                results.append(await run.result(follow_runs=False))
            except WorkflowFailureError as error:
                results.append(str(error.cause))
            run_id = (await run.describe()).raw_info.new_run_id
        assert results == [1, 2, "not this time", 3]
        await handle.terminate()


async def test_what_a_run_carries(client: Client, task_queue: str) -> None:
    attributes = TypedSearchAttributes(
        [SearchAttributePair(CUSTOMER, "ada"), SearchAttributePair(DUE, NOON), SearchAttributePair(TAGS, ["a", "b"])]
    )
    async with _worker(client, task_queue):
        handle = await client.start_workflow(
            Carrier.run,
            True,
            id=task_queue,
            task_queue=task_queue,
            memo={"colour": "red", "gone": 1},
            search_attributes=attributes,
            static_summary="a summary",
            static_details="some *details*",
            priority=Priority(priority_key=2, fairness_key="tenant"),
        )
        result = await handle.result()
    assert result == {
        "memo": {"colour": "blue", "new": [1, 2]},
        "names": ["Amount", "Customer", "Due"],
        "amount": 7,
        "due": NOON.isoformat(),
        "priority": [2, "tenant"],
    }
    described = await handle.describe()
    assert await described.static_summary() == "a summary"
    assert await described.static_details() == "some *details*"
    assert described.typed_search_attributes[AMOUNT] == 7
    assert described.search_attributes["Customer"] == ["ada"]
    assert await described.memo() == {"colour": "blue", "new": [1, 2]}
    first = await client.get_workflow_handle(task_queue, run_id=handle.result_run_id).describe()
    assert first.raw_info.new_run_id == described.run_id


async def test_cancelling_by_the_first_run_reaches_the_current_one(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(Sum.run, args=[2, 0], id=task_queue, task_queue=task_queue)
        await _until_the_last_run(handle)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        assert isinstance(caught.value.cause, CancelledError)
        stranger = embedded_client.get_workflow_handle(task_queue, first_execution_run_id="another")
        with pytest.raises(RPCError) as refused:
            await stranger.terminate()
        assert refused.value.status is RPCStatusCode.NOT_FOUND
