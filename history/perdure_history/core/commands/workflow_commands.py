"""What a workflow task asks for: checked as a whole first, then applied one by one, each in at most one event.

Invariant: a list of commands with a fault changes nothing of what it asks for; the task fails with the cause, and the
fault stands in the history for the developer to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from perdure_history.core.commands import children, record_waits, update
from perdure_history.core.commands.activity_options import effective_options, options_fault, retry_policy_fault
from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.commands.properties import memo_fault, modify, search_attributes_fault, upsert
from perdure_history.core.following import after_completion, after_failure, continued_as_new
from perdure_history.core.state import UNHANDLED_COMMAND, ActivityStatus, RunState
from perdure_schemas import records
from perdure_schemas.records import (
    AcceptUpdate,
    CancelRecordWait,
    CancelTimer,
    CancelWorkflowExecution,
    CompleteUpdate,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    EmitRecord,
    FailWorkflowExecution,
    ModifyWorkflowProperties,
    RecordMarker,
    RejectUpdate,
    RequestCancelActivityTask,
    RequestCancelExternalWorkflowExecution,
    ScheduleActivityTask,
    SignalExternalWorkflowExecution,
    StartChildWorkflowExecution,
    StartTimer,
    UpsertWorkflowSearchAttributes,
    WaitForRecord,
    WorkflowTaskCompleted,
)
from perdure_schemas.topics import user_topic_fault

__all__ = ["APPLY", "Fault", "first_fault"]


class Fault(NamedTuple):
    """Why a workflow task's answer is not taken."""

    cause: str
    message: str


class _Pending(msgspec.Struct):
    """Names in use as the commands are gone through."""

    activity_ids: set[str]
    timer_ids: set[str]
    run: RunState
    context: Context
    new_children: int = 0
    new_external_requests: int = 0
    memo: dict[str, records.Payload] | None = None
    search_attributes: dict[str, records.Payload] | None = None
    #: Updates that are accepted in these commands, and whether they are completed, too.
    updates: dict[str, bool] = {}
    record_waits: set[str] | None = None


_CLOSING = (
    CompleteWorkflowExecution,
    FailWorkflowExecution,
    CancelWorkflowExecution,
    ContinueAsNewWorkflowExecution,
)


# --- checking ---------------------------------------------------------------------------------------------------------


def first_fault(run: RunState, body: WorkflowTaskCompleted, context: Context) -> Fault | None:
    """The first thing that is wrong with a workflow task's answer; ``None`` if it can be taken."""
    if not body.scheduled_event_id <= body.last_event_id <= run.last_event_id + bool(body.speculative_id):
        message = (
            f"last_event_id {body.last_event_id} is outside {body.scheduled_event_id} (the task)"
            f" … {run.last_event_id} (the history's end)"
        )
        return Fault("BAD_LAST_EVENT_ID", message)
    if not body.commands:
        return None
    closing_at = next((i for i, command in enumerate(body.commands) if isinstance(command, _CLOSING)), None)
    if closing_at is not None and closing_at != len(body.commands) - 1:
        following = type(body.commands[closing_at + 1]).__name__
        message = f"{following} follows {type(body.commands[closing_at]).__name__}, which closes the workflow"
        return Fault("BAD_COMMAND_AFTER_CLOSE", message)
    pending = _Pending(set(run.activity_ids), set(run.timers), run, context)
    for number, command in enumerate(body.commands, 1):
        fault = _CHECK[type(command)](command, pending)
        if fault is not None:
            return Fault(fault.cause, f"command {number} ({type(command).__name__}): {fault.message}")
    if closing_at is not None and run.waking_event_id > body.last_event_id:
        message = (
            f"event {run.waking_event_id} arrived while the workflow closed, having seen {body.last_event_id} events;"
            " the workflow task runs again and sees it"
        )
        return Fault(UNHANDLED_COMMAND, message)
    return None


