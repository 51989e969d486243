"""Answers to clients, the visibility feed, and what could not be processed."""

from __future__ import annotations

from perdure_schemas.records.common import (
    Failure,
    ParentClosePolicy,
    ParentExecution,
    Payload,
    Record,
    RecordWait,
    UpdateStage,
    Variant,
    VersioningBehavior,
    WorkflowStatus,
)
from perdure_schemas.records.reads import ExecutionsCount, ExecutionsPage, SchedulesPage
from perdure_schemas.records.schedules import ScheduleDescribed, ScheduleSummary, ScheduleTimes

__all__ = [
    "ActivityHeartbeatAnswer",
    "DeadLetter",
    "Described",
    "Done",
    "ErrorCode",
    "ExecutionSummary",
    "HistoryPage",
    "PendingActivity",
    "PendingChildWorkflow",
    "PendingWorkflowTask",
    "QueryAnswer",
    "Rejected",
    "Reply",
    "ReplyBody",
    "Started",
    "UpdateAnswer",
    "WorkflowClosed",
]

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a request was refused."""

    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    QUARANTINED = "QUARANTINED"
    INTERNAL = "INTERNAL"


class ExecutionSummary(Record, frozen=True, kw_only=True):
    """The latest state of a run in ``executions``: the visibility feed. ``version`` grows with every decision."""

    workflow_id: str
    run_id: str
    first_execution_run_id: str
    workflow_type: str
    task_queue: str
    status: WorkflowStatus
    start_time_ms: int
    execution_time_ms: int
    close_time_ms: int | None = None
    history_length: int
    version: int
    memo: dict[str, Payload] = {}
    quarantine_reason: str = ""
    search_attributes: dict[str, Payload] = {}
    #: The run that this one follows, and the one that follows it.
    continued_run_id: str = ""
    new_run_id: str = ""
    #: The run that started this one as its child.
    parent: ParentExecution | None = None
    #: An operator holds it; its status is RUNNING nevertheless.
    paused: bool = False
    #: The version of workers it is pinned to, or else was last run by; and how it moves between versions.
    deployment_version: str = ""
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    #: The workflow task fails again and again: which attempt comes next, and why the last one failed. Else 0 and empty.
    stuck_attempt: int = 0
    stuck_reason: str = ""
    #: It is no workflow, but a schedule.
    schedule: ScheduleSummary | None = None
    #: The records that it waits for.
    record_waits: list[RecordWait] = []


class PendingActivity(Record, frozen=True, kw_only=True):
    """A pending activity, for ``describe``.

    ``heartbeat_details`` are those of the last heartbeat; without them though there was one, they would make the answer
    too large.
    """

    activity_id: str
    activity_type: str
    task_queue: str
    attempt: int
    maximum_attempts: int
    scheduled_time_ms: int
    started_time_ms: int | None = None
    last_heartbeat_time_ms: int | None = None
    next_attempt_time_ms: int | None = None
    last_failure: Failure | None = None
    cancel_requested: bool = False
    worker_id: str = ""
    paused: bool = False
    pause_reason: str = ""
    heartbeat_details: list[Payload] = []


class PendingChildWorkflow(Record, frozen=True, kw_only=True):
    """A child workflow that is open or being started, for ``describe``."""

    workflow_id: str
    #: Its first run; empty as long as it is not known to have started.
    run_id: str = ""
    workflow_type: str
    initiated_event_id: int
    parent_close_policy: ParentClosePolicy


class PendingWorkflowTask(Record, frozen=True, kw_only=True):
    """The outstanding workflow task, for ``describe``."""

    attempt: int
    scheduled_time_ms: int
    last_cause: str = ""
    last_failure: Failure | None = None


class Started(Variant, frozen=True, kw_only=True):
    """A start was accepted. ``created`` is false where an existing run is meant."""

    run_id: str
    first_execution_run_id: str
    created: bool = True


class Done(Variant, frozen=True, kw_only=True):
    """A signal, cancel or terminate was taken."""


class WorkflowClosed(Variant, frozen=True, kw_only=True):
    """The end of a run, for those who wait for its result."""

    run_id: str
    status: WorkflowStatus
    result: list[Payload] = []
    failure: Failure | None = None
    #: The run that follows: always for CONTINUED_AS_NEW, else because of a retry policy or a cron schedule.
    new_run_id: str = ""


class QueryAnswer(Variant, frozen=True, kw_only=True):
    """The answer of a query, its failure, or the status because of which it was rejected."""

    result: list[Payload] = []
    failure: Failure | None = None
    rejected_status: WorkflowStatus | None = None


class Described(Variant, frozen=True, kw_only=True):
    """A run as the engine sees it now."""

    summary: ExecutionSummary
    pending_activities: list[PendingActivity] = []
    pending_workflow_task: PendingWorkflowTask | None = None
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 10_000
    history_bytes: int = 0
    static_summary: Payload | None = None
    static_details: Payload | None = None
    attempt: int = 1
    cron_schedule: str = ""
    pending_children: list[PendingChildWorkflow] = []
    pause_reason: str = ""
    current_details: Payload | None = None


class HistoryPage(Variant, frozen=True, kw_only=True):
    """Encoded :class:`HistoryRecord` values in order. ``next_event_id`` 0: this is the end for now."""

    run_id: str
    records: list[bytes]
    next_event_id: int = 0
    closed: bool = False


class Rejected(Variant, frozen=True, kw_only=True):
    """A request was refused, and why."""

    code: ErrorCode
    message: str
    run_id: str = ""
    status: WorkflowStatus | None = None


class UpdateAnswer(Variant, frozen=True, kw_only=True):
    """How far an update of a run has come, and with ``stage`` COMPLETED how it ended. A rejected update has ended with
    the ``failure`` it was rejected with."""

    run_id: str
    update_id: str
    stage: UpdateStage
    result: list[Payload] = []
    failure: Failure | None = None


class ActivityHeartbeatAnswer(Variant, frozen=True, kw_only=True):
    """A heartbeat was taken; what the engine wants of the activity."""

    cancel_requested: bool = False
    paused: bool = False
    reset: bool = False


ReplyBody = (
    Started
    | Done
    | WorkflowClosed
    | QueryAnswer
    | Described
    | HistoryPage
    | Rejected
    | UpdateAnswer
    | ActivityHeartbeatAnswer
    | ExecutionsPage
    | ExecutionsCount
    | ScheduleDescribed
    | ScheduleTimes
    | SchedulesPage
)


class Reply(Record, frozen=True, kw_only=True):
    """One answer; the record's key is the client id."""

    client_id: str
    request_id: str
    workflow_id: str
    body: ReplyBody


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that could not be processed, as it was, and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes] = {}
    reason: str
    time_ms: int
    #: Set if it is a record that a workflow emitted and that its topic did not take: its id. ``topic`` is that topic,
    #: ``partition`` that of the history, and ``offset`` one below which the history is done.
    emit_id: str = ""
