"""What the HTTP API shows of runs, events and pending work: structs, and how they are made from records. Pure.

Times are RFC 3339 in UTC, durations milliseconds. Called by the operations; the structs are also the documentation.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure_ops.history_view import event_type, plain
from perdure_ops.http_api.operations import Answer
from perdure_ops.http_api.values import SearchAttribute, json_of, json_values, search_attributes_of
from perdure_schemas.records import (
    Described,
    Event,
    ExecutionSummary,
    Failure,
    PendingActivity,
    PendingChildWorkflow,
    PendingWorkflowTask,
    RetryState,
    TimeoutType,
    VersioningBehavior,
    WorkflowStatus,
)

__all__ = [
    "ActivityView",
    "ChildView",
    "EventView",
    "FailureView",
    "Run",
    "RunDescription",
    "RunReference",
    "described_run",
    "event_view",
    "failure_view",
    "run_of",
    "time_of",
]


def time_of(time_ms: int | None) -> datetime | None:
    """A time of the log; ``None`` stays."""
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


class FailureView(msgspec.Struct, kw_only=True):
    """A failure, and what caused it. ``type`` is the kind of error that the code named."""

    kind: str
    message: str
    type: str
    stack_trace: str
    non_retryable: bool
    details: list[msgspec.Raw]
    timeout_type: TimeoutType | None
    activity_type: str
    workflow_id: str
    retry_state: RetryState | None
    cause: FailureView | None


def failure_view(failure: Failure | None) -> FailureView | None:
    """A failure with its causes; ``None`` stays."""
    if failure is None:
        return None
    return FailureView(
        kind=failure.kind.value,
        message=failure.message,
        type=failure.type,
        stack_trace=failure.stack_trace,
        non_retryable=failure.non_retryable,
        details=json_values([*failure.details, *failure.last_heartbeat_details]),
        timeout_type=failure.timeout_type,
        activity_type=failure.activity_type,
        workflow_id=failure.workflow_id,
        retry_state=failure.retry_state,
        cause=failure_view(failure.cause),
    )


# --- runs -----------------------------------------------------------------------------------------------------------


class RunReference(msgspec.Struct, kw_only=True):
    """A run of a workflow."""

    workflow_id: str
    run_id: str


class Run(Answer, kw_only=True):
    """A run of a workflow, as lists show it.

    ``stuck_reason`` says why its workflow task fails again and again, if it does; ``quarantine_reason`` why a message
    to it could not be processed.
    """

    workflow_id: str
    run_id: str
    first_execution_run_id: str
    workflow_type: str
    task_queue: str
    status: WorkflowStatus
    start_time: datetime
    execution_time: datetime
    close_time: datetime | None
    history_length: int
    memo: dict[str, msgspec.Raw]
    search_attributes: dict[str, SearchAttribute]
    parent: RunReference | None
    root: RunReference | None
    #: The runs before and after this one in its chain.
    continued_run_id: str
    new_run_id: str
    paused: bool
    stuck_reason: str
    quarantine_reason: str
    worker_version: str
    versioning_behavior: VersioningBehavior


class ActivityView(msgspec.Struct, kw_only=True):
    """A pending activity.

    ``state`` is SCHEDULED, STARTED, BACKING_OFF, CANCEL_REQUESTED or PAUSED; ``maximum_attempts`` 0: no limit.
    ``heartbeat_details`` are those of the last heartbeat, also of an earlier attempt; too many of them are left out.
    """

    activity_id: str
    activity_type: str
    task_queue: str
    state: str
    attempt: int
    maximum_attempts: int
    scheduled_time: datetime
    started_time: datetime | None
    last_heartbeat_time: datetime | None
    heartbeat_details: list[msgspec.Raw]
    next_attempt_time: datetime | None
    last_failure: FailureView | None
    worker_id: str
    paused: bool
    pause_reason: str


class ChildView(msgspec.Struct, kw_only=True):
    """A child workflow that is open or being started; without ``run_id`` it is not known to have started."""

    workflow_id: str
    run_id: str
    workflow_type: str
    initiated_event_id: int
    parent_close_policy: str


class WorkflowTaskView(msgspec.Struct, kw_only=True):
    """The outstanding workflow task, with why its last attempt failed."""

    attempt: int
    scheduled_time: datetime
    last_cause: str
    last_failure: FailureView | None


class RunDescription(Run, kw_only=True):
    """A run as the engine sees it now."""

    history_bytes: int
    attempt: int
    cron_schedule: str
    execution_timeout_ms: int | None
    run_timeout_ms: int | None
    task_timeout_ms: int
    pause_reason: str
    static_summary: msgspec.Raw
    static_details: msgspec.Raw
    current_details: msgspec.Raw
    pending_activities: list[ActivityView]
    pending_children: list[ChildView]
    pending_workflow_task: WorkflowTaskView | None


def _run_fields(summary: ExecutionSummary) -> dict[str, Any]:
    parent = summary.parent
    return {
        "workflow_id": summary.workflow_id,
        "run_id": summary.run_id,
        "first_execution_run_id": summary.first_execution_run_id,
        "workflow_type": summary.workflow_type,
        "task_queue": summary.task_queue,
        "status": summary.status,
        "start_time": _time(summary.start_time_ms),
        "execution_time": _time(summary.execution_time_ms),
        "close_time": time_of(summary.close_time_ms),
        "history_length": summary.history_length,
        "memo": {key: json_of(value) for key, value in summary.memo.items()},
        "search_attributes": search_attributes_of(summary.search_attributes),
        "parent": None if parent is None else RunReference(workflow_id=parent.workflow_id, run_id=parent.run_id),
        "root": None
        if parent is None
        else RunReference(workflow_id=parent.root_workflow_id, run_id=parent.root_run_id),
        "continued_run_id": summary.continued_run_id,
        "new_run_id": summary.new_run_id,
        "paused": summary.paused,
        "stuck_reason": summary.stuck_reason,
        "quarantine_reason": summary.quarantine_reason,
        "worker_version": summary.deployment_version,
        "versioning_behavior": summary.versioning_behavior,
    }


def run_of(summary: ExecutionSummary) -> Run:
    """A run from its summary."""
    return Run(**_run_fields(summary))


def described_run(described: Described) -> RunDescription:
    """A run from the engine's description."""
    task = described.pending_workflow_task
    return RunDescription(
        **_run_fields(described.summary),
        history_bytes=described.history_bytes,
        attempt=described.attempt,
        cron_schedule=described.cron_schedule,
        execution_timeout_ms=described.execution_timeout_ms,
        run_timeout_ms=described.run_timeout_ms,
        task_timeout_ms=described.task_timeout_ms,
        pause_reason=described.pause_reason,
        static_summary=json_of(described.static_summary),
        static_details=json_of(described.static_details),
        current_details=json_of(described.current_details),
        pending_activities=[_activity(activity) for activity in described.pending_activities],
        pending_children=[_child(child) for child in described.pending_children],
        pending_workflow_task=None if task is None else _workflow_task(task),
    )


