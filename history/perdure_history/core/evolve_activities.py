"""``evolve`` for activities: scheduled, their attempts, their ends.

Invariants: as in :mod:`perdure_history.core.evolve`, of which this is a part; every step is in a table of
:mod:`perdure_history.core.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from perdure_history.core.lifecycle import (
    ACTIVITY,
    ATTEMPT_BACKS_OFF,
    ATTEMPT_DISPATCHED,
    ATTEMPT_STARTED,
    IllegalTransitionError,
)
from perdure_history.core.state import ActivityState, ActivityStatus, RunState
from perdure_schemas import records
from perdure_schemas.records import ActivityOptions, Event

__all__ = ["EVOLVE_ACTIVITIES", "without_payloads"]


def _scheduled(state: RunState, event: Event, attributes: records.ActivityTaskScheduled, epoch: int) -> None:
    options = attributes.options
    activity = ActivityState(
        scheduled_event_id=event.event_id,
        record_event_id=attributes.workflow_task_completed_event_id,
        options=without_payloads(options),
        scheduled_time_ms=event.event_time_ms,
        attempt=1,
        status=ActivityStatus.BACKING_OFF if attributes.start_delay_ms else ActivityStatus.SCHEDULED,
        attempt_scheduled_time_ms=event.event_time_ms + attributes.start_delay_ms,
        epoch=epoch,
        eager_worker_id=attributes.eager_worker_id,
        eager_event_id=attributes.eager_event_id,
    )
    state.activities[event.event_id] = activity
    state.activity_ids[options.activity_id] = event.event_id
    if attributes.eager_event_id:
        state.eager_ids[attributes.eager_event_id] = event.event_id


def without_payloads(options: ActivityOptions) -> ActivityOptions:
    """The options without what may be large and is needed for dispatching only."""
    if not options.input and not options.header and options.summary is None:
        return options
    return msgspec.structs.replace(options, input=[], header={}, summary=None)


def _attempt(state: RunState, event: Event, attributes: records.ActivityAttemptRecorded, epoch: int) -> None:
    activity = _activity(state, attributes.scheduled_event_id)
    if attributes.started_time_ms is not None:
        happening = ATTEMPT_STARTED
    elif attributes.scheduled_time_ms <= event.event_time_ms:
        happening = ATTEMPT_DISPATCHED
    else:
        happening = ATTEMPT_BACKS_OFF
    if attributes.attempt != activity.attempt or activity.status is ActivityStatus.BACKING_OFF:
        activity.epoch = epoch
    activity.status = ActivityStatus(ACTIVITY.next(activity.status, happening, _name(state, activity)))
    activity.attempt = attributes.attempt
    activity.attempt_scheduled_time_ms = attributes.scheduled_time_ms
    activity.started_time_ms = attributes.started_time_ms or 0
    activity.worker_id = attributes.worker_id
    activity.heartbeat_time_ms = attributes.heartbeat_time_ms or 0
    activity.heartbeat_details = attributes.heartbeat_details
    activity.last_failure = attributes.last_failure
    activity.left_open = attributes.left_open
    activity.paused = attributes.paused
    activity.pause_reason = attributes.pause_reason
    activity.attempts_before = attributes.attempts_before
    activity.drops_heartbeats = attributes.drops_heartbeats
    activity.operator_command_id = attributes.operator_command_id
    if attributes.options is not None:
        activity.options = attributes.options
        activity.has_new_options = True


def _cancel_requested(state: RunState, _event: Event, attributes: records.ActivityTaskCancelRequested, _: int) -> None:
    activity = _activity(state, attributes.scheduled_event_id)
    ACTIVITY.next(activity.status, "ActivityTaskCancelRequested", _name(state, activity))
    activity.cancel_requested = True


def _closed(state: RunState, event: Event, attributes: Any, _: int) -> None:
    activity = _activity(state, attributes.scheduled_event_id)
    ACTIVITY.next(activity.status, type(attributes).__name__, _name(state, activity))
    del state.activities[activity.scheduled_event_id]
    del state.activity_ids[activity.options.activity_id]
    if activity.eager_event_id:
        del state.eager_ids[activity.eager_event_id]
    state.waking_event_id = event.event_id


def _activity(state: RunState, scheduled_event_id: int) -> ActivityState:
    activity = state.activities.get(scheduled_event_id)
    if activity is None:
        raise IllegalTransitionError(f"run {state.run_id} has no pending activity {scheduled_event_id}")
    return activity


def _name(state: RunState, activity: ActivityState) -> str:
    return f"{state.run_id}/{activity.scheduled_event_id}"


#: A part of the table of :mod:`perdure_history.core.evolve`.
EVOLVE_ACTIVITIES: dict[type, Callable[[RunState, Event, Any, int], None]] = {
    records.ActivityTaskScheduled: _scheduled,
    records.ActivityTaskCompletedEvent: _closed,
    records.ActivityTaskFailedEvent: _closed,
    records.ActivityTaskTimedOut: _closed,
    records.ActivityTaskCanceledEvent: _closed,
    records.ActivityTaskCancelRequested: _cancel_requested,
    records.ActivityAttemptRecorded: _attempt,
}
