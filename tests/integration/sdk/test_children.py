"""Child and external workflows against a running engine: the main path on both logs, the rest on the embedded one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from perdure.exceptions import (
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from perdure.worker import Worker
from perdure.workflow import ChildWorkflowCancellationType, ParentClosePolicy

#: By workflow id: set once a parent's child has started.
noted: dict[str, asyncio.Event] = {}


@activity.defn
async def note(workflow_id: str) -> None:
    noted[workflow_id].set()


@workflow.defn
class Square:
    @workflow.run
    async def run(self, number: int) -> int:
        parent, root = workflow.info().parent, workflow.info().root
        assert parent is not None and root is not None
        assert parent.workflow_id == root.workflow_id
        return number * number


@workflow.defn
class SumOfSquares:
    @workflow.run
    async def run(self, count: int) -> int:
        own_id = workflow.info().workflow_id
        calls = (workflow.execute_child_workflow(Square.run, i, id=f"{own_id}/{i}") for i in range(count))
        return sum(await asyncio.gather(*calls))


@workflow.defn
class Waits:
    """Waits for its signal, and says what it got."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: "go" in self.said)
        except asyncio.CancelledError:
            raise CancelledError("asked to stop", workflow.cancellation_reason()) from None
        return ",".join(self.said)

    @workflow.signal
    def say(self, text: str) -> None:
        self.said.append(text)


@workflow.defn
class SignalsItsChild:
    @workflow.run
    async def run(self) -> list[Any]:
        handle = await workflow.start_child_workflow(Waits.run, id=f"{workflow.info().workflow_id}/child")
        await handle.signal(Waits.say, "one")
        await handle.signal("say", "go")
        result = await handle
        try:
            await handle.signal(Waits.say, "too late")
        except ApplicationError as error:
            return [result, error.type, handle.first_execution_run_id is not None]
        return [result]


@workflow.defn
class Fails:
    @workflow.run
    async def run(self, levels: int) -> None:
        if levels == 0:
            raise ApplicationError("deep down", {"level": 0}, type="Deep")
        await workflow.execute_child_workflow(Fails.run, levels - 1, id=f"{workflow.info().workflow_id}/{levels}")


@workflow.defn
class StartsTaken:
    @workflow.run
    async def run(self, child_id: str) -> list[Any]:
        try:
            await workflow.start_child_workflow(Waits.run, id=child_id)
        except WorkflowAlreadyStartedError as error:
            return [error.workflow_id, error.workflow_type]
        return []


@workflow.defn
class LeavesAChild:
    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self, policy: int) -> None:
        await workflow.start_child_workflow(
            Waits.run, id=f"{workflow.info().workflow_id}/child", parent_close_policy=ParentClosePolicy(policy)
        )
        await workflow.execute_activity(note, workflow.info().workflow_id, start_to_close_timeout=timedelta(seconds=20))
        await workflow.wait_condition(lambda: self.done)

    @workflow.signal
    def finish(self) -> None:
        self.done = True


@workflow.defn
class CancelsItsChild:
    @workflow.run
    async def run(self, kind: int) -> list[str]:
        handle = await workflow.start_child_workflow(
            Waits.run,
            id=f"{workflow.info().workflow_id}/child",
            cancellation_type=ChildWorkflowCancellationType(kind),
            parent_close_policy=ParentClosePolicy.ABANDON,
        )
        handle.cancel()
        try:
            await handle
        except ChildWorkflowError as error:
            return [error.message, type(error.cause).__name__, str(error.cause)]
        return []


@workflow.defn
class Talks:
    @workflow.run
    async def run(self, other: str) -> list[str]:
        said = []
        handle = workflow.get_external_workflow_handle_for(Waits.run, other)
        for call in (handle.signal(Waits.say, "hey"), handle.cancel(reason="enough")):
            try:
                await call
                said.append("taken")
            except ApplicationError as error:
                said.append(str(error.type))
        return said


WORKFLOWS = [Square, SumOfSquares, Waits, SignalsItsChild, Fails, StartsTaken, LeavesAChild, CancelsItsChild, Talks]


def _worker(client: Client, task_queue: str, **options: Any) -> Worker:
    return Worker(client, task_queue=task_queue, workflows=WORKFLOWS, activities=[note], **options)


