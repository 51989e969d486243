"""ForkWorkflow: a workflow of another id that begins with the first events of a run, which is left as it is.

It is a reset whose new run stands under another workflow id, so the events come with the command: they belong to
another partition. The new run is nobody's child, and neither continues the chain of runs of its source nor waits for
what that waits for: it shares only what its code has seen.
Invariant I3: a repeated fork, known by its command id, makes no second run. Called by the driver of ``decide``.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.commands.reset import SettledError, copied, reset_point
from perdure_history.core.effects import Answer
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.keys import SCHEDULE_PREFIX, is_schedule
from perdure_schemas.limits import WORKFLOW_ID_CHARS_MAX
from perdure_schemas.records import Command, ErrorCode, Event, ForkWorkflow, Rejected, Started

__all__ = ["fork_point", "new_run_steps"]


def fork_point(current: RunState | None, events: Sequence[Event], command: Command, body: ForkWorkflow) -> int:
    """The event id of the completed workflow task that the new run decides anew.

    Parameters:
        current: the newest run of the new workflow id, if there is one.
        events: what the command brings of the other run.

    Raises:
        SettledError: it cannot be forked so, or this very command has done it.
    """
    if current is not None and current.start_command_id == command.command_id:
        raise SettledError(
            Started(run_id=current.run_id, first_execution_run_id=current.first_execution_run_id, created=False)
        )
    if current is not None and current.is_open:
        message = f"workflow {command.workflow_id!r} is running already; a fork needs a workflow id of its own"
        raise SettledError(Rejected(code=ErrorCode.ALREADY_EXISTS, message=message, run_id=current.run_id))
    fault = _fault(current, command, body) or _fault_of(events)
    if fault:
        raise SettledError(Rejected(code=ErrorCode.INVALID_ARGUMENT, message=fault))
    return reset_point(events, body)


def _fault(current: RunState | None, command: Command, body: ForkWorkflow) -> str:
    workflow_id, run_id = command.workflow_id, body.run_id
    if not workflow_id or len(workflow_id) > WORKFLOW_ID_CHARS_MAX or not workflow_id.isprintable():
        return f"a workflow id has 1 to {WORKFLOW_ID_CHARS_MAX} printable characters"
    if is_schedule(workflow_id) or is_schedule(body.source_workflow_id):
        return f"ids that begin with {SCHEDULE_PREFIX!r} are those of schedules, which cannot be forked"
    if workflow_id == body.source_workflow_id:
        return "a fork needs a workflow id of its own; to begin the same workflow anew, reset it"
    taken = current is not None and current.run_id == run_id
    if not run_id or "/" in run_id or "@" in run_id or run_id == body.source_run_id or taken:
        return f"{run_id!r} cannot be the id of the new run"
    return ""


def _fault_of(events: Sequence[Event]) -> str:
    """What is wrong with a history that somebody sends; the rest is found while it happens to the new run."""
    if not events or not isinstance(events[0].attributes, records.WorkflowExecutionStarted):
        return "the history to fork does not begin with the start of a run"
    for number, event in enumerate(events, 1):
        if event.event_id != number:
            return f"the history to fork has event {event.event_id} where event {number} belongs"
    return ""


def new_run_steps(events: Sequence[Event], point: int, command: Command, body: ForkWorkflow, context: Context) -> Steps:
    """The first events of the new run."""
    started = events[0].attributes
    assert isinstance(started, records.WorkflowExecutionStarted)
    timeout_ms = started.execution_timeout_ms
    changes = {
        "first_execution_run_id": body.run_id,
        "parent": None,
        "scheduled_by": None,
        "continued_run_id": "",
        "initiator": "",
        "execution_deadline_ms": 0 if timeout_ms is None else context.now_ms + timeout_ms,
    }
    yield from copied(body.source_run_id, events, point, command, context, changes)
    if command.reply is not None:
        yield Answer(command.reply, Started(run_id=body.run_id, first_execution_run_id=body.run_id))
