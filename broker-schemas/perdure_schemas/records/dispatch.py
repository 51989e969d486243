"""From history to workers and back: tasks, timers, dispatches, and what workers say of themselves."""

from __future__ import annotations

from perdure_schemas.records.common import ActivityOptions, Payload, Record, ReplyTo, UpdateRequest, Variant

__all__ = [
    "ActivityTask",
    "CancelActivity",
    "Dispatch",
    "DispatchBody",
    "HeldTask",
    "ProbeWorker",
    "QueryTask",
    "RunTask",
    "TaskBody",
    "TaskRecord",
    "TimerRecord",
    "WorkerHeartbeat",
    "WorkerStopped",
    "WorkflowTask",
]


class WorkflowTask(Variant, frozen=True, kw_only=True):
    """Run workflow code on.

    ``history`` holds encoded :class:`HistoryRecord` values from ``first_event_id`` to ``last_event_id``: all of a short
    history for a worker that does not know the run, only the new part for the worker that has it in its cache. A worker
    that misses a part fetches it with :class:`FetchHistory`.
    """

    workflow_type: str
    scheduled_event_id: int
    attempt: int
    first_event_id: int
    last_event_id: int
    history: list[bytes] = []
    start_to_close_timeout_ms: int = 10_000
    #: To deliver to the code, after the signals and before all else.
    updates: list[UpdateRequest] = []
    #: Not empty: the task is there for the updates only, and its event ``scheduled_event_id`` (= ``last_event_id``) is
    #: not written yet; it will be if an update is accepted. ``history`` ends before it.
    speculative_id: str = ""
    #: The size of the history before it, as that event will say.
    history_bytes: int = 0


class QueryTask(Variant, frozen=True, kw_only=True):
    """Answer a query on the state as of ``last_event_id``. ``history`` as in :class:`WorkflowTask`."""

    workflow_type: str
    query_id: str
    query_type: str
    args: list[Payload] = []
    header: dict[str, Payload] = {}
    reply: ReplyTo
    first_event_id: int
    last_event_id: int
    history: list[bytes] = []


class ActivityTask(Variant, frozen=True, kw_only=True):
    """Run one attempt of an activity."""

    workflow_type: str
    scheduled_event_id: int
    attempt: int
    options: ActivityOptions
    #: First scheduled, and this attempt scheduled.
    scheduled_time_ms: int
    attempt_scheduled_time_ms: int
    heartbeat_details: list[Payload] = []
    #: How many attempts were made before an operator had them counted anew.
    attempts_before: int = 0


TaskBody = WorkflowTask | QueryTask | ActivityTask


class TaskRecord(Record, frozen=True, kw_only=True):
    """One outstanding task in ``tasks``; its tombstone says that history needs it no more.

    ``body`` is an encoded :class:`WorkflowTask`, :class:`QueryTask` or :class:`ActivityTask`, which matching passes on
    unread.
    """

    task_id: str
    task_queue: str
    #: "workflow", "query" or "activity"
    kind: str
    workflow_id: str
    run_id: str
    scheduled_event_id: int = 0
    attempt: int = 1
    created_time_ms: int
    #: The worker to try first (its cache holds the run), and until when. Activities: the worker that has begun it.
    sticky_worker_id: str = ""
    sticky_until_ms: int = 0
    priority: int = 3
    fairness_key: str = ""
    fairness_weight: float = 1.0
    #: Activities: how long after dispatch history is told that the attempt started, if it is still open then.
    start_notice_delay_ms: int = 1_000
    #: Workflow tasks: a lease older than this is dispatched again. 0: no limit but the worker's life.
    lease_ms_max: int = 0
    #: Queries: void after this time. 0: never.
    expires_at_ms: int = 0
    #: The activity was asked to stop: matching tells the worker that holds it, and dispatches it no more.
    cancel_requested: bool = False
    body: bytes
    #: The activity left its worker and is completed by a client: no worker holds it, none is to get it.
    left_open: bool = False
    #: Not to be handed out until another record of the task says so. Who has it finishes it.
    held: bool = False
    #: The activity was paused: matching tells the worker that holds it.
    paused: bool = False
    #: Only for workers of this version ("<deployment name>.<build id>"); empty: matching chooses by the routing.
    version: str = ""
    #: Without a version: the ramping one, if there is one.
    prefers_ramping: bool = False
    #: The activity was reset while this attempt runs: matching tells the worker that holds it.
    reset: bool = False


