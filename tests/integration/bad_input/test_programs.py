"""What a user's program may get wrong: a clear error where it was made, and nothing else stops."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import Worker
from perdure_schemas.limits import PAYLOAD_BYTES_MAX
from tests.integration.bad_input.records import TIMEOUT_S, Greeting, check_that_workflows_complete, greet
from tests.support.processes import free_port

TOO_LARGE = PAYLOAD_BYTES_MAX + 1


@workflow.defn
class Late:
    @workflow.run
    async def run(self) -> str:
        return "late"


@workflow.defn
class CallsUnknown:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "no_such_activity",
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=3, initial_interval=timedelta(milliseconds=10)),
        )


@activity.defn
async def too_much() -> str:
    return "x" * TOO_LARGE


@workflow.defn
class ReceivesTooMuch:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(too_much, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class SendsTooMuch:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(greet, "x" * TOO_LARGE, start_to_close_timeout=timedelta(seconds=10))


async def last_failure_of_task(client: Client, workflow_id: str, attempts: int = 1) -> str:
    """The message of the failure that a workflow task had last; waits for it."""
    handle = client.get_workflow_handle(workflow_id)
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        task = (await handle.describe()).raw_description.pending_workflow_task
        if task is not None and task.last_failure is not None and task.attempt > attempts:
            return task.last_failure.message
    raise AssertionError("the workflow task did not fail")


async def test_an_unknown_workflow_type_waits_for_a_worker_that_knows_it(client: Client, task_queue: str) -> None:
    workflow_id = f"{task_queue}-late"
    async with Worker(client, task_queue=task_queue, workflows=[Greeting], activities=[greet]):
        handle = await client.start_workflow("Late", id=workflow_id, task_queue=task_queue)
        message = await last_failure_of_task(client, workflow_id)
        assert "Late" in message
        assert "Greeting" in message, "what the worker does have"
        assert await client.execute_workflow(Greeting.run, "you", id=task_queue, task_queue=task_queue) == "hello you"
    async with Worker(client, task_queue=task_queue, workflows=[Late]):
        assert await asyncio.wait_for(handle.result(), TIMEOUT_S) == "late"


async def test_an_unknown_activity_type(client: Client, task_queue: str) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[CallsUnknown, Greeting], activities=[greet]):
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(CallsUnknown.run, id=f"{task_queue}-unknown", task_queue=task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "NotFoundError"
    assert "no_such_activity" in cause.message
    assert "greet" in cause.message
    await check_that_workflows_complete(client, task_queue, 2)


async def test_too_large_an_argument_at_the_client(embedded_client: Client, task_queue: str) -> None:
    with pytest.raises(ValueError, match=f"{PAYLOAD_BYTES_MAX} are allowed. Send a reference"):
        await embedded_client.start_workflow("W", "x" * TOO_LARGE, id=task_queue, task_queue=task_queue)
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_too_large_a_result_of_an_activity(embedded_client: Client, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[ReceivesTooMuch], activities=[too_much]):
        with pytest.raises(WorkflowFailureError) as failed:
            await embedded_client.execute_workflow(ReceivesTooMuch.run, id=f"{task_queue}-r", task_queue=task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    assert f"{PAYLOAD_BYTES_MAX} are allowed" in str(failed.value.cause.cause)
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_too_large_a_command_of_a_workflow(embedded_client: Client, task_queue: str) -> None:
    worker = Worker(embedded_client, task_queue=task_queue, workflows=[SendsTooMuch, Greeting], activities=[greet])
    async with worker:
        handle = await embedded_client.start_workflow(SendsTooMuch.run, id=f"{task_queue}-s", task_queue=task_queue)
        message = await last_failure_of_task(embedded_client, f"{task_queue}-s")
        assert f"{PAYLOAD_BYTES_MAX} are allowed" in message
        other = await embedded_client.execute_workflow(Greeting.run, "you", id=task_queue, task_queue=task_queue)
        assert other == "hello you"
        await handle.terminate()


@pytest.mark.parametrize("odd", ["über/straße #1", "a b\nc", "..", "q" * 900, "'; drop", "日本"])
async def test_a_task_queue_may_have_any_name(embedded_client: Client, task_queue: str, odd: str) -> None:
    await check_that_workflows_complete(embedded_client, odd, 1)


async def test_a_task_queue_with_odd_characters_on_each_log(client: Client, task_queue: str) -> None:
    await check_that_workflows_complete(client, f"{task_queue} über/straße #1", 1)


@pytest.mark.parametrize(("length", "allowed"), [(1_000, True), (1_001, False)])
async def test_the_length_of_a_workflow_id(
    embedded_client: Client, task_queue: str, length: int, allowed: bool
) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Late]):
        starting = embedded_client.execute_workflow(Late.run, id="w" * length, task_queue=task_queue)
        if allowed:
            assert await starting == "late"
        else:
            with pytest.raises(ValueError, match="the workflow id has 1001 characters; 1000 are allowed"):
                await starting


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "kafka://127.0.0.1:{}?sasl.password=secret"])
async def test_a_client_to_nobody_fails_in_bounded_time(address: str) -> None:
    port = free_port()
    with pytest.raises(RPCError, match=str(port)) as failed:
        await Client.connect(address.format(port), connect_timeout=timedelta(seconds=2))
    assert failed.value.status is RPCStatusCode.UNAVAILABLE
    assert "perdure dev" in failed.value.message
    assert "secret" not in failed.value.message
