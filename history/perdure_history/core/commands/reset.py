"""ResetWorkflow: a new run that begins with the old one's history up to a workflow task, which is then run anew.

The new run's first record holds the old events as they were, with their ids and times, so the workflow code replays
them as it did. What was open at that point is open again: the workflow task and pending activities are handed out anew,
timers keep their due times. Signals that came later are delivered again; updates and cancellations are not.
Invariants: the old run, if it is open, is terminated in the same decision (so there is never a second open run); a
repeated reset, known by its command id, makes no second run (I3). Called by the driver of ``decide``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.effects import Answer
from perdure_history.core.state import RunState
from perdure_schemas import limits, records
from perdure_schemas.records import Command, ErrorCode, Event, ForkWorkflow, Rejected, ReplyBody, ResetWorkflow, Started

__all__ = ["SettledError", "copied", "new_run_steps", "reset_point", "resettable", "termination"]

#: What such an event set going in another workflow would be set going once more, or answer to the old run.
_OTHER_WORKFLOWS = (
    records.StartChildWorkflowExecutionInitiated,
    records.SignalExternalWorkflowExecutionInitiated,
    records.RequestCancelExternalWorkflowExecutionInitiated,
)
_ACTIVITY_CLOSED = (
    records.ActivityTaskCompletedEvent,
    records.ActivityTaskFailedEvent,
    records.ActivityTaskTimedOut,
    records.ActivityTaskCanceledEvent,
)
_POINTS = ("", "FirstWorkflowTask", "LastWorkflowTask")


class SettledError(Exception):
    """The reset changes nothing: it is refused, or was done before. ``answer`` says which."""

    def __init__(self, answer: ReplyBody) -> None:
        super().__init__(answer)
        self.answer = answer


def resettable(run: RunState | None, command: Command, body: ResetWorkflow) -> RunState:
    """The run, if it can be reset, whatever its history holds.

    Raises:
        SettledError: it cannot, or this very command has reset it.
    """
    if run is None:
        raise SettledError(Rejected(code=ErrorCode.NOT_FOUND, message=f"workflow {command.workflow_id!r} not found"))
    if run.start_command_id == command.command_id:
        raise SettledError(Started(run_id=run.run_id, first_execution_run_id=run.first_execution_run_id, created=False))
    fault = _fault(run, command, body)
    if fault:
        raise _refused(fault)
    return run


def termination(command: Command, body: ResetWorkflow) -> records.WorkflowExecutionTerminated:
    """How the old run ends."""
    reason = f"reset: {body.reason}" if body.reason else "reset"
    return records.WorkflowExecutionTerminated(reason=reason, identity=command.identity, command_id=command.command_id)


def _fault(run: RunState, command: Command, body: ResetWorkflow) -> str:
    if command.run_id and command.run_id != run.run_id:
        return f"run {command.run_id!r} is not the newest one of the workflow; only {run.run_id!r} can be reset"
    if run.history_bytes > limits.RESET_BYTES_MAX:
        return (
            f"the history has {run.history_bytes} bytes; a reset copies it into one record, so the limit is"
            f" {limits.RESET_BYTES_MAX} bytes. Start a new workflow instead"
        )
    if len(body.reason) > limits.REASON_CHARS_MAX:
        return f"the reason has {len(body.reason)} characters; {limits.REASON_CHARS_MAX} are allowed"
    if not body.run_id or "/" in body.run_id or "@" in body.run_id or body.run_id == run.run_id:
        return f"{body.run_id!r} cannot be the id of the new run"
    return ""


def _refused(message: str) -> SettledError:
    return SettledError(Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message))


def reset_point(events: Sequence[Event], body: ResetWorkflow | ForkWorkflow) -> int:
    """The event id of the completed workflow task that the new run decides anew.

    Raises:
        SettledError: there is none, or what stands before it cannot be copied.
    """
    if body.point not in _POINTS:
        raise _refused(
            f"{body.point!r} is no point to reset to: use an event id, FirstWorkflowTask or LastWorkflowTask"
        )
    speculative = {e.event_id for e in events if _is_speculative(e)}
    completed = [
        event.event_id
        for event in events
        if isinstance(event.attributes, records.WorkflowTaskCompletedEvent)
        and event.attributes.scheduled_event_id not in speculative
    ]
    if not completed:
        raise _refused("no workflow task of the run has been completed, so there is nothing to decide anew")
    if body.event_id:
        if body.event_id not in completed:
            raise _refused(
                f"event {body.event_id} is not the completion of a workflow task; those are: "
                + ", ".join(map(str, completed[-20:]))
            )
        point = body.event_id
    else:
        point = completed[0] if body.point == "FirstWorkflowTask" else completed[-1]
    for event in events:
        if event.event_id < point and isinstance(event.attributes, _OTHER_WORKFLOWS):
            raise _refused(
                f"event {event.event_id} ({type(event.attributes).__name__}) concerns another workflow and stands"
                f" before event {point}; a reset to behind it is not supported. Choose an earlier point"
            )
    return point


def _is_speculative(event: Event) -> bool:
    return isinstance(event.attributes, records.WorkflowTaskScheduled) and event.attributes.speculative


def new_run_steps(
    old_run_id: str, events: Sequence[Event], point: int, command: Command, body: ResetWorkflow, context: Context
) -> Steps:
    """The first events of the new run."""
    first = events[0].attributes
    assert isinstance(first, records.WorkflowExecutionStarted)
    yield from copied(old_run_id, events, point, command, context, {})
    if body.reapply_signals:
        for event in events:
            if event.event_id > point and isinstance(event.attributes, records.WorkflowExecutionSignaled):
                yield event.attributes
    if command.reply is not None:
        yield Answer(command.reply, Started(run_id=body.run_id, first_execution_run_id=first.first_execution_run_id))


def copied(
    old_run_id: str,
    events: Sequence[Event],
    point: int,
    command: Command,
    context: Context,
    changes: Mapping[str, Any],
) -> Iterator[Event]:
    """The events of a run before ``point``, for a new run; ``changes`` are further ones of its start."""
    first = events[0].attributes
    assert isinstance(first, records.WorkflowExecutionStarted)
    closed = {
        event.attributes.scheduled_event_id
        for event in events
        if event.event_id < point and isinstance(event.attributes, _ACTIVITY_CLOSED)
    }
    passed_ms = context.now_ms - events[0].event_time_ms
    started = replace(
        first,
        start_command_id=command.command_id,
        await_result=None,
        original_run_id=first.original_run_id or old_run_id,
        # Its run timeout begins anew, while its start keeps its time, which the workflow code has seen.
        run_timeout_ms=None if first.run_timeout_ms is None else first.run_timeout_ms + passed_ms,
        # Its first workflow task is behind it.
        first_task_backoff_ms=0,
        **changes,
    )
    yield replace(events[0], attributes=started)
    scheduled_id = next(
        event.attributes.scheduled_event_id
        for event in events
        if event.event_id == point and isinstance(event.attributes, records.WorkflowTaskCompletedEvent)
    )
    for event in events[1:]:
        if event.event_id >= point:
            return
        pending = isinstance(event.attributes, records.ActivityTaskScheduled) and event.event_id not in closed
        # What is handed out anew has its time limits from now on.
        is_anew = pending or event.event_id == scheduled_id
        yield replace(event, event_time_ms=context.now_ms) if is_anew else event
