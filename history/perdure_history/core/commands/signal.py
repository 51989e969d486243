"""SignalWorkflow, CancelWorkflow and TerminateWorkflow: what clients do to a running run.

Invariant I3: each carries its command id into the history, and the same one changes nothing a second time.
"""

from __future__ import annotations

from perdure_history.core.commands.context import Context, Steps, payloads_too_large, reason_too_long
from perdure_history.core.effects import Answer
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import (
    CancelWorkflow,
    Command,
    Done,
    ErrorCode,
    Rejected,
    ReplyBody,
    SignalInput,
    SignalWorkflow,
    TerminateWorkflow,
)

__all__ = ["cancel", "signal", "take_signal", "terminate"]


def take_signal(command: Command, given: SignalInput) -> records.WorkflowExecutionSignaled:
    """The event of a signal."""
    return records.WorkflowExecutionSignaled(
        signal_name=given.signal_name,
        input=given.input,
        header=given.header,
        identity=command.identity,
        command_id=command.command_id,
    )


def signal(_run: RunState, command: Command, body: SignalWorkflow, context: Context) -> Steps:
    """Deliver a signal."""
    answer: ReplyBody = Done()
    if not context.repeated:
        given = body.signal
        invalid = payloads_too_large(context.policy, [*given.input, *given.header.values()])
        if not given.signal_name or len(given.signal_name) > context.policy.name_chars_max:
            invalid = f"the signal name must have 1 to {context.policy.name_chars_max} characters"
        if invalid:
            answer = Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid)
        else:
            yield take_signal(command, given)
    if command.reply is not None:
        yield Answer(command.reply, answer)


def cancel(run: RunState, command: Command, body: CancelWorkflow, context: Context) -> Steps:
    """Ask the run to stop; asking twice is asking once."""
    invalid = reason_too_long(context.policy, body.reason)
    if not run.cancel_requested and not invalid:
        yield records.WorkflowExecutionCancelRequested(
            reason=body.reason, identity=command.identity, command_id=command.command_id
        )
        if run.first_task_due_ms:
            # None of its code has run, so there is nothing that could clean up.
            yield records.WorkflowExecutionCanceled(workflow_task_completed_event_id=0)
    if command.reply is not None:
        yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid) if invalid else Done())


def terminate(_run: RunState, command: Command, body: TerminateWorkflow, context: Context) -> Steps:
    """Close the run."""
    invalid = reason_too_long(context.policy, body.reason) or payloads_too_large(context.policy, body.details)
    if not invalid:
        yield records.WorkflowExecutionTerminated(
            reason=body.reason, details=body.details, identity=command.identity, command_id=command.command_id
        )
    if command.reply is not None:
        answer = Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid) if invalid else Done()
        yield Answer(command.reply, answer)