def _check_activity(command: ScheduleActivityTask, pending: _Pending) -> Fault | None:
    policy = pending.context.policy
    message = options_fault(command.options, policy) or _start_delay_fault(command)
    if message:
        return Fault("BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", message)
    activity_id = command.options.activity_id
    if activity_id in pending.activity_ids:
        message = f"activity id {activity_id!r} is in use by a pending activity"
        return Fault("SCHEDULE_ACTIVITY_DUPLICATE_ID", message)
    if len(pending.activity_ids) >= policy.pending_activities_max:
        message = f"the run has {policy.pending_activities_max} pending activities, which is the limit"
        return Fault("PENDING_ACTIVITIES_LIMIT_EXCEEDED", message)
    pending.activity_ids.add(activity_id)
    return None


def _start_delay_fault(command: ScheduleActivityTask) -> str:
    delay_ms, in_whole_ms = command.start_delay_ms, command.options.schedule_to_close_timeout_ms
    if delay_ms < 0:
        return f"the start delay is {delay_ms} ms; it cannot be negative"
    if delay_ms and in_whole_ms is not None and delay_ms >= in_whole_ms:
        return (
            f"the start delay of {delay_ms} ms leaves nothing of the schedule-to-close timeout of {in_whole_ms} ms,"
            " which it is part of"
        )
    return ""


def _check_cancel_activity(command: RequestCancelActivityTask, pending: _Pending) -> Fault | None:
    if 1 <= command.scheduled_event_id <= pending.run.last_event_id:
        return None
    message = f"scheduled_event_id {command.scheduled_event_id} is not in the history"
    return Fault("BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES", message)


def _check_start_timer(command: StartTimer, pending: _Pending) -> Fault | None:
    policy = pending.context.policy
    if not command.timer_id or len(command.timer_id) > policy.name_chars_max:
        return Fault("BAD_START_TIMER_ATTRIBUTES", f"the timer id must have 1 to {policy.name_chars_max} characters")
    if command.start_to_fire_timeout_ms < 0:
        message = f"start_to_fire_timeout_ms {command.start_to_fire_timeout_ms} is below zero"
        return Fault("BAD_START_TIMER_ATTRIBUTES", message)
    if command.timer_id in pending.timer_ids:
        return Fault("START_TIMER_DUPLICATE_ID", f"timer id {command.timer_id!r} is in use by a running timer")
    if len(pending.timer_ids) >= policy.pending_timers_max:
        message = f"the run has {policy.pending_timers_max} running timers, which is the limit"
        return Fault("PENDING_TIMERS_LIMIT_EXCEEDED", message)
    pending.timer_ids.add(command.timer_id)
    return None


def _check_cancel_timer(command: CancelTimer, pending: _Pending) -> Fault | None:
    if not command.timer_id:
        return Fault("BAD_CANCEL_TIMER_ATTRIBUTES", "the timer id is empty")
    pending.timer_ids.discard(command.timer_id)
    return None


def _check_marker(command: RecordMarker, pending: _Pending) -> Fault | None:
    chars_max = pending.context.policy.name_chars_max
    if not command.marker_name or len(command.marker_name) > chars_max:
        return Fault("BAD_RECORD_MARKER_ATTRIBUTES", f"the marker name must have 1 to {chars_max} characters")
    return _too_large(
        "BAD_RECORD_MARKER_ATTRIBUTES", [p for values in command.details.values() for p in values], pending
    )


def _check_emit(command: EmitRecord, pending: _Pending) -> Fault | None:
    message = user_topic_fault(command.topic)
    size_bytes = len(command.key or b"") + len(command.value or b"")
    size_bytes += sum(len(name) + len(value) for name, value in command.headers.items())
    bytes_max = pending.context.policy.payload_bytes_max
    if size_bytes > bytes_max:
        message = message or f"key, value and headers have {size_bytes} bytes; {bytes_max} are allowed"
    return Fault("BAD_EMIT_RECORD_ATTRIBUTES", message) if message else None


