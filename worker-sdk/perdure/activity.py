"""Activities: the steps of a workflow that touch the world. Functions to mark them, and to call inside of them.

Names, parameters and meaning are those of ``temporalio.activity``. Everything but :func:`defn` works on the context of
the attempt that runs (see :mod:`perdure._activity_context`) and raises ``RuntimeError`` outside of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from perdure._activity_context import ActivityContext, CompleteAsyncError, Definition, current_context
from perdure.common import MetricMeter, Priority, RetryPolicy
from perdure.converter import PayloadConverter

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = [
    "ActivityCancellationDetails",
    "Info",
    "LoggerAdapter",
    "cancellation_details",
    "client",
    "defn",
    "heartbeat",
    "in_activity",
    "info",
    "is_cancelled",
    "is_worker_shutdown",
    "logger",
    "metric_meter",
    "payload_converter",
    "raise_complete_async",
    "shield_thread_cancel_exception",
    "wait_for_cancelled",
    "wait_for_cancelled_sync",
    "wait_for_worker_shutdown",
    "wait_for_worker_shutdown_sync",
]

_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])


@overload
def defn(fn: _CallableT) -> _CallableT: ...


@overload
def defn(
    *, name: str | None = None, no_thread_cancel_exception: bool = False, dynamic: bool = False
) -> Callable[[_CallableT], _CallableT]: ...


def defn(
    fn: Any = None, *, name: str | None = None, no_thread_cancel_exception: bool = False, dynamic: bool = False
) -> Any:
    """Mark a function, method or callable class as an activity. It may be ``async def`` or ``def``.

    Args:
        fn: The function.
        name: The activity's name; the function's own if not given.
        no_thread_cancel_exception: Do not raise an exception in a synchronous activity's thread when it is cancelled.
        dynamic: Take every activity no other one is named for; the only parameter is a ``Sequence[RawValue]``.

    Raises:
        TypeError, ValueError: the function cannot be an activity; the message says why.
    """
    if name is not None and dynamic:
        raise ValueError("a dynamic activity has no name of its own; leave name or dynamic out")

    def mark(target: Any) -> Any:
        Definition.mark(target, name, no_thread_cancel_exception=no_thread_cancel_exception, dynamic=dynamic)
        return target

    return mark if fn is None else mark(fn)


@dataclass(frozen=True)
class Info:
    """What is known about the running attempt. Times are aware and in UTC."""

    activity_id: str
    activity_type: str
    attempt: int
    current_attempt_scheduled_time: datetime
    heartbeat_details: Sequence[Any]
    heartbeat_timeout: timedelta | None
    is_local: bool
    namespace: str
    schedule_to_close_timeout: timedelta | None
    scheduled_time: datetime
    start_to_close_timeout: timedelta | None
    started_time: datetime
    task_queue: str
    task_token: bytes
    workflow_id: str | None
    workflow_namespace: str | None
    workflow_run_id: str | None
    workflow_type: str | None
    priority: Priority
    retry_policy: RetryPolicy | None
    activity_run_id: str | None = None

    @property
    def in_workflow(self) -> bool:
        """Whether a workflow asked for this activity."""
        return self.workflow_id is not None


@dataclass(frozen=True)
class ActivityCancellationDetails:
    """Why an activity was cancelled.

    Attributes:
        not_found: Its workflow is closed, or does not wait for this attempt any more.
        cancel_requested: Its workflow asked for it.
        paused: It was paused by an operator.
        reset: It was reset by an operator.
        timed_out: It ran longer than its start-to-close timeout.
        worker_shutdown: Its worker stops.
    """

    not_found: bool = False
    cancel_requested: bool = False
    paused: bool = False
    reset: bool = False
    timed_out: bool = False
    worker_shutdown: bool = False


def in_activity() -> bool:
    """Whether the code runs inside an activity."""
    return current_context.get(None) is not None


def info() -> Info:
    """What is known about the running attempt.

    Raises:
        RuntimeError: not in an activity.
    """
    return ActivityContext.current().info


def client() -> Client:
    """The client of the worker that runs this activity, in ``async def`` activities only.

    Raises:
        RuntimeError: not in an activity, or not in an async one.
    """
    found = ActivityContext.current().client
    if found is None:
        raise RuntimeError("the client is available in async activities only; in tests give one to ActivityEnvironment")
    return found


def heartbeat(*details: Any) -> None:
    """Say that the attempt lives, and how far it is.

    Heartbeats are collected and sent in intervals well inside the heartbeat timeout. The last details are given to the
    next attempt as ``info().heartbeat_details``.

    Args:
        details: Values that go through the payload converter.

    Raises:
        RuntimeError: not in an activity.
    """
    ActivityContext.current().heartbeat(*details)


def cancellation_details() -> ActivityCancellationDetails | None:
    """Why this activity was cancelled; ``None`` if it was not. They do not change once set."""
    return ActivityContext.current().cancellation_details


def is_cancelled() -> bool:
    """Whether a cancellation of this activity was asked for.

    Raises:
        RuntimeError: not in an activity.
    """
    return ActivityContext.current().cancelled.is_set()


@contextmanager
def shield_thread_cancel_exception() -> Iterator[None]:
    """Hold back the exception that a cancellation raises in a synchronous activity's thread until the block ends.

    It is raised then, instead of what the block returned or raised. Blocks may be nested; the outermost one counts.
    In an async activity this does nothing.

    Raises:
        RuntimeError: not in an activity.
    """
    shield = ActivityContext.current().shield
    if shield is None:
        yield None
    else:
        with shield():
            yield None


async def wait_for_cancelled() -> None:
    """Wait until a cancellation of this async activity is asked for.

    Raises:
        RuntimeError: not in an async activity.
    """
    await ActivityContext.current().cancelled.wait()


def wait_for_cancelled_sync(timeout: timedelta | float | None = None) -> None:
    """Block until a cancellation is asked for.

    Args:
        timeout: The longest time to wait, as a duration or in seconds; without limit if not given.

    Raises:
        RuntimeError: not in an activity.
    """
    ActivityContext.current().cancelled.wait_sync(_seconds(timeout))


def is_worker_shutdown() -> bool:
    """Whether the worker that runs this activity was asked to stop.

    Raises:
        RuntimeError: not in an activity.
    """
    return ActivityContext.current().worker_shutdown.is_set()


async def wait_for_worker_shutdown() -> None:
    """Wait until the worker that runs this async activity is asked to stop.

    Raises:
        RuntimeError: not in an async activity.
    """
    await ActivityContext.current().worker_shutdown.wait()


def wait_for_worker_shutdown_sync(timeout: timedelta | float | None = None) -> None:
    """Block until the worker that runs this activity is asked to stop.

    Args:
        timeout: The longest time to wait, as a duration or in seconds; without limit if not given.

    Raises:
        RuntimeError: not in an activity.
    """
    ActivityContext.current().worker_shutdown.wait_sync(_seconds(timeout))


def raise_complete_async() -> NoReturn:
    """Leave the activity open, to be completed by a client later: see ``Client.get_async_activity_handle``.

    It is not retried unless one of its timeouts runs out, so give it a heartbeat timeout if it may get lost.

    Raises:
        BaseException: always; let it pass.
    """
    raise CompleteAsyncError


def payload_converter() -> PayloadConverter:
    """The payload converter in use, for example for the raw values of a dynamic activity.

    Raises:
        RuntimeError: not in an activity.
    """
    return ActivityContext.current().payload_converter


def metric_meter() -> MetricMeter:
    """The meter for metrics of one's own, with the attributes ``namespace``, ``task_queue`` and ``activity_type``.

    A metric never fails the activity: what is wrong with one is logged, once. See ``docs/metrics.md``.

    Raises:
        RuntimeError: not in an activity, or in one that runs in a process pool, whose numbers nobody exports.
    """
    return ActivityContext.current().metric_meter


def _seconds(timeout: timedelta | float | None) -> float | None:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout


class LoggerAdapter(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Adds what is known about the running activity to each log record.

    Attributes:
        activity_info_on_message: Append it to the text. True by default.
        activity_info_on_extra: Put it into the record as ``perdure_activity``. True by default.
        full_activity_info_on_extra: Put the whole :class:`Info` into the record as ``activity_info``. False by default.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None) -> None:
        super().__init__(logger, extra or {})
        self.activity_info_on_message = True
        self.activity_info_on_extra = True
        self.full_activity_info_on_extra = False

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the details; outside of an activity the record stays as it is."""
        context = current_context.get(None)
        if context is None:
            return msg, kwargs
        extra = dict(self.extra or {}) | dict(kwargs.get("extra") or {})
        if self.activity_info_on_extra:
            extra["perdure_activity"] = context.log_details
        if self.full_activity_info_on_extra:
            extra["activity_info"] = context.info
        kwargs["extra"] = extra
        return (f"{msg} ({context.log_details})" if self.activity_info_on_message else msg), kwargs

    @property
    def base_logger(self) -> logging.Logger:
        """The logger behind this one, for handlers and formatters."""
        base: logging.Logger = self.logger
        return base


#: A logger that knows the running activity.
logger = LoggerAdapter(logging.getLogger("perdure.activity"), None)
