"""What workers and matching say of activities: started, alive, done, failed, stopped, lost.

Invariant I3: everything names its attempt and counts only while that attempt is the current one, so late and doubled
messages change nothing. A completion counts although the activity was asked to stop.
"""

from __future__ import annotations

from typing import Any

import msgspec

from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.effects import Ignored
from perdure_history.core.failures import bounded
from perdure_history.core.retry import next_activity_attempt
from perdure_history.core.state import ActivityState, ActivityStatus, RunState, was_reset
from perdure_schemas import records
from perdure_schemas.records import (
    ActivityLeaseLost,
    ActivityLeftOpen,
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    ActivityTaskStarted,
    Command,
    Failure,
    FailureKind,
    RetryState,
    TimeoutType,
)

__all__ = [
    "attempt_record",
    "canceled",
    "completed",
    "dispatch_attempt",
    "failed",
    "heartbeat",
    "lease_lost",
    "left_open",
    "started",
    "timed_out",
]

#: The type of the failure of an attempt that stopped because its activity is paused.
PAUSED_ATTEMPT = "ActivityPause"
RESET_ATTEMPT = "ActivityReset"
_NOT_CURRENT = Ignored("activity attempt is not current")
_TIMEOUT_WORDS = {
    TimeoutType.START_TO_CLOSE: "StartToClose",
    TimeoutType.SCHEDULE_TO_START: "ScheduleToStart",
    TimeoutType.SCHEDULE_TO_CLOSE: "ScheduleToClose",
    TimeoutType.HEARTBEAT: "Heartbeat",
}


def started(run: RunState, _command: Command, body: ActivityTaskStarted, _context: Context) -> Steps:
    """An attempt was handed to a worker: its timeouts run from then on."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
    elif activity.started_time_ms >= body.started_time_ms and activity.worker_id:
        yield Ignored("activity start is known")
    else:
        yield attempt_record(
            activity, started_time_ms=max(activity.started_time_ms, body.started_time_ms), worker_id=body.worker_id
        )


def heartbeat(run: RunState, _command: Command, body: ActivityTaskHeartbeat, context: Context) -> Steps:
    """An attempt lives; its details are there for the next one."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
    elif sum(len(payload.data) for payload in body.details) > context.policy.heartbeat_bytes_max:
        yield Ignored("heartbeat details are too large")
    elif activity.heartbeat_time_ms == context.now_ms and activity.heartbeat_details == body.details:
        yield Ignored("heartbeat is known")
    else:
        yield attempt_record(
            activity,
            started_time_ms=activity.started_time_ms or body.started_time_ms,
            heartbeat_time_ms=context.now_ms,
            heartbeat_details=body.details,
        )


def completed(run: RunState, command: Command, body: ActivityTaskCompleted, context: Context) -> Steps:
    """An attempt returned."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
        return
    invalid = payloads_too_large(context.policy, body.result)
    if invalid:
        failure = Failure(
            kind=FailureKind.APPLICATION,
            type="PayloadTooLarge",
            message=f"activity result: {invalid}",
            non_retryable=True,
        )
        yield from _fail_attempt(activity, failure, command.identity, context)
        return
    yield records.ActivityTaskCompletedEvent(
        scheduled_event_id=activity.scheduled_event_id,
        attempt=activity.attempt_shown,
        started_time_ms=body.started_time_ms,
        result=body.result,
        identity=command.identity,
    )


def failed(run: RunState, command: Command, body: ActivityTaskFailed, context: Context) -> Steps:
    """An attempt raised: it is repeated as the retry policy has it, or the activity has failed."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
    else:
        yield from _fail_attempt(activity, bounded(body.failure), command.identity, context)


def canceled(run: RunState, command: Command, body: ActivityTaskCanceled, context: Context) -> Steps:
    """An attempt stopped because it was asked to. Stopping unasked (its worker shut down) is a failure."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
    elif activity.cancel_requested:
        yield records.ActivityTaskCanceledEvent(
            scheduled_event_id=activity.scheduled_event_id, details=body.details, identity=command.identity
        )
    else:
        failure = Failure(
            kind=FailureKind.APPLICATION,
            type="CancelledError",
            message="the activity stopped as cancelled, but the workflow had not asked for it",
            details=body.details,
        )
        failure = bounded(failure)
        yield from _fail_attempt(activity, failure, command.identity, context)


def left_open(run: RunState, _command: Command, body: ActivityLeftOpen, _context: Context) -> Steps:
    """An attempt left its worker without an end: a client will complete it, and no worker's loss ends it."""
    activity = _current(run, body)
    if activity is None:
        yield _NOT_CURRENT
    elif activity.left_open:
        yield Ignored("activity is known as left open")
    else:
        yield attempt_record(
            activity,
            started_time_ms=activity.started_time_ms or body.started_time_ms,
            worker_id=activity.worker_id or body.worker_id,
            left_open=True,
        )


