"""Local activities as workflow code sees them: what is pending, how it ends, and the marker a replay reads instead.

A local activity runs in the worker, inside the workflow task that asked for it (or one that follows at once). Its end
is written into the history as a marker. Markers end the activities one by one, in their order, each followed by a run
of the code until it waits; so first execution and replay take the same steps.

Invariants: a future is done exactly once; what is pending without a marker is run (again) by the worker that runs the
code on; cancelling one with any type but WAIT_CANCELLATION_COMPLETED leaves no marker, because the code itself decides
it. Owned by the instance; the worker takes the requests and gives the outcomes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._runtime.activities import ActivityCancellationType, activity_name_and_result_type
from perdure._runtime.errors import NondeterminismError
from perdure._runtime.loop import DurableTimerHandle, WorkflowTask
from perdure.common import RetryPolicy, to_milliseconds
from perdure_schemas import records
from perdure_schemas.records import (
    ActivityOptions,
    Event,
    Failure,
    FailureKind,
    MarkerRecorded,
    Payload,
    RecordMarker,
    RetryState,
)

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

LOCAL_ACTIVITY_MARKER = "perdure.local-activity"
_METADATA = {"encoding": b"json/plain"}


@dataclass(frozen=True)
class StartLocalActivity:
    """The worker shall run this. ``first_scheduled_ms`` is when its first attempt was asked for."""

    number: int
    attempt: int
    options: ActivityOptions
    first_scheduled_ms: int
    retry_threshold_ms: int


@dataclass(frozen=True)
class CancelLocalActivity:
    """The worker shall stop this. ``wanted``: its outcome is waited for."""

    number: int
    wanted: bool


@dataclass(frozen=True)
class LocalOutcome:
    """How the attempts of a local activity ended.

    Attributes:
        number: Which one.
        attempt: Its last attempt.
        result: What it returned.
        failure: Why it failed; ``None`` if it returned.
        retry_state: Why it was not tried again.
        backoff_ms: The next attempt is so far away that a durable timer has to wait for it; 0 otherwise.
    """

    number: int
    attempt: int
    result: list[Payload]
    failure: Failure | None = None
    retry_state: RetryState | None = None
    backoff_ms: int = 0


class LocalActivityFuture(asyncio.Future[Any]):
    """The result to come of a local activity. Cancelling it follows the activity's cancellation type."""

    __slots__ = (
        "attempt", "cancel_requested", "cancellation_type", "first_scheduled_ms", "launched", "number", "options",
        "owner", "result_type", "retry_threshold_ms", "timer",
    )  # fmt: skip

    owner: LocalActivities
    number: int
    attempt: int
    options: ActivityOptions
    result_type: Any
    cancellation_type: ActivityCancellationType
    retry_threshold_ms: int
    first_scheduled_ms: int
    #: Whether the worker was asked to run it.
    launched: bool
    cancel_requested: bool
    #: Waits for the next attempt.
    timer: DurableTimerHandle | None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the activity; the future ends with an ``ActivityError``, not with ``asyncio.CancelledError``."""
        if self.done():
            return False
        self.owner.cancel(self)
        return True


class LocalActivityTask(WorkflowTask[Any]):
    """What ``workflow.start_local_activity`` gives: a task that ends with the activity."""

    def __init__(self, future: LocalActivityFuture, instance: WorkflowInstance) -> None:
        self._activity = future
        super().__init__(_result_of(future), loop=instance.loop, name=f"local-activity-{future.options.activity_id}")
        instance.loop.track(self)

    def detached(self) -> LocalActivityFuture:
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


async def _result_of(future: LocalActivityFuture) -> Any:
    return await future


class LocalActivities:
    """The pending local activities of one run."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._pending: dict[int, LocalActivityFuture] = {}
        self._cancels: list[CancelLocalActivity] = []
        self._last_number = 0

    # --- what the code asks for ---------------------------------------------------------------------------------

    def schedule(
        self,
        activity: Any,
        args: list[Any],
        *,
        result_type: Any,
        schedule_to_close_timeout: timedelta | None,
        schedule_to_start_timeout: timedelta | None,
        start_to_close_timeout: timedelta | None,
        retry_policy: RetryPolicy | None,
        local_retry_threshold: timedelta | None,
        cancellation_type: ActivityCancellationType,
        activity_id: str | None,
        summary: str | None,
        headers: Mapping[str, Payload] = {},
    ) -> LocalActivityFuture:
        """Schedule a local activity given by name or by its function. See ``workflow.start_local_activity``."""
        if start_to_close_timeout is None and schedule_to_close_timeout is None:
            raise ValueError("a local activity needs start_to_close_timeout or schedule_to_close_timeout")
        instance = self._instance
        instance.loop.require_writable("start a local activity")
        name, known_result_type = activity_name_and_result_type(activity)
        converter = instance.settings.payload_converter
        future = LocalActivityFuture(loop=instance.loop)
        future.owner = self
        future.attempt = 1
        future.result_type = known_result_type if result_type is None else result_type
        future.cancellation_type = cancellation_type
        future.cancel_requested = False
        threshold = instance.info.task_timeout if local_retry_threshold is None else local_retry_threshold
        future.retry_threshold_ms = to_milliseconds(threshold, "local_retry_threshold")
        future.first_scheduled_ms = instance.loop.now_ms
        self._enter(future)
        future.options = ActivityOptions(
            activity_id=activity_id or f"local-{future.number}",
            activity_type=name,
            task_queue=instance.info.task_queue,
            input=converter.to_payloads(args) if args else [],
            header=dict(headers),
            schedule_to_close_timeout_ms=_limit(schedule_to_close_timeout, "schedule_to_close_timeout"),
            schedule_to_start_timeout_ms=_limit(schedule_to_start_timeout, "schedule_to_start_timeout"),
            start_to_close_timeout_ms=_limit(start_to_close_timeout, "start_to_close_timeout"),
            retry_policy=records.RetryPolicy() if retry_policy is None else retry_policy.to_record(),
            summary=None if summary is None else converter.to_payload(summary),
        )
        return future

    def cancel(self, future: LocalActivityFuture) -> None:
        """Cancel a pending local activity as its cancellation type says."""
        if self._instance.loop.closing:
            return
        self._instance.loop.require_writable("cancel a local activity")
        waits = future.cancellation_type is ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        if future.timer is not None:  # nothing runs that could be waited for
            future.timer.cancel()
            future.timer = None
            self._fail_cancelled(future)
            return
        if not future.launched and not self._instance.replaying:
            self._pending.pop(future.number, None)
            self._fail_cancelled(future)
            return
        if not future.cancel_requested and future.cancellation_type is not ActivityCancellationType.ABANDON:
            self._cancels.append(CancelLocalActivity(future.number, waits))
        future.cancel_requested = True
        if not waits:
            self._pending.pop(future.number, None)
            self._fail_cancelled(future)

    # --- what the worker does -----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the worker has (or gets) something to run, so that the workflow task is not over."""
        return bool(self._pending)

    def take_requests(self) -> list[StartLocalActivity | CancelLocalActivity]:
        """What the worker has to start and to stop, each once."""
        requests: list[StartLocalActivity | CancelLocalActivity] = []
        for future in self._pending.values():
            if not future.launched:
                future.launched = True
                requests.append(
                    StartLocalActivity(
                        future.number,
                        future.attempt,
                        future.options,
                        future.first_scheduled_ms,
                        future.retry_threshold_ms,
                    )
                )
        requests += self._cancels
        self._cancels = []
        return requests

    def drop_all(self) -> None:
        """The run ends: nobody waits for what is pending."""
        self._cancels += [CancelLocalActivity(one.number, False) for one in self._pending.values() if one.launched]
        self._pending = {}

    def end(self, outcome: LocalOutcome, now_ms: int) -> bool:
        """Take an outcome; false if nobody waits for it any more."""
        future = self._pending.get(outcome.number)
        if future is None:
            return False
        self._end(future, outcome, now_ms)
        return True

    def end_by_marker(self, event: Event) -> None:
        """On replay: end the activity that a marker of the history is about.

        Raises:
            NondeterminismError: the code has no such activity pending.
        """
        marker = event.attributes
        assert isinstance(marker, MarkerRecorded)
        data = json.loads(marker.details["data"][0].data)
        future = self._pending.get(data["number"])
        if future is None or future.options.activity_type != data["activity_type"]:
            raise NondeterminismError(
                f"history event {event.event_id} ends local activity {data['number']} ({data['activity_type']!r}), "
                "but the workflow code has no such activity open"
            )
        state = data["retry_state"]
        outcome = LocalOutcome(
            number=data["number"],
            attempt=data["attempt"],
            result=marker.details.get("result", []),
            failure=marker.failure,
            retry_state=None if state is None else RetryState(state),
            backoff_ms=data["backoff_ms"],
        )
        self._end(future, outcome, data["now_ms"])

    # --- inside -------------------------------------------------------------------------------------------------

    def _enter(self, future: LocalActivityFuture) -> None:
        self._last_number += 1
        future.number = self._last_number
        future.launched = False
        future.timer = None
        self._pending[future.number] = future

    def _end(self, future: LocalActivityFuture, outcome: LocalOutcome, now_ms: int) -> None:
        instance = self._instance
        instance.loop.now_ms = max(instance.loop.now_ms, now_ms)
        del self._pending[future.number]
        instance.add_command(_marker(future.options, outcome, instance.loop.now_ms))
        if outcome.backoff_ms and not future.cancel_requested:
            future.attempt = outcome.attempt + 1
            future.timer = instance.loop.start_timer(outcome.backoff_ms / 1000, None, self._again, (future,))
        elif outcome.failure is not None:
            self._fail(future, outcome.failure, outcome.retry_state)
        else:
            self._complete(future, outcome.result)

    def _again(self, future: LocalActivityFuture) -> None:
        if not future.done():
            self._enter(future)

    def _complete(self, future: LocalActivityFuture, result: list[Payload]) -> None:
        try:
            hints = None if future.result_type is None else [future.result_type]
            values = self._instance.settings.payload_converter.from_payloads(result, hints) if result else [None]
        except Exception as error:
            error.add_note(f"while the result of local activity {future.options.activity_type} was decoded")
            future.set_exception(error)
        else:
            future.set_result(values[0])

    def _fail_cancelled(self, future: LocalActivityFuture) -> None:
        cause = Failure(kind=FailureKind.CANCELED, message="Cancelled")
        self._fail(future, cause, RetryState.CANCEL_REQUESTED)

    def _fail(self, future: LocalActivityFuture, cause: Failure, retry_state: RetryState | None) -> None:
        message = "Local activity task failed"
        if cause.kind is FailureKind.CANCELED:
            message = "Local activity cancelled"
        elif cause.kind is FailureKind.TIMEOUT:
            message = "Local activity task timed out"
        failure = Failure(
            kind=FailureKind.ACTIVITY,
            message=message,
            cause=cause,
            activity_id=future.options.activity_id,
            activity_type=future.options.activity_type,
            retry_state=retry_state,
        )
        settings = self._instance.settings
        future.set_exception(settings.failure_converter.from_failure(failure, settings.payload_converter))


