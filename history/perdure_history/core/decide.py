"""``decide``: one command against the state, giving the events of its decision and their effects.

The driver lets every event happen to the state before its handler goes on, then adds what belongs to every decision:
the termination of a run that has grown too large, a workflow task if the code has something to see, and the wake-up.

Invariants: deciding is deterministic (I2): the time is the command's timestamp, ids are event ids; a command that fits
no rule changes nothing (I3, I6); at most one workflow task and one wake-up of a run are outstanding. Called by the
service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from perdure_history.core.commands import (
    activity,
    activity_operations,
    activity_requests,
    children,
    deadline,
    deletion,
    fork,
    operations,
    reads,
    record_waits,
    reset,
    schedule,
    signal,
    start,
    update,
    workflow_task,
)
from perdure_history.core.commands.context import Context, Steps, no_events, no_history
from perdure_history.core.deadlines import earliest_ms, event_deadline_ms
from perdure_history.core.effects import Answer, DropQuery, Effect, Ignored, StartNextRun, WakeUpSpent
from perdure_history.core.evolve import UNNUMBERED, evolve
from perdure_history.core.policy import Policy
from perdure_history.core.react import react, react_to_wake_up
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.keys import SCHEDULE_PREFIX
from perdure_schemas.records import (
    Command,
    CreateSchedule,
    Done,
    ErrorCode,
    Event,
    ForkWorkflow,
    RecordEmitted,
    Rejected,
    ResetWorkflow,
    Started,
    StartWorkflow,
    WorkflowExecutionStarted,
)

__all__ = ["Decision", "QuarantinedError", "RunDecision", "decide", "quarantine"]


class QuarantinedError(Exception):
    """A message for a quarantined run: it is not processed and belongs to the dead letters (I5)."""


class RunDecision(msgspec.Struct, gc=False):
    """What a command means for one run. ``state`` is the state after it.

    ``wake_up_number`` and ``wake_up_due_ms`` are the run's wake-up from here on; ``state`` gets them with the record.
    """

    state: RunState
    now_ms: int
    events: list[Event]
    effects: list[Effect]
    wake_up_number: int = 0
    wake_up_due_ms: int = 0
    #: The run that follows this one, which closes.
    next_run: StartNextRun | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether it needs a history record."""
        state = self.state
        return (
            bool(self.events)
            or self.wake_up_number != state.wake_up_number
            or self.wake_up_due_ms != state.wake_up_due_ms
        )

    @property
    def emits(self) -> bool:
        """Whether it sends records to topics of the user's. What begins a run sends none: it holds copies only."""
        events = self.events
        return len(events) > 1 and events[0].event_id != 1 and any(type(e.attributes) is RecordEmitted for e in events)


class Decision(msgspec.Struct, gc=False):
    """What a command means: for each run it touches (in the order of their parts), and for an asker without a run."""

    runs: list[RunDecision] = []
    effects: list[Effect] = []


_Handler = Callable[[RunState, Command, Any, Context], Steps]