def _check_record_wait(command: WaitForRecord, pending: _Pending) -> Fault | None:
    if pending.record_waits is None:
        pending.record_waits = set(pending.run.record_waits)
    message = record_waits.wait_fault(command, pending.record_waits)
    pending.record_waits.add(command.wait_id)
    return Fault("BAD_WAIT_FOR_RECORD_ATTRIBUTES", message) if message else None


def _check_cancel_record_wait(command: CancelRecordWait, pending: _Pending) -> Fault | None:
    if pending.record_waits is None:
        pending.record_waits = set(pending.run.record_waits)
    pending.record_waits.discard(command.wait_id)
    return None


def _check_complete(command: CompleteWorkflowExecution, pending: _Pending) -> Fault | None:
    run, context = pending.run, pending.context
    cause = "BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES"
    if run.cron_schedule and command.result:
        # Both stand in the first event of the next run.
        size_bytes = sum(len(p.data) for p in (*context.started_of(run.run_id).input, *command.result))
        if size_bytes > context.policy.carried_bytes_max:
            return Fault(
                cause,
                f"the result and the input of this run, which the next one of the cron schedule gets, have {size_bytes}"
                f" bytes together; {context.policy.carried_bytes_max} are allowed",
            )
    return _too_large(cause, command.result, pending)


def _check_fail(command: FailWorkflowExecution, pending: _Pending) -> Fault | None:
    return _too_large("BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES", command.failure.details, pending)


def _check_cancel(command: CancelWorkflowExecution, pending: _Pending) -> Fault | None:
    return _too_large("BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES", command.details, pending)


def _check_continue(command: ContinueAsNewWorkflowExecution, pending: _Pending) -> Fault | None:
    policy = pending.context.policy
    message = payloads_too_large(policy, [*command.input, *command.header.values()])
    for what, name in (("workflow type", command.workflow_type), ("task queue", command.task_queue)):
        if not name or len(name) > policy.name_chars_max:
            message = f"the {what} must have 1 to {policy.name_chars_max} characters"
    for what, duration_ms in (
        ("run timeout", command.run_timeout_ms),
        ("task timeout", command.task_timeout_ms),
        ("start back-off", command.backoff_start_interval_ms),
    ):
        if duration_ms is not None and duration_ms < 0:
            message = f"the {what} is {duration_ms} ms; it cannot be negative"
    message = (
        message
        or memo_fault(command.memo, policy)
        or search_attributes_fault(command.search_attributes, policy)
        or (retry_policy_fault(command.retry_policy) if command.retry_policy is not None else "")
    )
    return Fault("BAD_CONTINUE_AS_NEW_ATTRIBUTES", message) if message else None


def _check_search_attributes(command: UpsertWorkflowSearchAttributes, pending: _Pending) -> Fault | None:
    before = pending.run.search_attributes if pending.search_attributes is None else pending.search_attributes
    pending.search_attributes = _merged(before, command.search_attributes, command.removed)
    message = search_attributes_fault(pending.search_attributes, pending.context.policy)
    return Fault("BAD_SEARCH_ATTRIBUTES", message) if message else None


def _check_properties(command: ModifyWorkflowProperties, pending: _Pending) -> Fault | None:
    before = pending.run.memo if pending.memo is None else pending.memo
    pending.memo = _merged(before, command.upserted_memo, command.removed_memo)
    message = memo_fault(pending.memo, pending.context.policy)
    return Fault("BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES", message) if message else None


def _merged(
    values: dict[str, records.Payload], set_values: dict[str, records.Payload], removed: list[str]
) -> dict[str, records.Payload]:
    return {name: value for name, value in {**values, **set_values}.items() if name not in removed}


def _check_child(command: StartChildWorkflowExecution, pending: _Pending) -> Fault | None:
    count = len(pending.run.children) + pending.new_children
    pending.new_children += 1
    cause, message = children.child_fault(command.options, count, pending.context.policy)
    return Fault(cause, message) if cause else None


