"""Activities as workflow code sees them: what was asked for, what is pending, and how it ends.

Invariants: an activity's future is done exactly once, with its value or an :class:`ActivityError`; a cancellation is
asked for at most once; an activity cancelled in the workflow task that scheduled it never reaches the engine. The
instance owns the table; the replay tells it which event scheduled what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

from perdure._activity_context import Definition
from perdure._runtime.errors import NondeterminismError
from perdure._runtime.loop import WorkflowLoop, WorkflowTask
from perdure.common import Priority, RetryPolicy, to_milliseconds
from perdure.converter import FailureConverter, PayloadConverter
from perdure_schemas import records
from perdure_schemas.records import (
    ActivityOptions,
    Failure,
    FailureKind,
    Payload,
    RequestCancelActivityTask,
    ScheduleActivityTask,
)

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

_T = TypeVar("_T")
_DEFAULT_RETRY_POLICY = records.RetryPolicy()


class ActivityCancellationType(IntEnum):
    """What the cancellation of an activity waits for."""

    #: Ask the activity to stop, and take it as cancelled at once.
    TRY_CANCEL = 0
    #: Ask the activity to stop, and wait until it has: it may still return or fail otherwise.
    WAIT_CANCELLATION_COMPLETED = 1
    #: Take it as cancelled at once, and let it run.
    ABANDON = 2


class ActivityFuture(asyncio.Future[Any]):
    """The result to come of one activity. Cancelling it follows the activity's cancellation type."""

    __slots__ = (
        "activity_id",
        "activity_type",
        "cancel_requested",
        "cancellation_type",
        "command_number",
        "owner",
        "result_type",
        "scheduled_event_id",
    )

    activity_id: str
    activity_type: str
    cancellation_type: ActivityCancellationType
    result_type: Any
    owner: Activities
    #: Number of the scheduling command as long as it has not left the activation; then 0.
    command_number: int
    #: Event that scheduled it; 0 as long as it is not known.
    scheduled_event_id: int
    cancel_requested: bool

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the activity; the future ends with an :class:`ActivityError`, not with ``asyncio.CancelledError``."""
        if self.done():
            return False
        self.owner.cancel(self)
        return True


class ActivityTask(WorkflowTask[_T]):
    """What ``workflow.start_activity`` gives: a task that ends with the activity."""

    def __init__(self, future: ActivityFuture, loop: WorkflowLoop) -> None:
        self._activity = future
        super().__init__(_result_of(future), loop=loop, name=f"activity-{future.activity_id}")
        loop.track(self)

    def detached(self) -> ActivityFuture:
        """The activity's own future, to wait for instead of this task, which then nobody looks at."""
        self.add_done_callback(_look_at)
        return self._activity

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the activity as its cancellation type says. True unless it is over."""
        if not self._activity.cancel():
            return False
        self.add_done_callback(_look_at)
        return True


def _look_at(task: asyncio.Task[Any]) -> None:
    """Whoever cancels an activity need not look how it ends: without this asyncio complains that nobody did."""
    if not task.cancelled():
        task.exception()


async def _result_of(future: ActivityFuture) -> Any:
    return await future


class Activities:
    """The pending activities of one run."""

    def __init__(
        self, instance: WorkflowInstance, payload_converter: PayloadConverter, failure_converter: FailureConverter
    ) -> None:
        self._instance = instance
        self._payload_converter = payload_converter
        self._failure_converter = failure_converter
        self._by_id: dict[str, ActivityFuture] = {}
        self._by_event: dict[int, ActivityFuture] = {}
        self._last_number = 0

    # --- what the code asks for ---------------------------------------------------------------------------------

    def schedule(
        self,
        activity: Any,
        args: list[Any],
        *,
        task_queue: str | None,
        result_type: Any,
        schedule_to_close_timeout: timedelta | None,
        schedule_to_start_timeout: timedelta | None,
        start_to_close_timeout: timedelta | None,
        heartbeat_timeout: timedelta | None,
        retry_policy: RetryPolicy | None,
        cancellation_type: ActivityCancellationType,
        activity_id: str | None,
        summary: str | None,
        priority: Priority,
        start_delay: timedelta | None = None,
        headers: Mapping[str, Payload] = {},
    ) -> ActivityFuture:
        """Schedule an activity given by name or by its function. See ``workflow.start_activity``."""
        if start_to_close_timeout is None and schedule_to_close_timeout is None:
            raise ValueError("an activity needs start_to_close_timeout or schedule_to_close_timeout")
        name, known_result_type = activity_name_and_result_type(activity)
        self._last_number += 1
        activity_id = activity_id or str(self._last_number)
        if activity_id in self._by_id:
            raise ValueError(
                f"an activity with the id {activity_id!r} is running already; give each its own activity_id"
            )
        priority_key, fairness_key, fairness_weight = priority.or_else(self._instance.info.priority).to_fields()
        options = ActivityOptions(
            activity_id=activity_id,
            activity_type=name,
            task_queue=task_queue or self._instance.info.task_queue,
            input=self._payload_converter.to_payloads(args) if args else [],
            header=dict(headers),
            schedule_to_close_timeout_ms=_limit(schedule_to_close_timeout, "schedule_to_close_timeout"),
            schedule_to_start_timeout_ms=_limit(schedule_to_start_timeout, "schedule_to_start_timeout"),
            start_to_close_timeout_ms=_limit(start_to_close_timeout, "start_to_close_timeout"),
            heartbeat_timeout_ms=_limit(heartbeat_timeout, "heartbeat_timeout"),
            retry_policy=_DEFAULT_RETRY_POLICY if retry_policy is None else retry_policy.to_record(),
            priority=priority_key,
            fairness_key=fairness_key,
            fairness_weight=fairness_weight,
            summary=None if summary is None else self._payload_converter.to_payload(summary),
        )
        future = ActivityFuture(loop=self._instance.loop)
        future.owner = self
        future.activity_id = activity_id
        future.activity_type = name
        future.cancellation_type = cancellation_type
        future.result_type = known_result_type if result_type is None else result_type
        future.scheduled_event_id = 0
        future.cancel_requested = False
        delay_ms = _start_delay_ms(start_delay, schedule_to_close_timeout)
        future.command_number = self._instance.add_command(
            ScheduleActivityTask(options=options, start_delay_ms=delay_ms)
        )
        self._by_id[activity_id] = future
        return future

    def cancel(self, future: ActivityFuture) -> None:
        """Cancel a pending activity as its cancellation type says."""
        if self._instance.loop.closing:
            return
        self._instance.loop.require_writable("cancel an activity")
        if self._instance.take_back_command(future.command_number):
            self._by_id.pop(future.activity_id, None)
            self._fail_cancelled(future, [])
            return
        if not future.cancel_requested and future.cancellation_type is not ActivityCancellationType.ABANDON:
            self._instance.add_command(RequestCancelActivityTask(scheduled_event_id=future.scheduled_event_id))
        future.cancel_requested = True
        if future.cancellation_type is not ActivityCancellationType.WAIT_CANCELLATION_COMPLETED:
            self._fail_cancelled(future, [])

    # --- what the history says ----------------------------------------------------------------------------------

    def note_scheduled(self, activity_id: str, event_id: int) -> None:
        """The event that scheduled an activity is known."""
        future = self._by_id[activity_id]
        future.scheduled_event_id = event_id
        self._by_event[event_id] = future

    def complete(self, scheduled_event_id: int, result: list[Payload], event_id: int) -> None:
        """The activity returned."""
        future = self._close(scheduled_event_id, event_id)
        if future.done():
            return
        try:
            hints = None if future.result_type is None else [future.result_type]
            values = self._payload_converter.from_payloads(result, hints) if result else [None]
        except Exception as error:
            error.add_note(f"while the result of activity {future.activity_type} (event {event_id}) was decoded")
            future.set_exception(error)
        else:
            future.set_result(values[0])

    def fail(
        self,
        scheduled_event_id: int,
        message: str,
        cause: Failure,
        retry_state: records.RetryState | None,
        event_id: int,
        identity: str = "",
    ) -> None:
        """The activity failed, ran out of time or was cancelled."""
        future = self._close(scheduled_event_id, event_id)
        if not future.done():
            self._fail(future, message, cause, retry_state, identity)

    def _close(self, scheduled_event_id: int, event_id: int) -> ActivityFuture:
        future = self._by_event.pop(scheduled_event_id, None)
        if future is None:
            raise NondeterminismError(
                f"history event {event_id} ends the activity of event {scheduled_event_id}, "
                "but the workflow code has no such activity open"
            )
        if self._by_id.get(future.activity_id) is future:
            del self._by_id[future.activity_id]
        return future

    def _fail_cancelled(self, future: ActivityFuture, details: list[Payload]) -> None:
        cause = Failure(kind=FailureKind.CANCELED, message="Cancelled", details=details)
        self._fail(future, "Activity cancelled", cause, records.RetryState.CANCEL_REQUESTED, "")

    def _fail(
        self,
        future: ActivityFuture,
        message: str,
        cause: Failure,
        retry_state: records.RetryState | None,
        identity: str,
    ) -> None:
        failure = Failure(
            kind=FailureKind.ACTIVITY,
            message=message,
            cause=cause,
            activity_id=future.activity_id,
            activity_type=future.activity_type,
            scheduled_event_id=future.scheduled_event_id,
            identity=identity,
            retry_state=retry_state,
        )
        future.set_exception(self._failure_converter.from_failure(failure, self._payload_converter))


def activity_name_and_result_type(activity: Any) -> tuple[str, Any]:
    """The name of an activity given by name or by its function, method or class, and its result type where known.

    Raises:
        TypeError: it is no activity, or a dynamic one.
    """
    if isinstance(activity, str):
        return activity, None
    if not callable(activity):
        raise TypeError(f"an activity is given by its name or its function, not by {activity!r}")
    definition = Definition.must_from_callable(getattr(activity, "__func__", activity))
    if definition.name is None:
        raise TypeError(f"{getattr(activity, '__name__', activity)} is a dynamic activity; give the name to call it by")
    return definition.name, definition.ret_type


def _start_delay_ms(delay: timedelta | None, schedule_to_close: timedelta | None) -> int:
    if delay is None:
        return 0
    if delay < timedelta(0):
        raise ValueError(f"start_delay is {delay}; it cannot be negative")
    if schedule_to_close is not None and delay >= schedule_to_close:
        raise ValueError(
            f"start_delay {delay} leaves nothing of schedule_to_close_timeout {schedule_to_close}, which it is part of"
        )
    return to_milliseconds(delay, "start_delay")


def _limit(timeout: timedelta | None, what: str) -> int | None:
    return None if timeout is None else to_milliseconds(timeout, what)
