"""Signals and queries against a running engine: dynamic ones, buffered ones, closed workflows, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.client import (
    Client,
    RPCError,
    RPCStatusCode,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from perdure.common import QueryRejectCondition, RawValue
from perdure.worker import Worker


@workflow.defn
class Messages:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: "open" in self.seen)

        def late(text: str) -> None:
            self.seen.append(f"late {text}")

        workflow.set_signal_handler("late", late)
        workflow.set_dynamic_signal_handler(self.anything)
        workflow.set_dynamic_query_handler(self.any_query)
        await workflow.wait_condition(lambda: self.closed)
        return self.seen

    def anything(self, name: str, args: Sequence[RawValue]) -> None:
        self.seen.append(f"{name} {len(args)}")

    def any_query(self, name: str, args: Sequence[RawValue]) -> str:
        return f"{name} {len(args)}"

    @workflow.signal
    def add(self, text: str) -> None:
        self.seen.append(text)

    @workflow.signal
    async def close(self) -> None:
        self.closed = True

    @workflow.query
    def joined(self, separator: str) -> str:
        return separator.join(self.seen)


def worker_of(client: Client, task_queue: str) -> Worker:
    return Worker(client, task_queue=task_queue, workflows=[Messages])


async def test_signals_wait_for_their_handlers(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    handle = await client.start_workflow(
        Messages.run, id=task_queue, task_queue=task_queue, start_signal="late", start_signal_args=["first"]
    )
    await handle.signal("late", "second")
    await handle.signal("other", args=[1, 2])
    again = await client.start_workflow(
        Messages.run, id=task_queue, task_queue=task_queue, start_signal="add", start_signal_args=["open"]
    )
    assert again.result_run_id == handle.result_run_id
    async with worker_of(client, task_queue):
        assert await handle.query(Messages.joined, ", ") == "open, late first, late second, other 2"
        assert await handle.query("unknown", "x") == "unknown 1"
        await handle.signal(Messages.close)
        assert await handle.result() == ["open", "late first", "late second", "other 2"]


async def test_queries_of_closed_workflows_and_reject_conditions(embedded_client: Client, task_queue: str) -> None:
    async with worker_of(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(Messages.run, id=task_queue, task_queue=task_queue)
        await handle.signal(Messages.add, "open")
        assert await handle.query(Messages.joined, "-", reject_condition=QueryRejectCondition.NOT_OPEN) == "open"
        await handle.signal(Messages.close)
        await handle.result()
        assert await handle.query(Messages.joined, "-") == "open"
        clean = QueryRejectCondition.NOT_COMPLETED_CLEANLY
        assert await handle.query(Messages.joined, "-", reject_condition=clean) == "open"
        with pytest.raises(WorkflowQueryRejectedError):
            await handle.query(Messages.joined, "-", reject_condition=QueryRejectCondition.NOT_OPEN)
        with pytest.raises(RPCError, match="already completed") as caught:
            await handle.signal(Messages.add, "late")
        assert caught.value.status is RPCStatusCode.NOT_FOUND


async def test_queries_that_cannot_be_answered(embedded_client: Client, task_queue: str) -> None:
    handle = await embedded_client.start_workflow(Messages.run, id=task_queue, task_queue=task_queue)
    with pytest.raises(RPCError, match="no worker polls") as unanswered:
        await handle.query(Messages.joined, "-", rpc_timeout=timedelta(milliseconds=50))
    assert unanswered.value.status is RPCStatusCode.DEADLINE_EXCEEDED
    async with worker_of(embedded_client, task_queue):
        with pytest.raises(WorkflowQueryFailedError, match=r"known queries: \[joined\]"):
            await handle.query("unknown")
        with pytest.raises(WorkflowQueryFailedError):
            await handle.query("joined", args=["a", "b", "c"])
