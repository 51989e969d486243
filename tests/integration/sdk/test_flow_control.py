"""A limit of a fairness key holds across workers, delays no other key, and changes while everything runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import Priority
from perdure.worker import Interceptor, Worker, WorkflowInboundInterceptor, WorkflowInterceptorClassInput
from perdure_ops.queue_config import ConfigView, Wanted, read_config, write_config
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


@activity.defn
async def waited() -> float:
    """For how long, in seconds, the first attempt was held back."""
    info = activity.info()
    return (info.current_attempt_scheduled_time - info.scheduled_time).total_seconds()


@workflow.defn
class Later:
    """An activity that begins later."""

    @workflow.run
    async def run(self) -> float:
        return await workflow.execute_activity(
            waited, start_to_close_timeout=_TIMEOUT, start_delay=timedelta(milliseconds=300)
        )


class Through(Interceptor):
    """Every call of workflow code goes through it."""

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        return WorkflowInboundInterceptor


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


async def test_an_activity_begins_later(embedded_client: Client, task_queue: str) -> None:
    for interceptors in ([], [Through()]):
        async with Worker(
            embedded_client,
            task_queue=task_queue,
            workflows=[Later],
            activities=[waited],
            interceptors=interceptors,
        ):
            workflow_id = f"{task_queue}-{len(interceptors)}"
            result = await embedded_client.execute_workflow(Later.run, id=workflow_id, task_queue=task_queue)
            assert result >= 0.3


async def test_a_delay_that_leaves_no_time_is_refused(embedded_client: Client, task_queue: str) -> None:
    @workflow.defn
    class Hasty:
        @workflow.run
        async def run(self) -> str:
            try:
                workflow.start_activity(waited, schedule_to_close_timeout=_TIMEOUT, start_delay=_TIMEOUT)
            except ValueError as error:
                return str(error)
            return "taken"

    async with Worker(embedded_client, task_queue=task_queue, workflows=[Hasty], activities=[waited]):
        told = await embedded_client.execute_workflow(Hasty.run, id=task_queue, task_queue=task_queue)
    assert told.startswith("start_delay 0:05:00 leaves nothing of schedule_to_close_timeout")
