"""What clients say of activities that were left open: they returned, failed, stopped, or live.

A client names the attempt it was told of (by its event and attempt), or the workflow's own name for the activity: then
the attempt that is current is meant. What follows is the same as if the activity's worker had said it.

Invariant I3: an attempt that is over is answered with NOT_FOUND, so a repeated completion changes nothing.
"""

from __future__ import annotations

from typing import Any

from perdure_history.core.commands import activity
from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.effects import Answer
from perdure_history.core.state import ActivityState, ActivityStatus, RunState, was_reset
from perdure_schemas import records
from perdure_schemas.records import (
    Command,
    CompleteActivity,
    Done,
    ErrorCode,
    FailActivity,
    HeartbeatActivity,
    Rejected,
    ReplyBody,
    ReportActivityCanceled,
)

__all__ = ["canceled", "completed", "failed", "find", "heartbeat", "not_found"]


def completed(run: RunState, command: Command, body: CompleteActivity, context: Context) -> Steps:
    """An activity that was left open returned."""
    found = find(run, body)
    if found is None:
        yield from _answer(command, not_found(run, body))
        return
    invalid = payloads_too_large(context.policy, body.result)
    if invalid:
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=f"activity result: {invalid}"))
        return
    message = records.ActivityTaskCompleted(
        scheduled_event_id=found.scheduled_event_id,
        attempt=found.attempt,
        started_time_ms=found.started_time_ms,
        result=body.result,
    )
    yield from activity.completed(run, command, message, context)
    yield from _answer(command, Done())


def failed(run: RunState, command: Command, body: FailActivity, context: Context) -> Steps:
    """An activity that was left open failed: its retry policy applies."""
    found = find(run, body)
    if found is None:
        yield from _answer(command, not_found(run, body))
        return
    if body.heartbeat_details is not None:
        invalid = _details_too_large(body.heartbeat_details, context)
        if invalid is not None:
            yield from _answer(command, invalid)
            return
        yield from _note_heartbeat(run, command, found, body.heartbeat_details, context)
    message = records.ActivityTaskFailed(
        scheduled_event_id=found.scheduled_event_id,
        attempt=found.attempt,
        started_time_ms=found.started_time_ms,
        failure=body.failure,
    )
    yield from activity.failed(run, command, message, context)
    yield from _answer(command, Done())


def canceled(run: RunState, command: Command, body: ReportActivityCanceled, context: Context) -> Steps:
    """An activity that was left open stopped because it was asked to."""
    found = find(run, body)
    if found is None:
        yield from _answer(command, not_found(run, body))
        return
    if not found.cancel_requested:
        message = (
            f"activity {found.options.activity_id!r} was not asked to stop, so it cannot be reported as cancelled;"
            " fail it instead"
        )
        yield from _answer(command, Rejected(code=ErrorCode.FAILED_PRECONDITION, message=message, run_id=run.run_id))
        return
    details = payloads_too_large(context.policy, body.details)
    if details:
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=f"details: {details}"))
        return
    message_body = records.ActivityTaskCanceled(
        scheduled_event_id=found.scheduled_event_id,
        attempt=found.attempt,
        started_time_ms=found.started_time_ms,
        details=body.details,
    )
    yield from activity.canceled(run, command, message_body, context)
    yield from _answer(command, Done())


def heartbeat(run: RunState, command: Command, body: HeartbeatActivity, context: Context) -> Steps:
    """An activity that was left open lives; the answer says what the engine wants of it."""
    found = find(run, body)
    if found is None:
        yield from _answer(command, not_found(run, body))
        return
    invalid = _details_too_large(body.details, context)
    if invalid is not None:
        yield from _answer(command, invalid)
        return
    yield from _note_heartbeat(run, command, found, body.details, context)
    wanted = records.ActivityHeartbeatAnswer(
        cancel_requested=found.cancel_requested, paused=found.paused, reset=was_reset(found)
    )
    yield from _answer(command, wanted)


def find(run: RunState, body: Any) -> ActivityState | None:
    """The activity a client means, if the attempt it means is with a worker or left open."""
    if body.scheduled_event_id:
        found = run.activity(body.scheduled_event_id)
        if found is None or found.attempt != body.attempt:
            return None
    else:
        found = run.activities.get(run.activity_ids.get(body.activity_id, 0))
    return None if found is None or found.status is ActivityStatus.BACKING_OFF else found


def not_found(run: RunState, body: Any) -> Rejected:
    """The answer where there is no such attempt."""
    name = f"activity {body.activity_id!r}" if body.activity_id else f"the activity of event {body.scheduled_event_id}"
    attempt = f" in attempt {body.attempt}" if body.attempt else ""
    message = (
        f"{name} of workflow {run.workflow_id!r} is not open{attempt}: it is over, waits for its next attempt, or"
        " never was"
    )
    return Rejected(code=ErrorCode.NOT_FOUND, message=message, run_id=run.run_id, status=run.status)


def _note_heartbeat(
    run: RunState, command: Command, found: ActivityState, details: list[records.Payload], context: Context
) -> Steps:
    message = records.ActivityTaskHeartbeat(
        scheduled_event_id=found.scheduled_event_id,
        attempt=found.attempt,
        started_time_ms=found.started_time_ms or context.now_ms,
        details=details,
    )
    yield from activity.heartbeat(run, command, message, context)


def _details_too_large(details: list[records.Payload], context: Context) -> Rejected | None:
    size_bytes = sum(len(payload.data) for payload in details)
    if size_bytes <= context.policy.heartbeat_bytes_max:
        return None
    message = f"heartbeat details of {size_bytes} bytes; {context.policy.heartbeat_bytes_max} are allowed"
    return Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message)


def _answer(command: Command, body: ReplyBody) -> Steps:
    if command.reply is not None:
        yield Answer(command.reply, body)
