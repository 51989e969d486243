"""DeleteWorkflow: a run goes before its retention is over.

The deletion is an event like any other, so it is decided once and what follows from it is sent again after a takeover
(I2, I4). From then on the run is gone for everybody who asks, and its summary from the visibility feed; the service
removes its records a little later, when all that it has asked of others has long been acknowledged.
Invariant I3: deleting a deleted run changes nothing. Called by the driver of ``decide``.
"""

from __future__ import annotations

from perdure_history.core.commands.context import Context, Steps, reason_too_long
from perdure_history.core.effects import Answer, Ignored
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import Command, DeleteWorkflow, Done, ErrorCode, Rejected

__all__ = ["delete"]


def delete(run: RunState, command: Command, body: DeleteWorkflow, context: Context) -> Steps:
    """Delete the run; an open one is terminated first."""
    invalid = reason_too_long(context.policy, body.reason)
    if not command.run_id:
        invalid = "a deletion has to name the run, so that it never takes a newer one"
    if invalid:
        if command.reply is not None:
            yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid))
        return
    if run.deleted_time_ms:
        yield Ignored("run is deleted already")
    else:
        if run.is_open:
            yield records.WorkflowExecutionTerminated(
                reason=f"deleted: {body.reason}" if body.reason else "deleted",
                identity=command.identity,
                command_id=command.command_id,
            )
        yield records.WorkflowExecutionDeleted(
            reason=body.reason, identity=command.identity, command_id=command.command_id
        )
    if command.reply is not None:
        yield Answer(command.reply, Done())
