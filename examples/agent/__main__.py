"""Talk to the agent: ``python -m examples.agent``, or with questions of yours as arguments."""

from __future__ import annotations

import asyncio
import logging
import sys

from examples.agent.model import ask_model
from examples.agent.tools import Tools
from examples.agent.workflow import TASK_QUEUE, Agent, Conversation
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

QUESTIONS = ["hello", "what is the weather in Lisbon?", "please refund order o2", "refund order o9"]


async def main(questions: list[str]) -> None:
    logging.getLogger("perdure").setLevel(logging.ERROR)
    tools = Tools()
    async with (
        await WorkflowEnvironment.start_local() as env,
        Worker(
            env.client,
            task_queue=TASK_QUEUE,
            workflows=[Agent],
            activities=[ask_model, tools.weather, tools.refund],
        ),
    ):
        agent = await env.client.start_workflow(Agent.run, Conversation(), id="agent-1", task_queue=TASK_QUEUE)
        for question in questions:
            await agent.signal(Agent.ask, question)
        await agent.signal(Agent.end)
        ended = asyncio.create_task(agent.result())
        while not ended.done():
            call = await agent.query(Agent.waiting_for)
            if call is not None:
                print(f"approving {call.tool}({call.argument})")
                await agent.execute_update(Agent.approve, args=[call.id, True])
            await asyncio.wait([ended], timeout=0.2)
        for message in await ended:
            print(f"{message.role:>5}: {message.text or message.call}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or QUESTIONS))
