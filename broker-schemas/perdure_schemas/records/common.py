"""Pieces shared by all records: payloads, failures, policies and small enumerations."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "ActivityOptions",
    "ChildWorkflowOptions",
    "CommandOrigin",
    "Failure",
    "FailureKind",
    "IdConflictPolicy",
    "IdReusePolicy",
    "ParentClosePolicy",
    "ParentExecution",
    "Payload",
    "Record",
    "RecordWait",
    "ReplyTo",
    "RetryPolicy",
    "RetryState",
    "TaskPriority",
    "TimeoutType",
    "UpdateRequest",
    "UpdateStage",
    "Variant",
    "VersioningBehavior",
    "VersioningOverride",
    "WorkflowStatus",
    "avro_name",
]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of everything that is written to a topic."""


def avro_name(name: str) -> str:
    """The full Avro name of a record type."""
    return f"io.perdure.{name}"


class Variant(Record, frozen=True, kw_only=True, tag_field="-type", tag=avro_name):
    """Base of the members of a union; the tag is what Avro writers and readers name the branch by."""


class Payload(Record, frozen=True, kw_only=True):
    """One user value: opaque bytes, and metadata (``encoding`` …) that tells a converter how to read them.

    The engine never decodes ``data``.
    """

    metadata: dict[str, bytes] = {}
    data: bytes = b""


class RecordWait(Record, frozen=True, kw_only=True):
    """A workflow waits for a record in a topic of the user's."""

    wait_id: str
    topic: str
    #: ``None``: any.
    key: bytes | None = None
    #: What the value has to hold, as JSON: an object of paths and values; empty: anything.
    where: str = ""
    #: Records with an earlier timestamp that stood there before anybody looked do not count.
    since_ms: int = 0


