"""WorkflowTaskCompleted and WorkflowTaskFailed: a worker has run workflow code on, or could not.

Invariants: a task's answer counts once, for the attempt it belongs to (I3); an answer that cannot be taken fails the
task with a cause and is retried, so no run is stuck on one; a run is not closed by code that has not seen all its
signals, so no signal is lost.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.commands.update import is_stale, stale_steps, task_number
from perdure_history.core.commands.workflow_commands import APPLY, first_fault
from perdure_history.core.effects import DropQuery, Ignored, ReleaseUpdates
from perdure_history.core.failures import bounded
from perdure_history.core.retry import workflow_task_backoff_ms
from perdure_history.core.state import UNHANDLED_COMMAND, RunState, WorkflowTaskState, WorkflowTaskStatus
from perdure_schemas import records
from perdure_schemas.records import (
    Command,
    Failure,
    FailureKind,
    RejectUpdate,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
)

__all__ = ["completed", "failed", "scheduled"]


def completed(run: RunState, command: Command, body: WorkflowTaskCompleted, context: Context) -> Steps:
    """Take the commands of a workflow task."""
    if body.speculative_id:
        yield from _speculative_completed(run, command, body, context)
        return
    task = _current_task(run, body.scheduled_event_id, body.attempt)
    if task is None:
        yield Ignored("workflow task is not outstanding")
        return
    fault = first_fault(run, body, context)
    if fault is not None:
        failure = Failure(kind=FailureKind.SERVER, message=fault.message)
        yield from _fail(task, fault.cause, failure, command.identity, context)
        return
    yield from _take(run, command, body, context)


def _speculative_completed(run: RunState, command: Command, body: WorkflowTaskCompleted, context: Context) -> Steps:
    """Take the answer of a task for updates: nothing is written if all were rejected."""
    if is_stale(run, body.scheduled_event_id):
        yield from stale_steps(body.speculative_id, context)
        return
    yield DropQuery(body.speculative_id)
    if first_fault(run, body, context) is not None:
        # A task that stands in the history takes its place, and the fault is found and kept there.
        yield scheduled(run)
        return
    if all(isinstance(step, RejectUpdate) for step in body.commands):
        for step in body.commands:
            yield from APPLY[RejectUpdate](run, step, 0, context)
        yield ReleaseUpdates(task_number(context), body.speculative_id)
        return
    yield msgspec.structs.replace(scheduled(run), speculative=True)
    yield from _take(run, command, body, context)


def _take(run: RunState, command: Command, body: WorkflowTaskCompleted, context: Context) -> Steps:
    completed_event_id = run.last_event_id + 1
    yield records.WorkflowTaskCompletedEvent(
        scheduled_event_id=body.scheduled_event_id,
        last_event_id=body.last_event_id,
        started_time_ms=body.started_time_ms,
        identity=command.identity,
        sticky_worker_id=body.sticky_worker_id,
        sdk_flags=body.sdk_flags,
        deployment_name=body.deployment_name,
        build_id=body.build_id,
        versioning_behavior=body.versioning_behavior,
        current_details=body.current_details,
    )
    for workflow_command in body.commands:
        yield from APPLY[type(workflow_command)](run, workflow_command, completed_event_id, context)
    if body.force_new_task and run.is_open:
        yield scheduled(run)
    yield ReleaseUpdates(task_number(context), body.speculative_id)


def scheduled(run: RunState) -> records.WorkflowTaskScheduled:
    """The event of the run's next workflow task."""
    return records.WorkflowTaskScheduled(
        task_queue=run.task_queue, start_to_close_timeout_ms=run.task_timeout_ms, history_bytes=run.history_bytes
    )


def failed(run: RunState, command: Command, body: WorkflowTaskFailed, context: Context) -> Steps:
    """Try a workflow task again, later and later."""
    if body.speculative_id:
        if is_stale(run, body.scheduled_event_id):
            yield from stale_steps(body.speculative_id, context)
        else:
            yield DropQuery(body.speculative_id)
            yield scheduled(run)
        return
    task = _current_task(run, body.scheduled_event_id, body.attempt)
    if task is None:
        yield Ignored("workflow task is not outstanding")
        return
    yield from _fail(task, body.cause, bounded(body.failure), command.identity, context)


def _current_task(run: RunState, scheduled_event_id: int, attempt: int) -> WorkflowTaskState | None:
    task = run.workflow_task
    if task is None or task.scheduled_event_id != scheduled_event_id or task.attempt != attempt:
        return None
    return task if task.status is WorkflowTaskStatus.DISPATCHED else None


def _fail(task: WorkflowTaskState, cause: str, failure: Failure, identity: str, context: Context) -> Steps:
    if task.attempt == 1:
        yield records.WorkflowTaskFailedEvent(
            scheduled_event_id=task.scheduled_event_id, cause=cause, failure=failure, identity=identity
        )
        return
    # Code that only has to see what has arrived is not at fault: it goes on at once.
    backoff_ms = 0 if cause == UNHANDLED_COMMAND else workflow_task_backoff_ms(task.attempt + 1, context.policy)
    yield records.WorkflowTaskAttemptRecorded(
        scheduled_event_id=task.scheduled_event_id,
        attempt=task.attempt + 1,
        scheduled_time_ms=context.now_ms + backoff_ms,
        last_failure=failure,
        last_cause=cause,
    )
