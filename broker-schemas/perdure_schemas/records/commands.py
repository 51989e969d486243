"""The ``commands`` topic: everything that may change a workflow, in the one order in which it is decided (I1)."""

from __future__ import annotations

from perdure_schemas.records.common import (
    Failure,
    IdConflictPolicy,
    IdReusePolicy,
    ParentExecution,
    Payload,
    Record,
    ReplyTo,
    RetryPolicy,
    RetryState,
    TaskPriority,
    TimeoutType,
    UpdateRequest,
    UpdateStage,
    Variant,
    VersioningBehavior,
    VersioningOverride,
    WorkflowStatus,
)
from perdure_schemas.records.operator_commands import (
    DeleteWorkflow,
    PauseActivity,
    PauseWorkflow,
    ReleaseWorkflow,
    ResetActivity,
    UnpauseActivity,
    UnpauseWorkflow,
    UpdateActivityOptions,
)
from perdure_schemas.records.record_events import DeliverRecord
from perdure_schemas.records.schedules import ScheduleOrigin, ScheduleRequest
from perdure_schemas.records.workflow_commands import WorkflowCommand

__all__ = [
    "ActivityLeaseLost",
    "ActivityLeftOpen",
    "ActivityTaskCanceled",
    "ActivityTaskCompleted",
    "ActivityTaskFailed",
    "ActivityTaskHeartbeat",
    "ActivityTaskStarted",
    "AwaitResult",
    "AwaitUpdate",
    "CancelWorkflow",
    "ChildWorkflowClosed",
    "ChildWorkflowStartFailed",
    "ChildWorkflowStarted",
    "Command",
    "CommandBody",
    "CompleteActivity",
    "DeadlineReached",
    "DescribeWorkflow",
    "ExternalWorkflowAnswered",
    "FailActivity",
    "FetchHistory",
    "ForkWorkflow",
    "HeartbeatActivity",
    "QueryTaskCompleted",
    "QueryTaskExpired",
    "QueryWorkflow",
    "ReportActivityCanceled",
    "ResetWorkflow",
    "SignalInput",
    "SignalWorkflow",
    "StartWorkflow",
    "TerminateWorkflow",
    "UpdateWorkflow",
    "WorkflowTaskCompleted",
    "WorkflowTaskFailed",
]


class SignalInput(Record, frozen=True, kw_only=True):
    """A signal: its name and arguments."""

    signal_name: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}


# --- from clients -------------------------------------------------------------------------------------------------


class StartWorkflow(Variant, frozen=True, kw_only=True):
    """Start a run. ``run_id`` is proposed by the asker, so that a repeated start has the same one."""

    run_id: str
    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 10_000
    id_reuse_policy: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    id_conflict_policy: IdConflictPolicy = IdConflictPolicy.UNSPECIFIED
    memo: dict[str, Payload] = {}
    #: Delivered to the new run before its first workflow task, or to the running one.
    signal: SignalInput | None = None
    #: Answer this request, too, when the run closes.
    await_result: bool = False
    #: Failed and timed-out runs are followed by another attempt.
    retry_policy: RetryPolicy | None = None
    #: Every run begins at the next time of this schedule, and a finished run is followed by another one.
    cron_schedule: str = ""
    #: The first workflow task waits this long, or until a signal comes.
    start_delay_ms: int = 0
    search_attributes: dict[str, Payload] = {}
    static_summary: Payload | None = None
    static_details: Payload | None = None
    priority: TaskPriority = TaskPriority()
    #: Set if the run is a child: who is told how it ends.
    parent: ParentExecution | None = None
    #: An update to deliver with the first workflow task, or to the running run: both are taken, or neither.
    update: UpdateRequest | None = None
    update_wait_stage: UpdateStage = UpdateStage.COMPLETED
    update_expires_at_ms: int = 0
    versioning_override: VersioningOverride | None = None
    #: The version its first workflow task is for, if the run that starts it is pinned; else empty.
    inherited_version: str = ""
    #: Set if a schedule starts it: who is told how it ends, and what the workflow it started before left behind.
    scheduled_by: ScheduleOrigin | None = None
    last_completion_result: list[Payload] = []
    last_failure: Failure | None = None
    #: With ``await_result``: how long the answer to the start may wait, which is not given if the run closes before.
    start_answer_delay_ms: int = 0


