"""``evolve``: the only writer of run state. It takes no decision and cannot refuse what an event says.

Invariants: event ids of a run are gapless (I2); no step is taken that is not in :mod:`perdure_history.core.lifecycle`;
the same records give the same state whether they are folded from the log or have just been decided, and a record of
unnumbered events is complete in itself, so that compaction may drop its predecessors. Called by the driver of
``decide`` after each event, and by the service's fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.evolve_activities import EVOLVE_ACTIVITIES
from perdure_history.core.evolve_children import EVOLVE_OTHERS
from perdure_history.core.evolve_records import EVOLVE_RECORDS
from perdure_history.core.lifecycle import (
    ATTEMPT_BACKS_OFF,
    ATTEMPT_DISPATCHED,
    NOT_STARTED,
    TIMER,
    UPDATE,
    WORKFLOW,
    WORKFLOW_CLOSED,
    WORKFLOW_TASK,
    IllegalTransitionError,
)
from perdure_history.core.state import (
    ActivityStatus,
    RunState,
    ScheduleState,
    TimerState,
    TimerStatus,
    UpdateState,
    UpdateStatus,
    WorkflowTaskState,
    WorkflowTaskStatus,
)
from perdure_schemas import records
from perdure_schemas.keys import version_name
from perdure_schemas.records import Event, WorkflowStatus

__all__ = ["UNNUMBERED", "HistoryGapError", "evolve", "finish_record"]

#: Events that carry no id: each is replaced by its successor.
UNNUMBERED = frozenset(
    {
        records.ActivityAttemptRecorded,
        records.WorkflowTaskAttemptRecorded,
        records.WorkflowQuarantined,
        records.WorkflowExecutionDeleted,
        records.ScheduleRecorded,
    }
)


class HistoryGapError(Exception):
    """Event ids of a run are not gapless: records of its history are missing, or stand there twice."""


def evolve(state: RunState, event: Event, epoch: int) -> None:
    """Let ``event`` happen to ``state``.

    Parameters:
        epoch: the epoch of the record that holds the event.

    Raises:
        HistoryGapError: the event's id is not the next one.
        IllegalTransitionError: the event does not fit the state.
    """
    kind = type(event.attributes)
    if kind not in UNNUMBERED:
        if event.event_id != state.last_event_id + 1:
            raise HistoryGapError(
                f"run {state.run_id}: event {event.event_id} ({kind.__name__}) follows event {state.last_event_id}"
            )
        state.last_event_id = event.event_id
    if event.event_time_ms > state.last_event_time_ms:
        state.last_event_time_ms = event.event_time_ms
    _EVOLVE[kind](state, event, event.attributes, epoch)


def finish_record(
    state: RunState, *, first_event_id: int, encoded_bytes: int, wake_up_number: int, wake_up_due_ms: int, epoch: int
) -> None:
    """Take in what a whole history record says once its events have evolved the state.

    Parameters:
        first_event_id: the id of its first numbered event; 0 if it has none.
        encoded_bytes: its size in the topic; records without numbered events do not count, since they are replaced.
        wake_up_number / wake_up_due_ms: the run's wake-up after it.
        epoch: the record's epoch.
    """
    if first_event_id:
        state.record_event_id = first_event_id
        state.history_bytes += encoded_bytes
    if wake_up_number != state.wake_up_number or wake_up_due_ms != state.wake_up_due_ms:
        state.wake_up_number = wake_up_number
        state.wake_up_due_ms = wake_up_due_ms
        state.wake_up_epoch = epoch


# --- the workflow ---------------------------------------------------------------------------------------------------


def _started(state: RunState, event: Event, attributes: records.WorkflowExecutionStarted, epoch: int) -> None:
    _move(state, attributes)
    state.workflow_type = attributes.workflow_type
    state.task_queue = attributes.task_queue
    state.first_execution_run_id = attributes.first_execution_run_id
    state.start_command_id = attributes.start_command_id
    state.await_result = attributes.await_result
    state.memo = attributes.memo
    state.parent = attributes.parent
    state.execution_timeout_ms = attributes.execution_timeout_ms
    state.run_timeout_ms = attributes.run_timeout_ms
    state.task_timeout_ms = attributes.task_timeout_ms
    state.start_time_ms = event.event_time_ms
    state.execution_time_ms = event.event_time_ms + attributes.first_task_backoff_ms
    if attributes.first_task_backoff_ms:
        state.first_task_due_ms = state.execution_time_ms
    state.execution_deadline_ms = attributes.execution_deadline_ms
    if not state.execution_deadline_ms and attributes.execution_timeout_ms is not None:
        state.execution_deadline_ms = event.event_time_ms + attributes.execution_timeout_ms
    state.deadline_ms = state.execution_deadline_ms
    if attributes.run_timeout_ms is not None:
        run_deadline_ms = state.execution_time_ms + attributes.run_timeout_ms
        state.deadline_ms = min(state.deadline_ms or run_deadline_ms, run_deadline_ms)
    state.continued_run_id = attributes.continued_run_id
    state.initiator = attributes.initiator
    state.attempt = attributes.attempt
    state.retry_policy = attributes.retry_policy
    state.cron_schedule = attributes.cron_schedule
    state.search_attributes = attributes.search_attributes
    state.static_summary = attributes.static_summary
    state.static_details = attributes.static_details
    state.priority = attributes.priority
    state.versioning_override = attributes.versioning_override
    state.scheduled_by = attributes.scheduled_by
    state.inherited_version = attributes.inherited_version
    state.prefers_ramping = attributes.prefers_ramping
    state.waking_event_id = event.event_id
    state.first_epoch = epoch


def _signaled(state: RunState, event: Event, attributes: records.WorkflowExecutionSignaled, _: int) -> None:
    _move(state, attributes)
    state.waking_event_id = event.event_id
    # A delayed start does not wait on when something comes after it; a back-off and a cron schedule do.
    delayed = not state.initiator and not state.cron_schedule
    if delayed and attributes.command_id != state.start_command_id:
        state.first_task_due_ms = 0


def _cancel_requested(
    state: RunState, event: Event, attributes: records.WorkflowExecutionCancelRequested, _: int
) -> None:
    _move(state, attributes)
    state.cancel_requested = True
    state.cancel_command_id = attributes.command_id
    state.waking_event_id = event.event_id


def _paused(state: RunState, _event: Event, attributes: records.WorkflowExecutionPaused, _: int) -> None:
    _move(state, attributes)
    state.paused = True
    state.pause_reason = attributes.reason
    state.pause_command_id = attributes.command_id


def _unpaused(state: RunState, event: Event, attributes: records.WorkflowExecutionUnpaused, _: int) -> None:
    _move(state, attributes)
    state.paused = False
    state.pause_reason = ""
    for activity in state.activities.values():
        if activity.status is ActivityStatus.SCHEDULED:
            # Only now can a worker have it, so its wait for one begins anew.
            activity.attempt_scheduled_time_ms = event.event_time_ms


def _closed(state: RunState, event: Event, attributes: Any, _: int) -> None:
    _move(state, attributes)
    if state.workflow_task is not None:
        WORKFLOW_TASK.next(state.workflow_task.status, WORKFLOW_CLOSED, state.run_id)
    state.close_time_ms = event.event_time_ms
    state.new_run_id = getattr(attributes, "new_run_id", "")
    state.first_task_due_ms = 0
    state.workflow_task = None
    state.activities = {}
    state.activity_ids = {}
    state.eager_ids = {}
    state.timers = {}
    state.children = {}
    state.external_requests = {}
    state.record_waits = {}
    state.deadline_ms = 0
    state.paused = False
    state.pause_reason = ""
    if type(attributes) is records.WorkflowExecutionTerminated:
        state.terminate_command_id = attributes.command_id


def _move(state: RunState, attributes: Any) -> None:
    following = WORKFLOW.next(state.status or NOT_STARTED, type(attributes).__name__, state.run_id)
    state.status = WorkflowStatus(following)


def _quarantined(state: RunState, _event: Event, attributes: records.WorkflowQuarantined, _: int) -> None:
    state.quarantine_reason = attributes.reason


def _deleted(state: RunState, event: Event, _attributes: records.WorkflowExecutionDeleted, _: int) -> None:
    if state.is_open:
        raise IllegalTransitionError(f"run {state.run_id} is deleted while it is open")
    state.deleted_time_ms = event.event_time_ms


def _search_attributes(
    state: RunState, _event: Event, attributes: records.UpsertWorkflowSearchAttributesEvent, _: int
) -> None:
    state.search_attributes = _changed(state.search_attributes, attributes.search_attributes, attributes.removed)


def _memo(state: RunState, _event: Event, attributes: records.WorkflowPropertiesModified, _: int) -> None:
    state.memo = _changed(state.memo, attributes.upserted_memo, attributes.removed_memo)


def _changed(
    values: dict[str, records.Payload], upserted: dict[str, records.Payload], removed: list[str]
) -> dict[str, records.Payload]:
    # A new dictionary: the old one belongs to an event.
    merged = {**values, **upserted}
    for key in removed:
        merged.pop(key, None)
    return merged


def _marker(_state: RunState, _event: Event, _attributes: records.MarkerRecorded, _: int) -> None:
    """The SDK's own: nothing for the engine."""


