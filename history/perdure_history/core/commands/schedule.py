"""Schedules: made, changed, fired and removed; what clients, timers and the workflows they started say to them.

A schedule is a run of its own kind: every decision about it is one unnumbered event that is complete in itself.
Invariants: I3: a client's command that was taken is known by its id, a message about a fire by the fire's number; I6: a
wake-up is checked against the state, and one that comes early or late finds what is due. Called by the driver of
``decide``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.commands.activity_options import retry_policy_fault
from perdure_history.core.commands.context import Context, Steps, payloads_too_large, reason_too_long
from perdure_history.core.commands.properties import memo_fault, search_attributes_fault, static_text_fault
from perdure_history.core.effects import Answer, Ignored, WakeUpSpent
from perdure_history.core.failures import bounded
from perdure_history.core.policy import Policy, Times
from perdure_history.core.schedule_effects import scheduled_attributes
from perdure_history.core.scheduling import Draft, upcoming
from perdure_history.core.state import RunState
from perdure_schemas import limits, records
from perdure_schemas.keys import is_schedule, schedule_workflow_id
from perdure_schemas.records import (
    BackfillRange,
    Command,
    CreateSchedule,
    Done,
    ErrorCode,
    Rejected,
    ReplyBody,
    ScheduleCreated,
    ScheduleDefinition,
    ScheduleDescribed,
    ScheduleProgress,
    ScheduleRecorded,
    ScheduleTimes,
    Started,
)

__all__ = ["HANDLERS", "REQUESTS", "created_again", "creation_fault", "new_schedule_steps", "no_schedule"]

#: What is added to the workflow id of an action, at most.
_SUFFIX_CHARS = 32


# --- making one -------------------------------------------------------------------------------------------------------


def created_again(run: RunState, command: Command, body: CreateSchedule) -> bool:
    """Whether ``run`` is what this very command has made."""
    return run.run_id == body.run_id or run.start_command_id == command.command_id


def creation_fault(command: Command, body: CreateSchedule, context: Context) -> str:
    """What is wrong with a schedule that is to be made; empty if nothing is."""
    if not body.schedule_id or len(command.workflow_id) > context.policy.workflow_id_chars_max:
        chars_max = context.policy.workflow_id_chars_max - len(schedule_workflow_id(""))
        return f"the schedule id must have 1 to {chars_max} characters"
    if command.workflow_id != schedule_workflow_id(body.schedule_id):
        return f"schedule {body.schedule_id!r} cannot live under the workflow id {command.workflow_id!r}"
    if not body.run_id or "/" in body.run_id or "@" in body.run_id or len(body.run_id) > context.policy.name_chars_max:
        return f"{body.run_id[:80]!r} cannot be the run id of a schedule"
    return (
        _definition_fault(body.schedule_id, body.definition, context.policy)
        or _state_fault(body, context.policy)
        or _ranges_fault(body.backfills, [])
    )


def new_schedule_steps(run: RunState, command: Command, body: CreateSchedule, context: Context) -> Steps:
    """The first events of a schedule."""
    yield ScheduleCreated(schedule_id=body.schedule_id, identity=command.identity, command_id=command.command_id)
    progress = ScheduleProgress(
        paused=body.paused,
        note=body.note,
        limited_actions=body.limited_actions,
        remaining_actions=body.remaining_actions,
        covered_ms=context.now_ms,
        created_ms=context.now_ms,
    )
    times = context.policy.schedule_times(body.definition.spec, body.schedule_id)
    draft = Draft(run.run_id, body.definition, progress, times, context.now_ms, context.policy.carried_bytes_max)
    if body.trigger:
        draft.trigger(None)
    draft.backfill(body.backfills)
    yield _recorded(draft, body.definition)
    if command.reply is not None:
        yield Answer(command.reply, Started(run_id=run.run_id, first_execution_run_id=run.run_id))


# --- what clients ask -------------------------------------------------------------------------------------------------


def no_schedule(run: RunState | None, command: Command, _body: Any, _context: Context) -> Steps:
    """A request for a schedule came to a workflow."""
    message = f"{command.workflow_id!r} is no schedule"
    yield from _answer(command, Rejected(code=ErrorCode.NOT_FOUND, message=message))


def _change(make: Callable[[Draft, Any, RunState, Context], str]) -> Callable[..., Steps]:
    """A handler of a command that changes the schedule once; ``make`` returns what is wrong with the command."""

    def changed(run: RunState, command: Command, body: Any, context: Context) -> Steps:
        draft = _draft(run, context)
        known = draft.progress.command_ids
        if command.command_id in known:
            yield Ignored("schedule has taken this command")
            yield from _answer(command, Done())
            return
        fault = make(draft, body, run, context)
        if fault:
            yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=fault))
            return
        draft.set(command_ids=[*known, command.command_id][-limits.SCHEDULE_COMMANDS_KEPT_MAX :])
        yield _recorded(draft)
        yield from _answer(command, Done())

    return changed


def _pause(draft: Draft, body: records.PauseSchedule, _run: RunState, context: Context) -> str:
    draft.advance()  # what was due before the pause is not lost to it
    draft.set(paused=True, note=body.note)
    return reason_too_long(context.policy, body.note)


def _unpause(draft: Draft, body: records.UnpauseSchedule, _run: RunState, context: Context) -> str:
    if draft.progress.paused:
        draft.unpause(body.note)
    else:
        draft.set(note=body.note)
    return reason_too_long(context.policy, body.note)


def _trigger(draft: Draft, body: records.TriggerSchedule, _run: RunState, _context: Context) -> str:
    draft.trigger(body.overlap)
    return ""


def _backfill(draft: Draft, body: records.BackfillSchedule, _run: RunState, _context: Context) -> str:
    draft.backfill(body.ranges)
    return _ranges_fault(body.ranges, draft.progress.backfills) or ("" if body.ranges else "a backfill needs a range")


def _update(run: RunState, command: Command, body: records.UpdateSchedule, context: Context) -> Steps:
    draft = _draft(run, context)
    progress = draft.progress
    if command.command_id in progress.command_ids:
        yield Ignored("schedule has taken this command")
        yield from _answer(command, Done())
        return
    schedule = run.schedule
    assert schedule is not None
    fault = _definition_fault(schedule.schedule_id, body.definition, context.policy) or _state_fault(
        body, context.policy
    )
    if fault:
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=fault))
        return
    if body.revision not in (-1, progress.revision):
        message = f"schedule {schedule.schedule_id!r} was updated meanwhile; describe it again, then update"
        yield from _answer(command, Rejected(code=ErrorCode.FAILED_PRECONDITION, message=message))
        return
    draft.redefine(body.definition, context.policy.schedule_times(body.definition.spec, schedule.schedule_id))
    draft.set(
        paused=body.paused,
        note=body.note,
        limited_actions=body.limited_actions,
        remaining_actions=body.remaining_actions,
        revision=progress.revision + 1,
        updated_ms=context.now_ms,
        command_ids=[*progress.command_ids, command.command_id][-limits.SCHEDULE_COMMANDS_KEPT_MAX :],
    )
    yield _recorded(draft, body.definition)
    yield from _answer(command, Done())


def _delete(run: RunState, command: Command, _body: records.DeleteSchedule, _context: Context) -> Steps:
    if run.deleted_time_ms:
        if run.terminate_command_id == command.command_id:
            yield from _answer(command, Done())
        else:
            name = "" if run.schedule is None else run.schedule.schedule_id
            yield from _answer(command, Rejected(code=ErrorCode.NOT_FOUND, message=f"schedule {name!r} not found"))
        return
    why, identity, command_id = "the schedule is deleted", command.identity, command.command_id
    yield records.WorkflowExecutionTerminated(reason=why, identity=identity, command_id=command_id)
    yield records.WorkflowExecutionDeleted(reason=why, identity=identity, command_id=command_id)
    yield from _answer(command, Done())


def _describe(run: RunState, command: Command, _body: records.DescribeSchedule, context: Context) -> Steps:
    schedule = run.schedule
    assert schedule is not None
    assert schedule.definition is not None
    after_ms = max(schedule.progress.covered_ms, context.now_ms)
    yield from _answer(
        command,
        ScheduleDescribed(
            schedule_id=schedule.schedule_id,
            definition=schedule.definition,
            progress=schedule.progress,
            next_ms=upcoming(_times(run, context), after_ms, limits.SCHEDULE_RECENT_MAX),
        ),
    )


def _list_times(run: RunState, command: Command, body: records.ListScheduleTimes, context: Context) -> Steps:
    if not 1 <= body.times_max <= limits.SCHEDULE_TIMES_LISTED_MAX:
        message = f"{body.times_max} times were asked for; 1 to {limits.SCHEDULE_TIMES_LISTED_MAX} can be"
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message))
        return
    times = _times(run, context)
    found: list[int] = []
    nominal_ms = times.next_ms(body.start_ms - 1)
    while nominal_ms is not None and nominal_ms <= body.end_ms and len(found) < body.times_max:
        found.append(times.scheduled_ms(nominal_ms))
        nominal_ms = times.next_ms(nominal_ms)
    complete = nominal_ms is None or nominal_ms > body.end_ms
    yield from _answer(command, ScheduleTimes(times_ms=found, is_complete=complete))


# --- what timers and workflows say ------------------------------------------------------------------------------------


def _reached(run: RunState, _command: Command, body: records.DeadlineReached, context: Context) -> Steps:
    if not run.wake_up_due_ms or body.arm_number != run.wake_up_number:
        yield Ignored("wake-up is not armed")
        return
    yield WakeUpSpent()
    assert run.schedule is not None
    due_ms = run.schedule.progress.next_due_ms
    if due_ms and due_ms <= context.now_ms:
        yield _recorded(_draft(run, context))


def _closed(run: RunState, _command: Command, body: records.ChildWorkflowClosed, context: Context) -> Steps:
    draft = _draft(run, context)
    failure = None if body.failure is None else bounded(body.failure)
    if draft.closed(body.initiated_event_id, body.status, body.result, failure):
        yield _recorded(draft)
    else:
        yield Ignored("fire of the schedule is not running")


def _start_failed(run: RunState, _command: Command, body: records.ChildWorkflowStartFailed, context: Context) -> Steps:
    draft = _draft(run, context)
    if draft.refused(body.initiated_event_id, body.cause, body.message):
        yield _recorded(draft)
    else:
        yield Ignored("fire of the schedule is not running")


def _started(_run: RunState, _command: Command, _body: records.ChildWorkflowStarted, _context: Context) -> Steps:
    yield Ignored("fire of the schedule has started, as it should")


# --- parts ------------------------------------------------------------------------------------------------------------


def _answer(command: Command, body: ReplyBody) -> Steps:
    yield Ignored("request has no asker") if command.reply is None else Answer(command.reply, body)


def _times(run: RunState, context: Context) -> Times:
    schedule = run.schedule
    assert schedule is not None
    assert schedule.definition is not None
    return context.policy.schedule_times(schedule.definition.spec, schedule.schedule_id)


def _draft(run: RunState, context: Context) -> Draft:
    schedule = run.schedule
    assert schedule is not None
    assert schedule.definition is not None
    return Draft(
        run.run_id,
        schedule.definition,
        schedule.progress,
        _times(run, context),
        context.now_ms,
        context.policy.carried_bytes_max,
    )


def _recorded(draft: Draft, definition: ScheduleDefinition | None = None) -> ScheduleRecorded:
    draft.advance()
    draft.count_revision()
    return ScheduleRecorded(
        definition=definition, progress=draft.progress, started=draft.started, stopped=draft.stopped
    )


def _definition_fault(schedule_id: str, definition: ScheduleDefinition, policy: Policy) -> str:
    action = definition.action
    if not action.workflow_id or len(action.workflow_id) + _SUFFIX_CHARS > policy.workflow_id_chars_max:
        return f"the action's workflow id must have 1 to {policy.workflow_id_chars_max - _SUFFIX_CHARS} characters"
    if is_schedule(action.workflow_id):
        return f"the action's workflow id {action.workflow_id!r} is one of a schedule; choose another"
    for what, name in (("workflow type", action.workflow_type), ("task queue", action.task_queue)):
        if not name or len(name) > policy.name_chars_max:
            return f"the action's {what} must have 1 to {policy.name_chars_max} characters"
    for what, timeout_ms in (
        ("execution timeout", action.execution_timeout_ms),
        ("run timeout", action.run_timeout_ms),
        ("task timeout", action.task_timeout_ms),
    ):
        if timeout_ms is not None and timeout_ms <= 0:
            return f"the action's {what} is {timeout_ms} ms; it must be above zero, or not set"
    if definition.catchup_window_ms < 0:
        return f"the catch-up window is {definition.catchup_window_ms} ms; it cannot be negative"
    payloads = (*action.input, *action.header.values(), *action.memo.values(), *definition.memo.values())
    fault = (
        # All of it stands in one record, together with the newest result.
        payloads_too_large(policy, payloads)
        or memo_fault(action.memo, policy)
        or memo_fault(definition.memo, policy)
        or search_attributes_fault({**action.search_attributes, **scheduled_attributes(schedule_id, "")}, policy)
        or search_attributes_fault(definition.search_attributes, policy)
        or static_text_fault(action.static_summary, action.static_details, policy)
        or (retry_policy_fault(action.retry_policy) if action.retry_policy is not None else "")
    )
    if fault:
        return fault
    try:
        policy.schedule_times(definition.spec, schedule_id)
    except ValueError as error:
        return str(error)
    return ""


def _state_fault(body: CreateSchedule | records.UpdateSchedule, policy: Policy) -> str:
    if body.remaining_actions < 0:
        return f"{body.remaining_actions} actions cannot remain; give 0 or more"
    if body.remaining_actions and not body.limited_actions:
        return "remaining_actions is given, but limited_actions is false; set both, or neither"
    return reason_too_long(policy, body.note)


def _ranges_fault(ranges: list[BackfillRange], others: list[BackfillRange]) -> str:
    if len(others) + len(ranges) > limits.SCHEDULE_BACKFILLS_MAX:
        return f"a schedule has at most {limits.SCHEDULE_BACKFILLS_MAX} backfills that are not done"
    for part in ranges:
        if part.start_ms > part.end_ms:
            return "a backfill ends before it starts"
    return ""


#: What clients ask of schedules.
REQUESTS: dict[type, Callable[..., Steps]] = {
    records.UpdateSchedule: _update,
    records.PauseSchedule: _change(_pause),
    records.UnpauseSchedule: _change(_unpause),
    records.TriggerSchedule: _change(_trigger),
    records.BackfillSchedule: _change(_backfill),
    records.DeleteSchedule: _delete,
    records.DescribeSchedule: _describe,
    records.ListScheduleTimes: _list_times,
}
HANDLERS: dict[type, Callable[..., Steps]] = {
    **REQUESTS,
    records.DeadlineReached: _reached,
    records.ChildWorkflowClosed: _closed,
    records.ChildWorkflowStartFailed: _start_failed,
    records.ChildWorkflowStarted: _started,
}
