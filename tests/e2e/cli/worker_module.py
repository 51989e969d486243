"""A tiny worker for the command line's tests: ``perdure dev tests.e2e.cli.worker_module:make_worker``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

TASK_QUEUE = "cli-tests"


@activity.defn
async def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


@activity.defn
async def fail(message: str) -> None:
    """Fail, again and again."""
    raise ApplicationError(message, type="Broken")


@workflow.defn
class Greeting:
    """One activity."""

    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=30))


@workflow.defn
class Stubborn:
    """An activity that fails until somebody ends the workflow, or for good."""

    @workflow.run
    async def run(self, attempts: int) -> None:
        await workflow.execute_activity(
            fail,
            "no luck",
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=attempts),
        )


@workflow.defn
class Basket:
    """Collects items by signals until it is told to close."""

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
    def content(self) -> list[Any]:
        """What is in it."""
        return self.items


def make_worker(client: Client) -> Worker:
    """All of the above."""
    return Worker(client, task_queue=TASK_QUEUE, workflows=[Greeting, Stubborn, Basket], activities=[greet, fail])
