"""Calling activities from workflow code: ``execute_activity`` and ``start_activity``, also for methods and classes.

Names, parameters and defaults are those of ``temporalio.workflow``. The overloads carry the parameter and result types
of a typed activity through to the caller; options that all forms share are in :class:`ActivityConfig`. Called by user
code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack, overload

from perdure._callables import UNSET, arguments_of
from perdure._runtime.activities import ActivityCancellationType, ActivityFuture, ActivityTask
from perdure._runtime.context import current_instance
from perdure.common import Priority, RetryPolicy

_ParamT = TypeVar("_ParamT")
_ReturnT = TypeVar("_ReturnT")
_SelfT = TypeVar("_SelfT")
_ParamsT = ParamSpec("_ParamsT")

if TYPE_CHECKING:

    class ActivityHandle(asyncio.Task[_ReturnT]):
        """An activity that was started: a task that ends with it. Cancelling it follows its cancellation type."""

else:
    ActivityHandle = ActivityTask


class ActivityConfig(TypedDict, total=False):
    """The options of an activity call, for building them once: ``execute_activity(fn, arg, **config)``."""

    task_queue: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    cancellation_type: ActivityCancellationType
    activity_id: str | None
    summary: str | None
    priority: Priority
    #: How long the first attempt waits before a worker may get it.
    start_delay: timedelta | None


def _schedule(
    activity: Any,
    arg: Any,
    args: Sequence[Any],
    *,
    task_queue: str | None = None,
    result_type: Any = None,
    schedule_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    start_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    cancellation_type: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
    activity_id: str | None = None,
    summary: str | None = None,
    priority: Priority = Priority.default,
    start_delay: timedelta | None = None,
) -> Any:
    options: dict[str, Any] = {
        "task_queue": task_queue,
        "schedule_to_close_timeout": schedule_to_close_timeout,
        "schedule_to_start_timeout": schedule_to_start_timeout,
        "start_to_close_timeout": start_to_close_timeout,
        "heartbeat_timeout": heartbeat_timeout,
        "retry_policy": retry_policy,
        "cancellation_type": cancellation_type,
        "activity_id": activity_id,
        "summary": summary,
        "priority": priority,
        "start_delay": start_delay,
    }
    instance = current_instance()
    if instance.interception is not None:
        return instance.interception.start_activity(activity, arguments_of(arg, args), result_type, options)
    return instance.activities.schedule(activity, arguments_of(arg, args), result_type=result_type, **options)


def _start(scheduled: Any) -> ActivityHandle[Any]:
    # Interceptors give handles already.
    handle: Any = (
        ActivityTask(scheduled, current_instance().loop) if isinstance(scheduled, ActivityFuture) else scheduled
    )
    return handle  # type: ignore[no-any-return]


def _result(scheduled: Any) -> Awaitable[Any]:
    # Without the task around it, so that the order of steps is the same with and without interceptors.
    result: Awaitable[Any] = scheduled.detached() if isinstance(scheduled, ActivityTask) else scheduled
    return result


@overload
def start_activity(
    activity: Callable[[], Awaitable[_ReturnT]], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(activity: Callable[[], _ReturnT], **options: Unpack[ActivityConfig]) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(
    activity: Callable[[_ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(
    activity: Callable[[_ParamT], _ReturnT], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(
    activity: Callable[..., Awaitable[_ReturnT]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(
    activity: Callable[..., _ReturnT], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[Any]: ...


def start_activity(activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any) -> ActivityHandle[Any]:
    """Start an activity and go on; await the handle for its result.

    Args:
        activity: The activity: its function, or its name.
        arg: Its single argument.
        args: Its arguments, where there are several. Not together with ``arg``.
        task_queue: The queue of the workers that run it; the workflow's own if not given.
        result_type: By name only: the type to decode the result to. A function's annotation tells it otherwise.
        schedule_to_close_timeout: Limit for all attempts together, with the time between them.
        schedule_to_start_timeout: Limit for the wait for a worker, for one attempt. It is not retried.
        start_to_close_timeout: Limit for one attempt. This one or ``schedule_to_close_timeout`` is needed.
        heartbeat_timeout: Limit for the time between two heartbeats.
        retry_policy: How it is tried again; without limit if not given.
        cancellation_type: What a cancellation waits for.
        activity_id: Its id in this workflow; a number if not given. Two open activities never share one.
        summary: A line that shows with it in the history.
        priority: Its place among the tasks that wait on the queue.

    Returns:
        A task that ends with the activity. It raises :class:`perdure.exceptions.ActivityError` if the activity fails or
        is cancelled; cancelling the task cancels the activity as ``cancellation_type`` says.

    Raises:
        NotInWorkflowError: not called from workflow code.
        ReadOnlyContextError: called from a query handler.
        ValueError: an option has a wrong value, or a timeout is missing.
        TypeError: the function is no activity, or a timeout is no ``timedelta``.
    """
    return _start(_schedule(activity, arg, args, **options))


@overload
async def execute_activity(
    activity: Callable[[], Awaitable[_ReturnT]], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity(activity: Callable[[], _ReturnT], **options: Unpack[ActivityConfig]) -> _ReturnT: ...


@overload
async def execute_activity(
    activity: Callable[[_ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity(
    activity: Callable[[_ParamT], _ReturnT], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity(
    activity: Callable[..., Awaitable[_ReturnT]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity(
    activity: Callable[..., _ReturnT], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[ActivityConfig],
) -> Any: ...


async def execute_activity(activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any) -> Any:
    """Run an activity and return its result: ``await start_activity(...)`` in one. See there for the parameters.

    Raises:
        ActivityError: it failed for good, or was cancelled.
    """
    return await _result(_schedule(activity, arg, args, **options))


@overload
def start_activity_class(
    activity: type[Callable[[], Awaitable[_ReturnT]]], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_class(
    activity: type[Callable[[], _ReturnT]], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_class(
    activity: type[Callable[[_ParamT], Awaitable[_ReturnT]]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_class(
    activity: type[Callable[[_ParamT], _ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_class(
    activity: type[Callable[..., Awaitable[_ReturnT]]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_class(
    activity: type[Callable[..., _ReturnT]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


def start_activity_class(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> ActivityHandle[Any]:
    """Start an activity that is a callable class. See :func:`start_activity`."""
    return _start(_schedule(activity, arg, args, **options))


@overload
async def execute_activity_class(
    activity: type[Callable[[], Awaitable[_ReturnT]]], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_class(
    activity: type[Callable[[], _ReturnT]], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_class(
    activity: type[Callable[[_ParamT], Awaitable[_ReturnT]]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_class(
    activity: type[Callable[[_ParamT], _ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_class(
    activity: type[Callable[..., Awaitable[_ReturnT]]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_class(
    activity: type[Callable[..., _ReturnT]], *, args: Sequence[Any], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


async def execute_activity_class(activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any) -> Any:
    """Run an activity that is a callable class and return its result. See :func:`start_activity`."""
    return await _result(_schedule(activity, arg, args, **options))


@overload
def start_activity_method(
    activity: Callable[[_SelfT], Awaitable[_ReturnT]], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_method(
    activity: Callable[[_SelfT], _ReturnT], **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_method(
    activity: Callable[[_SelfT, _ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_method(
    activity: Callable[[_SelfT, _ParamT], _ReturnT], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], Awaitable[_ReturnT]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[_ReturnT]: ...


@overload
def start_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], _ReturnT],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[_ReturnT]: ...


def start_activity_method(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> ActivityHandle[Any]:
    """Start an activity that is a method, given as ``Class.method``. See :func:`start_activity`."""
    return _start(_schedule(activity, arg, args, **options))


@overload
async def execute_activity_method(
    activity: Callable[[_SelfT], Awaitable[_ReturnT]], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_method(
    activity: Callable[[_SelfT], _ReturnT], **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_method(
    activity: Callable[[_SelfT, _ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_method(
    activity: Callable[[_SelfT, _ParamT], _ReturnT], arg: _ParamT, **options: Unpack[ActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], Awaitable[_ReturnT]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> _ReturnT: ...


@overload
async def execute_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], _ReturnT],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> _ReturnT: ...


async def execute_activity_method(activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any) -> Any:
    """Run an activity that is a method, given as ``Class.method``. See :func:`start_activity`."""
    return await _result(_schedule(activity, arg, args, **options))
