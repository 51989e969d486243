"""What matching knows of tasks, workers and task queues, and what it asks the shell to send.

Plain data; all transitions are in the other modules of this core. :class:`TaskState` is also what a checkpoint
holds of a task, so its fields only grow at the end, with defaults.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from perdure_matching.core.fair_queue import FairQueue
from perdure_matching.core.flow import Flow
from perdure_matching.core.rates import RateLimit
from perdure_schemas import limits
from perdure_schemas.records import CancelActivity, Command, DeploymentVersionSeen, ProbeWorker

__all__ = [
    "Assign",
    "MatchingConfig",
    "Output",
    "Phase",
    "Register",
    "Report",
    "Route",
    "SlotKind",
    "TaskQueue",
    "TaskState",
    "Tell",
    "WorkerState",
    "lane_key",
]


@dataclass(frozen=True, slots=True)
class MatchingConfig:
    """The bounds and times of matching.

    Attributes:
        heartbeat_lapse_ms: a worker silent for longer is lost.
        heartbeat_interval_ms: how often workers beat; a heartbeat not older than two of them speaks of now.
        heartbeat_age_ms_max: older heartbeats are not looked at.
        late_ms_max: a lapse noticed later than this was our own standstill: the worker gets another chance.
        gone_notice_age_ms: the holder of an activity that is not needed any more is told if it began longer ago.
        store_after_ms: tasks that are done sooner never reach the state store.
        task_bodies_bytes_max: encoded bodies kept in memory for each partition.
        unconfirmed_ms_max: how long a task that history announced may take to be in the log.
    """

    heartbeat_lapse_ms: int = 5_000
    heartbeat_interval_ms: int = 1_000
    heartbeat_age_ms_max: int = limits.HEARTBEAT_AGE_MS_MAX
    late_ms_max: int = 1_000
    gone_notice_age_ms: int = 1_000
    store_after_ms: int = 1_000
    task_bodies_bytes_max: int = limits.TASK_BODIES_BYTES_MAX
    unconfirmed_ms_max: int = 60_000

    def __post_init__(self) -> None:
        if self.heartbeat_lapse_ms <= self.heartbeat_interval_ms:
            raise ValueError(
                f"heartbeat_lapse_ms ({self.heartbeat_lapse_ms}) must be larger than heartbeat_interval_ms"
                f" ({self.heartbeat_interval_ms}), or every worker is lost between two heartbeats"
            )


class Phase(IntEnum):
    """Where an outstanding task stands. Each is in exactly one phase; ``GONE`` ones are in no structure any more."""

    #: Read, but not decided on: not the owner yet, or a worker may hold it without our knowing.
    UNDECIDED = 0
    #: In its task queue's backlog.
    QUEUED = 1
    #: Waits for a slot of the worker whose cache holds its run.
    STICKY = 2
    #: A worker has it.
    LEASED = 3
    #: Not to be dispatched: history will take it away.
    PARKED = 4
    GONE = 5


class SlotKind(IntEnum):
    """Which of a worker's slots a task takes."""

    WORKFLOW = 0
    ACTIVITY = 1


class TaskState(msgspec.Struct, array_like=True, gc=False):
    """One outstanding task without its body. The first group of fields is as in ``TaskRecord``."""

    task_id: str
    task_queue: str
    kind: str
    workflow_id: str
    run_id: str
    scheduled_event_id: int
    attempt: int
    sticky_worker_id: str
    sticky_until_ms: int
    priority: int
    fairness_key: str
    fairness_weight: float
    start_notice_delay_ms: int
    lease_ms_max: int
    expires_at_ms: int
    cancel_requested: bool
    #: Offset of its first record: its place among equals, across owners.
    sequence: int
    arrived_ms: int
    phase: Phase = Phase.UNDECIDED
    #: LEASED: who has it; STICKY: whom it waits for.
    worker_id: str = ""
    leased_ms: int = 0
    #: The number of its dispatch; 0 when an earlier owner sent it.
    dispatch_number: int = 0
    #: Grows with each lease, so that wake-ups of an earlier lease are known as void.
    lease_count: int = 0
    start_noticed: bool = False
    expiry_reported: bool = False
    #: The worker that kept it too long, so it does not get the lease back by reporting that it has it.
    expired_from: str = ""
    #: Its place in the backlog; 0 puts a task that had its turn before in front.
    fair_start: float | None = None
    #: Whether the store holds it, and its body.
    stored: bool = False
    body_stored: bool = False
    #: The activity has left its worker and is completed by a client.
    left_open: bool = False
    #: Not to be handed out for now.
    held: bool = False
    #: The activity is paused, and its worker is to know.
    paused: bool = False
    #: The only version that may have it; empty: the routing chooses.
    version: str = ""
    prefers_ramping: bool = False
    #: The activity was reset, and its worker is to know.
    reset: bool = False
    #: The :attr:`TaskQueue.key` of where it waits or is leased.
    lane: str = ""
    #: Known by a hint of history's only, so far. Such a task is never stored.
    foreseen: bool = False

    @property
    def slot_kind(self) -> int:
        """Index of the kind of slot it takes."""
        return 1 if self.kind == "activity" else 0


