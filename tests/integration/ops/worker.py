"""Workflows for the tests of commands: one that waits for signals, and one with children."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy, SearchAttributeKey
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

TASK_QUEUE = "shop"
REGION = SearchAttributeKey.for_keyword("Region")


@activity.defn
async def refuse() -> None:
    """Fail, again and again."""
    raise ApplicationError("no luck", type="Broken")


@workflow.defn
class Basket:
    """Collects items until it is told to close."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_condition(lambda: self.closed)
        return self.items

    @workflow.signal
    def add(self, item: Any) -> None:
        """Put something in."""
        self.items.append(item)

    @workflow.signal
    def close(self) -> None:
        """No more."""
        self.closed = True


@workflow.defn
class Order:
    """Two baskets as children, and an activity that never succeeds."""

    @workflow.run
    async def run(self) -> None:
        for number in (1, 2):
            await workflow.start_child_workflow(Basket.run, id=f"{workflow.info().workflow_id}/{number}")
        await workflow.execute_activity(
            refuse,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)),
        )


def make_worker(client: Client) -> Worker:
    """All of the above."""
    return Worker(client, task_queue=TASK_QUEUE, workflows=[Basket, Order], activities=[refuse])
