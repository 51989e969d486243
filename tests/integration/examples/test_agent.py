"""The agent: tools, approvals, errors that the model is told, and a conversation longer than a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from examples.agent.model import Message, ToolCall, ask_model
from examples.agent.tools import Tools
from examples.agent.workflow import MESSAGES_KEPT, TASK_QUEUE, Agent, Conversation
from perdure.client import WorkflowHandle, WorkflowUpdateFailedError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

Talk = WorkflowHandle[Agent, list[Message]]


@asynccontextmanager
async def _talk(env: WorkflowEnvironment, tools: Tools, turns_per_run: int = 50) -> AsyncIterator[Talk]:
    activities = [ask_model, tools.weather, tools.refund]
    async with Worker(env.client, task_queue=TASK_QUEUE, workflows=[Agent], activities=activities):
        conversation = Conversation(turns_per_run=turns_per_run)
        yield await env.client.start_workflow(Agent.run, conversation, id="agent", task_queue=TASK_QUEUE)


async def _waiting_call(talk: Talk) -> ToolCall:
    async with asyncio.timeout(60):
        while (call := await talk.query(Agent.waiting_for)) is None:
            await asyncio.sleep(0.05)
    return call


async def test_a_harmless_tool_is_used_at_once(skipping: WorkflowEnvironment) -> None:
    async with _talk(skipping, Tools()) as talk:
        await talk.signal(Agent.ask, "what is the weather in Oslo?")
        await talk.signal(Agent.end)
        messages = await talk.result()
    assert [message.role for message in messages] == ["user", "model", "tool", "model"]
    assert messages[1].call == ToolCall("call-1", "weather", "Oslo")
    assert messages[-1].text == "Done: it is sunny in Oslo."


@pytest.mark.parametrize(("approved", "refunded"), [(True, {"o1": 30}), (False, {})])
async def test_a_person_decides_on_a_dangerous_tool(
    skipping: WorkflowEnvironment, approved: bool, refunded: dict[str, int]
) -> None:
    tools = Tools()
    async with _talk(skipping, tools) as talk:
        await talk.signal(Agent.ask, "refund order o1")
        call = await _waiting_call(talk)
        assert (call.tool, call.argument, tools.refunded) == ("refund", "o1", {})
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await talk.execute_update(Agent.approve, args=["call-9", True])
        assert "no call call-9 waits" in str(caught.value.cause)
        await talk.execute_update(Agent.approve, args=[call.id, approved])
        await talk.signal(Agent.end)
        messages = await talk.result()
    assert tools.refunded == refunded
    assert messages[-1].text.startswith("Done: 30 was refunded" if approved else "Sorry, that did not work")


async def test_nobody_who_approves_is_a_refusal(skipping: WorkflowEnvironment) -> None:
    tools = Tools()
    async with _talk(skipping, tools) as talk:
        await talk.signal(Agent.ask, "refund order o1")
        await talk.signal(Agent.end)
        messages = await talk.result()  # an hour is skipped
    assert not tools.refunded
    assert "did not approve" in messages[-1].text


async def test_the_model_is_told_what_went_wrong(skipping: WorkflowEnvironment) -> None:
    async with _talk(skipping, Tools()) as talk:
        await talk.signal(Agent.ask, "refund order o9")
        await talk.execute_update(Agent.approve, args=[(await _waiting_call(talk)).id, True])
        await talk.signal(Agent.end)
        messages = await talk.result()
    assert "there is no order o9" in messages[-1].text


async def test_a_long_conversation_goes_on_in_new_runs(skipping: WorkflowEnvironment) -> None:
    async with _talk(skipping, Tools(), turns_per_run=3) as talk:
        for number in range(14):
            await talk.signal(Agent.ask, f"hello {number}")
        await talk.signal(Agent.end)
        messages = await talk.result()
        assert (await talk.describe()).run_id != talk.first_execution_run_id
    asked = [message.text for message in messages if message.role == "user"]
    assert asked[-1] == "hello 13"
    assert asked == [f"hello {number}" for number in range(14 - len(asked), 14)]  # none lost, none doubled
    assert len(messages) <= MESSAGES_KEPT + 2 * 3