def _activity(activity: PendingActivity) -> ActivityView:
    if activity.paused:
        state = "PAUSED"
    elif activity.cancel_requested:
        state = "CANCEL_REQUESTED"
    elif activity.started_time_ms is not None:
        state = "STARTED"
    else:
        state = "SCHEDULED" if activity.next_attempt_time_ms is None else "BACKING_OFF"
    return ActivityView(
        activity_id=activity.activity_id,
        activity_type=activity.activity_type,
        task_queue=activity.task_queue,
        state=state,
        attempt=activity.attempt,
        maximum_attempts=activity.maximum_attempts,
        scheduled_time=_time(activity.scheduled_time_ms),
        started_time=time_of(activity.started_time_ms),
        last_heartbeat_time=time_of(activity.last_heartbeat_time_ms),
        heartbeat_details=json_values(activity.heartbeat_details),
        next_attempt_time=time_of(activity.next_attempt_time_ms),
        last_failure=failure_view(activity.last_failure),
        worker_id=activity.worker_id,
        paused=activity.paused,
        pause_reason=activity.pause_reason,
    )


def _child(child: PendingChildWorkflow) -> ChildView:
    return ChildView(
        workflow_id=child.workflow_id,
        run_id=child.run_id,
        workflow_type=child.workflow_type,
        initiated_event_id=child.initiated_event_id,
        parent_close_policy=child.parent_close_policy.value,
    )


def _workflow_task(task: PendingWorkflowTask) -> WorkflowTaskView:
    return WorkflowTaskView(
        attempt=task.attempt,
        scheduled_time=_time(task.scheduled_time_ms),
        last_cause=task.last_cause,
        last_failure=failure_view(task.last_failure),
    )


# --- events ---------------------------------------------------------------------------------------------------------


class EventView(msgspec.Struct, kw_only=True):
    """An event of a history. ``attributes`` depend on its type; those that hold their default are left out."""

    event_id: int
    event_time: datetime
    event_type: str
    attributes: dict[str, Any]


def event_view(event: Event) -> EventView:
    """An event from its record."""
    return EventView(
        event_id=event.event_id,
        event_time=_time(event.event_time_ms),
        event_type=event_type(event),
        attributes=plain(event.attributes, json_of),
    )