class SignalWorkflow(Variant, frozen=True, kw_only=True):
    """Deliver a signal to the running run. The command's id makes a repeated delivery harmless."""

    signal: SignalInput
    #: If set, the run must belong to the chain of runs that began with this one.
    first_execution_run_id: str = ""


class QueryWorkflow(Variant, frozen=True, kw_only=True):
    """Ask a worker for a view of the run's state; changes nothing. Void after ``expires_at_ms``."""

    query_type: str
    args: list[Payload] = []
    header: dict[str, Payload] = {}
    #: "NONE", "NOT_OPEN" or "NOT_COMPLETED_CLEANLY"
    reject_condition: str = "NONE"
    expires_at_ms: int


class CancelWorkflow(Variant, frozen=True, kw_only=True):
    """Ask the run to stop; its code decides how."""

    reason: str = ""
    #: If set, the run must belong to the chain of runs that began with this one.
    first_execution_run_id: str = ""


class TerminateWorkflow(Variant, frozen=True, kw_only=True):
    """Close the run now, without asking its code."""

    reason: str = ""
    details: list[Payload] = []
    #: If set, the run must belong to the chain of runs that began with this one.
    first_execution_run_id: str = ""


class DescribeWorkflow(Variant, frozen=True, kw_only=True):
    """Ask for the current summary of a run and what it waits for."""


class AwaitResult(Variant, frozen=True, kw_only=True):
    """Answer when the run is closed. Kept in memory only: askers repeat it when an owner mark shows a takeover."""


class FetchHistory(Variant, frozen=True, kw_only=True):
    """Ask for a page of history from ``first_event_id`` on, up to about ``page_bytes_max`` bytes."""

    first_event_id: int = 1
    page_bytes_max: int = 524_288


# --- from workers -------------------------------------------------------------------------------------------------


class WorkflowTaskCompleted(Variant, frozen=True, kw_only=True):
    """A workflow task was run up to event ``last_event_id``; ``commands`` are what the code asked for."""

    scheduled_event_id: int
    attempt: int
    last_event_id: int
    started_time_ms: int
    commands: list[WorkflowCommand] = []
    #: The worker that holds the run in its cache now; empty when it does not cache.
    sticky_worker_id: str = ""
    #: Flags of SDK logic in use from here on, so that a replay behaves as the first run did.
    sdk_flags: list[int] = []
    #: The task was handed out with updates only and stands in no history yet; its id among such tasks.
    speculative_id: str = ""
    #: Another workflow task follows at once: a local activity still runs.
    force_new_task: bool = False
    #: The version of the worker (without a deployment name: a build id alone), and what its code says of the run.
    deployment_name: str = ""
    build_id: str = ""
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    #: What the run tells about itself from here on; ``None``: as before.
    current_details: Payload | None = None


class WorkflowTaskFailed(Variant, frozen=True, kw_only=True):
    """The workflow code (not the workflow) failed: a bug or non-determinism. The task is retried with back-off."""

    scheduled_event_id: int
    attempt: int
    #: "WORKFLOW_WORKER_UNHANDLED_FAILURE", "NON_DETERMINISTIC_ERROR", "WORKFLOW_TYPE_NOT_FOUND" …
    cause: str
    failure: Failure
    #: As in :class:`WorkflowTaskCompleted`.
    speculative_id: str = ""


class QueryTaskCompleted(Variant, frozen=True, kw_only=True):
    """A worker's answer to a query. The asker rides along, so the engine keeps no state for queries."""

    query_id: str
    reply: ReplyTo
    result: list[Payload] = []
    failure: Failure | None = None


