"""Workflows for the tests of commands: one that waits for signals, and one with children."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy, SearchAttributeKey
from perdure.exceptions import ActivityError, ApplicationError
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

    @workflow.query
    def count(self) -> int:
        """How many items there are."""
        return len(self.items)

    @workflow.update
    def put(self, item: Any) -> int:
        """Put something in, and tell how many there are then."""
        self.items.append(item)
        return len(self.items)


@activity.defn
async def approve() -> str:
    """Left to somebody outside."""
    activity.raise_complete_async()


@workflow.defn
class Approval:
    """Two activities, one after the other, that somebody outside ends; the second may fail."""

    @workflow.run
    async def run(self) -> list[str]:
        answers = []
        for name in ("first", "second"):
            try:
                answer = await workflow.execute_activity(
                    approve,
                    activity_id=name,
                    start_to_close_timeout=timedelta(minutes=5),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            except ActivityError as error:
                answer = str(error.cause)
            answers.append(answer)
        return answers


@workflow.defn
class Echo:
    """Ends with what it is given."""

    @workflow.run
    async def run(self, value: Any) -> Any:
        return value


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
    return Worker(
        client, task_queue=TASK_QUEUE, workflows=[Approval, Basket, Echo, Order], activities=[approve, refuse]
    )
