"""``react``: what other topics have to learn when an event happens to a run.

Invariant: an effect follows from the event and the state *before* it alone, so whoever folds the event later can send
the same effects again (I4), and their ids are functions of (run id, event id, attempt) (I3). Called by the driver of
``decide`` before each event evolves the state, and by the service's fold for records whose effects may be unsent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core import composition, schedule_effects
from perdure_history.core.answers import CLOSING, closed_answer
from perdure_history.core.effects import (
    AnswerWaiters,
    ArmWakeUp,
    DispatchActivity,
    DispatchWorkflowTask,
    DropSummary,
    DropTask,
    DropWakeUp,
    Effect,
    EndUpdates,
    RejectQueries,
    ReleaseQueries,
    Summarize,
    UpdateAccepted,
    UpdateCompleted,
)
from perdure_history.core.state import (
    UNHANDLED_COMMAND,
    ActivityState,
    ActivityStatus,
    RunState,
    WorkflowTaskState,
    WorkflowTaskStatus,
    was_reset,
)
from perdure_schemas import records
from perdure_schemas.keys import activity_task_id, version_name, workflow_task_id
from perdure_schemas.limits import STUCK_ATTEMPT_MIN
from perdure_schemas.records import ErrorCode, Event

__all__ = ["react", "react_to_wake_up"]

#: Of the wake-ups that a fold does not see, so many newest ones are dropped again: older ones were, long ago.
_PASSED_WAKE_UPS_MAX = 1_000


def react(state: RunState, event: Event, effects: list[Effect]) -> None:
    """Add to ``effects`` what follows from ``event`` happening to ``state``, which is still as it was before."""
    reaction = _REACT.get(type(event.attributes))
    if reaction is not None:
        reaction(state, event, event.attributes, effects)


def react_to_wake_up(state: RunState, number: int, due_ms: int, effects: list[Effect]) -> None:
    """Add what follows from the run's wake-up being this one from here on; ``state`` has the one before."""
    if number == state.wake_up_number and due_ms == state.wake_up_due_ms:
        return
    # All that are not armed from here on. When state is folded from a compacted history the records that armed some of
    # them may be gone, and their timers would stay for ever.
    first = state.wake_up_number if state.wake_up_due_ms else state.wake_up_number + 1
    newest = number - 1 if due_ms else number
    for one in range(max(first, newest - _PASSED_WAKE_UPS_MAX), newest + 1):
        effects.append(DropWakeUp(one, state.wake_up_epoch))
    if due_ms:
        effects.append(ArmWakeUp(number, due_ms))


def _started(_state: RunState, _event: Event, _attributes: Any, effects: list[Effect]) -> None:
    effects.append(Summarize())


def _closed(state: RunState, _event: Event, attributes: Any, effects: list[Effect]) -> None:
    if state.workflow_task is not None:
        _drop_workflow_task(state, state.workflow_task, effects)
    for activity in state.activities.values():
        _drop_activity(state, activity, effects, interrupted=True)
    effects.append(Summarize())
    answer = closed_answer(state.run_id, attributes)
    assert answer is not None
    effects.append(AnswerWaiters(answer, state.await_result))
    composition.apply_parent_close_policies(state, effects)
    composition.tell_parent(state, attributes, answer, effects)
    effects.append(ReleaseQueries(None))
    effects.append(EndUpdates(ErrorCode.NOT_FOUND, "workflow execution already completed", True))


def _task_scheduled(
    _state: RunState, event: Event, attributes: records.WorkflowTaskScheduled, effects: list[Effect]
) -> None:
    if not attributes.speculative:
        effects.append(DispatchWorkflowTask(event.event_id, attributes.attempt))


def _task_completed(
    state: RunState, _event: Event, attributes: records.WorkflowTaskCompletedEvent, effects: list[Effect]
) -> None:
    if state.workflow_task is not None:
        _drop_workflow_task(state, state.workflow_task, effects)
    was_stuck = state.workflow_task is not None and state.workflow_task.attempt >= STUCK_ATTEMPT_MIN
    if (
        was_stuck
        or attributes.versioning_behavior is not state.versioning_behavior
        or version_name(attributes.deployment_name, attributes.build_id) != state.deployment_version
    ):
        effects.append(Summarize())
    effects.append(ReleaseQueries(attributes.last_event_id))


