"""What other workflows say to a run: its children started, could not, ended; and answers to what it sent them.

Invariant I3: each message names the event with which the run asked, and counts only while that is open, so late and
doubled ones change nothing. Also here: what is wrong with what a workflow task asks of other workflows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.commands.properties import memo_fault, search_attributes_fault, static_text_fault
from perdure_history.core.effects import Ignored
from perdure_history.core.failures import bounded
from perdure_history.core.policy import Policy
from perdure_history.core.state import ChildState, ChildStatus, ExternalRequestKind, RunState
from perdure_schemas import records
from perdure_schemas.records import (
    ChildWorkflowClosed,
    ChildWorkflowOptions,
    ChildWorkflowStarted,
    ChildWorkflowStartFailed,
    Command,
    ExternalWorkflowAnswered,
    Failure,
    FailureKind,
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
    StartChildWorkflowExecution,
    WorkflowStatus,
)

__all__ = [
    "cancel_external",
    "child_closed",
    "child_fault",
    "child_start_failed",
    "child_started",
    "external_answered",
    "external_fault",
    "signal_external",
    "start_child",
]

_NOT_PENDING = Ignored("child workflow is not pending")


# --- what other workflows say -----------------------------------------------------------------------------------------


def child_started(run: RunState, _command: Command, body: ChildWorkflowStarted, _context: Context) -> Steps:
    """A child runs."""
    child = run.children.get(body.initiated_event_id)
    if child is None or child.status is not ChildStatus.INITIATED:
        yield _NOT_PENDING
    else:
        yield _started(child, body.child_run_id)


def child_start_failed(run: RunState, _command: Command, body: ChildWorkflowStartFailed, _context: Context) -> Steps:
    """A child could not be started."""
    child = run.children.get(body.initiated_event_id)
    if child is None or child.status is not ChildStatus.INITIATED:
        yield _NOT_PENDING
        return
    yield records.StartChildWorkflowExecutionFailed(
        initiated_event_id=child.initiated_event_id,
        workflow_id=child.workflow_id,
        workflow_type=child.workflow_type,
        cause=body.cause,
        message=body.message,
        existing_run_id=body.existing_run_id,
    )


def child_closed(run: RunState, _command: Command, body: ChildWorkflowClosed, _context: Context) -> Steps:
    """A child is closed. That it had started may not have been told, if its owner changed in between."""
    child = run.children.get(body.initiated_event_id)
    make = _CLOSING.get(body.status)
    if child is None or make is None:
        yield _NOT_PENDING
        return
    if child.status is ChildStatus.INITIATED:
        yield _started(child, body.child_run_id)
    about: dict[str, Any] = {
        "initiated_event_id": child.initiated_event_id,
        "started_event_id": child.started_event_id,
        "workflow_id": child.workflow_id,
        "run_id": body.child_run_id,
        "workflow_type": child.workflow_type,
    }
    yield make(body, about)


def _started(child: ChildState, run_id: str) -> records.ChildWorkflowExecutionStarted:
    return records.ChildWorkflowExecutionStarted(
        initiated_event_id=child.initiated_event_id,
        workflow_id=child.workflow_id,
        run_id=run_id,
        workflow_type=child.workflow_type,
    )


def _failure(body: ChildWorkflowClosed) -> Failure:
    return bounded(body.failure or Failure(kind=FailureKind.SERVER, message="the child did not say why"))


_CLOSING: dict[WorkflowStatus, Callable[[ChildWorkflowClosed, Any], records.EventAttributes]] = {
    WorkflowStatus.COMPLETED: lambda body, about: records.ChildWorkflowExecutionCompleted(result=body.result, **about),
    WorkflowStatus.FAILED: lambda body, about: records.ChildWorkflowExecutionFailed(
        failure=_failure(body), retry_state=body.retry_state, **about
    ),
    WorkflowStatus.CANCELED: lambda body, about: records.ChildWorkflowExecutionCanceled(
        failure=_failure(body), **about
    ),
    WorkflowStatus.TERMINATED: lambda body, about: records.ChildWorkflowExecutionTerminated(
        failure=_failure(body), **about
    ),
    WorkflowStatus.TIMED_OUT: lambda body, about: records.ChildWorkflowExecutionTimedOut(
        failure=_failure(body), retry_state=body.retry_state, **about
    ),
}


def external_answered(run: RunState, _command: Command, body: ExternalWorkflowAnswered, _context: Context) -> Steps:
    """Another workflow took, or did not take, what this run sent."""
    request = run.external_requests.get(body.initiated_event_id)
    if request is None:
        yield Ignored("request to another workflow is not pending")
        return
    about: dict[str, Any] = {
        "initiated_event_id": request.initiated_event_id,
        "workflow_id": request.workflow_id,
        "run_id": request.run_id,
    }
    is_signal = request.kind is ExternalRequestKind.SIGNAL
    if not body.cause:
        if is_signal:
            yield records.ExternalWorkflowExecutionSignaled(**about)
        else:
            yield records.ExternalWorkflowExecutionCancelRequested(**about)
        return
    failure = {**about, "cause": body.cause, "message": body.message}
    if is_signal:
        yield records.SignalExternalWorkflowExecutionFailed(**failure)
    else:
        yield records.RequestCancelExternalWorkflowExecutionFailed(**failure)


# --- what a workflow task asks: checking ------------------------------------------------------------------------------


def child_fault(options: ChildWorkflowOptions, pending: int, policy: Policy) -> tuple[str, str]:
    """The cause and what is wrong with starting a child; both empty if nothing is.

    Parameters:
        pending: the run's children that are open or being started.
    """
    cause = "BAD_START_CHILD_EXECUTION_ATTRIBUTES"
    if not options.workflow_id or len(options.workflow_id) > policy.workflow_id_chars_max:
        return cause, f"the child's workflow id must have 1 to {policy.workflow_id_chars_max} characters"
    for what, name in (("workflow type", options.workflow_type), ("task queue", options.task_queue)):
        if not name or len(name) > policy.name_chars_max:
            return cause, f"the child's {what} must have 1 to {policy.name_chars_max} characters"
    for what, timeout_ms in (
        ("execution timeout", options.execution_timeout_ms),
        ("run timeout", options.run_timeout_ms),
        ("task timeout", options.task_timeout_ms),
    ):
        if timeout_ms is not None and timeout_ms <= 0:
            return cause, f"the child's {what} is {timeout_ms} ms; it must be above zero, or not set"
    message = (
        payloads_too_large(policy, [*options.input, *options.header.values()])
        or memo_fault(options.memo, policy)
        or search_attributes_fault(options.search_attributes, policy)
        or static_text_fault(options.static_summary, options.static_details, policy)
    )
    if message:
        return cause, message
    if pending >= policy.pending_children_max:
        message = f"the run has {policy.pending_children_max} open child workflows, which is the limit"
        return "PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED", message
    return "", ""


def external_fault(
    command: SignalExternalWorkflowExecution | RequestCancelExternalWorkflowExecution, pending: int, policy: Policy
) -> tuple[str, str]:
    """The cause and what is wrong with a request to another workflow; both empty if nothing is.

    Parameters:
        pending: the run's requests that are not answered yet.
    """
    is_signal = isinstance(command, SignalExternalWorkflowExecution)
    cause = "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES" if is_signal else "BAD_REQUEST_CANCEL_EXTERNAL_ATTRIBUTES"
    if not command.workflow_id or len(command.workflow_id) > policy.workflow_id_chars_max:
        return cause, f"the other workflow's id must have 1 to {policy.workflow_id_chars_max} characters"
    if isinstance(command, SignalExternalWorkflowExecution):
        if not command.signal_name or len(command.signal_name) > policy.name_chars_max:
            return cause, f"the signal name must have 1 to {policy.name_chars_max} characters"
        message = payloads_too_large(policy, [*command.input, *command.header.values()])
        if message:
            return cause, message
    if pending >= policy.pending_external_requests_max:
        message = (
            f"{policy.pending_external_requests_max} signals and cancellations of other workflows are on their way,"
            " which is the limit; await some of them first"
        )
        return "PENDING_EXTERNAL_REQUESTS_LIMIT_EXCEEDED", message
    return "", ""


# --- what a workflow task asks: applying ------------------------------------------------------------------------------


def start_child(_run: RunState, command: StartChildWorkflowExecution, completed_id: int, _context: Context) -> Steps:
    """Start a child."""
    yield records.StartChildWorkflowExecutionInitiated(
        options=command.options, workflow_task_completed_event_id=completed_id
    )


def signal_external(
    _run: RunState, command: SignalExternalWorkflowExecution, completed_id: int, _context: Context
) -> Steps:
    """Signal another workflow."""
    yield records.SignalExternalWorkflowExecutionInitiated(
        workflow_id=command.workflow_id,
        run_id=command.run_id,
        child_initiated_event_id=command.child_initiated_event_id,
        signal_name=command.signal_name,
        input=command.input,
        header=command.header,
        workflow_task_completed_event_id=completed_id,
    )


def cancel_external(
    _run: RunState, command: RequestCancelExternalWorkflowExecution, completed_id: int, _context: Context
) -> Steps:
    """Ask another workflow to stop."""
    yield records.RequestCancelExternalWorkflowExecutionInitiated(
        workflow_id=command.workflow_id,
        run_id=command.run_id,
        child_initiated_event_id=command.child_initiated_event_id,
        reason=command.reason,
        workflow_task_completed_event_id=completed_id,
    )
