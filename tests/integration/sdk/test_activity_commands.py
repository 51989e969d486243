"""``perdure activity``: completing and failing open activities from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError
from perdure.worker import Worker
from perdure_ops.cli import app
from perdure_runtime.embedded import EmbeddedLog
from tests.support.platform import embedded_platform


@activity.defn
async def approve() -> dict[str, Any]:
    activity.raise_complete_async()


@workflow.defn
class Order:
    @workflow.run
    async def run(self) -> dict[str, Any]:
        return await workflow.execute_activity(
            approve,
            activity_id="approve",
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


@pytest.fixture
def served() -> Iterator[tuple[Client, list[str]]]:
    """A client of a running engine, and the options with which the command line finds it."""
    with embedded_platform() as (log, names):
        assert isinstance(log, EmbeddedLog)
        server = log.serve("127.0.0.1", 0)
        options = ["--address", f"127.0.0.1:{server.port}", "--namespace", names.namespace]
        yield Client.from_log(log, namespace=names.namespace), options


async def _started(client: Client, workflow_id: str, task_queue: str) -> Any:
    handle = await client.start_workflow(Order.run, id=workflow_id, task_queue=task_queue)
    while not (pending := (await handle.describe()).raw_description.pending_activities) or not pending[0].worker_id:
        await asyncio.sleep(0.01)
    return handle


async def test_complete_and_fail(served: tuple[Client, list[str]], task_queue: str) -> None:
    client, options = served

    async def command(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["activity", *arguments, "-a", "approve", *options])
        assert result.exit_code == 0, result.output
        return result.output

    async with Worker(client, task_queue=task_queue, workflows=[Order], activities=[approve]):
        completed = await _started(client, f"{task_queue}-c", task_queue)
        output = await command("complete", "-w", completed.id, "--result", '{"by": "Ada"}')
        assert "completed" in output
        assert await completed.result() == {"by": "Ada"}

        failed = await _started(client, f"{task_queue}-f", task_queue)
        await command("fail", "-w", failed.id, "--reason", "not approved", "--detail", "7")
        with pytest.raises(WorkflowFailureError) as caught:
            await failed.result()
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.details) == ("not approved", (7,))