def _task_failed(
    state: RunState, _event: Event, attributes: records.WorkflowTaskFailedEvent, effects: list[Effect]
) -> None:
    task = state.workflow_task
    if task is not None:
        _drop_workflow_task(state, task, effects)
        effects.append(DispatchWorkflowTask(attributes.scheduled_event_id, task.attempt + 1))


def _task_attempt(
    state: RunState, event: Event, attributes: records.WorkflowTaskAttemptRecorded, effects: list[Effect]
) -> None:
    task = state.workflow_task
    if task is not None and task.attempt != attributes.attempt:
        _drop_workflow_task(state, task, effects)
    if attributes.scheduled_time_ms <= event.event_time_ms:
        effects.append(DispatchWorkflowTask(attributes.scheduled_event_id, attributes.attempt))
    else:
        effects.append(RejectQueries(failing_message(attributes.last_cause)))
    failed_again = task is not None and task.attempt != attributes.attempt
    if failed_again and attributes.attempt >= STUCK_ATTEMPT_MIN and attributes.last_cause != UNHANDLED_COMMAND:
        effects.append(Summarize())


def failing_message(cause: str) -> str:
    """What is told to those who query a workflow whose code fails."""
    return f"the workflow task fails ({cause}) and is retried; repair the workflow code, then query again"


def _drop_workflow_task(state: RunState, task: WorkflowTaskState, effects: list[Effect]) -> None:
    if task.status is WorkflowTaskStatus.DISPATCHED:
        task_id = workflow_task_id(state.run_id, task.scheduled_event_id, task.attempt)
        effects.append(DropTask(task_id, state.task_queue, task.epoch))


def _activity_scheduled(
    _state: RunState, event: Event, attributes: records.ActivityTaskScheduled, effects: list[Effect]
) -> None:
    if not attributes.start_delay_ms:
        effects.append(DispatchActivity(event.event_id, 1, attributes.options))


def _activity_closed(state: RunState, _event: Event, attributes: Any, effects: list[Effect]) -> None:
    activity = state.activities.get(attributes.scheduled_event_id)
    if activity is not None:
        timed_out = type(attributes) is records.ActivityTaskTimedOut
        _drop_activity(state, activity, effects, interrupted=timed_out)


def _activity_attempt(
    state: RunState, event: Event, attributes: records.ActivityAttemptRecorded, effects: list[Effect]
) -> None:
    activity = state.activities.get(attributes.scheduled_event_id)
    if activity is None:
        return
    is_next = attributes.attempt != activity.attempt
    if is_next:
        by_operator = attributes.operator_command_id != activity.operator_command_id
        _drop_activity(state, activity, effects, interrupted=by_operator)
    elif (attributes.left_open and not activity.left_open) or (
        activity.status is not ActivityStatus.BACKING_OFF
        and (attributes.paused != activity.paused or (was_reset(attributes) and not was_reset(activity)))
    ):
        # The same task again, now with that on it: matching takes it from the worker, or tells the worker.
        effects.append(DispatchActivity(attributes.scheduled_event_id, attributes.attempt))
    if attributes.started_time_ms is not None or attributes.scheduled_time_ms > event.event_time_ms:
        return
    if is_next or activity.status is ActivityStatus.BACKING_OFF:
        effects.append(DispatchActivity(attributes.scheduled_event_id, attributes.attempt))


def _activity_cancel_requested(
    state: RunState, _event: Event, attributes: records.ActivityTaskCancelRequested, effects: list[Effect]
) -> None:
    activity = state.activities.get(attributes.scheduled_event_id)
    if activity is not None and activity.status is not ActivityStatus.BACKING_OFF:
        # The same task again, now with the request on it: matching tells the worker.
        effects.append(DispatchActivity(activity.scheduled_event_id, activity.attempt))


