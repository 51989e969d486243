"""Events of a run as a whole: how it begins and ends, what reaches it from outside, what it carries."""

from __future__ import annotations

from perdure_schemas.records.common import (
    Failure,
    ParentExecution,
    Payload,
    ReplyTo,
    RetryPolicy,
    RetryState,
    TaskPriority,
    UpdateRequest,
    Variant,
    VersioningOverride,
)
from perdure_schemas.records.schedules import ScheduleOrigin

__all__ = [
    "UpsertWorkflowSearchAttributesEvent",
    "WorkflowExecutionCancelRequested",
    "WorkflowExecutionCanceled",
    "WorkflowExecutionCompleted",
    "WorkflowExecutionContinuedAsNew",
    "WorkflowExecutionFailed",
    "WorkflowExecutionSignaled",
    "WorkflowExecutionStarted",
    "WorkflowExecutionTerminated",
    "WorkflowExecutionTimedOut",
    "WorkflowExecutionUpdateAccepted",
    "WorkflowExecutionUpdateCompleted",
    "WorkflowPropertiesModified",
]


class WorkflowExecutionStarted(Variant, frozen=True, kw_only=True):
    """The run exists."""

    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 10_000
    memo: dict[str, Payload] = {}
    identity: str = ""
    attempt: int = 1
    first_execution_run_id: str
    #: The command that started the run, so that a repeated start is answered with this run.
    start_command_id: str
    #: Who waits for the result since the start.
    await_result: ReplyTo | None = None
    #: The run that this one follows, and why it does: "CONTINUE_AS_NEW", "RETRY" or "CRON" (empty: it is a first run).
    continued_run_id: str = ""
    initiator: str = ""
    #: When the whole chain of runs must be over; 0: without limit.
    execution_deadline_ms: int = 0
    retry_policy: RetryPolicy | None = None
    cron_schedule: str = ""
    #: The first workflow task waits this long.
    first_task_backoff_ms: int = 0
    search_attributes: dict[str, Payload] = {}
    static_summary: Payload | None = None
    static_details: Payload | None = None
    priority: TaskPriority = TaskPriority()
    #: What the last successful run of the chain returned, and how the run before this one failed.
    last_completion_result: list[Payload] = []
    last_failure: Failure | None = None
    #: Set if the run is a child, in every run of its chain: who is told how the last one ends.
    parent: ParentExecution | None = None
    #: Set if the run began as a reset: the run id that its history was first written under.
    original_run_id: str = ""
    versioning_override: VersioningOverride | None = None
    #: The version its first workflow task is for, taken over from a pinned run; else empty.
    inherited_version: str = ""
    #: Its first workflow task goes to the ramping version, if there is one.
    prefers_ramping: bool = False
    #: Set if a schedule started the chain, in every run of it: who is told how the last one ends.
    scheduled_by: ScheduleOrigin | None = None


class WorkflowExecutionCompleted(Variant, frozen=True, kw_only=True):
    """The run returned."""

    result: list[Payload] = []
    workflow_task_completed_event_id: int
    #: The run that follows (cron).
    new_run_id: str = ""


class WorkflowExecutionFailed(Variant, frozen=True, kw_only=True):
    """The run failed."""

    failure: Failure
    retry_state: RetryState = RetryState.RETRY_POLICY_NOT_SET
    workflow_task_completed_event_id: int
    #: The run that follows (retry, cron).
    new_run_id: str = ""


class WorkflowExecutionTimedOut(Variant, frozen=True, kw_only=True):
    """The run or the execution took longer than allowed."""

    retry_state: RetryState = RetryState.TIMEOUT
    #: The run that follows (retry, cron).
    new_run_id: str = ""


class WorkflowExecutionCancelRequested(Variant, frozen=True, kw_only=True):
    """Somebody asked the run to stop."""

    reason: str = ""
    identity: str = ""
    #: The id of the asking command: the same one is answered with success again.
    command_id: str = ""


class WorkflowExecutionCanceled(Variant, frozen=True, kw_only=True):
    """The run stopped because it was asked to."""

    details: list[Payload] = []
    workflow_task_completed_event_id: int


class WorkflowExecutionTerminated(Variant, frozen=True, kw_only=True):
    """The run was closed from outside."""

    reason: str = ""
    details: list[Payload] = []
    identity: str = ""
    #: The id of the closing command: the same one is answered with success again.
    command_id: str = ""


class WorkflowExecutionSignaled(Variant, frozen=True, kw_only=True):
    """A signal arrived."""

    signal_name: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    identity: str = ""
    #: The id of the signalling command: the same one is not taken twice.
    command_id: str


class WorkflowExecutionContinuedAsNew(Variant, frozen=True, kw_only=True):
    """The run closed and goes on as a new one."""

    new_run_id: str
    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    backoff_start_interval_ms: int = 0
    workflow_task_completed_event_id: int


class UpsertWorkflowSearchAttributesEvent(Variant, frozen=True, kw_only=True):
    """The workflow set and removed search attributes."""

    search_attributes: dict[str, Payload] = {}
    removed: list[str] = []
    workflow_task_completed_event_id: int


class WorkflowPropertiesModified(Variant, frozen=True, kw_only=True):
    """The workflow set and removed values of its memo."""

    upserted_memo: dict[str, Payload] = {}
    removed_memo: list[str] = []
    workflow_task_completed_event_id: int


class WorkflowExecutionUpdateAccepted(Variant, frozen=True, kw_only=True):
    """The workflow code took an update on. The request stands here in full, so that a replay delivers it again."""

    request: UpdateRequest
    workflow_task_completed_event_id: int


class WorkflowExecutionUpdateCompleted(Variant, frozen=True, kw_only=True):
    """The handler of an update returned, or (with ``failure``) failed."""

    update_id: str
    accepted_event_id: int
    result: list[Payload] = []
    failure: Failure | None = None
    workflow_task_completed_event_id: int