#: What clients ask; all others are messages of workers, matching and timers.
_REQUESTS: dict[type, _Handler] = {
    records.SignalWorkflow: signal.signal,
    records.CancelWorkflow: signal.cancel,
    records.TerminateWorkflow: signal.terminate,
    records.DescribeWorkflow: reads.describe,
    records.AwaitResult: reads.await_result,
    records.FetchHistory: reads.fetch_history,
    records.QueryWorkflow: reads.query,
    records.UpdateWorkflow: update.update,
    records.AwaitUpdate: update.await_update,
    records.CompleteActivity: activity_requests.completed,
    records.FailActivity: activity_requests.failed,
    records.ReportActivityCanceled: activity_requests.canceled,
    records.HeartbeatActivity: activity_requests.heartbeat,
    records.PauseActivity: activity_operations.pause,
    records.UnpauseActivity: activity_operations.unpause,
    records.ResetActivity: activity_operations.reset,
    records.UpdateActivityOptions: activity_operations.update_options,
    records.PauseWorkflow: operations.pause,
    records.UnpauseWorkflow: operations.unpause,
    records.ReleaseWorkflow: operations.release,
    records.DeleteWorkflow: deletion.delete,
    **dict.fromkeys(schedule.REQUESTS, schedule.no_schedule),
}
_MESSAGES: dict[type, _Handler] = {
    records.WorkflowTaskCompleted: workflow_task.completed,
    records.WorkflowTaskFailed: workflow_task.failed,
    records.ActivityTaskStarted: activity.started,
    records.ActivityTaskHeartbeat: activity.heartbeat,
    records.ActivityTaskCompleted: activity.completed,
    records.ActivityTaskFailed: activity.failed,
    records.ActivityTaskCanceled: activity.canceled,
    records.ActivityLeaseLost: activity.lease_lost,
    records.ActivityLeftOpen: activity.left_open,
    records.QueryTaskCompleted: reads.query_completed,
    records.QueryTaskExpired: reads.query_expired,
    records.DeadlineReached: deadline.reached,
    records.ChildWorkflowStarted: children.child_started,
    records.ChildWorkflowStartFailed: children.child_start_failed,
    records.ChildWorkflowClosed: children.child_closed,
    records.ExternalWorkflowAnswered: children.external_answered,
    records.DeliverRecord: record_waits.delivered,
}
_HANDLERS = {**_REQUESTS, **_MESSAGES}
#: What is for schedules as for workflows.
_FOR_ALL_RUNS: dict[type, _Handler] = {
    records.FetchHistory: reads.fetch_history,
    records.ReleaseWorkflow: operations.release,
}
_SCHEDULE_HANDLERS = {**_FOR_ALL_RUNS, **schedule.HANDLERS}
_FOR_CLOSED_RUNS = frozenset(
    {
        records.DeleteSchedule,
        records.DescribeWorkflow,
        records.AwaitResult,
        records.FetchHistory,
        records.QueryWorkflow,
        records.QueryTaskCompleted,
        records.QueryTaskExpired,
        records.UpdateWorkflow,
        records.AwaitUpdate,
        records.DeleteWorkflow,
    }
)
_FOR_QUARANTINED_RUNS = frozenset(
    {
        records.DescribeSchedule,
        records.DeleteSchedule,
        records.DescribeWorkflow,
        records.AwaitResult,
        records.FetchHistory,
        records.TerminateWorkflow,
        records.ReleaseWorkflow,
        records.DeleteWorkflow,
    }
)


def decide(
    command: Command,
    *,
    run: RunState | None,
    timestamp_ms: int,
    offset: int,
    epoch: int,
    repeated: bool,
    policy: Policy,
    started_of: Callable[[str], WorkflowExecutionStarted] = no_history,
    events_of: Callable[[str], list[Event]] = no_events,
    since_epoch: int = -1,
) -> Decision:
    """Decide one command. The states that are passed in are changed.

    Parameters:
        run: the run the command is about: the one it names, or the workflow's newest one; for a start the run that has
            the proposed run id, if there is one, else the newest one.
        timestamp_ms: the command record's timestamp.
        offset: the command record's offset.
        epoch: the owner's epoch.
        repeated: whether ``run`` has taken a signal with this command id before.
        started_of: the first event of a run that exists, from its history.
        events_of: all numbered events of a run that exists, from its history; for a fork, of the run it brings along.
        since_epoch: the oldest epoch whose owner may have decided this command, too, without a trace in the history;
            -1: there is none but ``epoch``.

    Raises:
        QuarantinedError: a message for a quarantined run.
    """
    body = command.body
    if run is not None and run.last_event_time_ms > timestamp_ms:
        timestamp_ms = run.last_event_time_ms
    if isinstance(body, records.DeadlineReached):
        timestamp_ms = max(timestamp_ms, body.due_time_ms)
    context = Context(timestamp_ms, epoch, offset, repeated, policy, started_of, events_of, since_epoch)
    if run is not None and run.deleted_time_ms and not _concerns_deleted(run, body):
        run = None
    if isinstance(body, StartWorkflow):
        return _decide_start(command, body, run, context)
    if isinstance(body, ResetWorkflow):
        return _decide_reset(command, body, run, context)
    if isinstance(body, ForkWorkflow):
        return _decide_fork(command, body, run, context)
    if isinstance(body, CreateSchedule):
        return _decide_create(command, body, run, context)
    kind = type(body)
    refusal = _refusal(run, command, kind, repeated)
    if refusal is not None:
        late = getattr(body, "speculative_id", "")
        if run is None or run.is_open or not late:
            return Decision(effects=[refusal])
        # An earlier owner may have handed it out: nobody else knows that it is still in the queue.
        return Decision(runs=[_drive(run, iter((refusal, DropQuery(late))), context)])
    assert run is not None
    pause = _pause_of(run)
    handlers = _HANDLERS if run.schedule is None else _SCHEDULE_HANDLERS
    decided = _drive(run, handlers[kind](run, command, body, context), context)
    following = decided.next_run
    if following is None:
        return Decision(runs=[decided])
    new = RunState(workflow_id=run.workflow_id, run_id=following.run_id)
    return Decision(runs=[decided, _drive(new, iter((following.started, *pause)), context)])


