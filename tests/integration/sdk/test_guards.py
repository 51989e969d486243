"""Against a running engine: workflow code that blocks or is not deterministic, and dynamic workflows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from perdure import workflow
from perdure._runtime import watchdog
from perdure.client import Client, WorkflowHandle
from perdure.common import RawValue
from perdure.worker import Worker
from perdure_schemas.records import WorkflowTaskFailedEvent

_broken = True


@workflow.defn
class Spins:
    @workflow.run
    async def run(self) -> str:
        while _broken:
            pass
        return "mended"


@workflow.defn
class ReadsTheClock:
    @workflow.run
    async def run(self) -> str:
        if _broken:
            time.time()
        return "mended"


@workflow.defn
class Fast:
    @workflow.run
    async def run(self) -> str:
        return "fast"


@workflow.defn(dynamic=True)
class Anything:
    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        values = [workflow.payload_converter().from_payload(arg.payload) for arg in args]
        return f"{workflow.info().workflow_type} {values}"


@pytest.fixture(autouse=True)
def _broken_at_first() -> None:
    global _broken
    _broken = True


async def failures_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    return [
        event.attributes.failure.message
        async for event in handle.fetch_history_events()
        if isinstance(event.attributes, WorkflowTaskFailedEvent) and event.attributes.failure is not None
    ]


@pytest.mark.parametrize(
    ("workflow_class", "message"),
    [(Spins, "potential deadlock"), (ReadsTheClock, "workflow code called time.time()")],
)
async def test_the_task_fails_and_the_workflow_goes_on_when_the_code_is_mended(
    embedded_client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch, workflow_class: Any, message: str
) -> None:
    global _broken
    if workflow_class is Spins:
        monkeypatch.setattr(watchdog, "DEADLOCK_TIMEOUT_S", 0.1)
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Spins, ReadsTheClock, Fast]):
        handle = await embedded_client.start_workflow(
            workflow_class.run, id=f"{task_queue}-broken", task_queue=task_queue
        )
        fast = await embedded_client.execute_workflow(Fast.run, id=f"{task_queue}-fast", task_queue=task_queue)
        assert fast == "fast"
        _broken = False
        assert await handle.result() == "mended"
        assert any(message in one for one in await failures_of(handle))


async def test_a_dynamic_workflow_takes_what_no_other_takes(embedded_client: Client, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Fast, Anything]):
        result = await embedded_client.execute_workflow(
            "Unheard", args=[1, "two"], id=f"{task_queue}-1", task_queue=task_queue
        )
        fast = await embedded_client.execute_workflow("Fast", id=f"{task_queue}-2", task_queue=task_queue)
    assert (result, fast) == ("Unheard [1, 'two']", "fast")
