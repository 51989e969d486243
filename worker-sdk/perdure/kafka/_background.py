"""Workers inside programs without an event loop: a plain consumer loop, a thread pool, a script.

Everything asynchronous lives on a loop in a thread of its own; the methods are for any other thread. Invariants: only
outbound connections are made, no port is opened; a call after an error of the background raises that error; leaving the
block lets what is under way finish. Called by user code.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from perdure.client import Client
from perdure.kafka._definition import Trigger
from perdure.kafka._running import Connect, Services
from perdure.kafka.core.identity import Origin

_T = TypeVar("_T")


class BackgroundWorker:
    """A client, and if wanted a worker and triggers, on a thread of their own. ::

        with BackgroundWorker("kafka://broker:9092", task_queue="orders", workflows=[Order]) as perdure:
            while True:
                message = consumer.poll(1.0)
                ...
                perdure.start_workflow(Order.run, order, id=order.id, task_queue="orders",
                                       request_id=request_id_of(message, "orders-consumer"))
                consumer.commit(message)

    Args:
        connect: The address, as for :meth:`perdure.client.Client.connect`, or an async function that makes the client.
        task_queue, workflows, activities: The worker's; without workflows and activities there is none.
        worker_options: More arguments of :class:`perdure.worker.Worker`.
        triggers, group: Of :class:`perdure.kafka.RecordTriggers`; without triggers there are none.
        trigger_options: More of its arguments.

    Raises:
        ValueError: a worker without a task queue, or triggers without a group.
    """

    def __init__(
        self,
        connect: Connect = None,
        *,
        task_queue: str = "",
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (),
        worker_options: Mapping[str, Any] = {},
        triggers: Sequence[Trigger] = (),
        group: str = "",
        trigger_options: Mapping[str, Any] = {},
    ) -> None:
        self._services = Services(
            connect, task_queue, workflows, activities, worker_options, triggers, group, trigger_options
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._stop: asyncio.Event | None = None
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._failure: BaseException | None = None

    def start(self) -> BackgroundWorker:
        """Start, and return when the worker and the triggers run.

        Raises:
            RuntimeError: it was started before. RPCError, LogError: the log cannot be reached.
        """
        if self._thread is not None:
            raise RuntimeError("a BackgroundWorker can be started once; make another one")
        self._thread = threading.Thread(target=self._run, name="perdure-background", daemon=True)
        self._thread.start()
        self._started.result()
        return self

    def stop(self) -> None:
        """Let what is under way finish, and stop.

        Raises:
            BaseException: an error had ended it before.
        """
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None:
            return
        if loop is not None and stop is not None and thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> BackgroundWorker:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; an error of the block comes first."""
        try:
            self.stop()
        except BaseException:
            if error is None:
                raise

    @property
    def is_running(self) -> bool:
        """Whether it is started, and neither stopped nor ended by an error."""
        return self._client is not None and self._thread is not None and self._thread.is_alive()

    # --- for other threads ------------------------------------------------------------------------------------------

    def submit(self, work: Callable[[Client], Awaitable[_T]]) -> concurrent.futures.Future[_T]:
        """Do anything with the client, without waiting: ``submit(lambda client: client.start_workflow(…))``.

        Many of these at once are much faster than one call after the other.

        Raises:
            RuntimeError: it is not running. BaseException: the error that ended it.
        """
        loop, client = self._loop, self._client
        if self._failure is not None:
            raise self._failure
        if loop is None or client is None or not self.is_running:
            raise RuntimeError("the BackgroundWorker is not running")

        async def do() -> _T:
            return await work(client)

        return asyncio.run_coroutine_threadsafe(do(), loop)

    def call(self, work: Callable[[Client], Awaitable[_T]]) -> _T:
        """Do anything with the client, and wait for it. Raises what it raises, and what :meth:`submit` does."""
        return self.submit(work).result()

    def start_workflow(self, workflow: Any, *args: Any, id: str, task_queue: str, **options: Any) -> str:
        """Start a workflow and return its run id; see :meth:`perdure.client.Client.start_workflow`."""

        async def start(client: Client) -> str:
            handle = await client.start_workflow(workflow, args=args, id=id, task_queue=task_queue, **options)
            return handle.result_run_id or ""

        return self.call(start)

    def execute_workflow(self, workflow: Any, *args: Any, id: str, task_queue: str, **options: Any) -> Any:
        """Start a workflow and wait for its result; see :meth:`perdure.client.Client.execute_workflow`."""
        return self.call(
            lambda client: client.execute_workflow(workflow, args=args, id=id, task_queue=task_queue, **options)
        )

    def signal_workflow(self, workflow_id: str, signal: Any, *args: Any, request_id: str | None = None) -> None:
        """Signal a workflow; see :meth:`perdure.client.WorkflowHandle.signal`."""
        self.call(
            lambda client: client.get_workflow_handle(workflow_id).signal(signal, args=args, request_id=request_id)
        )

    def query_workflow(self, workflow_id: str, query: Any, *args: Any) -> Any:
        """Query a workflow; see :meth:`perdure.client.WorkflowHandle.query`."""
        return self.call(lambda client: client.get_workflow_handle(workflow_id).query(query, args=args))

    def result_of(self, workflow_id: str, *, run_id: str | None = None, result_type: Any = None) -> Any:
        """Wait for a workflow's result; see :meth:`perdure.client.WorkflowHandle.result`."""
        return self.call(
            lambda client: client.get_workflow_handle(workflow_id, run_id=run_id, result_type=result_type).result()
        )

    # --- on the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                self._failure = error
            else:
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._services.running() as client:
            self._client = client
            self._started.set_result(None)
            await self._stop.wait()


class _Message(Protocol):
    """A record as a client library has it: its attributes may be methods, as confluent-kafka's are."""

    topic: Any
    partition: Any
    offset: Any
    timestamp: Any


def request_id_of(message: _Message, consumer: str) -> str:
    """A name for the request that a record makes, so that handling the record again makes no other one.

    Give it as ``request_id`` to a start or a signal.

    Args:
        message: A record of confluent-kafka, aiokafka or Faust.
        consumer: Who handles it: records make one request for each consumer.
    """
    topic, partition, offset, timestamp = (
        value() if callable(value) else value
        for value in (message.topic, message.partition, message.offset, message.timestamp)
    )
    if isinstance(timestamp, tuple):
        timestamp = timestamp[1]
    # Faust has seconds, the others milliseconds.
    timestamp_ms = round(timestamp * 1000) if isinstance(timestamp, float) else int(timestamp or 0)
    return f"{consumer}/{Origin(topic, partition, offset, timestamp_ms)}"
