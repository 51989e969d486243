"""The state of one run: what its events say, in the form in which the next decision needs it.

Invariants: only :mod:`perdure_history.core.evolve` writes it, so folding a run's history records gives the same state
as deciding them did (I2); it holds no payload that the history holds already, except heartbeat details and failures of
pending activities (they are overwritten there). Read by the deciding modules, kept by the service as MessagePack.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure_schemas.records import (
    ActivityAttemptRecorded,
    ActivityOptions,
    Failure,
    ParentClosePolicy,
    ParentExecution,
    Payload,
    RecordWait,
    ReplyTo,
    RetryPolicy,
    ScheduleDefinition,
    ScheduleOrigin,
    ScheduleProgress,
    TaskPriority,
    VersioningBehavior,
    VersioningOverride,
    WorkflowStatus,
)

__all__ = [
    "UNHANDLED_COMMAND",
    "ActivityState",
    "ActivityStatus",
    "ChildState",
    "ChildStatus",
    "ExternalRequestKind",
    "ExternalRequestState",
    "ExternalRequestStatus",
    "RunState",
    "ScheduleState",
    "TimerState",
    "TimerStatus",
    "UpdateState",
    "UpdateStatus",
    "WorkflowTaskState",
    "WorkflowTaskStatus",
    "was_reset",
]


#: The cause when a run would be closed although something has arrived that its code has not seen.
UNHANDLED_COMMAND = "UNHANDLED_COMMAND"


class WorkflowTaskStatus(StrEnum):
    """Where the workflow task of a run stands."""

    NONE = "NONE"
    DISPATCHED = "DISPATCHED"
    BACKING_OFF = "BACKING_OFF"


class ActivityStatus(StrEnum):
    """Where an activity stands. The first three are pending."""

    NEW = "NEW"
    #: The attempt waits for its time; matching does not know it yet.
    BACKING_OFF = "BACKING_OFF"
    #: The attempt is with matching; whether a worker has it is not known.
    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"


class TimerStatus(StrEnum):
    """Where a timer of the workflow stands."""

    NEW = "NEW"
    RUNNING = "RUNNING"
    FIRED = "FIRED"
    CANCELED = "CANCELED"


class UpdateStatus(StrEnum):
    """Where an update stands. One that is not accepted is known to the owner's memory only."""

    NEW = "NEW"
    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"


class ChildStatus(StrEnum):
    """Where a child workflow stands. The second and third are pending."""

    NEW = "NEW"
    #: Its start is on the way.
    INITIATED = "INITIATED"
    STARTED = "STARTED"
    START_FAILED = "START_FAILED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"
    TERMINATED = "TERMINATED"


class ExternalRequestKind(StrEnum):
    """What a run asks of another workflow."""

    SIGNAL = "SIGNAL"
    CANCEL = "CANCEL"


class ExternalRequestStatus(StrEnum):
    """Where a request to another workflow stands."""

    NEW = "NEW"
    INITIATED = "INITIATED"
    TAKEN = "TAKEN"
    REFUSED = "REFUSED"


class WorkflowTaskState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """The outstanding workflow task.

    Attributes:
        scheduled_time_ms: when this attempt was or will be handed to matching.
        epoch: the owner's epoch when it was handed over (its record stands under a key with that epoch).
    """

    scheduled_event_id: int
    attempt: int
    status: WorkflowTaskStatus
    scheduled_time_ms: int
    epoch: int
    last_cause: str = ""
    last_failure: Failure | None = None


class ActivityState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A pending activity and its current attempt. Times of 0 are not known (yet).

    Attributes:
        options: what the workflow asked for, with effective timeouts, without input, header and summary.
        record_event_id: the first event id of the history record that scheduled it, where the full options are found.
        attempt_scheduled_time_ms: when this attempt was or will be handed to matching.
        epoch: the owner's epoch when the attempt was handed over.
    """

    scheduled_event_id: int
    record_event_id: int
    options: ActivityOptions
    scheduled_time_ms: int
    attempt: int
    status: ActivityStatus
    attempt_scheduled_time_ms: int
    epoch: int
    started_time_ms: int = 0
    worker_id: str = ""
    heartbeat_time_ms: int = 0
    heartbeat_details: list[Payload] = []
    last_failure: Failure | None = None
    cancel_requested: bool = False
    #: The attempt has left its worker; a client completes it.
    left_open: bool = False
    #: An operator holds it: no attempt begins.
    paused: bool = False
    pause_reason: str = ""
    #: How many attempts were made before an operator had them counted anew.
    attempts_before: int = 0
    drops_heartbeats: bool = False
    #: An operator has changed ``options``.
    has_new_options: bool = False
    operator_command_id: str = ""
    #: The worker that began the first attempt by itself, and what it calls the activity; empty and 0: none did.
    eager_worker_id: str = ""
    eager_event_id: int = 0

    @property
    def task_event_id(self) -> int:
        """What stands for the activity in the id of its current attempt's task."""
        return self.eager_event_id if self.eager_event_id and self.attempt == 1 else self.scheduled_event_id

    @property
    def attempts_counted(self) -> int:
        """The number of the attempt as its retry policy counts it; 0 for one that runs while it is reset."""
        return self.attempt - self.attempts_before

    @property
    def attempt_shown(self) -> int:
        """The number of the attempt as people count it."""
        return max(1, self.attempts_counted)


def was_reset(attempt: ActivityState | ActivityAttemptRecorded) -> bool:
    """Whether an activity was reset while this attempt, which a worker has, went on."""
    return attempt.attempts_before >= attempt.attempt


