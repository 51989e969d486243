"""The ``history`` topic: the events of each decision, and what else must survive (I2).

Numbered events (``event_id`` ≥ 1, gapless in a run) are what users see and workers replay. Records of state that is
overwritten by its successor (an activity's attempts and heartbeats, a workflow task's attempts) are unnumbered
(``event_id`` 0) and stand under a key of their own, so compaction keeps the newest only.
"""

from __future__ import annotations

from perdure_schemas.records.common import (
    ActivityOptions,
    Failure,
    Payload,
    Record,
    RetryState,
    Variant,
    VersioningBehavior,
)
from perdure_schemas.records.composition_events import (
    ChildWorkflowExecutionCanceled,
    ChildWorkflowExecutionCompleted,
    ChildWorkflowExecutionFailed,
    ChildWorkflowExecutionStarted,
    ChildWorkflowExecutionTerminated,
    ChildWorkflowExecutionTimedOut,
    ExternalWorkflowExecutionCancelRequested,
    ExternalWorkflowExecutionSignaled,
    RequestCancelExternalWorkflowExecutionFailed,
    RequestCancelExternalWorkflowExecutionInitiated,
    SignalExternalWorkflowExecutionFailed,
    SignalExternalWorkflowExecutionInitiated,
    StartChildWorkflowExecutionFailed,
    StartChildWorkflowExecutionInitiated,
)
from perdure_schemas.records.record_events import (
    RecordArrived,
    RecordEmitted,
    RecordWaitCanceled,
    RecordWaitStarted,
)
from perdure_schemas.records.run_events import (
    UpsertWorkflowSearchAttributesEvent,
    WorkflowExecutionCanceled,
    WorkflowExecutionCancelRequested,
    WorkflowExecutionCompleted,
    WorkflowExecutionContinuedAsNew,
    WorkflowExecutionFailed,
    WorkflowExecutionSignaled,
    WorkflowExecutionStarted,
    WorkflowExecutionTerminated,
    WorkflowExecutionTimedOut,
    WorkflowExecutionUpdateAccepted,
    WorkflowExecutionUpdateCompleted,
    WorkflowPropertiesModified,
)
from perdure_schemas.records.schedules import ScheduleCreated, ScheduleRecorded

__all__ = [
    "ActivityAttemptRecorded",
    "ActivityTaskCancelRequested",
    "ActivityTaskCanceledEvent",
    "ActivityTaskCompletedEvent",
    "ActivityTaskFailedEvent",
    "ActivityTaskScheduled",
    "ActivityTaskTimedOut",
    "ChildWorkflowExecutionCanceled",
    "ChildWorkflowExecutionCompleted",
    "ChildWorkflowExecutionFailed",
    "ChildWorkflowExecutionStarted",
    "ChildWorkflowExecutionTerminated",
    "ChildWorkflowExecutionTimedOut",
    "Event",
    "EventAttributes",
    "ExternalWorkflowExecutionCancelRequested",
    "ExternalWorkflowExecutionSignaled",
    "HistoryRecord",
    "MarkerRecorded",
    "OwnerMark",
    "RecordArrived",
    "RecordEmitted",
    "RecordWaitCanceled",
    "RecordWaitStarted",
    "RequestCancelExternalWorkflowExecutionFailed",
    "RequestCancelExternalWorkflowExecutionInitiated",
    "SignalExternalWorkflowExecutionFailed",
    "SignalExternalWorkflowExecutionInitiated",
    "StartChildWorkflowExecutionFailed",
    "StartChildWorkflowExecutionInitiated",
    "TimerCanceled",
    "TimerFired",
    "TimerStarted",
    "UpsertWorkflowSearchAttributesEvent",
    "WorkflowExecutionCancelRequested",
    "WorkflowExecutionCanceled",
    "WorkflowExecutionCompleted",
    "WorkflowExecutionContinuedAsNew",
    "WorkflowExecutionDeleted",
    "WorkflowExecutionFailed",
    "WorkflowExecutionPaused",
    "WorkflowExecutionSignaled",
    "WorkflowExecutionStarted",
    "WorkflowExecutionTerminated",
    "WorkflowExecutionTimedOut",
    "WorkflowExecutionUnpaused",
    "WorkflowExecutionUpdateAccepted",
    "WorkflowExecutionUpdateCompleted",
    "WorkflowPropertiesModified",
    "WorkflowQuarantined",
    "WorkflowTaskAttemptRecorded",
    "WorkflowTaskCompletedEvent",
    "WorkflowTaskFailedEvent",
    "WorkflowTaskScheduled",
    "WorkflowTaskTimedOut",
]


class WorkflowTaskScheduled(Variant, frozen=True, kw_only=True):
    """A worker has to run the workflow code on."""

    task_queue: str
    attempt: int = 1
    start_to_close_timeout_ms: int
    #: The size of the history before it, for the workflow code to know when to continue as new.
    history_bytes: int = 0
    #: It was handed out before it stood here, to deliver updates, and stands here because one was accepted.
    speculative: bool = False


