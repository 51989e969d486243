"""What an operator does with a pending activity: pause it, let it go on, count its attempts anew, change its options.

A paused activity has no new attempt; one that a worker has runs on, and is told with its heartbeat. The numbers that
name attempts only ever grow, so that late messages of an attempt are known as such (I3); a reset keeps how many were
made before, and what people and retry policies see is counted from there.

Invariant: a decision writes one record of each activity's attempt, which is complete in itself, and a command that
comes twice in a row counts once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from perdure_history.core.commands.activity import attempt_record
from perdure_history.core.commands.activity_options import effective_options, options_fault
from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.effects import Answer, Ignored
from perdure_history.core.evolve_activities import without_payloads
from perdure_history.core.state import ActivityState, ActivityStatus, RunState
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTaskScheduled,
    Command,
    Done,
    ErrorCode,
    PauseActivity,
    Rejected,
    ResetActivity,
    UnpauseActivity,
    UpdateActivityOptions,
)

__all__ = ["pause", "reset", "unpause", "update_options"]


_Operation = PauseActivity | UnpauseActivity | ResetActivity | UpdateActivityOptions
#: What an operation changes of an activity; ``None``: nothing.
_Change = Callable[[ActivityState], dict[str, Any] | None]


def pause(run: RunState, command: Command, body: PauseActivity, _context: Context) -> Steps:
    """Begin no attempt from here on."""

    def change(activity: ActivityState) -> dict[str, Any] | None:
        return None if activity.paused else {"paused": True, "pause_reason": body.reason}

    yield from _apply(run, command, body, change)


def unpause(run: RunState, command: Command, body: UnpauseActivity, context: Context) -> Steps:
    """Begin an attempt at once, or let the one go on that waits for a worker."""

    def change(activity: ActivityState) -> dict[str, Any] | None:
        if not activity.paused:
            return None
        changes: dict[str, Any] = {"paused": False, "pause_reason": ""}
        if body.reset_attempts:
            changes |= _count_anew(activity)
        if body.reset_heartbeat:
            changes |= _drop_heartbeats(activity)
        return changes | _begin(run, activity, changes, body.jitter_ms, context)

    yield from _apply(run, command, body, change)


def reset(run: RunState, command: Command, body: ResetActivity, context: Context) -> Steps:
    """Count the attempts from 1 again: at once, or from the next one on if one runs, whose worker is told."""
    found = _find(run, body)
    original = _original_options(run, found, context) if body.restore_original_options else {}
    for activity in found:
        fault = _queue_fault(activity, original[activity.scheduled_event_id]) if original else ""
        if fault:
            yield from _refuse(run, command, fault)
            return

    def change(activity: ActivityState) -> dict[str, Any] | None:
        if activity.operator_command_id == command.command_id:
            return None
        changes = _count_anew(activity)
        if original:
            changes |= {"options": original[activity.scheduled_event_id]}
        if activity.paused and not body.keep_paused:
            changes |= {"paused": False, "pause_reason": ""}
        if body.reset_heartbeats:
            changes |= _drop_heartbeats(activity)
        return changes | _begin(run, activity, changes, body.jitter_ms, context)

    yield from _apply(run, command, body, change)


def update_options(run: RunState, command: Command, body: UpdateActivityOptions, context: Context) -> Steps:
    """Change options. An attempt that runs keeps those it was handed out with, but its timeouts change at once."""

    found = _find(run, body)
    original = _original_options(run, found, context) if body.restore_original else {}
    wanted: dict[int, ActivityOptions] = {}
    for activity in found:
        options = _with_changes(original[activity.scheduled_event_id] if original else activity.options, body)
        fault = options_fault(options, context.policy) or _queue_fault(activity, options)
        if fault:
            yield from _refuse(run, command, fault)
            return
        wanted[activity.scheduled_event_id] = options

    def change(activity: ActivityState) -> dict[str, Any] | None:
        options = effective_options(
            wanted[activity.scheduled_event_id], run.run_timeout_ms, run.deadline_ms, context.now_ms
        )
        if options == activity.options:
            return None
        changes: dict[str, Any] = {"options": options}
        if activity.status is ActivityStatus.SCHEDULED:
            changes |= _next_number(activity) | {"scheduled_time_ms": context.now_ms}
        return changes

    yield from _apply(run, command, body, change)


def _apply(run: RunState, command: Command, body: _Operation, change: _Change) -> Steps:
    """Record what an operation changes of each activity it means."""
    found = _find(run, body)
    if not found:
        yield from _not_pending(run, command, body)
        return
    changed = [(activity, changes) for activity in found if (changes := change(activity)) is not None]
    if not changed:
        yield from _unchanged(command)
        return
    for activity, changes in changed:
        yield attempt_record(activity, operator_command_id=command.command_id, **changes)
    if command.reply is not None:
        yield Answer(command.reply, Done())


def _find(run: RunState, body: _Operation) -> list[ActivityState]:
    """The activity with an id, or all of a type."""
    if body.activity_type:
        return [one for one in run.activities.values() if one.options.activity_type == body.activity_type]
    activity = run.activities.get(run.activity_ids.get(body.activity_id, 0))
    return [] if activity is None else [activity]


def _not_pending(run: RunState, command: Command, body: _Operation) -> Steps:
    wanted = f"of the type {body.activity_type!r}" if body.activity_type else repr(body.activity_id)
    message = f"workflow {run.workflow_id!r} has no pending activity {wanted}"
    if run.activity_ids:
        message += "; pending are " + ", ".join(sorted(run.activity_ids)[:10])
    yield from _refuse(run, command, message, ErrorCode.NOT_FOUND)


def _refuse(run: RunState, command: Command, message: str, code: ErrorCode = ErrorCode.INVALID_ARGUMENT) -> Steps:
    if command.reply is not None:
        yield Answer(command.reply, Rejected(code=code, message=message, run_id=run.run_id, status=run.status))


def _queue_fault(activity: ActivityState, options: ActivityOptions) -> str:
    """What is wrong with giving an activity another task queue; empty if nothing is."""
    if activity.status is not ActivityStatus.STARTED or options.task_queue == activity.options.task_queue:
        return ""
    return f"a worker runs activity {options.activity_id!r}; its task queue can be changed while it waits only"


def _original_options(
    run: RunState, activities: Iterable[ActivityState], context: Context
) -> dict[int, ActivityOptions]:
    """The options the workflow gave, from its history, by the events that scheduled the activities."""
    wanted = {activity.scheduled_event_id for activity in activities}
    return {
        event.event_id: without_payloads(event.attributes.options)
        for event in (context.events_of(run.run_id) if wanted else ())
        if event.event_id in wanted and isinstance(event.attributes, ActivityTaskScheduled)
    }


def _unchanged(command: Command) -> Steps:
    yield Ignored("the activity is so already")
    if command.reply is not None:
        yield Answer(command.reply, Done())


def _count_anew(activity: ActivityState) -> dict[str, Any]:
    if activity.status is ActivityStatus.STARTED:
        return {"attempts_before": activity.attempt}
    if activity.status is ActivityStatus.BACKING_OFF:
        return {"attempts_before": activity.attempt - 1}
    # It stands with its old number in a record for workers: another one takes its place.
    return {"attempt": activity.attempt + 1, "attempts_before": activity.attempt}


def _next_number(activity: ActivityState) -> dict[str, Any]:
    """Another attempt takes the place of the one that waits for a worker, and is counted as the same one."""
    return {"attempt": activity.attempt + 1, "attempts_before": activity.attempts_before + 1}


def _drop_heartbeats(activity: ActivityState) -> dict[str, Any]:
    if activity.status is ActivityStatus.STARTED:
        return {"drops_heartbeats": True}
    return {"heartbeat_details": []}


def _begin(
    run: RunState, activity: ActivityState, changes: dict[str, Any], jitter_ms: int, context: Context
) -> dict[str, Any]:
    """When an attempt that does not run begins: now, or up to ``jitter_ms`` later, which differs between activities."""
    if activity.status is ActivityStatus.STARTED:
        return {}
    if jitter_ms <= 0:
        return {"scheduled_time_ms": context.now_ms}
    name = f"{run.run_id}/{activity.scheduled_event_id}/{context.offset}"
    begun = {"scheduled_time_ms": context.now_ms + zlib.crc32(name.encode()) % (jitter_ms + 1)}
    if activity.status is ActivityStatus.SCHEDULED and "attempt" not in changes:
        # It stands in a record for workers, and is to wait: another one takes its place.
        begun |= _next_number(activity)
    return begun


def _with_changes(options: ActivityOptions, body: UpdateActivityOptions) -> ActivityOptions:
    retry = {
        "initial_interval_ms": body.retry_initial_interval_ms,
        "maximum_interval_ms": body.retry_maximum_interval_ms,
        "backoff_coefficient": body.retry_backoff_coefficient,
        "maximum_attempts": body.retry_maximum_attempts,
    }
    given = {
        "task_queue": body.task_queue or None,
        "schedule_to_close_timeout_ms": body.schedule_to_close_timeout_ms,
        "schedule_to_start_timeout_ms": body.schedule_to_start_timeout_ms,
        "start_to_close_timeout_ms": body.start_to_close_timeout_ms,
        "heartbeat_timeout_ms": body.heartbeat_timeout_ms,
    }
    retry_policy = msgspec.structs.replace(options.retry_policy, **_without_none(retry))
    return msgspec.structs.replace(options, retry_policy=retry_policy, **_without_none(given))


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