def _pause_of(run: RunState) -> Sequence[records.WorkflowExecutionPaused]:
    """What keeps the run that follows a paused one paused: an operator means the workflow, not one of its runs."""
    if not run.paused:
        return ()
    return (records.WorkflowExecutionPaused(reason=run.pause_reason, command_id=run.pause_command_id),)


def quarantine(
    run: RunState, reason: str, *, timestamp_ms: int, offset: int, epoch: int, policy: Policy, since_epoch: int = -1
) -> RunDecision:
    """Put a run into quarantine because the command at ``offset`` could not be processed (I5)."""
    context = Context(max(timestamp_ms, run.last_event_time_ms), epoch, offset, False, policy, since_epoch=since_epoch)
    event = records.WorkflowQuarantined(reason=reason, command_offset=offset)
    return _drive(run, iter((event,)), context)


def _concerns_deleted(run: RunState, body: records.CommandBody) -> bool:
    """Whether a command sees a deleted run: its deletion does, and a repetition of what made it."""
    if isinstance(body, StartWorkflow | ForkWorkflow):
        return run.run_id == body.run_id
    if isinstance(body, CreateSchedule):
        return run.run_id == body.run_id
    return isinstance(body, records.DeleteWorkflow | records.DeleteSchedule)


def _refusal(run: RunState | None, command: Command, kind: type, repeated: bool) -> Effect | None:
    """What happens to a command that cannot be handled as things are; ``None`` if it can."""
    if run is None:
        schedule_id = command.workflow_id.removeprefix(SCHEDULE_PREFIX)
        name = f"workflow {command.workflow_id!r}" if kind not in schedule.REQUESTS else f"schedule {schedule_id!r}"
        message = f"{name} not found"
        if command.run_id:
            message = f"workflow {command.workflow_id!r} has no run {command.run_id!r}"
        return _refuse(command, kind, "run is unknown", ErrorCode.NOT_FOUND, message, None)
    if run.schedule is not None and kind not in _SCHEDULE_HANDLERS:
        message = (
            f"{run.schedule.schedule_id!r} is a schedule; `perdure schedule` and the client's schedule handles serve it"
        )
        return _refuse(command, kind, "run is a schedule", ErrorCode.FAILED_PRECONDITION, message, run)
    if run.quarantine_reason and kind not in _FOR_QUARANTINED_RUNS:
        message = f"the run is quarantined: {run.quarantine_reason}; look into it, then release or terminate the run"
        if command.reply is None or kind not in _REQUESTS:
            raise QuarantinedError(f"run {run.run_id}: {message}")
        return _refuse(command, kind, "run is quarantined", ErrorCode.QUARANTINED, message, run)
    first_run_id = getattr(command.body, "first_execution_run_id", "")
    if first_run_id and run.first_execution_run_id != first_run_id:
        message = f"workflow {command.workflow_id!r} has no open run of the chain that began with {first_run_id!r}"
        return _refuse(command, kind, "run is of another chain", ErrorCode.NOT_FOUND, message, run)
    if not run.is_open and kind not in _FOR_CLOSED_RUNS:
        done = repeated or command.command_id in (run.cancel_command_id, run.terminate_command_id)
        if command.reply is not None and done:
            return Answer(command.reply, Done())
        message = "workflow execution already completed"
        return _refuse(command, kind, "run is closed", ErrorCode.NOT_FOUND, message, run)
    return None


