"""Updates and the end of an engine: what is outstanding then is answered by the next one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.client import Client, WorkflowUpdateFailedError, WorkflowUpdateStage
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_runtime.embedded import EmbeddedLog
from perdure_schemas.topics import TopicNames
from tests.support.platform import running_engine


@workflow.defn
class Counter:
    def __init__(self) -> None:
        self.total = 0
        self.go = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: False)
        return self.total

    @workflow.update
    def add(self, number: int) -> int:
        self.total += number
        return self.total

    @add.validator
    def check(self, number: int) -> None:
        if number < 0:
            raise ApplicationError("below zero")

    @workflow.update
    async def wait(self) -> int:
        await workflow.wait_condition(lambda: self.go)
        return self.total

    @workflow.signal
    def proceed(self) -> None:
        self.go = True


async def test_outstanding_updates_survive_their_engine() -> None:
    log = EmbeddedLog(None)
    names = TopicNames(partitions=2)
    client = Client.from_log(log, namespace=names.namespace, names=names)
    try:
        with running_engine(log, names):
            handle = await client.start_workflow(Counter.run, id="w", task_queue="q")
            async with Worker(client, task_queue="q", workflows=[Counter]):
                assert await handle.execute_update(Counter.add, 1, id="first") == 1
                accepted = await handle.start_update(Counter.wait, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
                waiting = asyncio.create_task(accepted.result())
            # No worker is left: this one is in the engine's memory only.
            held = asyncio.create_task(handle.execute_update(Counter.add, 2, id="held"))
            rejected = asyncio.create_task(handle.execute_update(Counter.add, -1))
            await handle.describe()
        with running_engine(log, names):
            async with Worker(client, task_queue="q", workflows=[Counter]):
                assert await held == 3
                with pytest.raises(WorkflowUpdateFailedError):
                    await rejected
                await handle.signal(Counter.proceed)
                assert await waiting == 3
                assert await handle.execute_update(Counter.add, 5, id="first") == 1, "its outcome stands"
                assert await handle.execute_update(Counter.add, 5, id="last", rpc_timeout=timedelta(seconds=20)) == 8
    finally:
        await client.close()
        log.close()
