"""What asyncio gives to workflow code, against a running engine."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker

_OPTIONS = {"start_to_close_timeout": timedelta(seconds=20)}


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Asyncio:
    def __init__(self) -> None:
        self.running = 0
        self.running_max = 0

    @workflow.run
    async def run(self) -> dict[str, object]:
        return {
            "group": await self.group(),
            "group failed": await self.failing_group(),
            "queue": await self.queue(),
            "semaphore": await self.semaphore(),
            "timeout": await self.timeout(),
            "wait_for": await self.wait_for(),
            "shield": await self.shield(),
        }

    async def group(self) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.doubled(number)) for number in range(3)]
        return [task.result() for task in tasks]

    async def doubled(self, number: int) -> int:
        result: int = await workflow.execute_activity(double, number, **_OPTIONS)  # type: ignore[call-overload]
        return result

    async def failing_group(self) -> str:
        ended: list[str] = []

        async def waits() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        async def fails() -> None:
            await asyncio.sleep(0)
            raise ValueError("no")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                group.create_task(fails())
        except* ValueError as errors:
            ended.append(str(errors.exceptions[0]))
        return " ".join(ended)

    async def queue(self) -> list[int]:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=1)
        taken: list[int] = []

        async def take() -> None:
            while (number := await queue.get()) is not None:
                taken.append(await self.doubled(number))

        taker = asyncio.create_task(take())
        for number in (1, 2, None):
            await queue.put(number)
        await taker
        return taken

    async def semaphore(self) -> int:
        semaphore = asyncio.Semaphore(2)

        async def one() -> None:
            async with semaphore:
                self.running += 1
                self.running_max = max(self.running_max, self.running)
                await self.doubled(1)
                self.running -= 1

        await asyncio.gather(*(one() for _ in range(4)))
        return self.running_max

    async def timeout(self) -> str:
        before = workflow.now()
        try:
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()
        except TimeoutError:
            assert workflow.now() - before >= timedelta(milliseconds=20)
            return "timed out"
        return "not"

    async def wait_for(self) -> int:
        return await asyncio.wait_for(self.doubled(4), 20)

    async def shield(self) -> str:
        inner = asyncio.create_task(self.doubled(5))
        outer = asyncio.ensure_future(asyncio.shield(inner))
        await asyncio.sleep(0)
        outer.cancel()
        try:
            await outer
        except asyncio.CancelledError:
            return f"cancelled {await inner}"
        return "not"


@workflow.defn
class Waits:
    @workflow.run
    async def run(self) -> None:
        await self.wait_for_ever()

    async def wait_for_ever(self) -> None:
        await workflow.wait_condition(lambda: False)


async def test_asyncio_in_a_workflow(embedded_client: Client, task_queue: str) -> None:
    # Without a cache each step replays all that came before.
    async with Worker(
        embedded_client, task_queue=task_queue, workflows=[Asyncio], activities=[double], max_cached_workflows=0
    ):
        result = await embedded_client.execute_workflow(Asyncio.run, id=f"{task_queue}-1", task_queue=task_queue)
    assert result == {
        "group": [0, 2, 4],
        "group failed": "cancelled no",
        "queue": [2, 4],
        "semaphore": 2,
        "timeout": "timed out",
        "wait_for": 8,
        "shield": "cancelled 10",
    }


async def test_where_a_workflow_waits_can_be_asked(embedded_client: Client, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Waits]):
        handle = await embedded_client.start_workflow(Waits.run, id=f"{task_queue}-1", task_queue=task_queue)
        trace = await handle.query("__stack_trace")
        await handle.terminate()
    assert "Task Waits:" in trace
    assert "in Waits.run" in trace
    assert "in Waits.wait_for_ever" in trace
    assert "test_asyncio.py" in trace