class WorkflowTaskCompletedEvent(Variant, frozen=True, kw_only=True):
    """The workflow code was run on, having seen every event up to ``last_event_id`` and none behind it.

    Events that arrived while it ran stand before this one with larger ids than ``last_event_id``: they belong to the
    next task. ``started_time_ms`` is what ``workflow.now()`` said.
    """

    scheduled_event_id: int
    last_event_id: int
    started_time_ms: int
    identity: str = ""
    sticky_worker_id: str = ""
    sdk_flags: list[int] = []
    #: As in :class:`WorkflowTaskCompleted`.
    deployment_name: str = ""
    build_id: str = ""
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    #: What the run tells about itself from here on; ``None``: as before.
    current_details: Payload | None = None


class WorkflowTaskFailedEvent(Variant, frozen=True, kw_only=True):
    """The workflow code could not be run on; the task is tried again."""

    scheduled_event_id: int
    cause: str
    failure: Failure
    identity: str = ""


class WorkflowTaskTimedOut(Variant, frozen=True, kw_only=True):
    """The worker did not answer a workflow task in time; the task is tried again."""

    scheduled_event_id: int


class ActivityTaskScheduled(Variant, frozen=True, kw_only=True):
    """An activity is to be run; this event's id names it from here on."""

    options: ActivityOptions
    workflow_task_completed_event_id: int
    #: The worker has begun the first attempt, and calls it by this; 0 and empty: nobody has.
    eager_event_id: int = 0
    eager_worker_id: str = ""
    #: How long the first attempt waits before it is handed out.
    start_delay_ms: int = 0


