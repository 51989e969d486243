"""The lifecycles of a workflow, its workflow task, its activities and its timers, each as one table.

Invariant: ``evolve`` takes no step that is not in a table, so a table is the whole truth about what may follow what.
The diagrams of the documentation are rendered from the tables by :func:`mermaid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from perdure_history.core.state import (
    ActivityStatus,
    ChildStatus,
    ExternalRequestStatus,
    TimerStatus,
    UpdateStatus,
    WorkflowTaskStatus,
)
from perdure_schemas.records import WorkflowStatus

__all__ = [
    "ACTIVITY",
    "CHILD_WORKFLOW",
    "EXTERNAL_REQUEST",
    "LIFECYCLES",
    "TIMER",
    "UPDATE",
    "WORKFLOW",
    "WORKFLOW_TASK",
    "IllegalTransitionError",
    "Lifecycle",
    "mermaid",
]


class IllegalTransitionError(Exception):
    """An event does not fit the state: the history is damaged, or the program is wrong."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One table: (state, what happens) → next state. ``initial`` is where everything begins."""

    name: str
    initial: str
    transitions: Mapping[tuple[str, str], str]

    def next(self, state: str, happening: str, what: str) -> str:
        """The state after ``happening``.

        Parameters:
            what: names the thing, for the error.

        Raises:
            IllegalTransitionError: the table has no such step.
        """
        following = self.transitions.get((state, happening))
        if following is None:
            raise IllegalTransitionError(f"{self.name} {what}: {happening} cannot happen in state {state}")
        return following

    def final_states(self) -> list[str]:
        """The states that nothing leads out of, in the order of the table."""
        leaving = {state for state, _ in self.transitions}
        return list(dict.fromkeys(state for state in self.transitions.values() if state not in leaving))


#: Happenings that one event type alone does not tell.
ATTEMPT_DISPATCHED = "attempt dispatched"
ATTEMPT_BACKS_OFF = "attempt backs off"
ATTEMPT_STARTED = "attempt started"
WORKFLOW_CLOSED = "workflow closed"

_RUNNING = WorkflowStatus.RUNNING
#: The state of a workflow before its first event.
NOT_STARTED = "NOT_STARTED"

WORKFLOW = Lifecycle(
    name="workflow",
    initial=NOT_STARTED,
    transitions={
        (NOT_STARTED, "WorkflowExecutionStarted"): _RUNNING,
        (NOT_STARTED, "ScheduleCreated"): _RUNNING,
        (_RUNNING, "WorkflowExecutionSignaled"): _RUNNING,
        (_RUNNING, "WorkflowExecutionCancelRequested"): _RUNNING,
        (_RUNNING, "WorkflowExecutionPaused"): _RUNNING,
        (_RUNNING, "WorkflowExecutionUnpaused"): _RUNNING,
        (_RUNNING, "WorkflowExecutionCompleted"): WorkflowStatus.COMPLETED,
        (_RUNNING, "WorkflowExecutionFailed"): WorkflowStatus.FAILED,
        (_RUNNING, "WorkflowExecutionCanceled"): WorkflowStatus.CANCELED,
        (_RUNNING, "WorkflowExecutionTerminated"): WorkflowStatus.TERMINATED,
        (_RUNNING, "WorkflowExecutionTimedOut"): WorkflowStatus.TIMED_OUT,
        (_RUNNING, "WorkflowExecutionContinuedAsNew"): WorkflowStatus.CONTINUED_AS_NEW,
    },
)

WORKFLOW_TASK = Lifecycle(
    name="workflow task",
    initial=WorkflowTaskStatus.NONE,
    transitions={
        (WorkflowTaskStatus.NONE, "WorkflowTaskScheduled"): WorkflowTaskStatus.DISPATCHED,
        (WorkflowTaskStatus.DISPATCHED, "WorkflowTaskCompletedEvent"): WorkflowTaskStatus.NONE,
        (WorkflowTaskStatus.DISPATCHED, "WorkflowTaskFailedEvent"): WorkflowTaskStatus.DISPATCHED,
        (WorkflowTaskStatus.DISPATCHED, ATTEMPT_BACKS_OFF): WorkflowTaskStatus.BACKING_OFF,
        (WorkflowTaskStatus.DISPATCHED, ATTEMPT_DISPATCHED): WorkflowTaskStatus.DISPATCHED,
        (WorkflowTaskStatus.BACKING_OFF, ATTEMPT_DISPATCHED): WorkflowTaskStatus.DISPATCHED,
        # What is left of an attempt that compaction has merged with its predecessor.
        (WorkflowTaskStatus.BACKING_OFF, ATTEMPT_BACKS_OFF): WorkflowTaskStatus.BACKING_OFF,
        (WorkflowTaskStatus.DISPATCHED, WORKFLOW_CLOSED): WorkflowTaskStatus.NONE,
        (WorkflowTaskStatus.BACKING_OFF, WORKFLOW_CLOSED): WorkflowTaskStatus.NONE,
    },
)