async def test_fifty_children_in_parallel(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        total = await client.execute_workflow(SumOfSquares.run, 50, id=task_queue, task_queue=task_queue)
    assert total == sum(i * i for i in range(50))


async def test_children_with_every_task_replayed_from_the_first_event(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue, max_cached_workflows=0):
        total = await embedded_client.execute_workflow(SumOfSquares.run, 5, id=task_queue, task_queue=task_queue)
        said = await embedded_client.execute_workflow(SignalsItsChild.run, id=f"{task_queue}-s", task_queue=task_queue)
    assert total == 30
    assert said[0] == "one,go"


async def test_a_child_is_signalled_as_long_as_it_is_open(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        said = await client.execute_workflow(SignalsItsChild.run, id=task_queue, task_queue=task_queue)
    assert said == ["one,go", "ExternalWorkflowExecutionNotFound", True]


async def test_a_failure_comes_up_through_two_levels(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await client.execute_workflow(Fails.run, 2, id=task_queue, task_queue=task_queue)
    first = caught.value.cause
    assert isinstance(first, ChildWorkflowError)
    assert (first.workflow_id, first.workflow_type) == (f"{task_queue}/2", "Fails")
    second = first.cause
    assert isinstance(second, ChildWorkflowError)
    assert second.workflow_id == f"{task_queue}/2/1"
    cause = second.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.details) == ("deep down", "Deep", ({"level": 0},))


async def test_a_taken_id_is_told_to_the_parent(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    async with _worker(client, task_queue):
        taken = await client.start_workflow(Waits.run, id=f"{task_queue}-taken", task_queue=task_queue)
        told = await client.execute_workflow(StartsTaken.run, taken.id, id=task_queue, task_queue=task_queue)
        assert told == [taken.id, "Waits"]
        await taken.terminate()


async def _close(parent: WorkflowHandle[Any, Any], how: str) -> None:
    if how == "complete":
        await parent.signal(LeavesAChild.finish)
        await parent.result()
        return
    await (parent.terminate() if how == "terminate" else parent.cancel())
    with pytest.raises(WorkflowFailureError):
        await parent.result()


@pytest.mark.parametrize("how", ["complete", "terminate", "cancel"])
@pytest.mark.parametrize(
    "policy", [ParentClosePolicy.TERMINATE, ParentClosePolicy.ABANDON, ParentClosePolicy.REQUEST_CANCEL]
)
async def test_what_becomes_of_a_child_when_its_parent_closes(
    embedded_client: Client, task_queue: str, how: str, policy: ParentClosePolicy
) -> None:
    client = embedded_client
    noted[task_queue] = asyncio.Event()
    async with _worker(client, task_queue):
        parent = await client.start_workflow(LeavesAChild.run, int(policy), id=task_queue, task_queue=task_queue)
        async with asyncio.timeout(10):
            await noted[task_queue].wait()
        child = client.get_workflow_handle(f"{task_queue}/child")
        pending = (await parent.describe()).raw_description.pending_children
        assert [(one.workflow_id, one.parent_close_policy.name) for one in pending] == [(child.id, policy.name)]
        description = await child.describe()
        assert (description.parent_id, description.root_id) == (task_queue, task_queue)
        await _close(parent, how)
        if policy is ParentClosePolicy.ABANDON:
            assert (await child.describe()).status is WorkflowExecutionStatus.RUNNING
            await child.signal(Waits.say, "go")
            assert await child.result() == "go"
            return
        with pytest.raises(WorkflowFailureError) as caught:
            await child.result()
        expected = TerminatedError if policy is ParentClosePolicy.TERMINATE else CancelledError
        assert isinstance(caught.value.cause, expected)


@pytest.mark.parametrize("kind", list(ChildWorkflowCancellationType))
async def test_a_cancelled_child(embedded_client: Client, task_queue: str, kind: ChildWorkflowCancellationType) -> None:
    client = embedded_client
    async with _worker(client, task_queue):
        told = await client.execute_workflow(CancelsItsChild.run, int(kind), id=task_queue, task_queue=task_queue)
        assert told[:2] == ["Child workflow cancelled", "CancelledError"]
        child = client.get_workflow_handle(f"{task_queue}/child")
        if kind is ChildWorkflowCancellationType.ABANDON:
            await child.signal(Waits.say, "go")
            assert await child.result() == "go"
            return
        with pytest.raises(WorkflowFailureError) as caught:
            await child.result()
        assert isinstance(caught.value.cause, CancelledError)


async def test_another_workflow_is_signalled_and_cancelled(client: Client, task_queue: str) -> None:
    async with _worker(client, task_queue):
        other = await client.start_workflow(Waits.run, id=f"{task_queue}-other", task_queue=task_queue)
        said = await client.execute_workflow(Talks.run, other.id, id=task_queue, task_queue=task_queue)
        assert said == ["taken", "taken"]
        with pytest.raises(WorkflowFailureError) as caught:
            await other.result()
        assert isinstance(caught.value.cause, CancelledError)


async def test_a_workflow_that_is_not_there_is_told(embedded_client: Client, task_queue: str) -> None:
    async with _worker(embedded_client, task_queue):
        said = await embedded_client.execute_workflow(Talks.run, "nobody", id=task_queue, task_queue=task_queue)
    assert said == ["ExternalWorkflowExecutionNotFound"] * 2