class ActivityTaskCompletedEvent(Variant, frozen=True, kw_only=True):
    """The activity returned."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    result: list[Payload] = []
    identity: str = ""


class ActivityTaskFailedEvent(Variant, frozen=True, kw_only=True):
    """The activity failed for good."""

    scheduled_event_id: int
    attempt: int
    failure: Failure
    retry_state: RetryState
    identity: str = ""


class ActivityTaskTimedOut(Variant, frozen=True, kw_only=True):
    """The activity ran out of time for good; ``failure`` is of kind TIMEOUT and its cause is the last failure."""

    scheduled_event_id: int
    attempt: int
    failure: Failure
    retry_state: RetryState


class ActivityTaskCancelRequested(Variant, frozen=True, kw_only=True):
    """The workflow asked the activity to stop."""

    scheduled_event_id: int
    workflow_task_completed_event_id: int


class ActivityTaskCanceledEvent(Variant, frozen=True, kw_only=True):
    """The activity stopped because it was asked to."""

    scheduled_event_id: int
    details: list[Payload] = []
    identity: str = ""


class TimerStarted(Variant, frozen=True, kw_only=True):
    """The workflow waits until ``due_time_ms``."""

    timer_id: str
    start_to_fire_timeout_ms: int
    due_time_ms: int
    workflow_task_completed_event_id: int
    summary: Payload | None = None


class TimerFired(Variant, frozen=True, kw_only=True):
    """A timer of the workflow is due."""

    timer_id: str
    started_event_id: int


class TimerCanceled(Variant, frozen=True, kw_only=True):
    """The workflow does not wait for that timer any more."""

    timer_id: str
    started_event_id: int
    workflow_task_completed_event_id: int


class MarkerRecorded(Variant, frozen=True, kw_only=True):
    """A value the SDK needs on replay."""

    marker_name: str
    details: dict[str, list[Payload]] = {}
    failure: Failure | None = None
    workflow_task_completed_event_id: int


# --- unnumbered: the newest one replaces those before it ----------------------------------------------------------


class ActivityAttemptRecorded(Variant, frozen=True, kw_only=True):
    """Where a pending activity stands: complete in itself, so that the newest record is enough."""

    scheduled_event_id: int
    attempt: int
    #: When this attempt was or will be handed to matching.
    scheduled_time_ms: int
    started_time_ms: int | None = None
    worker_id: str = ""
    heartbeat_time_ms: int | None = None
    heartbeat_details: list[Payload] = []
    last_failure: Failure | None = None
    #: The attempt has left its worker; a client completes it.
    left_open: bool = False
    #: No attempt begins until an operator says so.
    paused: bool = False
    pause_reason: str = ""
    #: How many attempts were made before an operator had them counted anew.
    attempts_before: int = 0
    #: The next attempt gets no heartbeat details.
    drops_heartbeats: bool = False
    #: As an operator has changed them, with effective timeouts, without payloads; ``None``: as they were scheduled.
    options: ActivityOptions | None = None
    #: The newest command of an operator: it counts once.
    operator_command_id: str = ""


class WorkflowTaskAttemptRecorded(Variant, frozen=True, kw_only=True):
    """Where a workflow task that failed before stands."""

    scheduled_event_id: int
    attempt: int
    #: When this attempt was or will be handed to matching.
    scheduled_time_ms: int
    last_failure: Failure | None = None
    last_cause: str = ""


class WorkflowQuarantined(Variant, frozen=True, kw_only=True):
    """A command could not be processed; the run takes no more until somebody looks (I5). No reason: it does again."""

    reason: str
    command_offset: int


class WorkflowExecutionPaused(Variant, frozen=True, kw_only=True):
    """From here on nothing of the run is handed to workers. The workflow code does not see it."""

    reason: str = ""
    identity: str = ""
    command_id: str = ""


class WorkflowExecutionUnpaused(Variant, frozen=True, kw_only=True):
    """The run goes on."""

    reason: str = ""
    identity: str = ""
    command_id: str = ""


class WorkflowExecutionDeleted(Variant, frozen=True, kw_only=True):
    """The closed run is gone for everybody who asks, and its records will be removed soon."""

    reason: str = ""
    identity: str = ""
    command_id: str = ""


EventAttributes = (
    WorkflowExecutionStarted
    | WorkflowExecutionCompleted
    | WorkflowExecutionFailed
    | WorkflowExecutionTimedOut
    | WorkflowExecutionCancelRequested
    | WorkflowExecutionCanceled
    | WorkflowExecutionTerminated
    | WorkflowExecutionSignaled
    | WorkflowTaskScheduled
    | WorkflowTaskCompletedEvent
    | WorkflowTaskFailedEvent
    | WorkflowTaskTimedOut
    | ActivityTaskScheduled
    | ActivityTaskCompletedEvent
    | ActivityTaskFailedEvent
    | ActivityTaskTimedOut
    | ActivityTaskCancelRequested
    | ActivityTaskCanceledEvent
    | TimerStarted
    | TimerFired
    | TimerCanceled
    | MarkerRecorded
    | ActivityAttemptRecorded
    | WorkflowTaskAttemptRecorded
    | WorkflowQuarantined
    | WorkflowExecutionContinuedAsNew
    | UpsertWorkflowSearchAttributesEvent
    | WorkflowPropertiesModified
    | StartChildWorkflowExecutionInitiated
    | StartChildWorkflowExecutionFailed
    | ChildWorkflowExecutionStarted
    | ChildWorkflowExecutionCompleted
    | ChildWorkflowExecutionFailed
    | ChildWorkflowExecutionCanceled
    | ChildWorkflowExecutionTimedOut
    | ChildWorkflowExecutionTerminated
    | SignalExternalWorkflowExecutionInitiated
    | SignalExternalWorkflowExecutionFailed
    | ExternalWorkflowExecutionSignaled
    | RequestCancelExternalWorkflowExecutionInitiated
    | RequestCancelExternalWorkflowExecutionFailed
    | ExternalWorkflowExecutionCancelRequested
    | WorkflowExecutionUpdateAccepted
    | WorkflowExecutionUpdateCompleted
    | WorkflowExecutionPaused
    | WorkflowExecutionUnpaused
    | WorkflowExecutionDeleted
    | ScheduleCreated
    | ScheduleRecorded
    | RecordEmitted
    | RecordWaitStarted
    | RecordWaitCanceled
    | RecordArrived
)


class Event(Record, frozen=True, kw_only=True):
    """One state transition of a run."""

    event_id: int
    event_time_ms: int
    attributes: EventAttributes


class HistoryRecord(Record, frozen=True, kw_only=True):
    """The events of one decision for one run.

    A decision that touches several runs (a start that terminates the running one) is ``part`` 1 … ``parts``, each with
    its run; parts without their last one are void, and the decision is taken again by the next owner.
    """

    workflow_id: str
    run_id: str
    #: Offset of the command in the ``commands`` partition of the same number (I2).
    command_offset: int
    #: Offset of the owner mark under which this was decided (I1).
    epoch: int
    part: int = 1
    parts: int = 1
    events: list[Event]
    #: The run's armed wake-up after this decision: its arm number and when it is due (0: none is armed). Complete in
    #: itself, so that a fold knows it even where compaction has dropped earlier unnumbered records.
    wake_up_number: int = 0
    wake_up_due_ms: int = 0
    #: The oldest epoch under which this decision may have sent records, if that is not ``epoch``: an earlier owner may
    #: have taken it, too, and have been stopped when some of its effects were in the log and its history was not.
    since_epoch: int = -1


class OwnerMark(Record, frozen=True, kw_only=True):
    """A new owner has taken over ``source`` ("history/3"): from here on its records with an older epoch are void.

    In the source's own topic the epoch is the mark's offset (``epoch`` is -1 there).
    """

    source: str
    epoch: int = -1
    owner: str
    time_ms: int
