"""UpdateWorkflow and AwaitUpdate, and what a worker says of updates: accepted, rejected, completed.

Invariants: an update that is not accepted yet is in the owner's memory only and changes no history, so a rejected one
leaves no event; from its acceptance on it stands in the history, and its id has one outcome (I3). A task that carries
updates only is speculative: its events are written with its answer, if an update was accepted, and only while nothing
else has happened to the run.
"""

from __future__ import annotations

from typing import Any

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.effects import (
    Answer,
    AwaitHeldUpdate,
    AwaitUpdateOutcome,
    DispatchUpdates,
    DropQuery,
    HoldUpdate,
    Ignored,
    RejectUpdateOf,
    ReleaseUpdates,
)
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import (
    AcceptUpdate,
    AwaitUpdate,
    Command,
    CompleteUpdate,
    ErrorCode,
    Failure,
    FailureKind,
    Rejected,
    RejectUpdate,
    UpdateRequest,
    UpdateStage,
    UpdateWorkflow,
)

__all__ = [
    "APPLY",
    "await_update",
    "closed_failure",
    "is_stale",
    "request_fault",
    "take_update",
    "task_number",
    "update",
]


def closed_failure() -> Failure:
    """Why an accepted update has no result: its run closed first."""
    return Failure(
        kind=FailureKind.APPLICATION,
        type="AcceptedUpdateCompletedWorkflow",
        message="the workflow accepted the update and ended before the update completed",
        non_retryable=True,
    )


def request_fault(request: UpdateRequest, context: Context) -> str:
    """What is wrong with an update request, and what to do; empty if nothing is."""
    policy = context.policy
    for what, text in (("update name", request.name), ("update id", request.update_id)):
        if not text or len(text) > policy.name_chars_max:
            return f"the {what} must have 1 to {policy.name_chars_max} characters"
    size_bytes = sum(len(payload.data) for payload in (*request.input, *request.header.values()))
    if size_bytes > policy.update_input_bytes_max:
        return (
            f"the update's input has {size_bytes} bytes; {policy.update_input_bytes_max} are allowed. "
            "Send a reference to the data instead"
        )
    return ""


def task_number(context: Context) -> str:
    """The id of a speculative task that this decision may hand out; the epoch in it tells which owner's record is to be
    dropped, so no state is kept for one."""
    return f"{context.epoch}.{context.offset}"


def update(run: RunState, command: Command, body: UpdateWorkflow, context: Context) -> Steps:
    """Have the workflow code take on an update; one that is known is answered as it stands."""
    invalid = request_fault(body.request, context)
    if invalid:
        if command.reply is not None:
            yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid, run_id=run.run_id))
        return
    yield from take_update(run, command, body.request, body.wait_stage, body.expires_at_ms, context)


def take_update(
    run: RunState, command: Command, request: UpdateRequest, stage: UpdateStage, expires_at_ms: int, context: Context
) -> Steps:
    """The steps of an update request that is in order."""
    to = command.reply
    if request.update_id in run.updates:
        if to is not None:
            yield AwaitUpdateOutcome(to, request.update_id, stage)
        return
    if to is None or expires_at_ms <= context.now_ms:
        yield Ignored("update has expired, or nobody waits for it")
        return
    if not run.is_open:
        message = "workflow execution already completed"
        yield Answer(to, Rejected(code=ErrorCode.NOT_FOUND, message=message, run_id=run.run_id, status=run.status))
        return
    if len(run.updates) >= context.policy.updates_max:
        message = (
            f"the run has accepted {context.policy.updates_max} updates, which is the limit; have the workflow "
            "continue as new"
        )
        yield Answer(to, Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message=message, run_id=run.run_id))
        return
    yield HoldUpdate(request, to, stage, expires_at_ms)
    if run.workflow_task is None and run.waking_event_id <= run.seen_event_id and not run.paused:
        yield DispatchUpdates(task_number(context))


def await_update(run: RunState, command: Command, body: AwaitUpdate, _context: Context) -> Steps:
    """How an update stands, once it has come as far as is asked for."""
    if command.reply is None:
        return
    if body.update_id in run.updates:
        yield AwaitUpdateOutcome(command.reply, body.update_id, body.wait_stage)
    else:
        yield AwaitHeldUpdate(command.reply, body.update_id, body.wait_stage)


# --- what workers say -------------------------------------------------------------------------------------------------


def is_stale(run: RunState, scheduled_event_id: int) -> bool:
    """Whether something has happened since a speculative task was handed out, so that its answer does not count."""
    return run.workflow_task is not None or scheduled_event_id != run.last_event_id + 1


def stale_steps(speculative_id: str, context: Context) -> Steps:
    """The answer of a speculative task that does not count: its updates go out again."""
    yield Ignored("speculative workflow task is stale")
    yield DropQuery(speculative_id)
    yield ReleaseUpdates(task_number(context), speculative_id)


def _accept(run: RunState, command: AcceptUpdate, completed_id: int, _: Context) -> Steps:
    yield records.WorkflowExecutionUpdateAccepted(
        request=command.request, workflow_task_completed_event_id=completed_id
    )


def _complete(run: RunState, command: CompleteUpdate, completed_id: int, _: Context) -> Steps:
    yield records.WorkflowExecutionUpdateCompleted(
        update_id=command.update_id,
        accepted_event_id=run.updates[command.update_id].accepted_event_id,
        result=command.result,
        failure=command.failure,
        workflow_task_completed_event_id=completed_id,
    )


def _reject(_run: RunState, command: RejectUpdate, _completed_id: int, _: Context) -> Steps:
    yield RejectUpdateOf(command.update_id, command.failure)


APPLY: dict[type, Any] = {AcceptUpdate: _accept, CompleteUpdate: _complete, RejectUpdate: _reject}