def _refuse(command: Command, kind: type, reason: str, code: ErrorCode, message: str, run: RunState | None) -> Effect:
    if command.reply is None or kind not in _REQUESTS:
        return Ignored(reason)
    run_id, status = ("", None) if run is None else (run.run_id, run.status)
    return Answer(command.reply, Rejected(code=code, message=message, run_id=run_id, status=status))


def _decide_start(command: Command, body: StartWorkflow, current: RunState | None, context: Context) -> Decision:
    if current is not None and current.workflow_id != command.workflow_id:
        message = f"run id {body.run_id!r} belongs to workflow {current.workflow_id!r}; propose a new one"
        rejected = Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message)
        return Decision(effects=[_answer_start(command, rejected)])
    if current is not None and (context.repeated or start.is_repetition(current, command, body)):
        # A repeated start with a signal that some run has taken is settled, whatever became of that run.
        return Decision(runs=[_drive(current, start.existing_run_steps(current, command, body, context), context)])
    refusal = start.refusal(current, command, body, context)
    if refusal is not None:
        return Decision(effects=[_answer_start(command, refusal)])
    decided = []
    if current is not None and current.is_open:
        if current.quarantine_reason and not start.replaces_running(body):
            return _refuse_quarantined_start(command, current)
        if start.uses_running(current, body):
            return Decision(runs=[_drive(current, start.existing_run_steps(current, command, body, context), context)])
        terminated = records.WorkflowExecutionTerminated(
            reason=f"replaced by run {body.run_id}", identity=command.identity, command_id=command.command_id
        )
        decided.append(_drive(current, iter((terminated,)), context))
    new = RunState(workflow_id=command.workflow_id, run_id=body.run_id)
    decided.append(_drive(new, start.new_run_steps(new, command, body, context), context))
    return Decision(runs=decided)


def _decide_create(command: Command, body: CreateSchedule, current: RunState | None, context: Context) -> Decision:
    answer: records.ReplyBody
    if current is not None and current.workflow_id != command.workflow_id:
        message = f"run id {body.run_id!r} belongs to workflow {current.workflow_id!r}; propose a new one"
        answer = Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message)
    elif current is not None and schedule.created_again(current, command, body):
        answer = Started(run_id=current.run_id, first_execution_run_id=current.run_id, created=False)
    elif current is not None and current.is_open:
        answer = Rejected(
            code=ErrorCode.ALREADY_EXISTS, message=f"schedule {body.schedule_id!r} exists", run_id=current.run_id
        )
    else:
        invalid = schedule.creation_fault(command, body, context)
        if not invalid:
            new = RunState(workflow_id=command.workflow_id, run_id=body.run_id)
            return Decision(runs=[_drive(new, schedule.new_schedule_steps(new, command, body, context), context)])
        answer = Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid)
    if command.reply is None:
        return Decision(effects=[Ignored("schedule is not made")])
    return Decision(effects=[Answer(command.reply, answer)])


def _answer_start(command: Command, rejected: Rejected) -> Effect:
    return Ignored("start is refused") if command.reply is None else Answer(command.reply, rejected)


def _refuse_quarantined_start(command: Command, current: RunState) -> Decision:
    message = f"the running run is quarantined: {current.quarantine_reason}; terminate it first"
    if command.reply is None:
        raise QuarantinedError(f"run {current.run_id}: {message}")
    rejected = Rejected(code=ErrorCode.QUARANTINED, message=message, run_id=current.run_id, status=current.status)
    return Decision(effects=[Answer(command.reply, rejected)])


