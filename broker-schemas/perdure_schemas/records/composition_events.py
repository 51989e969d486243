"""Events of what a run has to do with other workflows: its children, and those it signals or asks to stop."""

from __future__ import annotations

from perdure_schemas.records.common import (
    ChildWorkflowOptions,
    Failure,
    Payload,
    RetryState,
    Variant,
)

__all__ = [
    "ChildWorkflowExecutionCanceled",
    "ChildWorkflowExecutionCompleted",
    "ChildWorkflowExecutionFailed",
    "ChildWorkflowExecutionStarted",
    "ChildWorkflowExecutionTerminated",
    "ChildWorkflowExecutionTimedOut",
    "ExternalWorkflowExecutionCancelRequested",
    "ExternalWorkflowExecutionSignaled",
    "RequestCancelExternalWorkflowExecutionFailed",
    "RequestCancelExternalWorkflowExecutionInitiated",
    "SignalExternalWorkflowExecutionFailed",
    "SignalExternalWorkflowExecutionInitiated",
    "StartChildWorkflowExecutionFailed",
    "StartChildWorkflowExecutionInitiated",
]


class StartChildWorkflowExecutionInitiated(Variant, frozen=True, kw_only=True):
    """A child is to be started; this event's id names it from here on."""

    options: ChildWorkflowOptions
    workflow_task_completed_event_id: int


class StartChildWorkflowExecutionFailed(Variant, frozen=True, kw_only=True):
    """The child could not be started."""

    initiated_event_id: int
    workflow_id: str
    workflow_type: str
    cause: str
    message: str = ""
    #: WORKFLOW_ALREADY_EXISTS: the run that has the workflow id.
    existing_run_id: str = ""


class ChildWorkflowExecutionStarted(Variant, frozen=True, kw_only=True):
    """The child runs."""

    initiated_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str


class ChildWorkflowExecutionCompleted(Variant, frozen=True, kw_only=True):
    """The child returned."""

    initiated_event_id: int
    started_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str
    result: list[Payload] = []


class ChildWorkflowExecutionFailed(Variant, frozen=True, kw_only=True):
    """The child failed for good."""

    initiated_event_id: int
    started_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str
    failure: Failure
    retry_state: RetryState | None = None


class ChildWorkflowExecutionCanceled(Variant, frozen=True, kw_only=True):
    """The child stopped because it was asked to; ``failure`` is of kind CANCELED."""

    initiated_event_id: int
    started_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str
    failure: Failure


class ChildWorkflowExecutionTimedOut(Variant, frozen=True, kw_only=True):
    """The child took longer than allowed; ``failure`` is of kind TIMEOUT."""

    initiated_event_id: int
    started_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str
    failure: Failure
    retry_state: RetryState | None = None


class ChildWorkflowExecutionTerminated(Variant, frozen=True, kw_only=True):
    """The child was closed from outside; ``failure`` is of kind TERMINATED."""

    initiated_event_id: int
    started_event_id: int
    workflow_id: str
    run_id: str
    workflow_type: str
    failure: Failure


class SignalExternalWorkflowExecutionInitiated(Variant, frozen=True, kw_only=True):
    """Another workflow is to be signalled; this event's id names the request from here on."""

    workflow_id: str
    run_id: str = ""
    child_initiated_event_id: int = 0
    signal_name: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    workflow_task_completed_event_id: int


class SignalExternalWorkflowExecutionFailed(Variant, frozen=True, kw_only=True):
    """The other workflow did not take the signal."""

    initiated_event_id: int
    workflow_id: str
    run_id: str = ""
    cause: str
    message: str = ""


class ExternalWorkflowExecutionSignaled(Variant, frozen=True, kw_only=True):
    """The other workflow took the signal."""

    initiated_event_id: int
    workflow_id: str
    run_id: str = ""


class RequestCancelExternalWorkflowExecutionInitiated(Variant, frozen=True, kw_only=True):
    """Another workflow is to be asked to stop; this event's id names the request from here on."""

    workflow_id: str
    run_id: str = ""
    child_initiated_event_id: int = 0
    reason: str = ""
    workflow_task_completed_event_id: int


class RequestCancelExternalWorkflowExecutionFailed(Variant, frozen=True, kw_only=True):
    """The other workflow did not take the request to stop."""

    initiated_event_id: int
    workflow_id: str
    run_id: str = ""
    cause: str
    message: str = ""


class ExternalWorkflowExecutionCancelRequested(Variant, frozen=True, kw_only=True):
    """The other workflow took the request to stop."""

    initiated_event_id: int
    workflow_id: str
    run_id: str = ""