# --- the workflow task ------------------------------------------------------------------------------------------------


def _task_scheduled(state: RunState, event: Event, attributes: records.WorkflowTaskScheduled, epoch: int) -> None:
    before = WorkflowTaskStatus.NONE if state.workflow_task is None else state.workflow_task.status
    state.workflow_task = WorkflowTaskState(
        scheduled_event_id=event.event_id,
        attempt=attributes.attempt,
        status=WorkflowTaskStatus(WORKFLOW_TASK.next(before, "WorkflowTaskScheduled", state.run_id)),
        scheduled_time_ms=event.event_time_ms,
        epoch=epoch,
    )
    state.first_task_due_ms = 0


def _task_completed(state: RunState, _event: Event, attributes: records.WorkflowTaskCompletedEvent, _: int) -> None:
    task = _task(state, attributes.scheduled_event_id)
    WORKFLOW_TASK.next(task.status, "WorkflowTaskCompletedEvent", state.run_id)
    state.workflow_task = None
    state.seen_event_id = attributes.last_event_id
    state.sticky_worker_id = attributes.sticky_worker_id
    state.deployment_version = version_name(attributes.deployment_name, attributes.build_id)
    state.versioning_behavior = attributes.versioning_behavior
    state.inherited_version = ""
    state.prefers_ramping = False
    if attributes.current_details is not None:
        state.current_details = attributes.current_details


