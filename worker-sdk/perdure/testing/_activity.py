"""Runs an activity's function without a worker."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, cast

from perdure._activity_context import ActivityContext, CompositeEvent, Definition, ThreadCancellation, current_context
from perdure.activity import ActivityCancellationDetails, Info
from perdure.client import Client
from perdure.common import MetricMeter, Priority
from perdure.converter import PayloadConverter
from perdure.exceptions import CancelledError

_Params = ParamSpec("_Params")
_Return = TypeVar("_Return")
_EPOCH = datetime.fromtimestamp(0, UTC)


class ActivityEnvironment:
    """An environment in which the functions of :mod:`perdure.activity` work.

    Set the attributes before :meth:`run`.

    Args:
        client: What ``activity.client()`` returns in async activities.

    Attributes:
        info: What ``activity.info()`` returns; change a copy of :meth:`default_info` with ``dataclasses.replace``.
        on_heartbeat: Called with the details of each heartbeat.
        metric_meter: What ``activity.metric_meter()`` returns; one that records nothing if not set.
        payload_converter: What ``activity.payload_converter()`` returns.
    """

    def __init__(self, client: Client | None = None) -> None:
        self.info = ActivityEnvironment.default_info()
        self.on_heartbeat: Callable[..., None] = lambda *details: None
        self.payload_converter: PayloadConverter = PayloadConverter.default
        self.metric_meter: MetricMeter = MetricMeter.noop
        self._client = client
        self._lock = threading.Lock()
        self._cancellation: ActivityCancellationDetails | None = None
        self._worker_shutdown = False
        self._running: list[_Running] = []

    @staticmethod
    def default_info() -> Info:
        """The info of an attempt that has everything a test does not care for."""
        return Info(
            activity_id="test",
            activity_type="unknown",
            attempt=1,
            current_attempt_scheduled_time=_EPOCH,
            heartbeat_details=[],
            heartbeat_timeout=None,
            is_local=False,
            namespace="default",
            schedule_to_close_timeout=timedelta(seconds=1),
            scheduled_time=_EPOCH,
            start_to_close_timeout=timedelta(seconds=1),
            started_time=_EPOCH,
            task_queue="test",
            task_token=b"test",
            workflow_id="test",
            workflow_namespace="default",
            workflow_run_id="test-run",
            workflow_type="test",
            priority=Priority.default,
            retry_policy=None,
        )

    def cancel(
        self,
        cancellation_details: ActivityCancellationDetails = ActivityCancellationDetails(cancel_requested=True),  # noqa: B008
    ) -> None:
        """Cancel what runs, and what is run later. Only the first call counts.

        Args:
            cancellation_details: What ``activity.cancellation_details()`` returns.
        """
        with self._lock:
            if self._cancellation is not None:
                return
            self._cancellation = cancellation_details
            running = list(self._running)
        for one in running:
            one.cancel(cancellation_details)

    def worker_shutdown(self) -> None:
        """Tell what runs, and what is run later, that the worker was asked to stop."""
        with self._lock:
            self._worker_shutdown = True
            running = list(self._running)
        for one in running:
            one.context.worker_shutdown.set()

    def run(self, fn: Callable[_Params, _Return], *args: _Params.args, **kwargs: _Params.kwargs) -> _Return:
        """Run a function in an activity's context: a synchronous one in this thread, an async one when awaited.

        Args:
            fn: The function; it need not be marked.
            args: Its arguments.
            kwargs: Its named arguments.

        Returns:
            Its result, or the awaitable of it.
        """
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
            return cast("_Return", self._run_async(fn, args, kwargs))
        definition = Definition.from_callable(fn)
        running = _Running(self, None, raises=not (definition and definition.no_thread_cancel_exception))

        def call() -> _Return:
            current_context.set(running.context)
            return fn(*args, **kwargs)

        running.thread.enter()
        try:
            self._begin(running)
            return contextvars.copy_context().run(call)
        finally:
            running.thread.leave()
            self._running.remove(running)

    async def _run_async(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        running = _Running(self, asyncio.get_running_loop(), raises=True)

        async def call() -> Any:
            current_context.set(running.context)
            return await fn(*args, **kwargs)

        running.task = asyncio.create_task(call())
        try:
            self._begin(running)
            return await running.task
        finally:
            self._running.remove(running)

    def _begin(self, running: _Running) -> None:
        with self._lock:
            self._running.append(running)
            cancellation, worker_shutdown = self._cancellation, self._worker_shutdown
        if worker_shutdown:
            running.context.worker_shutdown.set()
        if cancellation is not None:
            running.cancel(cancellation)


class _Running:
    """One function that runs. ``raises``: whether a cancellation raises in its thread."""

    def __init__(
        self, environment: ActivityEnvironment, loop: asyncio.AbstractEventLoop | None, *, raises: bool
    ) -> None:
        self.loop = loop
        self.thread = ThreadCancellation()
        self.task: asyncio.Task[Any] | None = None
        self._raises = raises
        self.context = ActivityContext(
            make_info=lambda: environment.info,
            heartbeat=environment.on_heartbeat,
            cancelled=CompositeEvent(loop),
            worker_shutdown=CompositeEvent(loop),
            payload_converter=environment.payload_converter,
            client=environment._client if loop is not None else None,
            shield=self.thread.shielded if loop is None else None,
            make_meter=lambda info: environment.metric_meter,
        )

    def cancel(self, details: ActivityCancellationDetails) -> None:
        self.context.note_cancelled(details)
        if self.loop is not None and self.task is not None:
            self.loop.call_soon_threadsafe(self.task.cancel)
        elif self._raises:
            self.thread.raise_in_thread(CancelledError)
