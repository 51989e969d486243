"""A limit of a fairness key holds across workers, delays no other key, and changes while everything runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import Priority
from perdure.worker import Worker
from perdure_ops.queue_flow import ConfigView, Wanted, read_config, write_config
from perdure_schemas.records import TaskQueueConfig
from tests.support.waiting import TIMEOUT_S, until

_TIMEOUT = timedelta(minutes=5)


@workflow.defn
class Transfers:
    """Transfers by way of some banks, all at once."""

    @workflow.run
    async def run(self, banks: list[str]) -> int:
        return sum(
            await asyncio.gather(
                *(
                    workflow.execute_activity(
                        "transfer", bank, start_to_close_timeout=_TIMEOUT, priority=Priority(fairness_key=bank)
                    )
                    for bank in banks
                )
            )
        )


async def _set(client: Client, task_queue: str, wanted: Wanted) -> None:
    connection = await client.connection()
    nothing = TaskQueueConfig(task_queue=task_queue, task_type="activity", time_ms=1)

    def change() -> None:
        before: ConfigView = read_config(connection.log, connection.names, task_queue)
        config = wanted.apply(before.configs.get("activity", nothing))
        write_config(connection.log, connection.names, before, "activity", config)

    await asyncio.to_thread(change)


async def test_a_limited_key_waits_and_others_do_not(embedded_client: Client, task_queue: str) -> None:
    running = {"slow": 0, "quick": 0}
    most = dict(running)
    over = dict(running)
    may_end = asyncio.Event()

    @activity.defn
    async def transfer(bank: str) -> int:
        running[bank] += 1
        most[bank] = max(most[bank], running[bank])
        if bank == "slow":
            await may_end.wait()
        running[bank] -= 1
        over[bank] += 1
        return 1

    await _set(embedded_client, task_queue, Wanted(key_concurrency=("slow=2",)))
    workers = [
        Worker(embedded_client, task_queue=task_queue, workflows=[Transfers], activities=[transfer]) for _ in range(2)
    ]
    async with workers[0], workers[1]:
        handle = await embedded_client.start_workflow(
            Transfers.run, ["slow"] * 20 + ["quick"] * 5, id=task_queue, task_queue=task_queue
        )
        await until(lambda: (running["slow"], over["quick"]) == (2, 5))
        await _set(embedded_client, task_queue, Wanted(key_concurrency=("slow=3",)))
        await until(lambda: running["slow"] == 3)
        may_end.set()
        assert await asyncio.wait_for(handle.result(), TIMEOUT_S) == 25
    assert most["slow"] == 3
