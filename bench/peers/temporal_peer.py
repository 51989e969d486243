"""Temporal as a measured program: ``python -m bench.peers.temporal_peer HOST:PORT``. Runs in its own environment.

Client and worker are this process; the server is at the given address, and its processes are not measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.peers.protocol import answers_on_stdout, check, serve


@activity.defn
async def echo(text: str) -> str:
    """The cheapest activity there is."""
    return text


@workflow.defn
class One:
    """One activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Run it."""
        return await workflow.execute_activity(echo, text, start_to_close_timeout=timedelta(seconds=60))


@workflow.defn
class Ten:
    """Ten activities, one after the other."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Run them."""
        for _ in range(10):
            text = await workflow.execute_activity(echo, text, start_to_close_timeout=timedelta(seconds=60))
        return text


async def _main(address: str) -> None:
    answers = answers_on_stdout()
    client = await Client.connect(address)
    queue, workflows = f"bench-{uuid.uuid4().hex[:8]}", {"one": One, "ten": Ten}

    async def run(workload: str) -> None:
        workflow_id = f"{workload}-{uuid.uuid4().hex}"
        check(await client.execute_workflow(workflows[workload].run, "x", id=workflow_id, task_queue=queue))

    async with Worker(
        client,
        task_queue=queue,
        workflows=[One, Ten],
        activities=[echo],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=200,
        max_concurrent_workflow_tasks=200,
    ):
        await serve(run, answers, processes={"client+worker": [os.getpid()]}, folders=[])


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
