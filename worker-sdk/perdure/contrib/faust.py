"""Perdure inside Faust apps: the worker as a service of the app, and agents that start, signal and wait.

::

    app = faust.App("orders", broker="kafka://broker:9092")
    perdure = PerdureService.of(app, "kafka://broker:9092", task_queue="orders", workflows=[Order], activities=[pay])

    @app.agent(app.topic("orders"))
    async def place(stream):
        async for event in stream.events():
            client = await perdure.client()
            await client.start_workflow(Order.run, event.value, id=event.value["id"], task_queue="orders",
                                        request_id=request_id_of(event.message, "place"))

Faust acknowledges an event when the agent is through with it, and delivers it again after a crash: the request id makes
it one request all the same. ``faust-streaming`` comes with ``pip install perdure[faust]``. Invariants: the service
begins and ends with the app, on its loop; an error of the worker crashes the app, so that its supervisor sees it; no
port is opened. Called by user code.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mode import Service

from perdure.client import Client
from perdure.kafka._background import request_id_of
from perdure.kafka._definition import Trigger
from perdure.kafka._running import Connect, Services

__all__ = ["PerdureService", "request_id_of"]


class PerdureService(Service):
    """A client, and if wanted a worker and triggers, as a service of a Faust app. Made by :meth:`of`."""

    def __init__(self, services: Services, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._services = services
        self._connected = asyncio.Event()
        self._client: Client | None = None
        self._ended = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls,
        app: Any,
        connect: Connect = None,
        *,
        task_queue: str = "",
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (),
        worker_options: Mapping[str, Any] = {},
        triggers: Sequence[Trigger] = (),
        group: str = "",
        trigger_options: Mapping[str, Any] = {},
    ) -> PerdureService:
        """Make the service and have the app start it.

        Args:
            app: The app.
            connect: The address, as for :meth:`perdure.client.Client.connect`, or an async function that makes it.
            task_queue, workflows, activities: The worker's; without workflows and activities there is none.
            worker_options: More arguments of :class:`perdure.worker.Worker`.
            triggers, group: Of :class:`perdure.kafka.RecordTriggers`; without triggers there are none.
            trigger_options: More of its arguments.

        Raises:
            ValueError: a worker without a task queue, or triggers without a group.
        """
        service = cls(
            Services(connect, task_queue, workflows, activities, worker_options, triggers, group, trigger_options)
        )
        app.service(service)
        return service

    async def client(self) -> Client:
        """The client; waits until the service has started, since agents may begin before."""
        await self._connected.wait()
        assert self._client is not None
        return self._client

    async def on_start(self) -> None:
        """Called by the app."""
        self._running = asyncio.create_task(self._run())
        connected = asyncio.create_task(self._connected.wait())
        try:
            await asyncio.wait([self._running, connected], return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if not self._connected.is_set():
            await self._running  # raises why

    async def on_stop(self) -> None:
        """Called by the app."""
        self._ended.set()
        if self._running is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            async with self._services.running() as client:
                self._client = client
                self._connected.set()
                await self._ended.wait()
        except Exception as error:
            if not self._connected.is_set():
                raise
            await self.crash(error)
