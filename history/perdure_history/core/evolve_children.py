"""``evolve`` for what a run has to do with other workflows: its children, and what it sent to others.

Invariants: as in :mod:`perdure_history.core.evolve`, of which this is a part; every step is in a table of
:mod:`perdure_history.core.lifecycle`. Whatever comes from another workflow wakes the workflow code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.lifecycle import CHILD_WORKFLOW, EXTERNAL_REQUEST, IllegalTransitionError
from perdure_history.core.state import (
    ChildState,
    ChildStatus,
    ExternalRequestKind,
    ExternalRequestState,
    ExternalRequestStatus,
    RunState,
)
from perdure_schemas import records
from perdure_schemas.records import Event

__all__ = ["EVOLVE_OTHERS"]


def _initiated(state: RunState, event: Event, attributes: records.StartChildWorkflowExecutionInitiated, _: int) -> None:
    options = attributes.options
    state.children[event.event_id] = ChildState(
        initiated_event_id=event.event_id,
        workflow_id=options.workflow_id,
        workflow_type=options.workflow_type,
        parent_close_policy=options.parent_close_policy,
        status=ChildStatus(
            CHILD_WORKFLOW.next(ChildStatus.NEW, type(attributes).__name__, f"{state.run_id}/{event.event_id}")
        ),
    )


def _started(state: RunState, event: Event, attributes: records.ChildWorkflowExecutionStarted, _: int) -> None:
    child = _child(state, attributes)
    child.status = ChildStatus(CHILD_WORKFLOW.next(child.status, type(attributes).__name__, _name(state, attributes)))
    child.started_event_id = event.event_id
    child.run_id = attributes.run_id
    state.waking_event_id = event.event_id


def _ended(state: RunState, event: Event, attributes: Any, _: int) -> None:
    child = _child(state, attributes)
    CHILD_WORKFLOW.next(child.status, type(attributes).__name__, _name(state, attributes))
    del state.children[child.initiated_event_id]
    state.waking_event_id = event.event_id


def _child(state: RunState, attributes: Any) -> ChildState:
    child = state.children.get(attributes.initiated_event_id)
    if child is None:
        raise IllegalTransitionError(
            f"run {state.run_id} has no pending child workflow {attributes.initiated_event_id}"
        )
    return child


def _name(state: RunState, attributes: Any) -> str:
    return f"{state.run_id}/{attributes.initiated_event_id}"


def _request(kind: ExternalRequestKind) -> Callable[[RunState, Event, Any, int], None]:
    def requested(state: RunState, event: Event, attributes: Any, _: int) -> None:
        name = f"{state.run_id}/{event.event_id}"
        EXTERNAL_REQUEST.next(ExternalRequestStatus.NEW, type(attributes).__name__, name)
        state.external_requests[event.event_id] = ExternalRequestState(
            initiated_event_id=event.event_id, kind=kind, workflow_id=attributes.workflow_id, run_id=attributes.run_id
        )

    return requested


def _answered(state: RunState, event: Event, attributes: Any, _: int) -> None:
    request = state.external_requests.pop(attributes.initiated_event_id, None)
    before = ExternalRequestStatus.NEW if request is None else ExternalRequestStatus.INITIATED
    EXTERNAL_REQUEST.next(before, type(attributes).__name__, _name(state, attributes))
    state.waking_event_id = event.event_id


#: A part of the table of :mod:`perdure_history.core.evolve`.
EVOLVE_OTHERS: dict[type, Callable[[RunState, Event, Any, int], None]] = {
    records.StartChildWorkflowExecutionInitiated: _initiated,
    records.StartChildWorkflowExecutionFailed: _ended,
    records.ChildWorkflowExecutionStarted: _started,
    records.ChildWorkflowExecutionCompleted: _ended,
    records.ChildWorkflowExecutionFailed: _ended,
    records.ChildWorkflowExecutionCanceled: _ended,
    records.ChildWorkflowExecutionTimedOut: _ended,
    records.ChildWorkflowExecutionTerminated: _ended,
    records.SignalExternalWorkflowExecutionInitiated: _request(ExternalRequestKind.SIGNAL),
    records.SignalExternalWorkflowExecutionFailed: _answered,
    records.ExternalWorkflowExecutionSignaled: _answered,
    records.RequestCancelExternalWorkflowExecutionInitiated: _request(ExternalRequestKind.CANCEL),
    records.RequestCancelExternalWorkflowExecutionFailed: _answered,
    records.ExternalWorkflowExecutionCancelRequested: _answered,
}