def _check_external(
    command: SignalExternalWorkflowExecution | RequestCancelExternalWorkflowExecution, pending: _Pending
) -> Fault | None:
    count = len(pending.run.external_requests) + pending.new_external_requests
    pending.new_external_requests += 1
    cause, message = children.external_fault(command, count, pending.context.policy)
    return Fault(cause, message) if cause else None


def _check_accept(command: AcceptUpdate, pending: _Pending) -> Fault | None:
    update_id = command.request.update_id
    message = update.request_fault(command.request, pending.context)
    if update_id in pending.run.updates or update_id in pending.updates:
        message = f"update {update_id!r} is accepted already"
    pending.updates[update_id] = False
    return Fault("BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE", message) if message else None


def _check_complete_update(command: CompleteUpdate, pending: _Pending) -> Fault | None:
    known = pending.run.updates.get(command.update_id)
    completed = pending.updates.get(command.update_id, known is None or bool(known.completed_event_id))
    pending.updates[command.update_id] = True
    if completed:
        message = f"update {command.update_id!r} is not accepted, or completed already"
        return Fault("BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE", message)
    return _too_large("BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE", command.result, pending)


def _check_reject(command: RejectUpdate, _pending: _Pending) -> Fault | None:
    return None if command.update_id else Fault("BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE", "the update id is empty")


def _too_large(cause: str, payloads: list[records.Payload], pending: _Pending) -> Fault | None:
    message = payloads_too_large(pending.context.policy, payloads)
    return Fault(cause, message) if message else None


_CHECK: dict[type, Callable[[Any, _Pending], Fault | None]] = {
    ScheduleActivityTask: _check_activity,
    RequestCancelActivityTask: _check_cancel_activity,
    StartTimer: _check_start_timer,
    CancelTimer: _check_cancel_timer,
    RecordMarker: _check_marker,
    CompleteWorkflowExecution: _check_complete,
    FailWorkflowExecution: _check_fail,
    CancelWorkflowExecution: _check_cancel,
    StartChildWorkflowExecution: _check_child,
    SignalExternalWorkflowExecution: _check_external,
    RequestCancelExternalWorkflowExecution: _check_external,
    ContinueAsNewWorkflowExecution: _check_continue,
    UpsertWorkflowSearchAttributes: _check_search_attributes,
    ModifyWorkflowProperties: _check_properties,
    AcceptUpdate: _check_accept,
    CompleteUpdate: _check_complete_update,
    RejectUpdate: _check_reject,
    EmitRecord: _check_emit,
    WaitForRecord: _check_record_wait,
    CancelRecordWait: _check_cancel_record_wait,
}


# --- applying ---------------------------------------------------------------------------------------------------------


def _schedule_activity(run: RunState, command: ScheduleActivityTask, completed_id: int, context: Context) -> Steps:
    # The worker that answered has it in its cache, and so has told who it is.
    named = command.eager_event_id < 0 and command.eager_event_id not in run.eager_ids and not command.start_delay_ms
    eager = named and run.sticky_worker_id
    yield records.ActivityTaskScheduled(
        options=effective_options(command.options, run.run_timeout_ms, run.deadline_ms, context.now_ms),
        workflow_task_completed_event_id=completed_id,
        eager_event_id=command.eager_event_id if eager else 0,
        eager_worker_id=run.sticky_worker_id if eager else "",
        start_delay_ms=command.start_delay_ms,
    )


def _cancel_activity(run: RunState, command: RequestCancelActivityTask, completed_id: int, _: Context) -> Steps:
    activity = run.activities.get(command.scheduled_event_id)
    if activity is None or activity.cancel_requested:
        return  # it is over already, or was asked before
    yield records.ActivityTaskCancelRequested(
        scheduled_event_id=command.scheduled_event_id, workflow_task_completed_event_id=completed_id
    )
    if activity.status is ActivityStatus.BACKING_OFF:
        yield records.ActivityTaskCanceledEvent(scheduled_event_id=command.scheduled_event_id)