class WorkerState:
    """One worker of one task queue."""

    __slots__ = (
        "build_id",
        "confirmed",
        "deployment_name",
        "dispatch_number",
        "draining",
        "gone",
        "held",
        "identity",
        "inbox_partition",
        "last_seen_ms",
        "leases",
        "missed",
        "probed",
        "queue",
        "queue_rate",
        "rate",
        "reported_number",
        "slots",
        "stale_held",
        "sticky",
        "throttled",
        "told_gone",
        "unknown_held",
        "worker_id",
    )

    def __init__(self, worker_id: str, queue: TaskQueue, now_ms: int) -> None:
        self.worker_id = worker_id
        self.queue = queue
        self.identity = ""
        self.deployment_name = ""
        self.build_id = ""
        self.inbox_partition = 0
        self.slots = [0, 0]
        self.leases: tuple[dict[str, TaskState], dict[str, TaskState]] = ({}, {})
        self.sticky = FairQueue()
        self.last_seen_ms = now_ms
        #: Whether we know what it holds, so that its slots may be used.
        self.confirmed = False
        self.probed = False
        self.draining = False
        self.gone = False
        self.dispatch_number = 0
        #: From its last heartbeat: how far it had read our dispatches, and what it held.
        self.reported_number = 0
        self.held: frozenset[str] = frozenset()
        #: Held activities that are not outstanding: in the last heartbeat, in two in a row (they take slots), told of.
        self.unknown_held: frozenset[str] = frozenset()
        self.stale_held = 0
        #: Activities that an earlier owner gave it and that it does not hold: in how many heartbeats in a row.
        self.missed: dict[str, int] = {}
        self.told_gone: frozenset[str] = frozenset()
        #: How many activities it takes in a second, and whether it has to wait for the next one; what it said of its
        #: whole task queue.
        self.rate = RateLimit()
        self.throttled = False
        self.queue_rate = 0.0

    def free(self, slot_kind: int) -> int:
        """Free slots of a kind."""
        free = self.slots[slot_kind] - len(self.leases[slot_kind])
        return free - self.stale_held if slot_kind else free

    def may_take(self, slot_kind: int) -> bool:
        """Whether no rate limit keeps it from taking a task of a kind now."""
        return not slot_kind or not (self.throttled or self.queue.throttled)

    def has_finished(self, task: TaskState) -> bool:
        """Whether its last heartbeat shows that a dispatched task came and was finished."""
        return 0 < task.dispatch_number <= self.reported_number and task.task_id not in self.held


class TaskQueue:
    """One task queue, or one version of it: its workers, and what waits for them.

    Invariant: a worker is in ``ready[kind]`` exactly if it is confirmed, not draining, has a free slot of that kind,
        is not throttled, and neither its sticky queue nor the backlog has a task for it that may go; so while
        ``ready[kind]`` has a worker, what is in ``backlog[kind]`` waits for its flow control.
    """

    __slots__ = ("backlog", "flows", "key", "name", "rate", "ready", "throttled", "workers")

    def __init__(self, name: str, key: str, flows: tuple[Flow | None, Flow | None] = (None, None)) -> None:
        self.name = name
        #: Its key among all: see :func:`lane_key`.
        self.key = key
        self.workers: dict[str, WorkerState] = {}
        self.ready: tuple[OrderedDict[str, WorkerState], OrderedDict[str, WorkerState]] = (OrderedDict(), OrderedDict())
        #: What is set for tasks of each kind; ``None``: nothing.
        self.flows = flows
        self.backlog = (FairQueue(flows[0]), FairQueue(flows[1]))
        #: How many activities its workers take in a second together, and whether all have to wait for the next one.
        self.rate = RateLimit()
        self.throttled = False

    def is_idle(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.workers or self.backlog[0] or self.backlog[1])


def lane_key(task_queue: str, version: str) -> str:
    """The key of a version's part of a task queue; the plain name without a version."""
    return f"{task_queue}\0{version}" if version else task_queue


@dataclass(frozen=True, slots=True)
class Route:
    """Where tasks of a task queue go that name no version. Empty: to workers without one.

    Attributes:
        current: the version of most.
        ramping: the version of ``percentage`` percent; ``None`` if there is none.
        percentage: 0 to 100.
    """

    current: str
    ramping: str | None
    percentage: float


@dataclass(frozen=True, slots=True)
class Assign:
    """Send a task's body to a worker."""

    worker: WorkerState
    task: TaskState
    dispatch_number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to a worker."""

    worker: WorkerState
    dispatch_number: int
    body: CancelActivity | ProbeWorker


@dataclass(frozen=True, slots=True)
class Report:
    """Send a command to history."""

    command: Command


@dataclass(frozen=True, slots=True)
class Register:
    """Make it known that a version serves a task queue."""

    seen: DeploymentVersionSeen


Output = Assign | Tell | Report | Register
