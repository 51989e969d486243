"""Fork and deletion through the client, on both logs: what they make, what they leave alone, what they refuse."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from perdure.exceptions import TerminatedError
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import Replayer, Worker

LIMIT = timedelta(seconds=30)


@activity.defn
async def note(step: str) -> str:
    return f"{step} in {activity.info().workflow_id}"


@workflow.defn
class Steps:
    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        workflow.set_current_details("at the first step")
        first = await workflow.execute_activity(note, "first", start_to_close_timeout=LIMIT)
        workflow.set_current_details("waits for a word")
        await workflow.wait_condition(lambda: bool(self.words))
        workflow.set_current_details("")
        return [first, await workflow.execute_activity(note, "second", start_to_close_timeout=LIMIT), *self.words]

    @workflow.signal
    def say(self, word: str) -> None:
        self.words.append(word)

    @workflow.query
    def count(self) -> int:
        return len(self.words)


async def _eventually_details(client: Client, workflow_id: str, wanted: str) -> None:
    async with asyncio.timeout(60):
        while await (await client.get_workflow_handle(workflow_id).describe()).current_details() != wanted:
            await asyncio.sleep(0.02)


async def test_a_fork_goes_its_own_way_and_leaves_its_source_alone(client: Client, task_queue: str) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        source = await client.start_workflow(Steps.run, id=task_queue, task_queue=task_queue)
        await _eventually_details(client, source.id, "waits for a word")
        copy = await source.fork(f"{task_queue}-copy")
        await copy.signal(Steps.say, "copied")
        first, second, word = await copy.result()
        assert (first, second) == (f"first in {task_queue}", f"second in {task_queue}-copy")
        assert word == "copied"
        assert (await source.describe()).status is WorkflowExecutionStatus.RUNNING
        assert await source.query(Steps.count) == 0
        await source.signal(Steps.say, "own")
        assert (await source.result())[1:] == [f"second in {task_queue}", "own"]

        # From the first step of the source, which is closed now: the first activity runs again.
        again = await source.fork(f"{task_queue}-again", first_workflow_task=True)
        await again.signal(Steps.say, "again")
        assert (await again.result())[0] == f"first in {task_queue}-again"
        history = await copy.fetch_history()
    assert [event.event_id for event in history.events] == list(range(1, len(history.events) + 1))
    assert (await Replayer(workflows=[Steps]).replay_workflow(history)).replay_failure is None


async def test_what_is_no_step_is_refused(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        source = await client.start_workflow(Steps.run, id=task_queue, task_queue=task_queue)
        await _eventually_details(client, source.id, "waits for a word")
        for event_id, message in ((2, "event 2 is not the completion of a workflow task"), (999, "event 999 is not")):
            with pytest.raises(RPCError, match=message):
                await source.fork("copy", event_id=event_id)
        with pytest.raises(RPCError, match="a workflow id of its own"):
            await source.fork(source.id)
        with pytest.raises(ValueError, match="from 1 on"):
            await source.fork("copy", event_id=0)
        with pytest.raises(RPCError, match="not found"):
            await client.get_workflow_handle("nobody").fork("copy")
        with pytest.raises(RPCError, match="not found"):
            await client.get_workflow_handle("copy").describe()


async def test_a_deleted_workflow_is_gone_and_its_id_is_free(client: Client, task_queue: str) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        handle = await client.start_workflow(Steps.run, id=task_queue, task_queue=task_queue)
        await _eventually_details(client, handle.id, "waits for a word")
        waiting = asyncio.create_task(handle.result())
        await handle.describe()
        await handle.delete(reason="law")
        with pytest.raises((WorkflowFailureError, RPCError)) as ended:
            await waiting
        if isinstance(ended.value, WorkflowFailureError):
            assert isinstance(ended.value.cause, TerminatedError)
        for ask in (handle.describe, handle.fetch_history, handle.delete, lambda: handle.signal(Steps.say, "x")):
            with pytest.raises(RPCError) as refused:
                await ask()
            assert refused.value.status is RPCStatusCode.NOT_FOUND
        second = await client.start_workflow(Steps.run, id=task_queue, task_queue=task_queue)
        await second.signal(Steps.say, "again")
        assert (await second.result())[-1] == "again"
        await second.delete()
        async with asyncio.timeout(60):
            while task_queue in [execution.id async for execution in client.list_workflows()]:
                await asyncio.sleep(0.05)


async def test_details_and_static_texts_stand_in_the_description(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        handle = await client.start_workflow(
            Steps.run, id="w", task_queue=task_queue, static_summary="a line", static_details="some text"
        )
        await _eventually_details(client, "w", "waits for a word")
        described = await handle.describe()
        assert (await described.static_summary(), await described.static_details()) == ("a line", "some text")
        await handle.signal(Steps.say, "on")
        await handle.result()
        assert await (await handle.describe()).current_details() is None
        history = await handle.fetch_history()
    told = [
        event.attributes.current_details.data
        for event in history.events
        if getattr(event.attributes, "current_details", None) is not None
    ]
    assert told == [b'"at the first step"', b'"waits for a word"', b'""']
    assert (await Replayer(workflows=[Steps]).replay_workflow(history)).replay_failure is None
