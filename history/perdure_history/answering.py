"""What workflows that asked are told again after a takeover, of commands that are decided already.

A client repeats a request that is not answered; a workflow does not. So a new owner reads again what the group has not
committed, and answers the workflows among the askers once more (I4). Nothing is decided a second time (I2): what was
done stands in the history, and what has left nothing there was refused. Pure, called by the partition handler.
"""

from __future__ import annotations

from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import Command, Done, ErrorCode, Rejected, ReplyBody, Started, StartWorkflow

__all__ = ["answer_again"]


def answer_again(command: Command, run: RunState | None, taken: bool) -> ReplyBody | None:
    """The answer to a workflow's command that was decided before; ``None`` if it needs none.

    Parameters:
        run: the run it is about, as it is now.
        taken: whether that run has taken a signal with this command id.
    """
    body = command.body
    if isinstance(body, StartWorkflow):
        if run is not None and run.run_id == body.run_id:
            return Started(run_id=run.run_id, first_execution_run_id=run.first_execution_run_id)
        message = f"workflow {command.workflow_id!r} could not be started"
        return Rejected(
            code=ErrorCode.ALREADY_EXISTS if run is not None else ErrorCode.INVALID_ARGUMENT,
            message=message,
            run_id="" if run is None else run.run_id,
        )
    if isinstance(body, records.SignalWorkflow):
        done = taken
    elif isinstance(body, records.CancelWorkflow):
        done = run is not None and run.cancel_requested
    else:
        return None
    return Done() if done else Rejected(code=ErrorCode.NOT_FOUND, message="workflow not found, or already completed")
