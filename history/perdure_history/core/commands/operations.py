"""PauseWorkflow, UnpauseWorkflow, ReleaseWorkflow: an operator holds a run, or lets it go on.

While a run is paused its state goes on (timers fire, signals and results are taken), but nothing of it is handed to a
worker: its tasks stand in ``tasks`` with a hold on them. What workers have is finished.

Invariant I3: pausing a paused run, or releasing one that is in no quarantine, changes nothing; a pause that comes a
second time, after the run was unpaused, is known by its command id.
"""

from __future__ import annotations

from perdure_history.core.commands.context import Context, Steps, reason_too_long
from perdure_history.core.commands.update import task_number
from perdure_history.core.effects import Answer, Ignored, ReleaseUpdates, WakeUpSpent
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import (
    Command,
    Done,
    ErrorCode,
    PauseWorkflow,
    Rejected,
    ReleaseWorkflow,
    ReplyBody,
    UnpauseWorkflow,
)

__all__ = ["pause", "release", "unpause"]


def pause(run: RunState, command: Command, body: PauseWorkflow, context: Context) -> Steps:
    """Hold the run."""
    invalid = reason_too_long(context.policy, body.reason)
    if invalid:
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid))
        return
    if run.paused or run.pause_command_id == command.command_id:
        yield Ignored("run is paused already")
    else:
        yield records.WorkflowExecutionPaused(
            reason=body.reason, identity=command.identity, command_id=command.command_id
        )
    yield from _answer(command, Done())


def unpause(run: RunState, command: Command, body: UnpauseWorkflow, context: Context) -> Steps:
    """Let the run go on."""
    invalid = reason_too_long(context.policy, body.reason)
    if invalid:
        yield from _answer(command, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid))
        return
    if run.paused:
        yield records.WorkflowExecutionUnpaused(
            reason=body.reason, identity=command.identity, command_id=command.command_id
        )
        yield ReleaseUpdates(task_number(context))
    else:
        yield Ignored("run is not paused")
    yield from _answer(command, Done())


def release(run: RunState, command: Command, _body: ReleaseWorkflow, context: Context) -> Steps:
    """Lift the quarantine. A wake-up that came meanwhile is lost, so the run is looked at anew."""
    if not run.quarantine_reason:
        message = "the run is in no quarantine, so there is nothing to lift"
        yield from _answer(
            command, Rejected(code=ErrorCode.FAILED_PRECONDITION, message=message, run_id=run.run_id, status=run.status)
        )
        return
    yield records.WorkflowQuarantined(reason="", command_offset=context.offset)
    yield WakeUpSpent()
    yield from _answer(command, Done())


def _answer(command: Command, body: ReplyBody) -> Steps:
    if command.reply is not None:
        yield Answer(command.reply, body)