class WorkflowStatus(StrEnum):
    """The status of a workflow run, as users see it."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TERMINATED = "TERMINATED"
    CONTINUED_AS_NEW = "CONTINUED_AS_NEW"
    TIMED_OUT = "TIMED_OUT"


class IdReusePolicy(StrEnum):
    """What a start does when a *closed* run of that workflow id exists."""

    ALLOW_DUPLICATE = "ALLOW_DUPLICATE"
    ALLOW_DUPLICATE_FAILED_ONLY = "ALLOW_DUPLICATE_FAILED_ONLY"
    REJECT_DUPLICATE = "REJECT_DUPLICATE"
    TERMINATE_IF_RUNNING = "TERMINATE_IF_RUNNING"


class IdConflictPolicy(StrEnum):
    """What a start does when a *running* run of that workflow id exists."""

    UNSPECIFIED = "UNSPECIFIED"
    FAIL = "FAIL"
    USE_EXISTING = "USE_EXISTING"
    TERMINATE_EXISTING = "TERMINATE_EXISTING"


class ParentClosePolicy(StrEnum):
    """What happens to a running child when its parent closes, in whatever way."""

    TERMINATE = "TERMINATE"
    ABANDON = "ABANDON"
    REQUEST_CANCEL = "REQUEST_CANCEL"


class TimeoutType(StrEnum):
    """Which timeout fired."""

    START_TO_CLOSE = "START_TO_CLOSE"
    SCHEDULE_TO_START = "SCHEDULE_TO_START"
    SCHEDULE_TO_CLOSE = "SCHEDULE_TO_CLOSE"
    HEARTBEAT = "HEARTBEAT"


class RetryState(StrEnum):
    """Why an activity or a workflow was not retried further."""

    IN_PROGRESS = "IN_PROGRESS"
    NON_RETRYABLE_FAILURE = "NON_RETRYABLE_FAILURE"
    TIMEOUT = "TIMEOUT"
    MAXIMUM_ATTEMPTS_REACHED = "MAXIMUM_ATTEMPTS_REACHED"
    RETRY_POLICY_NOT_SET = "RETRY_POLICY_NOT_SET"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"


class FailureKind(StrEnum):
    """The class of a failure; the SDK maps each to one exception class."""

    APPLICATION = "APPLICATION"
    CANCELED = "CANCELED"
    TERMINATED = "TERMINATED"
    TIMEOUT = "TIMEOUT"
    SERVER = "SERVER"
    ACTIVITY = "ACTIVITY"
    CHILD_WORKFLOW = "CHILD_WORKFLOW"


class Failure(Record, frozen=True, kw_only=True):
    """An error as data, with its chain of causes. Fields that do not belong to ``kind`` keep their defaults."""

    kind: FailureKind
    message: str = ""
    stack_trace: str = ""
    source: str = ""
    cause: Failure | None = None
    encoded_attributes: Payload | None = None
    #: APPLICATION: the error type, whether it may be retried, its details and its own wish for the next delay.
    type: str = ""
    non_retryable: bool = False
    details: list[Payload] = []
    next_retry_delay_ms: int | None = None
    category: str = ""
    #: TIMEOUT
    timeout_type: TimeoutType | None = None
    last_heartbeat_details: list[Payload] = []
    #: ACTIVITY and CHILD_WORKFLOW
    activity_id: str = ""
    activity_type: str = ""
    workflow_id: str = ""
    run_id: str = ""
    workflow_type: str = ""
    scheduled_event_id: int = 0
    identity: str = ""
    retry_state: RetryState | None = None


class RetryPolicy(Record, frozen=True, kw_only=True):
    """How often and when a failed attempt is repeated; ``maximum_attempts`` 0 means without limit."""

    initial_interval_ms: int = 1_000
    backoff_coefficient: float = 2.0
    maximum_interval_ms: int | None = None
    maximum_attempts: int = 0
    non_retryable_error_types: list[str] = []


class VersioningBehavior(StrEnum):
    """Whether a run stays with the version of workers it began on."""

    UNSPECIFIED = "UNSPECIFIED"
    PINNED = "PINNED"
    AUTO_UPGRADE = "AUTO_UPGRADE"


class VersioningOverride(Record, frozen=True, kw_only=True):
    """What counts instead of what workers say of a run: pinned to a version, or (if that is empty) to none."""

    pinned_version: str = ""


class TaskPriority(Record, frozen=True, kw_only=True):
    """In which order tasks that wait on one queue are handed out: by ``priority`` (1 first), then in turns by key."""

    priority: int = 3
    fairness_key: str = ""
    fairness_weight: float = 1.0


class CommandOrigin(Record, frozen=True, kw_only=True):
    """The workflow run that sent a command to another workflow, and the event with which it decided to."""

    workflow_id: str
    run_id: str
    event_id: int
    #: Whether it asked for the start of a child.
    asks_for_start: bool = False


class ParentExecution(Record, frozen=True, kw_only=True):
    """The run that started a child workflow, by which event, and the run at the top of the tree.

    Every run of a child's chain has it: the parent is told when the last one closes.
    """

    workflow_id: str
    run_id: str
    initiated_event_id: int
    root_workflow_id: str
    root_run_id: str


class ReplyTo(Record, frozen=True, kw_only=True):
    """Where an answer goes: the asking client, its partition of ``replies`` and its request.

    With ``origin`` a workflow asks: the answer goes to it as a command, and the other fields only name the request.
    """

    client_id: str
    partition: int
    request_id: str
    origin: CommandOrigin | None = None


class ActivityOptions(Record, frozen=True, kw_only=True):
    """What the workflow asked for when it scheduled an activity. A timeout of ``None`` is not set."""

    activity_id: str
    activity_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    schedule_to_close_timeout_ms: int | None = None
    schedule_to_start_timeout_ms: int | None = None
    start_to_close_timeout_ms: int | None = None
    heartbeat_timeout_ms: int | None = None
    retry_policy: RetryPolicy = RetryPolicy()
    priority: int = 3
    fairness_key: str = ""
    fairness_weight: float = 1.0
    summary: Payload | None = None


class ChildWorkflowOptions(Record, frozen=True, kw_only=True):
    """What the workflow asked for when it started a child. A timeout of ``None`` is not set."""

    workflow_id: str
    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    execution_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    task_timeout_ms: int = 10_000
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE
    id_reuse_policy: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    memo: dict[str, Payload] = {}
    retry_policy: RetryPolicy | None = None
    cron_schedule: str = ""
    search_attributes: dict[str, Payload] = {}
    static_summary: Payload | None = None
    static_details: Payload | None = None
    priority: TaskPriority = TaskPriority()
    versioning_override: VersioningOverride | None = None


class UpdateStage(StrEnum):
    """How far an update has come, and how far somebody waits for it to come."""

    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"


class UpdateRequest(Record, frozen=True, kw_only=True):
    """An update as its sender asked for it. ``update_id`` makes a repetition the same update (I3)."""

    update_id: str
    name: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    identity: str = ""
