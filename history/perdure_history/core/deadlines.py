"""When a run has to be looked at again: all its deadlines, and the one that is armed.

A run has at most one wake-up in ``timers``. Invariants: an open run with a deadline has a wake-up armed that is due
no later; a deadline that became void leaves the wake-up as it is, which then comes early and is armed anew. A
start-to-close timeout runs from the moment an attempt is *known* to have started, so a short activity costs no timer
at all. Called by the driver of ``decide`` and by the command that a wake-up is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from perdure_history.core.state import ActivityState, ActivityStatus, RunState, TimerState, WorkflowTaskStatus
from perdure_schemas import records
from perdure_schemas.records import Event, TimeoutType

__all__ = [
    "DueActivity",
    "DueFirstTask",
    "DueTask",
    "DueTimer",
    "activity_due",
    "due_items",
    "earliest_ms",
    "event_deadline_ms",
]


class DueTimer(NamedTuple):
    """A timer of the workflow is due."""

    timer_id: str
    timer: TimerState


class DueActivity(NamedTuple):
    """An activity ran into a timeout, or (``None``) its next attempt is due."""

    activity: ActivityState
    timeout: TimeoutType | None


class DueTask(NamedTuple):
    """The next attempt of the workflow task is due."""

    scheduled_event_id: int


class DueFirstTask(NamedTuple):
    """The run's first workflow task is due: a delayed start, a back-off or a cron schedule is over."""


def _activity_deadlines(activity: ActivityState, held: bool) -> Iterator[tuple[int, TimeoutType | None]]:
    """An activity's deadlines. Where two are equal the first one yielded counts: it ends more."""
    options = activity.options
    if options.schedule_to_close_timeout_ms is not None:
        yield activity.scheduled_time_ms + options.schedule_to_close_timeout_ms, TimeoutType.SCHEDULE_TO_CLOSE
    if activity.status is ActivityStatus.BACKING_OFF:
        yield activity.attempt_scheduled_time_ms, None
    elif activity.status is ActivityStatus.STARTED:
        if options.start_to_close_timeout_ms is not None:
            yield activity.started_time_ms + options.start_to_close_timeout_ms, TimeoutType.START_TO_CLOSE
        if options.heartbeat_timeout_ms is not None:
            alive_ms = max(activity.started_time_ms, activity.heartbeat_time_ms)
            yield alive_ms + options.heartbeat_timeout_ms, TimeoutType.HEARTBEAT
    elif options.schedule_to_start_timeout_ms is not None and not (held or activity.paused):
        yield activity.attempt_scheduled_time_ms + options.schedule_to_start_timeout_ms, TimeoutType.SCHEDULE_TO_START


def activity_due(activity: ActivityState, *, held: bool) -> tuple[int, TimeoutType | None]:
    """An activity's earliest deadline and what it is (``None``: the next attempt's time); time 0 if it has none.

    ``held``: its run is paused, so no worker can get it.
    """
    return min(_activity_deadlines(activity, held), key=lambda deadline: deadline[0], default=(0, None))


def earliest_ms(state: RunState) -> int:
    """The run's earliest deadline; 0 if it has none."""
    due = [timer.due_time_ms for timer in state.timers.values()]
    activities = (activity_due(activity, held=state.paused) for activity in state.activities.values())
    due += [due_ms for due_ms, _ in activities if due_ms]
    due += [due_ms for due_ms in (state.deadline_ms, state.first_task_due_ms) if due_ms]
    task = state.workflow_task
    if task is not None and task.status is WorkflowTaskStatus.BACKING_OFF:
        due.append(task.scheduled_time_ms)
    if state.schedule is not None and state.schedule.progress.next_due_ms:
        due.append(state.schedule.progress.next_due_ms)
    return min(due, default=0)


def event_deadline_ms(state: RunState, event: Event) -> int:
    """The earliest deadline that ``event``, which has just happened to ``state``, brought; 0 if it brought none."""
    deadline = _EVENT_DEADLINES.get(type(event.attributes))
    return 0 if deadline is None else deadline(state, event, event.attributes)


def _of_scheduled(state: RunState, event: Event, _attributes: records.ActivityTaskScheduled) -> int:
    return activity_due(state.activities[event.event_id], held=state.paused)[0]


def _of_attempt(state: RunState, _event: Event, attributes: records.ActivityAttemptRecorded) -> int:
    return activity_due(state.activities[attributes.scheduled_event_id], held=state.paused)[0]


def _of_task_attempt(_state: RunState, event: Event, attributes: records.WorkflowTaskAttemptRecorded) -> int:
    return attributes.scheduled_time_ms if attributes.scheduled_time_ms > event.event_time_ms else 0


_EVENT_DEADLINES: dict[type, Callable[[RunState, Event, Any], int]] = {
    records.TimerStarted: lambda _state, _event, attributes: attributes.due_time_ms,
    records.ActivityTaskScheduled: _of_scheduled,
    records.ActivityAttemptRecorded: _of_attempt,
    records.WorkflowTaskAttemptRecorded: _of_task_attempt,
    records.ScheduleRecorded: lambda _state, _event, attributes: attributes.progress.next_due_ms,
    records.WorkflowExecutionUnpaused: lambda state, _event, _attributes: earliest_ms(state),
    records.WorkflowExecutionStarted: lambda state, _event, _attributes: min(
        (due_ms for due_ms in (state.deadline_ms, state.first_task_due_ms) if due_ms), default=0
    ),
}


def due_items(state: RunState, now_ms: int) -> list[DueTimer | DueActivity | DueTask | DueFirstTask]:
    """What is due at ``now_ms``, in the order in which it became due. The run's own deadline is not among it."""
    due: list[tuple[int, int, DueTimer | DueActivity | DueTask | DueFirstTask]] = []
    if state.first_task_due_ms and state.first_task_due_ms <= now_ms:
        due.append((state.first_task_due_ms, 1, DueFirstTask()))
    for timer_id, timer in state.timers.items():
        if timer.due_time_ms <= now_ms:
            due.append((timer.due_time_ms, timer.started_event_id, DueTimer(timer_id, timer)))
    for activity in state.activities.values():
        due_ms, timeout = activity_due(activity, held=state.paused)
        if due_ms and due_ms <= now_ms:
            due.append((due_ms, activity.scheduled_event_id, DueActivity(activity, timeout)))
    task = state.workflow_task
    if task is not None and task.status is WorkflowTaskStatus.BACKING_OFF and task.scheduled_time_ms <= now_ms:
        due.append((task.scheduled_time_ms, task.scheduled_event_id, DueTask(task.scheduled_event_id)))
    due.sort(key=lambda item: item[:2])
    return [item for _, _, item in due]