class TimerRecord(Record, frozen=True, kw_only=True):
    """One armed wake-up of a run in ``timers``; its tombstone says that it fired or is void."""

    timer_id: str
    workflow_id: str
    run_id: str
    arm_number: int
    due_time_ms: int


class HeldTask(Record, frozen=True, kw_only=True):
    """A task a worker holds, with what a new matching owner needs to lease it again."""

    task_id: str
    started_time_ms: int


class WorkerHeartbeat(Record, frozen=True, kw_only=True):
    """A worker lives: where its inbox is, how much it can take, what it holds. The first one registers it."""

    worker_id: str
    task_queue: str
    identity: str = ""
    inbox_partition: int
    workflow_slots: int
    activity_slots: int
    #: A task is held until its completion is acknowledged by the log.
    held: list[HeldTask] = []
    #: Epochs are compared by the worker: a dispatch of an older one is ignored.
    last_dispatch_number: int = 0
    time_ms: int
    #: True while it finishes what it holds and takes nothing new.
    draining: bool = False
    #: Epoch of the newest dispatch seen, the one of ``last_dispatch_number``; -1 before the first. A new matching owner
    #: knows by it that the worker has seen everything its predecessors sent.
    last_dispatch_epoch: int = -1
    #: Only in the answer to :class:`ProbeWorker`: the tasks it finished last, whose completions history may not have
    #: seen yet, so that the new owner does not run them again.
    finished: list[str] = []
    #: How many activities of the task queue may be dispatched in a second, to all its workers; 0: no limit. The newest
    #: heartbeat of any worker counts.
    queue_activities_per_second: float = 0.0
    #: How many activities it takes itself in a second; 0: no limit.
    activities_per_second: float = 0.0
    #: The version its code is of; empty: it takes tasks without one.
    deployment_name: str = ""
    build_id: str = ""


class WorkerStopped(Record, frozen=True, kw_only=True):
    """A worker left in good order; what it still held is free at once."""

    worker_id: str
    task_queue: str
    time_ms: int
    #: The last dispatch it looked at, as in :class:`WorkerHeartbeat`: later ones were never begun.
    last_dispatch_number: int = 0
    last_dispatch_epoch: int = -1
    deployment_name: str = ""
    build_id: str = ""


class RunTask(Variant, frozen=True, kw_only=True):
    """Run this task: ``task`` is the encoded body of the :class:`TaskRecord`."""

    task_id: str
    kind: str
    workflow_id: str
    run_id: str
    task: bytes
    #: Workflow tasks: of the activities that the answer schedules, the worker may begin so many by itself.
    eager_activities_max: int = 0


class CancelActivity(Variant, frozen=True, kw_only=True):
    """Ask the running attempt of a task to stop (or forget it, when ``gone``: nobody needs its result)."""

    task_id: str
    gone: bool = False
    #: Not to stop for good: the activity is paused, and is tried again when it is not any more.
    paused: bool = False
    #: Not to stop for good: the activity was reset, and is tried again from its first attempt on.
    reset: bool = False


class ProbeWorker(Variant, frozen=True, kw_only=True):
    """A new matching owner asks for a heartbeat now."""


DispatchBody = RunTask | CancelActivity | ProbeWorker


class Dispatch(Record, frozen=True, kw_only=True):
    """One message from matching to a worker's inbox on ``work.<task queue>``; the record's key is the worker id."""

    worker_id: str
    #: The matching partition that sent it and the offset of its owner mark: a worker ignores an older epoch.
    source_partition: int
    epoch: int
    dispatch_number: int
    time_ms: int
    body: DispatchBody