def _drop_activity(
    state: RunState, activity: ActivityState, effects: list[Effect], *, interrupted: bool = False
) -> None:
    if activity.status is not ActivityStatus.BACKING_OFF:
        task_id = activity_task_id(state.run_id, activity.task_event_id, activity.attempt)
        effects.append(DropTask(task_id, activity.options.task_queue, activity.epoch, interrupted))


def _summarize(_state: RunState, _event: Event, _attributes: Any, effects: list[Effect]) -> None:
    effects.append(Summarize())


def _held_or_not(state: RunState, _event: Event, _attributes: Any, effects: list[Effect]) -> None:
    """The same tasks again, now with a hold on them, or without it."""
    effects.append(Summarize())
    task = state.workflow_task
    if task is not None and task.status is WorkflowTaskStatus.DISPATCHED:
        effects.append(DispatchWorkflowTask(task.scheduled_event_id, task.attempt))
    for activity in state.activities.values():
        if activity.status is not ActivityStatus.BACKING_OFF:
            effects.append(DispatchActivity(activity.scheduled_event_id, activity.attempt))


def _quarantined(
    _state: RunState, _event: Event, attributes: records.WorkflowQuarantined, effects: list[Effect]
) -> None:
    effects.append(Summarize())
    if attributes.reason:
        effects.append(EndUpdates(ErrorCode.QUARANTINED, f"the run is quarantined: {attributes.reason}", False))


def _deleted(_state: RunState, _event: Event, _attributes: Any, effects: list[Effect]) -> None:
    effects.append(DropSummary())


def _update_accepted(
    _state: RunState, _event: Event, attributes: records.WorkflowExecutionUpdateAccepted, effects: list[Effect]
) -> None:
    effects.append(UpdateAccepted(attributes.request.update_id))


def _update_completed(
    _state: RunState, _event: Event, attributes: records.WorkflowExecutionUpdateCompleted, effects: list[Effect]
) -> None:
    effects.append(UpdateCompleted(attributes.update_id, attributes.result, attributes.failure))


_REACT: dict[type, Callable[[RunState, Event, Any, list[Effect]], None]] = {
    records.WorkflowExecutionStarted: _started,
    **dict.fromkeys(CLOSING, _closed),
    records.WorkflowTaskScheduled: _task_scheduled,
    records.WorkflowTaskCompletedEvent: _task_completed,
    records.WorkflowTaskFailedEvent: _task_failed,
    records.WorkflowTaskAttemptRecorded: _task_attempt,
    records.ActivityTaskScheduled: _activity_scheduled,
    records.ActivityTaskCompletedEvent: _activity_closed,
    records.ActivityTaskFailedEvent: _activity_closed,
    records.ActivityTaskTimedOut: _activity_closed,
    records.ActivityTaskCanceledEvent: _activity_closed,
    records.ActivityAttemptRecorded: _activity_attempt,
    records.ActivityTaskCancelRequested: _activity_cancel_requested,
    records.WorkflowQuarantined: _quarantined,
    records.WorkflowExecutionDeleted: _deleted,
    records.WorkflowExecutionPaused: _held_or_not,
    records.WorkflowExecutionUnpaused: _held_or_not,
    records.StartChildWorkflowExecutionInitiated: composition.start_child,
    records.SignalExternalWorkflowExecutionInitiated: composition.signal_external,
    records.RequestCancelExternalWorkflowExecutionInitiated: composition.cancel_external,
    records.WorkflowExecutionUpdateAccepted: _update_accepted,
    records.WorkflowExecutionUpdateCompleted: _update_completed,
    records.UpsertWorkflowSearchAttributesEvent: _summarize,
    records.WorkflowPropertiesModified: _summarize,
    records.RecordWaitStarted: _summarize,
    records.RecordWaitCanceled: _summarize,
    records.RecordArrived: _summarize,
    records.ScheduleRecorded: schedule_effects.recorded,
}