def _task_failed(state: RunState, event: Event, attributes: records.WorkflowTaskFailedEvent, epoch: int) -> None:
    task = _task(state, attributes.scheduled_event_id)
    task.status = WorkflowTaskStatus(WORKFLOW_TASK.next(task.status, "WorkflowTaskFailedEvent", state.run_id))
    task.attempt += 1
    task.scheduled_time_ms = event.event_time_ms
    task.epoch = epoch
    task.last_cause = attributes.cause
    task.last_failure = attributes.failure
    state.sticky_worker_id = ""


def _task_attempt(state: RunState, event: Event, attributes: records.WorkflowTaskAttemptRecorded, epoch: int) -> None:
    task = _task(state, attributes.scheduled_event_id)
    dispatched = attributes.scheduled_time_ms <= event.event_time_ms
    happening = ATTEMPT_DISPATCHED if dispatched else ATTEMPT_BACKS_OFF
    task.status = WorkflowTaskStatus(WORKFLOW_TASK.next(task.status, happening, state.run_id))
    task.attempt = attributes.attempt
    task.scheduled_time_ms = attributes.scheduled_time_ms
    task.epoch = epoch
    task.last_cause = attributes.last_cause
    task.last_failure = attributes.last_failure
    state.sticky_worker_id = ""


def _task(state: RunState, scheduled_event_id: int) -> WorkflowTaskState:
    task = state.workflow_task
    if task is None or task.scheduled_event_id != scheduled_event_id:
        raise IllegalTransitionError(f"run {state.run_id} has no outstanding workflow task {scheduled_event_id}")
    return task


# --- timers -----------------------------------------------------------------------------------------------------------


def _timer_started(state: RunState, event: Event, attributes: records.TimerStarted, _: int) -> None:
    if attributes.timer_id in state.timers:
        raise IllegalTransitionError(f"run {state.run_id}: timer {attributes.timer_id!r} is running already")
    state.timers[attributes.timer_id] = TimerState(started_event_id=event.event_id, due_time_ms=attributes.due_time_ms)


def _timer_fired(state: RunState, event: Event, attributes: records.TimerFired, _: int) -> None:
    _end_timer(state, attributes)
    state.waking_event_id = event.event_id