_PENDING = (ActivityStatus.SCHEDULED, ActivityStatus.STARTED, ActivityStatus.BACKING_OFF)
ACTIVITY = Lifecycle(
    name="activity",
    initial=ActivityStatus.NEW,
    transitions={
        (ActivityStatus.NEW, "ActivityTaskScheduled"): ActivityStatus.SCHEDULED,
        # An attempt's record is complete in itself and compaction may have dropped those before it, so each pending
        # state may follow each.
        **{(state, ATTEMPT_STARTED): ActivityStatus.STARTED for state in _PENDING},
        **{(state, ATTEMPT_BACKS_OFF): ActivityStatus.BACKING_OFF for state in _PENDING},
        **{(state, ATTEMPT_DISPATCHED): ActivityStatus.SCHEDULED for state in _PENDING},
        **{(state, "ActivityTaskCancelRequested"): state for state in _PENDING},
        (ActivityStatus.SCHEDULED, "ActivityTaskCompletedEvent"): ActivityStatus.COMPLETED,
        (ActivityStatus.STARTED, "ActivityTaskCompletedEvent"): ActivityStatus.COMPLETED,
        (ActivityStatus.SCHEDULED, "ActivityTaskFailedEvent"): ActivityStatus.FAILED,
        (ActivityStatus.STARTED, "ActivityTaskFailedEvent"): ActivityStatus.FAILED,
        **{(state, "ActivityTaskTimedOut"): ActivityStatus.TIMED_OUT for state in _PENDING},
        **{(state, "ActivityTaskCanceledEvent"): ActivityStatus.CANCELED for state in _PENDING},
    },
)

TIMER = Lifecycle(
    name="timer",
    initial=TimerStatus.NEW,
    transitions={
        (TimerStatus.NEW, "TimerStarted"): TimerStatus.RUNNING,
        (TimerStatus.RUNNING, "TimerFired"): TimerStatus.FIRED,
        (TimerStatus.RUNNING, "TimerCanceled"): TimerStatus.CANCELED,
    },
)

UPDATE = Lifecycle(
    name="update",
    initial=UpdateStatus.NEW,
    transitions={
        (UpdateStatus.NEW, "WorkflowExecutionUpdateAccepted"): UpdateStatus.ACCEPTED,
        (UpdateStatus.ACCEPTED, "WorkflowExecutionUpdateCompleted"): UpdateStatus.COMPLETED,
    },
)

CHILD_WORKFLOW = Lifecycle(
    name="child workflow",
    initial=ChildStatus.NEW,
    transitions={
        (ChildStatus.NEW, "StartChildWorkflowExecutionInitiated"): ChildStatus.INITIATED,
        (ChildStatus.INITIATED, "StartChildWorkflowExecutionFailed"): ChildStatus.START_FAILED,
        (ChildStatus.INITIATED, "ChildWorkflowExecutionStarted"): ChildStatus.STARTED,
        (ChildStatus.STARTED, "ChildWorkflowExecutionCompleted"): ChildStatus.COMPLETED,
        (ChildStatus.STARTED, "ChildWorkflowExecutionFailed"): ChildStatus.FAILED,
        (ChildStatus.STARTED, "ChildWorkflowExecutionCanceled"): ChildStatus.CANCELED,
        (ChildStatus.STARTED, "ChildWorkflowExecutionTimedOut"): ChildStatus.TIMED_OUT,
        (ChildStatus.STARTED, "ChildWorkflowExecutionTerminated"): ChildStatus.TERMINATED,
    },
)

EXTERNAL_REQUEST = Lifecycle(
    name="request to another workflow",
    initial=ExternalRequestStatus.NEW,
    transitions={
        (ExternalRequestStatus.NEW, "SignalExternalWorkflowExecutionInitiated"): ExternalRequestStatus.INITIATED,
        (ExternalRequestStatus.NEW, "RequestCancelExternalWorkflowExecutionInitiated"): ExternalRequestStatus.INITIATED,
        (ExternalRequestStatus.INITIATED, "ExternalWorkflowExecutionSignaled"): ExternalRequestStatus.TAKEN,
        (ExternalRequestStatus.INITIATED, "ExternalWorkflowExecutionCancelRequested"): ExternalRequestStatus.TAKEN,
        (ExternalRequestStatus.INITIATED, "SignalExternalWorkflowExecutionFailed"): ExternalRequestStatus.REFUSED,
        (
            ExternalRequestStatus.INITIATED,
            "RequestCancelExternalWorkflowExecutionFailed",
        ): ExternalRequestStatus.REFUSED,
    },
)

LIFECYCLES = (WORKFLOW, WORKFLOW_TASK, ACTIVITY, TIMER, CHILD_WORKFLOW, EXTERNAL_REQUEST, UPDATE)


def mermaid(lifecycle: Lifecycle) -> str:
    """A Mermaid state diagram of a lifecycle."""
    lines = ["stateDiagram-v2", f"    [*] --> {_plain(lifecycle.initial)}"]
    happenings: dict[tuple[str, str], list[str]] = {}
    for (state, happening), following in lifecycle.transitions.items():
        happenings.setdefault((_plain(state), _plain(following)), []).append(happening)
    for (state, following), labels in happenings.items():
        lines.append(f"    {state} --> {following}: {', '.join(labels)}")
    lines += [f"    {_plain(state)} --> [*]" for state in lifecycle.final_states()]
    return "\n".join(lines) + "\n"


def _plain(state: str) -> str:
    return state.value if isinstance(state, StrEnum) else state
