"""What those who ask get to see of a run: closing answer, summary, description. Pure projections of its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.state import (
    UNHANDLED_COMMAND,
    ActivityState,
    ActivityStatus,
    ChildState,
    RunState,
    ScheduleState,
    WorkflowTaskState,
)
from perdure_history.core.versioning import deployment_version, effective_behavior
from perdure_schemas import limits, records
from perdure_schemas.records import (
    Described,
    EventAttributes,
    ExecutionSummary,
    Failure,
    FailureKind,
    Payload,
    PendingActivity,
    PendingChildWorkflow,
    PendingWorkflowTask,
    ScheduleSummary,
    TimeoutType,
    WorkflowClosed,
    WorkflowStatus,
)

__all__ = ["CLOSING", "closed_answer", "described", "stuck_reason", "summary"]


#: Fires of a schedule, and its next times, in lists.
_RECENT_LISTED_MAX = 5


def closed_answer(run_id: str, attributes: EventAttributes) -> WorkflowClosed | None:
    """The answer for those who wait for the result, from the event that closed the run; ``None`` for other events."""
    make = CLOSING.get(type(attributes))
    return None if make is None else make(run_id, attributes)


def _completed(run_id: str, event: records.WorkflowExecutionCompleted) -> WorkflowClosed:
    return WorkflowClosed(
        run_id=run_id, status=WorkflowStatus.COMPLETED, result=event.result, new_run_id=event.new_run_id
    )


def _failed(run_id: str, event: records.WorkflowExecutionFailed) -> WorkflowClosed:
    return WorkflowClosed(
        run_id=run_id, status=WorkflowStatus.FAILED, failure=event.failure, new_run_id=event.new_run_id
    )


def _canceled(run_id: str, event: records.WorkflowExecutionCanceled) -> WorkflowClosed:
    failure = Failure(kind=FailureKind.CANCELED, message="Workflow cancelled", details=event.details)
    return WorkflowClosed(run_id=run_id, status=WorkflowStatus.CANCELED, failure=failure)


def _terminated(run_id: str, event: records.WorkflowExecutionTerminated) -> WorkflowClosed:
    message = event.reason or "Workflow terminated"
    failure = Failure(kind=FailureKind.TERMINATED, message=message, details=event.details, identity=event.identity)
    return WorkflowClosed(run_id=run_id, status=WorkflowStatus.TERMINATED, failure=failure)


def _timed_out(run_id: str, event: records.WorkflowExecutionTimedOut) -> WorkflowClosed:
    failure = Failure(
        kind=FailureKind.TIMEOUT,
        message="Workflow timed out",
        timeout_type=TimeoutType.START_TO_CLOSE,
        retry_state=event.retry_state,
    )
    return WorkflowClosed(run_id=run_id, status=WorkflowStatus.TIMED_OUT, failure=failure, new_run_id=event.new_run_id)


def _continued(run_id: str, event: records.WorkflowExecutionContinuedAsNew) -> WorkflowClosed:
    return WorkflowClosed(run_id=run_id, status=WorkflowStatus.CONTINUED_AS_NEW, new_run_id=event.new_run_id)


#: The events that close a run.
CLOSING: dict[type, Callable[[str, Any], WorkflowClosed]] = {
    records.WorkflowExecutionCompleted: _completed,
    records.WorkflowExecutionFailed: _failed,
    records.WorkflowExecutionCanceled: _canceled,
    records.WorkflowExecutionTerminated: _terminated,
    records.WorkflowExecutionTimedOut: _timed_out,
    records.WorkflowExecutionContinuedAsNew: _continued,
}


def stuck_reason(task: WorkflowTaskState | None) -> str:
    """Why a run's workflow task fails again and again, in one line; empty if it does not."""
    if task is None or task.attempt < limits.STUCK_ATTEMPT_MIN or task.last_cause == UNHANDLED_COMMAND:
        return ""
    message = "" if task.last_failure is None else task.last_failure.message
    reason = f"{task.last_cause}: {message}" if message else task.last_cause or "no worker has answered in time"
    return " ".join(reason[: limits.STUCK_FAILURE_CHARS_MAX].split())


