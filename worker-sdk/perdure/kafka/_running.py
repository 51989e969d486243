"""A client with a worker and triggers around it: what every way of embedding starts and stops together.

Invariant: what was started is stopped in the reverse order, whatever failed. Called by the facade for threads and by
the service for Faust apps.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.client import Client
from perdure.kafka._definition import Trigger
from perdure.kafka._triggers import RecordTriggers
from perdure.worker import Worker

#: An address as for :meth:`perdure.client.Client.connect`, or what makes the client.
Connect = str | Callable[[], Awaitable[Client]] | None


@dataclass(frozen=True)
class Services:
    """What runs beside a program's own work.

    Attributes:
        connect: The address, or what makes the client.
        task_queue, workflows, activities, worker_options: The worker's; without workflows and activities there is none.
        triggers, group, trigger_options: The triggers'; none are started without a trigger.
    """

    connect: Connect = None
    task_queue: str = ""
    workflows: Sequence[type] = ()
    activities: Sequence[Callable[..., Any]] = ()
    worker_options: Mapping[str, Any] = field(default_factory=dict)
    triggers: Sequence[Trigger] = ()
    group: str = ""
    trigger_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.workflows or self.activities) and not self.task_queue:
            raise ValueError("a worker needs task_queue=…")
        if self.triggers and not self.group:
            raise ValueError("triggers need group=…, the name of their consumer group")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Start everything; gives the client. An error of a worker or of triggers cancels the body, and is raised."""
        async with contextlib.AsyncExitStack() as stack:
            if callable(self.connect):
                client = await self.connect()
            else:
                client = await Client.connect(self.connect)
            stack.push_async_callback(client.close)
            if self.workflows or self.activities:
                worker = Worker(
                    client,
                    task_queue=self.task_queue,
                    workflows=self.workflows,
                    activities=self.activities,
                    **self.worker_options,
                )
                await stack.enter_async_context(worker)
            if self.triggers:
                triggers = RecordTriggers(client, triggers=self.triggers, group=self.group, **self.trigger_options)
                await stack.enter_async_context(triggers)
            yield client
