"""Against a running engine: code that fails again and again is held back and shown; it is mended, reset or ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from perdure import workflow
from perdure._ids import new_run_id
from perdure.client import Client, WorkflowExecutionDescription, WorkflowFailureError, WorkflowHandle
from perdure.client._replies import expect
from perdure.exceptions import TerminatedError
from perdure.worker import Worker
from perdure_schemas.limits import STUCK_ATTEMPT_MIN
from perdure_schemas.records import ResetWorkflow, Started

DEADLINE_S = 60.0


@workflow.defn(name="Order")
class Broken:
    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.go)
        raise RuntimeError("the price list is missing")

    @workflow.signal
    def set_go(self) -> None:
        self.go = True


@workflow.defn(name="Order")
class Mended:
    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.go)
        return "delivered"

    @workflow.signal
    def set_go(self) -> None:
        self.go = True


async def until(
    handle: WorkflowHandle[Any, Any], holds: Callable[[WorkflowExecutionDescription], bool]
) -> WorkflowExecutionDescription:
    """The first description for which something holds."""
    end_s = time.monotonic() + DEADLINE_S
    while not holds(description := await handle.describe()):
        assert time.monotonic() < end_s, f"it never came to that: {description.raw_description}"
        await asyncio.sleep(0.05)
    return description


async def stuck(client: Client, task_queue: str, workflow_id: str) -> WorkflowHandle[Any, Any]:
    """A run whose code fails with its second workflow task, until that is seen in its description."""
    async with Worker(client, task_queue=task_queue, workflows=[Broken]):
        handle = await client.start_workflow(Broken.run, id=workflow_id, task_queue=task_queue)
        await until(handle, lambda found: found.history_length >= 3)
        await handle.signal(Broken.set_go)
        await until(handle, lambda found: found.raw_info.stuck_attempt >= STUCK_ATTEMPT_MIN)
    return handle


async def stuck_in_list(client: Client, workflow_id: str) -> list[str]:
    return [found.raw_info.stuck_reason async for found in client.list_workflows() if found.id == workflow_id]


async def test_stuck_code_is_shown_and_goes_on_when_it_is_mended(client: Client, task_queue: str) -> None:
    handle = await stuck(client, task_queue, task_queue)
    description = await handle.describe()
    task = description.raw_description.pending_workflow_task
    assert task is not None
    assert task.attempt >= STUCK_ATTEMPT_MIN
    assert task.last_failure is not None
    assert task.last_failure.message == "the price list is missing"
    assert "the price list is missing" in description.raw_info.stuck_reason
    assert "the price list is missing" in (await stuck_in_list(client, task_queue))[0]
    async with Worker(client, task_queue=task_queue, workflows=[Mended]):
        assert await asyncio.wait_for(handle.result(), DEADLINE_S) == "delivered"
    assert await stuck_in_list(client, task_queue) == [""]
    assert not (await handle.describe()).raw_info.stuck_reason


async def test_a_stuck_run_is_terminated(embedded_client: Client, task_queue: str) -> None:
    handle = await stuck(embedded_client, task_queue, task_queue)
    await handle.terminate("beyond repair")
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, TerminatedError)


async def test_a_stuck_run_is_reset(embedded_client: Client, task_queue: str) -> None:
    handle = await stuck(embedded_client, task_queue, task_queue)
    run_id = new_run_id()
    connection = await embedded_client.connection()
    body = ResetWorkflow(run_id=run_id, point="FirstWorkflowTask", reason="mended")
    expect(await connection.ask(task_queue, "", body, DEADLINE_S, "the reset"), Started)
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Mended]):
        new = embedded_client.get_workflow_handle(task_queue, run_id=run_id)
        # The signal that came before is delivered again.
        assert await asyncio.wait_for(new.result(), DEADLINE_S) == "delivered"
    with pytest.raises(WorkflowFailureError):
        await handle.result(follow_runs=False)