def _timer_canceled(state: RunState, _event: Event, attributes: records.TimerCanceled, _: int) -> None:
    _end_timer(state, attributes)


def _end_timer(state: RunState, attributes: records.TimerFired | records.TimerCanceled) -> None:
    timer = state.timers.pop(attributes.timer_id, None)
    status = TimerStatus.NEW if timer is None else TimerStatus.RUNNING
    TIMER.next(status, type(attributes).__name__, f"{state.run_id}/{attributes.timer_id}")


# --- schedules --------------------------------------------------------------------------------------------------------


def _schedule_created(state: RunState, event: Event, attributes: records.ScheduleCreated, epoch: int) -> None:
    _move(state, attributes)
    state.schedule = ScheduleState(schedule_id=attributes.schedule_id)
    state.first_execution_run_id = state.run_id
    state.start_command_id = attributes.command_id
    state.start_time_ms = state.execution_time_ms = event.event_time_ms
    state.first_epoch = epoch


def _schedule_recorded(state: RunState, _event: Event, attributes: records.ScheduleRecorded, _: int) -> None:
    schedule = state.schedule
    if schedule is None:
        raise IllegalTransitionError(f"run {state.run_id} is no schedule")
    if attributes.definition is not None:
        schedule.definition = attributes.definition
        state.workflow_type = attributes.definition.action.workflow_type
        state.task_queue = attributes.definition.action.task_queue
        state.memo = attributes.definition.memo
        state.search_attributes = attributes.definition.search_attributes
    schedule.progress = attributes.progress


# --- updates ----------------------------------------------------------------------------------------------------------


def _update_accepted(
    state: RunState, event: Event, attributes: records.WorkflowExecutionUpdateAccepted, _: int
) -> None:
    known = state.updates.get(attributes.request.update_id)
    UPDATE.next(
        UpdateStatus.NEW if known is None else known.status, "WorkflowExecutionUpdateAccepted",
        f"{state.run_id}/{attributes.request.update_id}",
    )  # fmt: skip
    state.updates[attributes.request.update_id] = UpdateState(accepted_event_id=event.event_id)


def _update_completed(
    state: RunState, event: Event, attributes: records.WorkflowExecutionUpdateCompleted, _: int
) -> None:
    update = state.updates.get(attributes.update_id)
    status = UpdateStatus.NEW if update is None else update.status
    UPDATE.next(status, "WorkflowExecutionUpdateCompleted", f"{state.run_id}/{attributes.update_id}")
    assert update is not None
    update.completed_event_id = event.event_id


_EVOLVE: dict[type, Callable[[RunState, Event, Any, int], None]] = {
    records.WorkflowExecutionStarted: _started,
    records.WorkflowExecutionCompleted: _closed,
    records.WorkflowExecutionFailed: _closed,
    records.WorkflowExecutionTimedOut: _closed,
    records.WorkflowExecutionCanceled: _closed,
    records.WorkflowExecutionTerminated: _closed,
    records.WorkflowExecutionContinuedAsNew: _closed,
    records.UpsertWorkflowSearchAttributesEvent: _search_attributes,
    records.WorkflowPropertiesModified: _memo,
    records.WorkflowExecutionCancelRequested: _cancel_requested,
    records.WorkflowExecutionSignaled: _signaled,
    records.WorkflowExecutionPaused: _paused,
    records.WorkflowExecutionUnpaused: _unpaused,
    records.WorkflowTaskScheduled: _task_scheduled,
    records.WorkflowTaskCompletedEvent: _task_completed,
    records.WorkflowTaskFailedEvent: _task_failed,
    records.TimerStarted: _timer_started,
    records.TimerFired: _timer_fired,
    records.TimerCanceled: _timer_canceled,
    records.MarkerRecorded: _marker,
    **EVOLVE_RECORDS,
    records.WorkflowExecutionUpdateAccepted: _update_accepted,
    records.WorkflowExecutionUpdateCompleted: _update_completed,
    records.WorkflowTaskAttemptRecorded: _task_attempt,
    records.WorkflowQuarantined: _quarantined,
    records.WorkflowExecutionDeleted: _deleted,
    records.ScheduleCreated: _schedule_created,
    records.ScheduleRecorded: _schedule_recorded,
    **EVOLVE_ACTIVITIES,
    **EVOLVE_OTHERS,
}
