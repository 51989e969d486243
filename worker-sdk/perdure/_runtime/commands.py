"""Commands against events: on replay, each command of the code must be the one the history recorded. Pure functions.

Invariants: commands and events are compared in order; what is compared is what identifies a step (its kind, and the ids
and names in it), not its arguments, so that a changed timeout or payload is no non-determinism; the message of a
mismatch names both sides. Two kinds of command may have no event, because the thing they cancel was closed already: a
cancellation of an activity or of a timer. Called by the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure._runtime.errors import NondeterminismError
from perdure._runtime.local_activities import local_identity_of
from perdure._runtime.patches import is_deprecated_patch, patch_id_of
from perdure_schemas.records import (
    AcceptUpdate,
    ActivityTaskCancelRequested,
    ActivityTaskScheduled,
    CancelRecordWait,
    CancelTimer,
    CancelWorkflowExecution,
    CompleteUpdate,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    EmitRecord,
    Event,
    FailWorkflowExecution,
    MarkerRecorded,
    ModifyWorkflowProperties,
    RecordEmitted,
    RecordMarker,
    RecordWaitCanceled,
    RecordWaitStarted,
    RejectUpdate,
    RequestCancelActivityTask,
    RequestCancelExternalWorkflowExecution,
    RequestCancelExternalWorkflowExecutionInitiated,
    ScheduleActivityTask,
    SignalExternalWorkflowExecution,
    SignalExternalWorkflowExecutionInitiated,
    StartChildWorkflowExecution,
    StartChildWorkflowExecutionInitiated,
    StartTimer,
    TimerCanceled,
    TimerStarted,
    UpsertWorkflowSearchAttributes,
    UpsertWorkflowSearchAttributesEvent,
    WaitForRecord,
    WorkflowCommand,
    WorkflowExecutionCanceled,
    WorkflowExecutionCompleted,
    WorkflowExecutionContinuedAsNew,
    WorkflowExecutionFailed,
    WorkflowExecutionUpdateAccepted,
    WorkflowExecutionUpdateCompleted,
    WorkflowPropertiesModified,
)

Identity = tuple[object, ...]


def _child(step: Any) -> Identity:
    return ("child workflow", step.options.workflow_id, step.options.workflow_type)


def _signal_external(step: Any) -> Identity:
    return ("signal external", step.workflow_id, step.run_id, step.signal_name)


def _cancel_external(step: Any) -> Identity:
    return ("cancel external", step.workflow_id, step.run_id)


# What makes a command or an event the same step: a kind shared by both sides, then the ids and names.
_COMMAND_IDENTITY: dict[type, Callable[[Any], Identity]] = {
    ScheduleActivityTask: lambda c: ("activity", c.options.activity_id, c.options.activity_type),
    RequestCancelActivityTask: lambda c: ("activity cancel", c.scheduled_event_id),
    StartTimer: lambda c: ("timer", c.timer_id),
    CancelTimer: lambda c: ("timer cancel", c.timer_id),
    RecordMarker: lambda c: ("marker", c.marker_name, patch_id_of(c), local_identity_of(c)),
    CompleteWorkflowExecution: lambda c: ("complete",),
    FailWorkflowExecution: lambda c: ("fail",),
    CancelWorkflowExecution: lambda c: ("cancel",),
    StartChildWorkflowExecution: _child,
    SignalExternalWorkflowExecution: _signal_external,
    RequestCancelExternalWorkflowExecution: _cancel_external,
    AcceptUpdate: lambda c: ("update accepted", c.request.update_id, c.request.name),
    RejectUpdate: lambda c: ("update rejected", c.update_id),
    CompleteUpdate: lambda c: ("update completed", c.update_id),
    ContinueAsNewWorkflowExecution: lambda c: ("continue as new", c.workflow_type),
    UpsertWorkflowSearchAttributes: lambda c: ("search attributes", *sorted(c.search_attributes), *sorted(c.removed)),
    ModifyWorkflowProperties: lambda c: ("memo", *sorted(c.upserted_memo), *sorted(c.removed_memo)),
    EmitRecord: lambda c: ("emit", c.topic, c.key),
    WaitForRecord: lambda c: ("record wait", c.wait_id, c.topic, c.key),
    CancelRecordWait: lambda c: ("record wait cancel", c.wait_id),
}
_EVENT_IDENTITY: dict[type, Callable[[Any], Identity]] = {
    ActivityTaskScheduled: lambda e: ("activity", e.options.activity_id, e.options.activity_type),
    ActivityTaskCancelRequested: lambda e: ("activity cancel", e.scheduled_event_id),
    TimerStarted: lambda e: ("timer", e.timer_id),
    TimerCanceled: lambda e: ("timer cancel", e.timer_id),
    MarkerRecorded: lambda e: ("marker", e.marker_name, patch_id_of(e), local_identity_of(e)),
    WorkflowExecutionCompleted: lambda e: ("complete",),
    WorkflowExecutionFailed: lambda e: ("fail",),
    WorkflowExecutionCanceled: lambda e: ("cancel",),
    StartChildWorkflowExecutionInitiated: _child,
    SignalExternalWorkflowExecutionInitiated: _signal_external,
    RequestCancelExternalWorkflowExecutionInitiated: _cancel_external,
    WorkflowExecutionUpdateAccepted: lambda e: ("update accepted", e.request.update_id, e.request.name),
    WorkflowExecutionUpdateCompleted: lambda e: ("update completed", e.update_id),
    WorkflowExecutionContinuedAsNew: lambda e: ("continue as new", e.workflow_type),
    UpsertWorkflowSearchAttributesEvent: lambda e: (
        "search attributes",
        *sorted(e.search_attributes),
        *sorted(e.removed),
    ),
    WorkflowPropertiesModified: lambda e: ("memo", *sorted(e.upserted_memo), *sorted(e.removed_memo)),
    RecordEmitted: lambda e: ("emit", e.topic, e.key),
    RecordWaitStarted: lambda e: ("record wait", e.wait.wait_id, e.wait.topic, e.wait.key),
    RecordWaitCanceled: lambda e: ("record wait cancel", e.wait_id),
}
_NEEDS_NO_EVENT = (RequestCancelActivityTask, CancelTimer, RejectUpdate, CancelRecordWait)


#: Kinds of events that are always made by a command of the workflow code.
COMMAND_EVENTS = frozenset(_EVENT_IDENTITY)


def match(
    commands: Sequence[WorkflowCommand],
    events: Sequence[Event],
    task_completed_event_id: int,
    on_matched: Callable[[WorkflowCommand, int], None],
) -> None:
    """Compare what the code wants with what the history says it wanted.

    Args:
        commands: The commands of one activation.
        events: The command events of the same workflow task, in order.
        task_completed_event_id: The event of that task's completion, for messages.
        on_matched: Called with each command and the id of its event.

    Raises:
        NondeterminismError: they disagree.
    """
    index, count = 0, len(events)
    for command in commands:
        identity = _COMMAND_IDENTITY[type(command)](command)
        while index < count:
            event = events[index]
            if _EVENT_IDENTITY[type(event.attributes)](event.attributes) == identity or not _is_dropped_patch(event):
                break
            index += 1
        else:
            if isinstance(command, _NEEDS_NO_EVENT):
                continue
            raise NondeterminismError(
                f"the history has no further step for the workflow task completed at event {task_completed_event_id}, "
                f"but the workflow code wants {describe_command(command)}. {_ADVICE}"
            )
        if _EVENT_IDENTITY[type(event.attributes)](event.attributes) != identity:
            if isinstance(command, _NEEDS_NO_EVENT):
                continue
            raise NondeterminismError(
                f"history {describe_event(event)} but the workflow code wants {describe_command(command)}. {_ADVICE}"
            )
        on_matched(command, event.event_id)
        index += 1
    for event in events[index:]:
        if not _is_dropped_patch(event):
            raise NondeterminismError(
                f"history {describe_event(event)} but the workflow code wants nothing more in that workflow task "
                f"(completed at event {task_completed_event_id}). {_ADVICE}"
            )


_ADVICE = (
    "The workflow code is not deterministic, or was changed while this run was open; bring back the code that wrote "
    "this history, or guard the change with workflow.patched()"
)


def describe_event(event: Event) -> str:
    """An event in words: its id, its kind and what identifies it."""
    return f"event {event.event_id} {_call(type(event.attributes).__name__, event.attributes)}"


def describe_command(command: WorkflowCommand) -> str:
    """A command in words: its kind and what identifies it."""
    return _call(type(command).__name__, command)


def _call(name: str, step: Any) -> str:
    options = getattr(step, "options", None)
    shown: dict[str, object] = {}
    if isinstance(step, (StartChildWorkflowExecution, StartChildWorkflowExecutionInitiated)):
        shown = {"workflow_type": step.options.workflow_type, "workflow_id": step.options.workflow_id}
    elif options is not None:
        shown = {"activity_type": options.activity_type, "activity_id": options.activity_id}
    elif isinstance(step, (RecordMarker, MarkerRecorded)):
        patch_id = patch_id_of(step)
        shown = {"marker_name": step.marker_name} if patch_id is None else {"patch_id": patch_id}
    else:
        for field in _SHOWN_FIELDS:
            value = getattr(step, field, None)
            if value is not None:
                shown[field] = value
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


_SHOWN_FIELDS = (
    "timer_id", "start_to_fire_timeout_ms", "scheduled_event_id", "update_id", "request", "signal_name", "workflow_id",
    "topic", "key", "wait_id", "wait",
)  # fmt: skip


def _is_dropped_patch(event: Event) -> bool:
    return isinstance(event.attributes, MarkerRecorded) and is_deprecated_patch(event.attributes)
