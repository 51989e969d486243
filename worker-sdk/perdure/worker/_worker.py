"""The worker: its options, its life, and how its parts are put together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, cast

from perdure._connection import Connection
from perdure._ids import new_id
from perdure._interceptors import Interceptor
from perdure._producer import SteadyProducer
from perdure._runtime.runner import WorkflowRunner
from perdure._runtime.watchdog import Watchdog
from perdure._versioning import WorkerDeploymentConfig
from perdure.client import Client
from perdure.worker._activities import Activities
from perdure.worker._code_tasks import CodeTasks
from perdure.worker._codec import Codec
from perdure.worker._dispatch import DispatchThread
from perdure.worker._inbox import Inbox
from perdure.worker._local_activities import LocalActivityRunner
from perdure.worker._metrics import WorkerGauges, WorkerMetrics
from perdure.worker._options import WorkerOptions, options_of
from perdure.worker._outbox import Outbox
from perdure.worker._plugin import WorkerConfig, run_in_plugins, worker_plugins
from perdure.worker._registration import Registration
from perdure.worker._shared_state import SharedStateManager
from perdure.worker._timers import TimerThread
from perdure.worker._tuning import WorkerTuner
from perdure_runtime.log import LogError, Producer

_logger = logging.getLogger("perdure.worker")

#: How long activities that were cancelled because the worker stops have to end, and the log to take what is left.
_CANCELLED_ACTIVITIES_TIMEOUT_S = 10.0
_FLUSH_TIMEOUT_S = 2.0


class Worker:
    """Runs the workflows and activities of one task queue.

    Use it as ``async with Worker(...)``, or call :meth:`run`. Workflow code runs on a thread of the worker's own, async
    activities on the event loop that runs the worker, synchronous activities in ``activity_executor``.

    Args:
        client: A connected client; its namespace and data converter are the worker's.
        task_queue: The task queue. One that ends in ``~4`` is matched in four partitions; see ``docs/flow-control.md``.
        activities: Functions, bound methods or callable objects marked with ``activity.defn``.
        workflows: Classes marked with ``workflow.defn``.
        activity_executor: Runs synchronous activities; needed if there are any.
        identity: Who this is, for histories; the client's if not given.
        max_cached_workflows: How many runs are kept in memory, so that their next task needs no replay.
        max_cached_history_bytes: How many bytes the histories of these runs have together at most: a measure of the
            memory they take. The run used longest ago leaves first; no limit if not given.
        max_concurrent_workflow_tasks: How many workflow tasks are given to this worker at a time; 100 if not given.
        max_concurrent_activities: How many activities run at a time; 100 if not given.
        max_concurrent_local_activities: How many local activities run at a time; 100 if not given.
        tuner: Says how many tasks of each kind; instead of the three numbers above.
        max_activities_per_second: How many activities this worker begins in a second at most.
        max_task_queue_activities_per_second: How many activities all workers of the task queue begin in a second at
            most. The worker that said it last counts.
        disable_eager_activity_execution: Do not begin an activity that this worker has scheduled
            before it comes from the task queue.
        shared_state_manager: Shares heartbeats and cancellations with the processes of a ``ProcessPoolExecutor``.
        max_heartbeat_throttle_interval: Heartbeats of an activity are sent this often at least, if it makes any.
        default_heartbeat_throttle_interval: The same, for activities without a heartbeat timeout.
        graceful_shutdown_timeout: How long activities may go on after a shutdown, before they are cancelled.
        workflow_failure_exception_types: Exceptions that fail any workflow, rather than the workflow task.
        debug_mode: Do not interrupt workflow code that runs for long, as it does at a breakpoint.
        on_fatal_error: Called with an error that ends the worker, before :meth:`run` raises it.
        interceptors: Around everything that workflows and activities do; those of the client that are also
            :class:`Interceptor` come first by themselves.
        plugins: Change any of these options, and run around the worker's life; those of the client that are also
            :class:`Plugin` come first by themselves.
        workflow_task_executor, workflow_runner, unsandboxed_workflow_runner, no_remote_activities,
            use_worker_versioning: Not supported. For the last, give a ``deployment_config``.
        build_id: Names the build of the code, for histories; ``deployment_config`` names it otherwise.
        deployment_config: The version of this worker: it takes the tasks that are routed to that one.

    Raises:
        ValueError, TypeError: an option makes no sense; the message says which.
        NotImplementedError: an option is not supported. RuntimeError: the client is lazy and was not used yet.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        activities: Sequence[Callable[..., Any]] = [],
        workflows: Sequence[type] = [],
        activity_executor: concurrent.futures.Executor | None = None,
        workflow_task_executor: Any = None,
        workflow_runner: Any = None,
        unsandboxed_workflow_runner: Any = None,
        plugins: Sequence[Any] = [],
        interceptors: Sequence[Interceptor] = [],
        build_id: str | None = None,
        identity: str | None = None,
        max_cached_workflows: int = 1000,
        max_cached_history_bytes: int | None = None,
        max_concurrent_workflow_tasks: int | None = None,
        max_concurrent_activities: int | None = None,
        max_concurrent_local_activities: int | None = None,
        tuner: WorkerTuner | None = None,
        no_remote_activities: bool = False,
        max_heartbeat_throttle_interval: timedelta = timedelta(seconds=60),
        default_heartbeat_throttle_interval: timedelta = timedelta(seconds=30),
        max_activities_per_second: float | None = None,
        max_task_queue_activities_per_second: float | None = None,
        disable_eager_activity_execution: bool = False,
        graceful_shutdown_timeout: timedelta = timedelta(),
        workflow_failure_exception_types: Sequence[type[BaseException]] = [],
        shared_state_manager: SharedStateManager | None = None,
        debug_mode: bool = False,
        on_fatal_error: Callable[[BaseException], Awaitable[None]] | None = None,
        use_worker_versioning: bool = False,
        deployment_config: WorkerDeploymentConfig | None = None,
    ) -> None:
        config = cast(WorkerConfig, {name: value for name, value in locals().items() if name != "self"})
        self._plugins = worker_plugins(client.plugins, plugins)
        for plugin in self._plugins:
            config = plugin.configure_worker(config)
        self._client = config["client"]
        self._options = options_of(**config)
        self._started = False
        self._ready = asyncio.Event()
        self._around: asyncio.Task[None] | None = None
        self._shutdown_requested = asyncio.Event()
        self._finished = asyncio.Event()
        self._failure: BaseException | None = None
        self._runner_task: asyncio.Task[None] | None = None
        self._parts: _Parts | None = None

    @property
    def client(self) -> Client:
        """The worker's client."""
        return self._client

    @property
    def task_queue(self) -> str:
        """The worker's task queue."""
        return self._options.task_queue

    @property
    def identity(self) -> str:
        """Who this is, for histories."""
        return self._options.identity

    @property
    def is_running(self) -> bool:
        """Whether it is started and not finished."""
        return self._started and not self._finished.is_set()

    @property
    def is_shutdown(self) -> bool:
        """Whether it was started and is finished."""
        return self._finished.is_set()

    async def run(self) -> None:
        """Run until :meth:`shutdown` is called. Cancelling this shuts the worker down, too.

        Raises:
            RuntimeError: the worker was started before. RPCError, LogError: the log cannot be reached.
            BaseException: an error inside the worker, after ``on_fatal_error`` was called.
        """
        await run_in_plugins(self, self._plugins, Worker._run_alone)

    async def _run_alone(self) -> None:
        await self._start()
        self._ready.set()
        try:
            await self._shutdown_requested.wait()
        finally:
            await self._stop()
        if self._failure is not None:
            raise self._failure

    async def shutdown(self) -> None:
        """Ask the worker to stop, and wait until it has.

        It takes nothing new; activities may finish within ``graceful_shutdown_timeout``, then they are cancelled. Not
        waiting for this to return makes no difference to what happens.
        """
        self._shutdown_requested.set()
        if self._started:
            await self._finished.wait()

    async def __aenter__(self) -> Worker:
        """Start, and run in the background."""
        if self._plugins:
            await self._start_in_plugins()
        else:
            await self._start()
        body = asyncio.current_task()

        async def supervise() -> None:
            await self._shutdown_requested.wait()
            if self._failure is not None and body is not None:
                body.cancel()

        self._runner_task = asyncio.create_task(supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down, and wait for it.

        Raises:
            BaseException: an error inside the worker had ended it.
        """
        self._shutdown_requested.set()
        if self._around is not None:
            await asyncio.wait([self._around])
            self._failure = self._failure or self._around.exception()
        else:
            await self._stop()
        if self._runner_task is not None:
            self._runner_task.cancel()
        if self._failure is not None:
            raise self._failure

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _start_in_plugins(self) -> None:
        """Run in the background, with the plugins around it, and wait until it has begun."""
        self._around = asyncio.create_task(run_in_plugins(self, self._plugins, Worker._run_alone))
        began = asyncio.create_task(self._ready.wait())
        await asyncio.wait([self._around, began], return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        if not self._ready.is_set():
            self._finished.set()
            await self._around  # raises why
            raise RuntimeError("a plugin of the worker ended without running it: its run_worker has to call next")

    async def _start(self) -> None:
        if self._started:
            raise RuntimeError("a worker runs once; make a new one")
        self._started = True
        loop = asyncio.get_running_loop()
        connection = await self._client.connection()
        self._parts = _Parts(self._client, connection, self._options, loop, self._fail_from_thread)
        try:
            await asyncio.to_thread(self._parts.start)
        except LogError:
            self._finished.set()
            await asyncio.to_thread(self._parts.close)
            raise
        _logger.info(
            "event=worker_started worker=%s task_queue=%s workflows=%s activities=%s",
            self._parts.worker_id,
            self._options.task_queue,
            ",".join(self._options.workflow_names),
            ",".join(self._options.activities),
        )

    async def _stop(self) -> None:
        if self._parts is None or self._finished.is_set():
            return
        parts = self._parts
        try:
            await parts.drain(self._options.graceful_shutdown_timeout.total_seconds())
            await asyncio.to_thread(parts.close)
            if self._failure is not None and self._options.on_fatal_error is not None:
                await self._options.on_fatal_error(self._failure)
        finally:
            self._finished.set()
        _logger.info("event=worker_stopped worker=%s", parts.worker_id)

    def _fail_from_thread(self, error: BaseException) -> None:
        def fail() -> None:
            self._failure = self._failure or error
            self._shutdown_requested.set()

        try:
            self._loop_of_parts().call_soon_threadsafe(fail)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to tell

    def _loop_of_parts(self) -> asyncio.AbstractEventLoop:
        assert self._parts is not None
        return self._parts.loop


class _Parts:
    """What a running worker consists of. Made anew for each start, because worker ids are never used again."""

    def __init__(
        self,
        client: Client,
        connection: Connection,
        options: WorkerOptions,
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.worker_id = new_id()
        self.loop = loop
        self._connection = connection
        self._released = asyncio.Event()
        self._producer: Producer = SteadyProducer(connection.log, f"worker-{self.worker_id[:8]}")
        self._inbox = Inbox()
        self._timers = TimerThread(f"perdure-timers-{self.worker_id[:8]}")
        self._outbox = Outbox(self._producer, self._inbox, self._timers, self._note_released)
        self._registration = Registration(self.worker_id, options, connection, self._producer, self._inbox)
        converter = client.data_converter
        payload_codec = Codec(converter.wire_codec, loop)
        self._metrics = WorkerMetrics(client.namespace, options.task_queue, connection.now_ms)
        self._activities = Activities(
            options, client, connection, self._inbox, self._outbox, self._timers, payload_codec, loop, self.worker_id,
            self._metrics,
        )  # fmt: skip
        self._watchdog = None if options.debug_mode or not options.workflows else Watchdog()
        runner = WorkflowRunner(
            options.workflows,
            namespace=client.namespace,
            task_queue=options.task_queue,
            payload_converter=converter.payload_converter,
            failure_converter=converter.failure_converter,
            identity=options.identity,
            worker_id=self.worker_id,
            max_cached_workflows=options.max_cached_workflows,
            max_cached_history_bytes=options.max_cached_history_bytes,
            workflow_failure_exception_types=options.workflow_failure_exception_types,
            interceptors=options.interceptors,
            watchdog=self._watchdog,
            deployment=options.deployment,
            build_id=options.build_id,
        )
        self._dispatch = DispatchThread(
            self.worker_id,
            connection,
            self._registration,
            self._inbox,
            self._outbox,
            self._timers,
            runner,
            self._activities,
            lambda on_fetched: CodeTasks(
                runner,
                connection,
                self._inbox,
                converter,
                payload_codec,
                on_fetched,
                self._note_released,
                self._outbox.send,
                options.identity,
                self._activities,
                lambda tell: LocalActivityRunner(
                    self._activities, self._timers, connection.now_ms, options.tuner.local_activity, tell
                ),
                self._timers,
                self._metrics,
            ),
            on_fatal,
        )
        self._gauges = WorkerGauges(
            client.namespace, options.task_queue, lambda: runner.cached_count, self._registration.slots
        )
        self._draining = False

    def start(self) -> None:
        """Start the threads. Blocks.

        Raises:
            LogError: the log cannot be reached.
        """
        self._connection.start()
        self._timers.start()
        if self._watchdog is not None:
            self._watchdog.start()
        self._dispatch.start()
        self._metrics.started(self._gauges)

    async def drain(self, graceful_timeout_s: float) -> None:
        """Take nothing new, let what runs finish or cancel it, and get its completions into the log."""
        self._draining = True
        self._registration.draining = True
        await asyncio.to_thread(self._registration.heartbeat)
        self._activities.announce_stop()
        if not await self._wait_until_none(self._work_left, graceful_timeout_s):
            self._activities.cancel_all()
            await self._wait_until_none(lambda: self._activities.running_count, _CANCELLED_ACTIVITIES_TIMEOUT_S)
        if not await self._wait_until_none(self._work_left, _FLUSH_TIMEOUT_S):
            _logger.warning("event=tasks_abandoned worker=%s count=%d", self.worker_id, self._work_left())

    def close(self) -> None:
        """Stop the threads, say good-bye, and let go of everything. Blocks."""
        self._metrics.stopped(self._gauges)
        self._dispatch.stop()
        self._producer.flush(_FLUSH_TIMEOUT_S)
        self._registration.stopped()
        self._producer.flush(_FLUSH_TIMEOUT_S)
        self._timers.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._producer.close()

    def _work_left(self) -> int:
        return max(self._inbox.held_count, self._activities.running_count)

    async def _wait_until_none(self, count: Callable[[], int], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._released.clear()
            if count() == 0:
                return True
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return False
            try:
                async with asyncio.timeout(remaining_s):
                    await self._released.wait()
            except TimeoutError:
                continue  # looks once more, then gives up

    def _note_released(self) -> None:
        if self._draining:
            try:
                self.loop.call_soon_threadsafe(self._released.set)
            except RuntimeError:
                pass  # the loop is closed: nobody waits
