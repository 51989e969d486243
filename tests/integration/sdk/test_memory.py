"""What ended work leaves behind: nothing that only the garbage collector would free.

It runs late in processes with much in memory, and takes long there.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure.worker._attempt import Attempt

_LIMIT = timedelta(seconds=60)


@activity.defn
async def in_the_loop(number: int) -> int:
    activity.heartbeat(number)
    return number


@activity.defn
def in_a_thread(number: int) -> int:
    activity.heartbeat(number)
    return number


@workflow.defn
class Both:
    @workflow.run
    async def run(self, number: int) -> int:
        for function in (in_the_loop, in_a_thread):
            await workflow.execute_activity(
                function, number, start_to_close_timeout=_LIMIT, heartbeat_timeout=timedelta(seconds=10)
            )
        return number


async def test_an_attempt_that_has_ended_is_freed_without_the_garbage_collector(
    embedded_client: Client, task_queue: str
) -> None:
    async with Worker(
        embedded_client,
        task_queue=task_queue,
        workflows=[Both],
        activities=[in_the_loop, in_a_thread],
        activity_executor=ThreadPoolExecutor(1),
    ):

        async def run(number: int) -> None:
            name = f"{task_queue}-{number}"
            assert await embedded_client.execute_workflow(Both.run, number, id=name, task_queue=task_queue) == number

        await run(0)
        gc.collect()
        gc.disable()
        try:
            for number in range(1, 6):
                await run(number)
            left = [found for found in gc.get_objects() if isinstance(found, Attempt)]
            # The thread may not have let go of the last one yet.
            assert len(left) <= 1, left
        finally:
            gc.enable()
