"""Calling local activities from workflow code: activities that the worker runs itself, inside the workflow task.

Names, parameters and defaults are those of ``temporalio.workflow``; the overloads are those of activities. A local
activity saves the way through the engine, so it is quick; but it may run again whenever the workflow task is run again,
has no heartbeats, and should be short. Called by user code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack, overload

from perdure._callables import UNSET, arguments_of
from perdure._runtime.activities import ActivityCancellationType
from perdure._runtime.context import current_instance
from perdure._runtime.local_activities import LocalActivityFuture, LocalActivityTask
from perdure.common import RetryPolicy

_ParamT = TypeVar("_ParamT")
_ReturnT = TypeVar("_ReturnT")
_SelfT = TypeVar("_SelfT")
_ParamsT = ParamSpec("_ParamsT")

if TYPE_CHECKING:

    class LocalActivityHandle(asyncio.Task[_ReturnT]):
        """A local activity that was started: a task that ends with it. Cancelling it follows its cancellation type."""

else:
    LocalActivityHandle = LocalActivityTask


class LocalActivityConfig(TypedDict, total=False):
    """The options of a local activity call, for building them once: ``execute_local_activity(fn, arg, **config)``."""

    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    local_retry_threshold: timedelta | None
    cancellation_type: ActivityCancellationType
    activity_id: str | None
    summary: str | None


def _schedule(
    activity: Any,
    arg: Any,
    args: Sequence[Any],
    *,
    result_type: Any = None,
    schedule_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    start_to_close_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    local_retry_threshold: timedelta | None = None,
    cancellation_type: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
    activity_id: str | None = None,
    summary: str | None = None,
) -> Any:
    options: dict[str, Any] = {
        "schedule_to_close_timeout": schedule_to_close_timeout,
        "schedule_to_start_timeout": schedule_to_start_timeout,
        "start_to_close_timeout": start_to_close_timeout,
        "retry_policy": retry_policy,
        "local_retry_threshold": local_retry_threshold,
        "cancellation_type": cancellation_type,
        "activity_id": activity_id,
        "summary": summary,
    }
    instance = current_instance()
    if instance.interception is not None:
        return instance.interception.start_local_activity(activity, arguments_of(arg, args), result_type, options)
    return instance.local_activities.schedule(activity, arguments_of(arg, args), result_type=result_type, **options)


def _start(scheduled: Any) -> LocalActivityHandle[Any]:
    # Interceptors give handles already.
    handle: Any = (
        LocalActivityTask(scheduled, current_instance()) if isinstance(scheduled, LocalActivityFuture) else scheduled
    )
    return handle  # type: ignore[no-any-return]


def _result(scheduled: Any) -> Awaitable[Any]:
    # Without the task around it, so that the order of steps is the same with and without interceptors.
    result: Awaitable[Any] = scheduled.detached() if isinstance(scheduled, LocalActivityTask) else scheduled
    return result


@overload
def start_local_activity(
    activity: Callable[[], Awaitable[_ReturnT]], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: Callable[[], _ReturnT], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: Callable[[_ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: Callable[[_ParamT], _ReturnT], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: Callable[..., Awaitable[_ReturnT]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: Callable[..., _ReturnT], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[LocalActivityConfig],
) -> LocalActivityHandle[Any]: ...


def start_local_activity(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> LocalActivityHandle[Any]:
    """Start a local activity and go on; await the handle for its result.

    The workflow task stays open until it ends. Should that take longer than a workflow task may, another one follows
    at once, and the activity runs on.

    Args:
        activity: The activity: its function, or its name. This worker must have it.
        arg: Its single argument.
        args: Its arguments, where there are several. Not together with ``arg``.
        result_type: By name only: the type to decode the result to.
        schedule_to_close_timeout: Limit for all attempts together, with the time between them.
        schedule_to_start_timeout: Limit for the wait for a slot of the worker.
        start_to_close_timeout: Limit for one attempt. This one or ``schedule_to_close_timeout`` is needed.
        retry_policy: How it is tried again; without limit if not given.
        local_retry_threshold: A wait for the next attempt longer than this is done by a timer of the workflow; the
            workflow task timeout if not given.
        cancellation_type: What a cancellation waits for.
        activity_id: Its id, for ``activity.info()``.
        summary: A line about it.

    Returns:
        A task that ends with the activity. It raises :class:`perdure.exceptions.ActivityError` if the activity fails or
        is cancelled.

    Raises:
        NotInWorkflowError: not called from workflow code. ReadOnlyContextError: called from a query handler.
        ValueError: an option has a wrong value, or a timeout is missing.
        TypeError: the function is no activity, or a timeout is no ``timedelta``.
    """
    return _start(_schedule(activity, arg, args, **options))


@overload
async def execute_local_activity(
    activity: Callable[[], Awaitable[_ReturnT]], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: Callable[[], _ReturnT], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: Callable[[_ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: Callable[[_ParamT], _ReturnT], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: Callable[..., Awaitable[_ReturnT]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: Callable[..., _ReturnT], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[LocalActivityConfig],
) -> Any: ...


async def execute_local_activity(activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any) -> Any:
    """Run a local activity and return its result. See :func:`start_local_activity`.

    Raises:
        ActivityError: it failed for good, or was cancelled.
    """
    return await _result(_schedule(activity, arg, args, **options))


@overload
def start_local_activity_class(
    activity: type[Callable[[], Awaitable[_ReturnT]]], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_class(
    activity: type[Callable[[], _ReturnT]], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_class(
    activity: type[Callable[[_ParamT], Awaitable[_ReturnT]]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_class(
    activity: type[Callable[[_ParamT], _ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_class(
    activity: type[Callable[..., Awaitable[_ReturnT]]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_class(
    activity: type[Callable[..., _ReturnT]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


def start_local_activity_class(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> LocalActivityHandle[Any]:
    """Start a local activity that is a callable class. See :func:`start_local_activity`."""
    return start_local_activity(activity, arg, args=args, **options)


@overload
async def execute_local_activity_class(
    activity: type[Callable[[], Awaitable[_ReturnT]]], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_class(
    activity: type[Callable[[], _ReturnT]], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_class(
    activity: type[Callable[[_ParamT], Awaitable[_ReturnT]]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_class(
    activity: type[Callable[[_ParamT], _ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_class(
    activity: type[Callable[..., Awaitable[_ReturnT]]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_class(
    activity: type[Callable[..., _ReturnT]], *, args: Sequence[Any], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


async def execute_local_activity_class(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> Any:
    """Run a local activity that is a callable class and return its result. See :func:`start_local_activity`."""
    return await _result(_schedule(activity, arg, args, **options))


@overload
def start_local_activity_method(
    activity: Callable[[_SelfT], Awaitable[_ReturnT]], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_method(
    activity: Callable[[_SelfT], _ReturnT], **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_method(
    activity: Callable[[_SelfT, _ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_method(
    activity: Callable[[_SelfT, _ParamT], _ReturnT], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], Awaitable[_ReturnT]],
    *,
    args: Sequence[Any],
    **options: Unpack[LocalActivityConfig],
) -> LocalActivityHandle[_ReturnT]: ...


@overload
def start_local_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], _ReturnT],
    *,
    args: Sequence[Any],
    **options: Unpack[LocalActivityConfig],
) -> LocalActivityHandle[_ReturnT]: ...


def start_local_activity_method(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> LocalActivityHandle[Any]:
    """Start a local activity that is a method, given as ``Class.method``. See :func:`start_local_activity`."""
    return start_local_activity(activity, arg, args=args, **options)


@overload
async def execute_local_activity_method(
    activity: Callable[[_SelfT], Awaitable[_ReturnT]], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_method(
    activity: Callable[[_SelfT], _ReturnT], **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_method(
    activity: Callable[[_SelfT, _ParamT], Awaitable[_ReturnT]], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_method(
    activity: Callable[[_SelfT, _ParamT], _ReturnT], arg: _ParamT, **options: Unpack[LocalActivityConfig]
) -> _ReturnT: ...


@overload
async def execute_local_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], Awaitable[_ReturnT]],
    *,
    args: Sequence[Any],
    **options: Unpack[LocalActivityConfig],
) -> _ReturnT: ...


@overload
async def execute_local_activity_method(
    activity: Callable[Concatenate[_SelfT, _ParamsT], _ReturnT],
    *,
    args: Sequence[Any],
    **options: Unpack[LocalActivityConfig],
) -> _ReturnT: ...


async def execute_local_activity_method(
    activity: Any, arg: Any = UNSET, *, args: Sequence[Any] = (), **options: Any
) -> Any:
    """Run a local activity that is a method, given as ``Class.method``. See :func:`start_local_activity`."""
    return await _result(_schedule(activity, arg, args, **options))