class TimerState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A running timer of the workflow."""

    started_event_id: int
    due_time_ms: int


class UpdateState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """An update the run has accepted. ``completed_event_id`` is 0 while its handler runs."""

    accepted_event_id: int
    completed_event_id: int = 0

    @property
    def status(self) -> UpdateStatus:
        """Where it stands."""
        return UpdateStatus.COMPLETED if self.completed_event_id else UpdateStatus.ACCEPTED


class ChildState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A child workflow that is open or being started."""

    initiated_event_id: int
    workflow_id: str
    workflow_type: str
    parent_close_policy: ParentClosePolicy
    status: ChildStatus
    started_event_id: int = 0
    run_id: str = ""


class ExternalRequestState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A signal or a request to stop that another workflow has not answered yet."""

    initiated_event_id: int
    kind: ExternalRequestKind
    workflow_id: str
    run_id: str = ""


class ScheduleState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A schedule. ``definition`` is ``None`` only while its first record is folded."""

    schedule_id: str
    definition: ScheduleDefinition | None = None
    progress: ScheduleProgress = ScheduleProgress()


class RunState(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """A run. ``status`` is ``None`` before its first event. Times and deadlines of 0 are not set.

    Attributes:
        deadline_ms: when the run timeout or the execution timeout ends it, whichever is first.
        seen_event_id: how far the workflow code has seen the history.
        waking_event_id: the newest event that the workflow code has to see.
        sticky_worker_id: the worker that has the run in its cache.
        activity_ids: the pending activities by the workflow's own names for them.
        record_event_id: the first event id of the newest history record with numbered events.
        wake_up_number / wake_up_due_ms / wake_up_epoch: the run's one wake-up in ``timers``; a due time of 0 says that
            none is armed.
        first_epoch: the owner's epoch when the run was started.
        continued_run_id / new_run_id: the run before this one in its chain, and the one that follows it.
        initiator: why it followed the run before; empty for the first one.
        execution_time_ms: when its first workflow task is or was due.
        first_task_due_ms: when its first workflow task is due, as long as that has not come; else 0.
        execution_deadline_ms: when the chain of runs has to be over.
    """

    workflow_id: str
    run_id: str
    status: WorkflowStatus | None = None
    workflow_type: str = ""
    task_queue: str = ""
    first_execution_run_id: str = ""
    start_command_id: str = ""
    await_result: ReplyTo | None = None
    memo: dict[str, Payload] = {}
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 0
    start_time_ms: int = 0
    close_time_ms: int = 0
    deadline_ms: int = 0
    last_event_id: int = 0
    last_event_time_ms: int = 0
    history_bytes: int = 0
    record_event_id: int = 0
    seen_event_id: int = 0
    waking_event_id: int = 0
    sticky_worker_id: str = ""
    workflow_task: WorkflowTaskState | None = None
    activities: dict[int, ActivityState] = {}
    activity_ids: dict[str, int] = {}
    timers: dict[str, TimerState] = {}
    cancel_command_id: str = ""
    cancel_requested: bool = False
    terminate_command_id: str = ""
    quarantine_reason: str = ""
    wake_up_number: int = 0
    wake_up_due_ms: int = 0
    wake_up_epoch: int = 0
    first_epoch: int = 0
    continued_run_id: str = ""
    new_run_id: str = ""
    initiator: str = ""
    attempt: int = 1
    retry_policy: RetryPolicy | None = None
    cron_schedule: str = ""
    execution_time_ms: int = 0
    first_task_due_ms: int = 0
    execution_deadline_ms: int = 0
    search_attributes: dict[str, Payload] = {}
    static_summary: Payload | None = None
    static_details: Payload | None = None
    priority: TaskPriority = TaskPriority()
    #: The updates the run has accepted, by their ids.
    updates: dict[str, UpdateState] = {}
    #: The run that started this one as its child; who is told how it ends.
    parent: ParentExecution | None = None
    #: By the events that asked for them.
    children: dict[int, ChildState] = {}
    external_requests: dict[int, ExternalRequestState] = {}
    #: An operator holds it: nothing is handed out.
    paused: bool = False
    pause_reason: str = ""
    pause_command_id: str = ""
    #: Of the newest completed workflow task: the version of its worker, and what that said of the run.
    deployment_version: str = ""
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    versioning_override: VersioningOverride | None = None
    #: Until its first workflow task is completed: the version that is for, and whether the ramping one is.
    inherited_version: str = ""
    prefers_ramping: bool = False
    #: What the workflow code last said of the run.
    current_details: Payload | None = None
    #: When it was deleted; 0: it is not.
    deleted_time_ms: int = 0
    #: The run is no workflow's, but a schedule.
    schedule: ScheduleState | None = None
    #: The schedule that started it, which is told how it ends.
    scheduled_by: ScheduleOrigin | None = None
    #: Records it waits for, by the ids of the waits.
    record_waits: dict[str, RecordWait] = {}
    #: The pending activities that a worker began by itself, by what it calls them.
    eager_ids: dict[int, int] = {}

    def activity(self, event_id: int) -> ActivityState | None:
        """The pending activity of an event, or of what its worker calls it."""
        return self.activities.get(self.eager_ids.get(event_id, 0) if event_id < 0 else event_id)

    @property
    def is_open(self) -> bool:
        """Whether the run goes on."""
        return self.status is WorkflowStatus.RUNNING