def _marker(options: ActivityOptions, outcome: LocalOutcome, now_ms: int) -> RecordMarker:
    """The marker of an outcome. Its own part does not go through the user's converter: tools of the engine read it."""
    data = {
        "number": outcome.number,
        "activity_id": options.activity_id,
        "activity_type": options.activity_type,
        "attempt": outcome.attempt,
        "now_ms": now_ms,
        "backoff_ms": outcome.backoff_ms,
        "retry_state": None if outcome.retry_state is None else outcome.retry_state.value,
    }
    details = {"data": [Payload(metadata=_METADATA, data=json.dumps(data).encode())]}
    if outcome.failure is None:
        details["result"] = outcome.result
    return RecordMarker(marker_name=LOCAL_ACTIVITY_MARKER, details=details, failure=outcome.failure)


def is_local_activity(event: Event) -> bool:
    """Whether an event is the marker of a local activity's end."""
    return isinstance(event.attributes, MarkerRecorded) and event.attributes.marker_name == LOCAL_ACTIVITY_MARKER


def local_identity_of(marker: MarkerRecorded | RecordMarker) -> tuple[int, str] | None:
    """Number and type of the local activity that a marker is about; ``None`` for another kind of marker."""
    if marker.marker_name != LOCAL_ACTIVITY_MARKER:
        return None
    data = json.loads(marker.details["data"][0].data)
    return data["number"], data["activity_type"]


def _limit(timeout: timedelta | None, what: str) -> int | None:
    return None if timeout is None else to_milliseconds(timeout, what)
