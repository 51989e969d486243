"""The forms an activity may have, what it can ask for, and how many begin in a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RawValue
from perdure.worker import FixedSizeSlotSupplier, Worker, WorkerTuner

_LIMIT = {"start_to_close_timeout": timedelta(seconds=20)}


class Shelf:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.begun_s: list[float] = []

    @activity.defn
    async def label(self, text: str) -> str:
        return f"{self.prefix}-{text}"

    @activity.defn
    async def tick(self) -> None:
        self.begun_s.append(time.monotonic())


@activity.defn
class Counter:
    async def __call__(self, start: int) -> int:
        return start + 1


@activity.defn(dynamic=True)
async def anything(args: Sequence[RawValue]) -> str:
    values = [activity.payload_converter().from_payload(one.payload) for one in args]
    return f"{activity.info().activity_type}{values}"


@activity.defn
async def ask_the_client() -> str:
    description = await activity.client().get_workflow_handle(activity.info().workflow_id or "").describe()
    return description.workflow_type


@workflow.defn
class Kinds:
    @workflow.run
    async def run(self) -> list[object]:
        return [
            await workflow.execute_activity_method(Shelf.label, "x", **_LIMIT),
            await workflow.execute_activity_class(Counter, 1, **_LIMIT),
            await workflow.execute_activity("whatever", args=[1, "two"], result_type=str, **_LIMIT),
            await workflow.execute_activity(ask_the_client, **_LIMIT),
            await workflow.execute_local_activity_class(Counter, 10, **_LIMIT),
        ]


@workflow.defn
class Ticks:
    @workflow.run
    async def run(self, count: int) -> None:
        handles = [workflow.start_activity("tick", **_LIMIT) for _ in range(count)]
        for handle in handles:
            await handle


async def test_methods_classes_dynamic_ones_and_the_client(embedded_client: Client, task_queue: str) -> None:
    shelf = Shelf("shelf")
    async with Worker(
        embedded_client,
        task_queue=task_queue,
        workflows=[Kinds],
        activities=[shelf.label, Counter(), anything, ask_the_client],
        tuner=WorkerTuner.create_composite(
            workflow_supplier=FixedSizeSlotSupplier(5),
            activity_supplier=FixedSizeSlotSupplier(1),
            local_activity_supplier=FixedSizeSlotSupplier(1),
        ),
    ):
        result = await embedded_client.execute_workflow(Kinds.run, id=task_queue, task_queue=task_queue)
    assert result == ["shelf-x", 2, "whatever[1, 'two']", "Kinds", 11]


async def test_a_rate_limit_spreads_activities(embedded_client: Client, task_queue: str) -> None:
    shelf = Shelf("")
    async with Worker(
        embedded_client,
        task_queue=task_queue,
        workflows=[Ticks],
        activities=[shelf.tick],
        max_task_queue_activities_per_second=10,
    ):
        await embedded_client.execute_workflow(Ticks.run, 6, id=task_queue, task_queue=task_queue)
    # A wait is never shorter than the limit has it, however slow the machine is: five intervals of 100 ms.
    assert shelf.begun_s[-1] - shelf.begun_s[0] > 0.4
