"""What runs send to other workflows: starts, signals, requests to stop, and how a child ended. Pure functions.

Invariants (I3): every such command has an id that follows from the sending run and the event because of which it is
sent, and a child's first run has an id that does, too; so a command that is sent again after a takeover is recognised.
Answers come back as commands to the asking *run*, and change nothing if it is closed. Called by ``react``, and by the
service where it turns answers into records.
"""

from __future__ import annotations

from typing import Any

from perdure_history.core.effects import Effect, SendCommand
from perdure_history.core.state import RunState
from perdure_history.core.versioning import child_versioning
from perdure_schemas import records
from perdure_schemas.keys import child_run_id, workflow_message_id
from perdure_schemas.records import (
    CancelWorkflow,
    Command,
    CommandBody,
    CommandOrigin,
    ErrorCode,
    Event,
    ParentClosePolicy,
    ParentExecution,
    Rejected,
    ReplyBody,
    ReplyTo,
    SignalInput,
    SignalWorkflow,
    Started,
    StartWorkflow,
    TerminateWorkflow,
    WorkflowClosed,
)

__all__ = [
    "ALREADY_EXISTS",
    "NOT_FOUND",
    "answer_to_workflow",
    "apply_parent_close_policies",
    "cancel_external",
    "signal_external",
    "start_child",
    "tell_parent",
]

#: Causes as histories name them; other codes stand there as they are.
ALREADY_EXISTS = "WORKFLOW_ALREADY_EXISTS"
NOT_FOUND = "EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"


def start_child(
    state: RunState, event: Event, attributes: records.StartChildWorkflowExecutionInitiated, effects: list[Effect]
) -> None:
    """Start the child that an event asks for."""
    options = attributes.options
    above = state.parent
    parent = ParentExecution(
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        initiated_event_id=event.event_id,
        root_workflow_id=state.workflow_id if above is None else above.root_workflow_id,
        root_run_id=state.run_id if above is None else above.root_run_id,
    )
    override, inherited = child_versioning(state, options.task_queue, options.versioning_override)
    body = StartWorkflow(
        run_id=child_run_id(state.run_id, event.event_id),
        workflow_type=options.workflow_type,
        task_queue=options.task_queue,
        input=options.input,
        header=options.header,
        execution_timeout_ms=options.execution_timeout_ms,
        run_timeout_ms=options.run_timeout_ms,
        task_timeout_ms=options.task_timeout_ms,
        id_reuse_policy=options.id_reuse_policy,
        memo=options.memo,
        retry_policy=options.retry_policy,
        cron_schedule=options.cron_schedule,
        search_attributes=options.search_attributes,
        static_summary=options.static_summary,
        static_details=options.static_details,
        priority=options.priority,
        parent=parent,
        versioning_override=override,
        inherited_version=inherited,
    )
    effects.append(_request(state, event.event_id, options.workflow_id, "", "start", body))


def signal_external(
    state: RunState, event: Event, attributes: records.SignalExternalWorkflowExecutionInitiated, effects: list[Effect]
) -> None:
    """Send the signal that an event asks for."""
    body = SignalWorkflow(
        signal=SignalInput(signal_name=attributes.signal_name, input=attributes.input, header=attributes.header),
        first_execution_run_id=_first_run_of_child(state, attributes.child_initiated_event_id),
    )
    effects.append(_request(state, event.event_id, attributes.workflow_id, attributes.run_id, "signal", body))


def cancel_external(
    state: RunState,
    event: Event,
    attributes: records.RequestCancelExternalWorkflowExecutionInitiated,
    effects: list[Effect],
) -> None:
    """Send the request to stop that an event asks for."""
    body = CancelWorkflow(
        reason=attributes.reason,
        first_execution_run_id=_first_run_of_child(state, attributes.child_initiated_event_id),
    )
    effects.append(_request(state, event.event_id, attributes.workflow_id, attributes.run_id, "cancel", body))