def summary(state: RunState, version: int) -> ExecutionSummary:
    """The run for the visibility feed. ``version`` is the offset of the newest command that changed it."""
    assert state.status is not None
    task = state.workflow_task
    stuck = stuck_reason(task)
    return ExecutionSummary(
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        first_execution_run_id=state.first_execution_run_id,
        workflow_type=state.workflow_type,
        task_queue=state.task_queue,
        status=state.status,
        start_time_ms=state.start_time_ms,
        execution_time_ms=state.execution_time_ms or state.start_time_ms,
        close_time_ms=state.close_time_ms or None,
        history_length=state.last_event_id,
        version=version,
        memo=state.memo,
        quarantine_reason=state.quarantine_reason,
        search_attributes=state.search_attributes,
        continued_run_id=state.continued_run_id,
        new_run_id=state.new_run_id,
        parent=state.parent,
        paused=state.paused,
        stuck_attempt=task.attempt if stuck and task is not None else 0,
        stuck_reason=stuck,
        deployment_version=deployment_version(state),
        versioning_behavior=effective_behavior(state),
        schedule=None if state.schedule is None else _schedule_summary(state.schedule),
        record_waits=list(state.record_waits.values()),
    )


def _schedule_summary(schedule: ScheduleState) -> ScheduleSummary:
    definition, progress = schedule.definition, schedule.progress
    assert definition is not None
    return ScheduleSummary(
        schedule_id=schedule.schedule_id,
        workflow_type=definition.action.workflow_type,
        spec=definition.spec,
        paused=progress.paused,
        note=progress.note,
        recent=progress.recent[-_RECENT_LISTED_MAX:],
        next_ms=progress.upcoming_ms[:_RECENT_LISTED_MAX],
    )


def described(state: RunState, version: int) -> Described:
    """The run as ``describe`` shows it."""
    task = state.workflow_task
    pending_task = None
    if task is not None:
        pending_task = PendingWorkflowTask(
            attempt=task.attempt,
            scheduled_time_ms=task.scheduled_time_ms,
            last_cause=task.last_cause,
            last_failure=task.last_failure,
        )
    return Described(
        summary=summary(state, version),
        pending_activities=_pending_activities(state),
        pending_children=[_pending_child(child) for child in state.children.values()],
        pending_workflow_task=pending_task,
        execution_timeout_ms=state.execution_timeout_ms,
        run_timeout_ms=state.run_timeout_ms,
        task_timeout_ms=state.task_timeout_ms,
        history_bytes=state.history_bytes,
        static_summary=state.static_summary,
        static_details=state.static_details,
        attempt=state.attempt,
        cron_schedule=state.cron_schedule,
        pause_reason=state.pause_reason,
        current_details=state.current_details,
    )


def _pending_activities(state: RunState) -> list[PendingActivity]:
    left_bytes = limits.DESCRIBED_HEARTBEATS_BYTES_MAX
    found: list[PendingActivity] = []
    for activity in state.activities.values():
        details = activity.heartbeat_details
        size_bytes = sum(len(payload.data) for payload in details)
        if size_bytes > left_bytes:
            details, size_bytes = [], 0
        left_bytes -= size_bytes
        found.append(_pending(activity, details))
    return found


def _pending(activity: ActivityState, heartbeat_details: list[Payload]) -> PendingActivity:
    options = activity.options
    backs_off = activity.status is ActivityStatus.BACKING_OFF
    return PendingActivity(
        activity_id=options.activity_id,
        activity_type=options.activity_type,
        task_queue=options.task_queue,
        attempt=activity.attempt_shown,
        maximum_attempts=options.retry_policy.maximum_attempts,
        scheduled_time_ms=activity.scheduled_time_ms,
        started_time_ms=activity.started_time_ms or None,
        last_heartbeat_time_ms=activity.heartbeat_time_ms or None,
        next_attempt_time_ms=activity.attempt_scheduled_time_ms if backs_off else None,
        last_failure=activity.last_failure,
        cancel_requested=activity.cancel_requested,
        worker_id=activity.worker_id,
        paused=activity.paused,
        pause_reason=activity.pause_reason,
        heartbeat_details=heartbeat_details,
    )


def _pending_child(child: ChildState) -> PendingChildWorkflow:
    return PendingChildWorkflow(
        workflow_id=child.workflow_id,
        run_id=child.run_id,
        workflow_type=child.workflow_type,
        initiated_event_id=child.initiated_event_id,
        parent_close_policy=child.parent_close_policy,
    )