class ActivityTaskCompleted(Variant, frozen=True, kw_only=True):
    """An activity attempt returned."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    result: list[Payload] = []


class ActivityTaskFailed(Variant, frozen=True, kw_only=True):
    """An activity attempt raised."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    failure: Failure


class ActivityTaskCanceled(Variant, frozen=True, kw_only=True):
    """An activity attempt stopped because it was asked to."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    details: list[Payload] = []


class ActivityTaskHeartbeat(Variant, frozen=True, kw_only=True):
    """An activity attempt lives, and how far it is."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    details: list[Payload] = []


# --- from matching and timers -------------------------------------------------------------------------------------


class ActivityTaskStarted(Variant, frozen=True, kw_only=True):
    """An attempt was handed to a worker. Sent only if the attempt is still open after its ``start_notice_delay_ms``."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    worker_id: str


class ActivityLeaseLost(Variant, frozen=True, kw_only=True):
    """The worker that held an attempt is gone, so its retry policy applies at once."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    worker_id: str
    timeout_type: TimeoutType = TimeoutType.HEARTBEAT


class QueryTaskExpired(Variant, frozen=True, kw_only=True):
    """Nobody answered a query in its time; its task can go."""

    query_id: str


class DeadlineReached(Variant, frozen=True, kw_only=True):
    """The run's armed wake-up is due (I6: checked against the state when it is processed)."""

    arm_number: int
    due_time_ms: int


# --- from workflows to each other --------------------------------------------------------------------------------


class ChildWorkflowStarted(Variant, frozen=True, kw_only=True):
    """The child that the parent's event ``initiated_event_id`` asked for has started."""

    initiated_event_id: int
    child_run_id: str


class ChildWorkflowStartFailed(Variant, frozen=True, kw_only=True):
    """The child could not be started."""

    initiated_event_id: int
    #: "WORKFLOW_ALREADY_EXISTS", or the code with which the start was refused.
    cause: str
    message: str = ""
    #: WORKFLOW_ALREADY_EXISTS: the run that has the workflow id.
    existing_run_id: str = ""


class ChildWorkflowClosed(Variant, frozen=True, kw_only=True):
    """The child is closed: its last run, if it had several."""

    initiated_event_id: int
    child_run_id: str
    status: WorkflowStatus
    result: list[Payload] = []
    failure: Failure | None = None
    retry_state: RetryState | None = None


class ExternalWorkflowAnswered(Variant, frozen=True, kw_only=True):
    """What became of a signal or a request to cancel that this run sent to another workflow."""

    initiated_event_id: int
    #: Empty if it was taken; else "EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND" or the code with which it was refused.
    cause: str = ""
    message: str = ""


class UpdateWorkflow(Variant, frozen=True, kw_only=True):
    """Have the running run's code take on an update. The update's id makes a repetition the same update.
    The asker hears when it is accepted and, with ``wait_stage`` COMPLETED, how it ended. Until it is accepted it is in
    memory only, and void after ``expires_at_ms``: askers repeat it when an owner mark shows a takeover.
    """

    request: UpdateRequest
    wait_stage: UpdateStage = UpdateStage.COMPLETED
    expires_at_ms: int


class AwaitUpdate(Variant, frozen=True, kw_only=True):
    """Answer when an update has come as far as ``wait_stage``. Kept in memory only, as :class:`AwaitResult`."""

    update_id: str
    wait_stage: UpdateStage = UpdateStage.COMPLETED


# --- from clients, about activities -----------------------------------------------------------------------------------


class CompleteActivity(Variant, frozen=True, kw_only=True):
    """An activity that was left open returned. It is named by its event and attempt, or by ``activity_id``."""

    activity_id: str = ""
    scheduled_event_id: int = 0
    attempt: int = 0
    result: list[Payload] = []