def _start_timer(_run: RunState, command: StartTimer, completed_id: int, context: Context) -> Steps:
    yield records.TimerStarted(
        timer_id=command.timer_id,
        start_to_fire_timeout_ms=command.start_to_fire_timeout_ms,
        due_time_ms=context.now_ms + command.start_to_fire_timeout_ms,
        workflow_task_completed_event_id=completed_id,
        summary=command.summary,
    )


def _cancel_timer(run: RunState, command: CancelTimer, completed_id: int, _: Context) -> Steps:
    timer = run.timers.get(command.timer_id)
    if timer is not None:
        yield records.TimerCanceled(
            timer_id=command.timer_id,
            started_event_id=timer.started_event_id,
            workflow_task_completed_event_id=completed_id,
        )


def _record_marker(_run: RunState, command: RecordMarker, completed_id: int, _: Context) -> Steps:
    yield records.MarkerRecorded(
        marker_name=command.marker_name,
        details=command.details,
        failure=command.failure,
        workflow_task_completed_event_id=completed_id,
    )


def _emit(_run: RunState, command: EmitRecord, completed_id: int, _: Context) -> Steps:
    yield records.RecordEmitted(
        topic=command.topic,
        key=command.key,
        value=command.value,
        headers=command.headers,
        workflow_task_completed_event_id=completed_id,
    )


def _complete(run: RunState, command: CompleteWorkflowExecution, completed_id: int, context: Context) -> Steps:
    following = after_completion(run, command.result, context)
    yield records.WorkflowExecutionCompleted(
        result=command.result,
        workflow_task_completed_event_id=completed_id,
        new_run_id="" if following is None else following.run_id,
    )
    if following is not None:
        yield following


def _fail(run: RunState, command: FailWorkflowExecution, completed_id: int, context: Context) -> Steps:
    retry_state, following = after_failure(run, command.failure, context)
    yield records.WorkflowExecutionFailed(
        failure=command.failure,
        retry_state=retry_state,
        workflow_task_completed_event_id=completed_id,
        new_run_id="" if following is None else following.run_id,
    )
    if following is not None:
        yield following


def _continue_as_new(
    run: RunState, command: ContinueAsNewWorkflowExecution, completed_id: int, context: Context
) -> Steps:
    following = continued_as_new(run, command, context)
    yield records.WorkflowExecutionContinuedAsNew(
        new_run_id=following.run_id,
        workflow_type=command.workflow_type,
        task_queue=command.task_queue,
        input=command.input,
        backoff_start_interval_ms=command.backoff_start_interval_ms,
        workflow_task_completed_event_id=completed_id,
    )
    yield following


def _cancel(_run: RunState, command: CancelWorkflowExecution, completed_id: int, _: Context) -> Steps:
    yield records.WorkflowExecutionCanceled(details=command.details, workflow_task_completed_event_id=completed_id)


APPLY: dict[type, Callable[[RunState, Any, int, Context], Steps]] = {
    ScheduleActivityTask: _schedule_activity,
    RequestCancelActivityTask: _cancel_activity,
    StartTimer: _start_timer,
    CancelTimer: _cancel_timer,
    RecordMarker: _record_marker,
    CompleteWorkflowExecution: _complete,
    FailWorkflowExecution: _fail,
    CancelWorkflowExecution: _cancel,
    StartChildWorkflowExecution: children.start_child,
    SignalExternalWorkflowExecution: children.signal_external,
    RequestCancelExternalWorkflowExecution: children.cancel_external,
    ContinueAsNewWorkflowExecution: _continue_as_new,
    UpsertWorkflowSearchAttributes: upsert,
    ModifyWorkflowProperties: modify,
    EmitRecord: _emit,
    **record_waits.APPLY,
    **update.APPLY,
}
