"""A task queue that is matched in several partitions: all of them work, and a worker's slots are still its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.audit.reading import TopicScan
from perdure_ops.task_queues import QueueView, WorkersView
from perdure_schemas import codec, keys
from perdure_schemas.records import TaskRecord
from perdure_schemas.topics import TASKS, WORKERS
from tests.support.waiting import TIMEOUT_S

_LIMIT = timedelta(seconds=60)


@workflow.defn
class Order:
    """Two activities, a signal and a timer, with a child in between."""

    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self, is_child: bool = False) -> list[str]:
        found = [await workflow.execute_activity("serve", start_to_close_timeout=_LIMIT, result_type=str)]
        if is_child:
            return found
        found += await workflow.execute_child_workflow(Order.run, True, id=f"{workflow.info().workflow_id}-child")
        await workflow.wait_condition(lambda: self.paid)
        await workflow.sleep(0.01)
        handle = workflow.start_activity("serve", start_to_close_timeout=_LIMIT, result_type=str)
        return [*found, await handle]

    @workflow.signal
    def pay(self) -> None:
        self.paid = True

    @workflow.query
    def is_paid(self) -> bool:
        return self.paid


async def test_all_partitions_of_a_task_queue_work(client: Client, task_queue: str) -> None:
    task_queue = f"{task_queue}~3"
    running = {"one": 0, "two": 0}
    most = dict(running)

    def worker(name: str) -> Worker:
        @activity.defn
        async def serve() -> str:
            running[name] += 1
            most[name] = max(most[name], running[name])
            await asyncio.sleep(0.01)
            running[name] -= 1
            return name

        return Worker(client, task_queue=task_queue, workflows=[Order], activities=[serve], max_concurrent_activities=1)

    async with worker("one"), worker("two"):
        handles = [
            await client.start_workflow(Order.run, id=f"{task_queue}-{number}", task_queue=task_queue)
            for number in range(24)
        ]
        assert await asyncio.wait_for(handles[0].query(Order.is_paid), TIMEOUT_S) is False
        for handle in handles:
            await handle.signal(Order.pay)
        served = await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in handles)), TIMEOUT_S)
    assert {name for names in served for name in names} == {"one", "two"}
    assert [len(names) for names in served] == [3] * 24
    assert most == {"one": 1, "two": 1}, "each has one slot, however many partitions there are"

    connection = await client.connection()
    partitions = keys.queue_partitions(task_queue, connection.names.partitions)
    assert len(partitions) > 1
    tasks, used = {}, set()
    scan = TopicScan(connection.log, connection.names, [TASKS])
    try:
        for record in scan.to_end():
            if record.value is not None and not keys.is_mark(record.key):
                task = codec.decode_as(record.value, TaskRecord)
                if task.task_queue == task_queue:
                    tasks[task.task_id] = record.partition
                    used.add(record.partition)
                    assert record.partition == keys.queue_partition(
                        task_queue, task.workflow_id, connection.names.partitions
                    )
    finally:
        scan.close()
    assert used == set(partitions)


async def test_what_waits_and_who_works_is_seen_over_all_partitions(client: Client, task_queue: str) -> None:
    task_queue = f"{task_queue}~2"
    may_end = asyncio.Event()

    @activity.defn
    async def serve() -> str:
        await may_end.wait()
        return "done"

    connection = await client.connection()

    def look() -> tuple[QueueView, WorkersView]:
        queue, workers = QueueView(task_queue, connection.now_ms()), WorkersView()
        scan = TopicScan(connection.log, connection.names, [TASKS, WORKERS])
        try:
            for record in scan.to_end():
                (workers if record.topic == connection.names.workers else queue).take(record)
        finally:
            scan.close()
        return queue, workers

    async with Worker(
        client, task_queue=task_queue, workflows=[Order], activities=[serve], max_concurrent_activities=4
    ):
        for number in range(8):
            await client.start_workflow(Order.run, id=f"{task_queue}-{number}", task_queue=task_queue)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                queue, workers = await asyncio.to_thread(look)
                (row,) = workers.rows(connection.now_ms(), task_queue) or [{"held": 0}]
                if row["held"] >= 4:
                    break
                await asyncio.sleep(0.1)
        assert (row["state"], row["activity_slots"]) == ("running", 4)
        (beat,) = workers.heard_of(connection.now_ms(), task_queue)
        rows = {one["type"]: one for one in queue.rows([held.task_id for held in beat.held])}
        assert rows["activity"]["backlog"] + rows["activity"]["running"] == 8
        may_end.set()