def _decide_reset(command: Command, body: ResetWorkflow, run: RunState | None, context: Context) -> Decision:
    try:
        run = reset.resettable(run, command, body)
        events = context.events_of(run.run_id)
        point = reset.reset_point(events, body)
    except reset.SettledError as settled:
        answer = Ignored("reset changes nothing") if command.reply is None else Answer(command.reply, settled.answer)
        return Decision(effects=[answer])
    decided = []
    if run.is_open:
        decided.append(_drive(run, iter((reset.termination(command, body),)), context))
    new = RunState(workflow_id=run.workflow_id, run_id=body.run_id)
    decided.append(_drive(new, reset.new_run_steps(run.run_id, events, point, command, body, context), context))
    return Decision(runs=decided)


def _decide_fork(command: Command, body: ForkWorkflow, current: RunState | None, context: Context) -> Decision:
    events = context.events_of(body.source_run_id)
    try:
        point = fork.fork_point(current, events, command, body)
    except reset.SettledError as settled:
        answer = Ignored("fork changes nothing") if command.reply is None else Answer(command.reply, settled.answer)
        return Decision(effects=[answer])
    new = RunState(workflow_id=command.workflow_id, run_id=body.run_id)
    return Decision(runs=[_drive(new, fork.new_run_steps(events, point, command, body, context), context)])


# --- the driver -------------------------------------------------------------------------------------------------------


def _drive(state: RunState, steps: Steps, context: Context) -> RunDecision:
    decision = RunDecision(state, context.now_ms, [], [])
    spent = False
    new_deadline_ms = 0
    for step in steps:
        if isinstance(step, Effect):
            if type(step) is WakeUpSpent:
                spent = True
            elif type(step) is StartNextRun:
                decision.next_run = step
            else:
                decision.effects.append(step)
            continue
        if isinstance(step, Event):
            due_ms = _happen(decision, step.attributes, context, step.event_time_ms)
        else:
            due_ms = _happen(decision, step, context)
        if due_ms and (not new_deadline_ms or due_ms < new_deadline_ms):
            new_deadline_ms = due_ms
    if decision.events and state.is_open:
        _add_what_every_decision_needs(decision, context)
    _set_wake_up(decision, spent=spent, new_deadline_ms=new_deadline_ms)
    return decision


def _happen(decision: RunDecision, attributes: Any, context: Context, time_ms: int = 0) -> int:
    """Let one event happen, now or at the time it has; returns the earliest deadline it brought, or 0."""
    state = decision.state
    event_id = 0 if type(attributes) in UNNUMBERED else state.last_event_id + 1
    event = Event(event_id=event_id, event_time_ms=time_ms or context.now_ms, attributes=attributes)
    react(state, event, decision.effects)
    evolve(state, event, context.epoch if context.since_epoch < 0 else context.since_epoch)
    decision.events.append(event)
    return event_deadline_ms(state, event)


def _add_what_every_decision_needs(decision: RunDecision, context: Context) -> None:
    state = decision.state
    policy = context.policy
    if state.last_event_id >= policy.history_events_max or state.history_bytes >= policy.history_bytes_max:
        reason = (
            f"the history has {state.last_event_id} events and {state.history_bytes} bytes; the limits are"
            f" {policy.history_events_max} events and {policy.history_bytes_max} bytes"
        )
        _happen(decision, records.WorkflowExecutionTerminated(reason=reason, identity="history"), context)
    elif (
        state.workflow_task is None
        and state.waking_event_id > state.seen_event_id
        and not state.first_task_due_ms
        and not state.paused
    ):
        _happen(decision, workflow_task.scheduled(state), context)


def _set_wake_up(decision: RunDecision, *, spent: bool, new_deadline_ms: int) -> None:
    state = decision.state
    number, due_ms = state.wake_up_number, state.wake_up_due_ms
    if not state.is_open:
        due_ms = 0
    elif spent:
        due_ms = earliest_ms(state)
        number += 1 if due_ms else 0
    elif new_deadline_ms and (not due_ms or new_deadline_ms < due_ms):
        due_ms = new_deadline_ms
        number += 1
    decision.wake_up_number, decision.wake_up_due_ms = number, due_ms
    react_to_wake_up(state, number, due_ms, decision.effects)
