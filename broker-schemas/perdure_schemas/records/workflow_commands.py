"""What a workflow task asks the engine to do, in the order in which the workflow code asked."""

from __future__ import annotations

from perdure_schemas.records.common import (
    ActivityOptions,
    ChildWorkflowOptions,
    Failure,
    Payload,
    RetryPolicy,
    UpdateRequest,
    Variant,
)

__all__ = [
    "AcceptUpdate",
    "CancelRecordWait",
    "CancelTimer",
    "CancelWorkflowExecution",
    "CompleteUpdate",
    "CompleteWorkflowExecution",
    "ContinueAsNewWorkflowExecution",
    "EmitRecord",
    "FailWorkflowExecution",
    "ModifyWorkflowProperties",
    "RecordMarker",
    "RejectUpdate",
    "RequestCancelActivityTask",
    "RequestCancelExternalWorkflowExecution",
    "ScheduleActivityTask",
    "SignalExternalWorkflowExecution",
    "StartChildWorkflowExecution",
    "StartTimer",
    "UpsertWorkflowSearchAttributes",
    "WaitForRecord",
    "WorkflowCommand",
]


class ScheduleActivityTask(Variant, frozen=True, kw_only=True):
    """Run an activity."""

    options: ActivityOptions
    #: The worker begins the first attempt itself, under this name (``keys.eager_event_id``); 0: it does not.
    eager_event_id: int = 0
    #: How long the first attempt waits before it is handed out.
    start_delay_ms: int = 0


class RequestCancelActivityTask(Variant, frozen=True, kw_only=True):
    """Ask that an activity stops. ``scheduled_event_id`` names it."""

    scheduled_event_id: int


class StartTimer(Variant, frozen=True, kw_only=True):
    """Wake the workflow ``start_to_fire_timeout_ms`` after the decision."""

    timer_id: str
    start_to_fire_timeout_ms: int
    summary: Payload | None = None


class CancelTimer(Variant, frozen=True, kw_only=True):
    """The workflow does not wait for that timer any more."""

    timer_id: str


class RecordMarker(Variant, frozen=True, kw_only=True):
    """Keep a value in the history that the SDK needs on replay (a patch, a local activity's result …)."""

    marker_name: str
    details: dict[str, list[Payload]] = {}
    failure: Failure | None = None


class CompleteWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Close the run with a result."""

    result: list[Payload] = []


class FailWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Close the run with a failure."""

    failure: Failure


class CancelWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Close the run as cancelled."""

    details: list[Payload] = []


class ContinueAsNewWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Close the run and go on as a new one. What is not given is as it is in the closing run."""

    workflow_type: str
    task_queue: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}
    run_timeout_ms: int | None = None
    task_timeout_ms: int | None = None
    retry_policy: RetryPolicy | None = None
    #: Whether ``memo`` replaces the closing run's, and whether ``search_attributes`` do.
    replaces_memo: bool = False
    memo: dict[str, Payload] = {}
    replaces_search_attributes: bool = False
    search_attributes: dict[str, Payload] = {}
    #: The new run's first workflow task waits this long.
    backoff_start_interval_ms: int = 0
    #: Where its first workflow task goes although the closing run is pinned: "AUTO_UPGRADE" or "USE_RAMPING_VERSION".
    initial_versioning_behavior: str = ""


class UpsertWorkflowSearchAttributes(Variant, frozen=True, kw_only=True):
    """Set search attributes of the run, and remove some."""

    search_attributes: dict[str, Payload] = {}
    removed: list[str] = []


class ModifyWorkflowProperties(Variant, frozen=True, kw_only=True):
    """Set values of the run's memo, and remove some."""

    upserted_memo: dict[str, Payload] = {}
    removed_memo: list[str] = []


class StartChildWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Start a workflow as a child of this one."""

    options: ChildWorkflowOptions


class SignalExternalWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Signal another workflow: a child of this run if ``child_initiated_event_id`` is set, else any."""

    workflow_id: str
    run_id: str = ""
    child_initiated_event_id: int = 0
    signal_name: str
    input: list[Payload] = []
    header: dict[str, Payload] = {}


class RequestCancelExternalWorkflowExecution(Variant, frozen=True, kw_only=True):
    """Ask another workflow to stop: a child of this run if ``child_initiated_event_id`` is set, else any."""

    workflow_id: str
    run_id: str = ""
    child_initiated_event_id: int = 0
    reason: str = ""


class AcceptUpdate(Variant, frozen=True, kw_only=True):
    """The update's validator has let it pass, and its handler runs. The request goes along, so that the engine need
    not keep it."""

    request: UpdateRequest


class RejectUpdate(Variant, frozen=True, kw_only=True):
    """The update's validator refused it, or there is no handler: nothing of it stays."""

    update_id: str
    failure: Failure


class CompleteUpdate(Variant, frozen=True, kw_only=True):
    """The handler of an accepted update returned, or (with ``failure``) failed."""

    update_id: str
    result: list[Payload] = []
    failure: Failure | None = None


class EmitRecord(Variant, frozen=True, kw_only=True):
    """Write a record into a topic of the user's, as these bytes."""

    topic: str
    key: bytes | None = None
    #: ``None``: a tombstone.
    value: bytes | None = None
    headers: dict[str, bytes] = {}


class WaitForRecord(Variant, frozen=True, kw_only=True):
    """Wake the workflow with the first record of a topic of the user's that fits."""

    wait_id: str
    topic: str
    #: ``None``: any.
    key: bytes | None = None
    #: As in :class:`RecordWait`.
    where: str = ""
    #: How long before the wait a record may have been written.
    look_back_ms: int = 0


class CancelRecordWait(Variant, frozen=True, kw_only=True):
    """The workflow does not wait for that record any more."""

    wait_id: str


WorkflowCommand = (
    ScheduleActivityTask
    | RequestCancelActivityTask
    | StartTimer
    | CancelTimer
    | RecordMarker
    | CompleteWorkflowExecution
    | FailWorkflowExecution
    | CancelWorkflowExecution
    | ContinueAsNewWorkflowExecution
    | UpsertWorkflowSearchAttributes
    | ModifyWorkflowProperties
    | StartChildWorkflowExecution
    | SignalExternalWorkflowExecution
    | RequestCancelExternalWorkflowExecution
    | AcceptUpdate
    | RejectUpdate
    | CompleteUpdate
    | EmitRecord
    | WaitForRecord
    | CancelRecordWait
)