def lease_lost(run: RunState, command: Command, body: ActivityLeaseLost, context: Context) -> Steps:
    """The worker of an attempt is gone: as if its timeout had fired at once."""
    activity = _current(run, body)
    if activity is None or activity.left_open:
        yield _NOT_CURRENT
    else:
        message = f"worker {body.worker_id!r} is gone while it ran the activity"
        yield from timed_out(activity, body.timeout_type, context, message)


def timed_out(activity: ActivityState, timeout: TimeoutType, context: Context, message: str = "") -> Steps:
    """A timeout ends an attempt, which is repeated as the retry policy has it, or the activity."""
    failure = _timeout_failure(timeout, message)
    retry_state, due_ms = next_activity_attempt(activity, failure, context.now_ms)
    if retry_state is RetryState.IN_PROGRESS:
        yield _next_attempt(activity, failure, due_ms)
        return
    if retry_state is RetryState.TIMEOUT:
        # The attempt could be repeated, but its time as a whole would be over by then.
        failure = _timeout_failure(TimeoutType.SCHEDULE_TO_CLOSE, message)
    failure = msgspec.structs.replace(
        failure, cause=activity.last_failure, last_heartbeat_details=activity.heartbeat_details
    )
    yield records.ActivityTaskTimedOut(
        scheduled_event_id=activity.scheduled_event_id,
        attempt=activity.attempt_shown,
        failure=failure,
        retry_state=RetryState.TIMEOUT if timeout is TimeoutType.SCHEDULE_TO_CLOSE else retry_state,
    )


def dispatch_attempt(activity: ActivityState, context: Context) -> records.ActivityAttemptRecorded:
    """The waiting attempt's time has come."""
    return attempt_record(activity, scheduled_time_ms=context.now_ms)


def _timeout_failure(timeout: TimeoutType, message: str) -> Failure:
    return Failure(
        kind=FailureKind.TIMEOUT,
        message=message or f"activity {_TIMEOUT_WORDS[timeout]} timeout",
        timeout_type=timeout,
    )


def _fail_attempt(activity: ActivityState, failure: Failure, identity: str, context: Context) -> Steps:
    paused = activity.paused and failure.type == PAUSED_ATTEMPT
    reset = was_reset(activity) and failure.type == RESET_ATTEMPT
    if (paused or reset) and not activity.cancel_requested:
        # It stopped because it was asked to, which is not one of the attempts it may make.
        yield attempt_record(
            activity,
            attempt=activity.attempt + 1,
            attempts_before=activity.attempts_before if reset else activity.attempts_before + 1,
            scheduled_time_ms=context.now_ms,
            started_time_ms=None,
            worker_id="",
            heartbeat_time_ms=None,
            heartbeat_details=[] if activity.drops_heartbeats else activity.heartbeat_details,
            drops_heartbeats=False,
            left_open=False,
        )
        return
    retry_state, due_ms = next_activity_attempt(activity, failure, context.now_ms)
    if retry_state is RetryState.IN_PROGRESS:
        yield _next_attempt(activity, failure, due_ms)
    else:
        yield records.ActivityTaskFailedEvent(
            scheduled_event_id=activity.scheduled_event_id,
            attempt=activity.attempt_shown,
            failure=failure,
            retry_state=retry_state,
            identity=identity,
        )


def _next_attempt(activity: ActivityState, failure: Failure, due_ms: int) -> records.ActivityAttemptRecorded:
    return records.ActivityAttemptRecorded(
        scheduled_event_id=activity.scheduled_event_id,
        attempt=activity.attempt + 1,
        scheduled_time_ms=due_ms,
        heartbeat_details=[] if activity.drops_heartbeats else activity.heartbeat_details,
        last_failure=failure,
        paused=activity.paused,
        pause_reason=activity.pause_reason,
        attempts_before=activity.attempts_before,
        options=activity.options if activity.has_new_options else None,
        operator_command_id=activity.operator_command_id,
    )


def _current(run: RunState, body: Any) -> ActivityState | None:
    """The activity, if the message is about its current attempt and that one is with matching or a worker."""
    activity = run.activity(body.scheduled_event_id)
    if activity is None or activity.attempt != body.attempt or activity.status is ActivityStatus.BACKING_OFF:
        return None
    return activity


def attempt_record(activity: ActivityState, **changes: Any) -> records.ActivityAttemptRecorded:
    """The activity's current attempt as a record that is complete in itself."""
    fields: dict[str, Any] = {
        "scheduled_event_id": activity.scheduled_event_id,
        "attempt": activity.attempt,
        "scheduled_time_ms": activity.attempt_scheduled_time_ms,
        "started_time_ms": activity.started_time_ms or None,
        "worker_id": activity.worker_id,
        "heartbeat_time_ms": activity.heartbeat_time_ms or None,
        "heartbeat_details": activity.heartbeat_details,
        "last_failure": activity.last_failure,
        "left_open": activity.left_open,
        "paused": activity.paused,
        "pause_reason": activity.pause_reason,
        "attempts_before": activity.attempts_before,
        "drops_heartbeats": activity.drops_heartbeats,
        "options": activity.options if activity.has_new_options else None,
        "operator_command_id": activity.operator_command_id,
    }
    return records.ActivityAttemptRecorded(**{**fields, **changes})