class FailActivity(Variant, frozen=True, kw_only=True):
    """An activity that was left open failed; it is named as in :class:`CompleteActivity`."""

    activity_id: str = ""
    scheduled_event_id: int = 0
    attempt: int = 0
    failure: Failure
    #: Kept for the next attempt; ``None``: those of the last heartbeat.
    heartbeat_details: list[Payload] | None = None


class ReportActivityCanceled(Variant, frozen=True, kw_only=True):
    """An activity that was left open stopped because it was asked to; named as in :class:`CompleteActivity`."""

    activity_id: str = ""
    scheduled_event_id: int = 0
    attempt: int = 0
    details: list[Payload] = []


class HeartbeatActivity(Variant, frozen=True, kw_only=True):
    """An activity that was left open lives; named as in :class:`CompleteActivity`."""

    activity_id: str = ""
    scheduled_event_id: int = 0
    attempt: int = 0
    details: list[Payload] = []


class ActivityLeftOpen(Variant, frozen=True, kw_only=True):
    """An attempt left its worker without an end: a client will complete it."""

    scheduled_event_id: int
    attempt: int
    started_time_ms: int
    worker_id: str


class ResetWorkflow(Variant, frozen=True, kw_only=True):
    """Begin a new run with the history of the newest one up to a workflow task, and decide that one anew.

    ``run_id`` is that of the new run, proposed by the asker. ``event_id`` is the completion of the workflow task; 0:
    ``point`` says which, "FirstWorkflowTask" or "LastWorkflowTask" (also if empty).
    """

    run_id: str
    event_id: int = 0
    point: str = ""
    reason: str = ""
    reapply_signals: bool = True


class ForkWorkflow(Variant, frozen=True, kw_only=True):
    """Begin a workflow with the first events of a run of another one, and decide its next workflow task anew.

    ``records`` are encoded :class:`HistoryRecord` values with the other run's numbered events, from its first to at
    least the completion of the workflow task ``event_id``; what stands from there on is left out. ``event_id`` and
    ``point`` are as in :class:`ResetWorkflow`.
    """

    run_id: str
    source_workflow_id: str
    source_run_id: str
    records: list[bytes]
    event_id: int = 0
    point: str = ""


CommandBody = (
    StartWorkflow
    | SignalWorkflow
    | QueryWorkflow
    | CancelWorkflow
    | TerminateWorkflow
    | DescribeWorkflow
    | AwaitResult
    | FetchHistory
    | WorkflowTaskCompleted
    | WorkflowTaskFailed
    | QueryTaskCompleted
    | ActivityTaskCompleted
    | ActivityTaskFailed
    | ActivityTaskCanceled
    | ActivityTaskHeartbeat
    | ActivityTaskStarted
    | ActivityLeaseLost
    | QueryTaskExpired
    | DeadlineReached
    | ChildWorkflowStarted
    | ChildWorkflowStartFailed
    | ChildWorkflowClosed
    | ExternalWorkflowAnswered
    | UpdateWorkflow
    | AwaitUpdate
    | CompleteActivity
    | FailActivity
    | ReportActivityCanceled
    | HeartbeatActivity
    | ActivityLeftOpen
    | ResetWorkflow
    | PauseActivity
    | UnpauseActivity
    | ResetActivity
    | UpdateActivityOptions
    | PauseWorkflow
    | UnpauseWorkflow
    | ReleaseWorkflow
    | DeleteWorkflow
    | ForkWorkflow
    | ScheduleRequest
    | DeliverRecord
)


class Command(Record, frozen=True, kw_only=True):
    """The envelope of a command.

    ``command_id`` is deterministic for everything the engine sends itself, so a repetition is recognised (I3).
    An empty ``run_id`` means the current run. The record's key is the workflow id.
    """

    command_id: str
    workflow_id: str
    run_id: str = ""
    identity: str = ""
    reply: ReplyTo | None = None
    body: CommandBody