def apply_parent_close_policies(state: RunState, effects: list[Effect]) -> None:
    """The run closes: do to its open children what each one's policy says.

    The commands stand behind the children's starts in the log, so one that is just being started is closed, too.
    """
    for child in state.children.values():
        first_run_id = child_run_id(state.run_id, child.initiated_event_id)
        if child.parent_close_policy is ParentClosePolicy.TERMINATE:
            body: CommandBody = TerminateWorkflow(reason="by parent close policy", first_execution_run_id=first_run_id)
        elif child.parent_close_policy is ParentClosePolicy.REQUEST_CANCEL:
            body = CancelWorkflow(reason="by parent close policy", first_execution_run_id=first_run_id)
        else:
            continue
        command = Command(
            command_id=workflow_message_id(state.run_id, child.initiated_event_id, "parent-closed"),
            workflow_id=child.workflow_id,
            identity=_identity(state),
            body=body,
        )
        effects.append(SendCommand(command))


def tell_parent(state: RunState, attributes: Any, answer: WorkflowClosed, effects: list[Effect]) -> None:
    """The run closes: tell the parent or the schedule that started it, if there is one, and if no other run follows."""
    following: str = getattr(attributes, "new_run_id", "")
    if following:
        return
    if state.parent is not None:
        starter = state.parent
        _tell_starter(
            state, starter.workflow_id, starter.run_id, starter.initiated_event_id, attributes, answer, effects
        )
    if state.scheduled_by is not None:
        origin = state.scheduled_by
        _tell_starter(state, origin.workflow_id, origin.run_id, origin.number, attributes, answer, effects)


def _tell_starter(
    state: RunState,
    workflow_id: str,
    run_id: str,
    asked: int,
    attributes: Any,
    answer: WorkflowClosed,
    effects: list[Effect],
) -> None:
    command = Command(
        command_id=workflow_message_id(run_id, asked, "closed"),
        workflow_id=workflow_id,
        run_id=run_id,
        identity=_identity(state),
        body=records.ChildWorkflowClosed(
            initiated_event_id=asked,
            child_run_id=state.run_id,
            status=answer.status,
            result=answer.result,
            failure=answer.failure,
            retry_state=getattr(attributes, "retry_state", None),
        ),
    )
    effects.append(SendCommand(command))


def answer_to_workflow(origin: CommandOrigin, body: ReplyBody) -> Command | None:
    """The command that brings an answer to the workflow that asked; ``None`` for what workflows do not ask."""
    asked = origin.event_id
    message: CommandBody
    if isinstance(body, Started):
        what, message = "started", records.ChildWorkflowStarted(initiated_event_id=asked, child_run_id=body.run_id)
    elif isinstance(body, records.Done):
        what, message = "answered", records.ExternalWorkflowAnswered(initiated_event_id=asked)
    elif isinstance(body, Rejected):
        # Both kinds of requests are refused alike; the asking run knows which one it made.
        what = "refused"
        if body.code is ErrorCode.NOT_FOUND:
            cause = NOT_FOUND
        else:
            cause = ALREADY_EXISTS if body.code is ErrorCode.ALREADY_EXISTS else body.code.value
        if origin.asks_for_start:
            message = records.ChildWorkflowStartFailed(
                initiated_event_id=asked, cause=cause, message=body.message, existing_run_id=body.run_id
            )
        else:
            message = records.ExternalWorkflowAnswered(initiated_event_id=asked, cause=cause, message=body.message)
    else:
        return None
    return Command(
        command_id=workflow_message_id(origin.run_id, asked, what),
        workflow_id=origin.workflow_id,
        run_id=origin.run_id,
        body=message,
    )


def _first_run_of_child(state: RunState, initiated_event_id: int) -> str:
    return child_run_id(state.run_id, initiated_event_id) if initiated_event_id else ""


def _request(
    state: RunState, event_id: int, workflow_id: str, run_id: str, what: str, body: CommandBody
) -> SendCommand:
    """A command that is answered."""
    origin = CommandOrigin(
        workflow_id=state.workflow_id, run_id=state.run_id, event_id=event_id, asks_for_start=what == "start"
    )
    return SendCommand(
        Command(
            command_id=workflow_message_id(state.run_id, event_id, what),
            workflow_id=workflow_id,
            run_id=run_id,
            identity=_identity(state),
            reply=ReplyTo(client_id=state.run_id, partition=0, request_id=str(event_id), origin=origin),
            body=body,
        )
    )


def _identity(state: RunState) -> str:
    return f"workflow {state.workflow_id}"
