"""The whole state of one matching partition, in memory.

Invariants: a task is in exactly the structure its phase names; a worker's leases never exceed its slots but through
what an earlier owner left or a worker's own reduction of slots; what changed since the last checkpoint is in
``unstored``, ``changed`` or ``removed``. Made by the service, changed only by the functions of this core.
"""

from __future__ import annotations

from perdure_matching.core.flow import Flow
from perdure_matching.core.model import (
    MatchingConfig,
    Output,
    Phase,
    Route,
    SlotKind,
    TaskQueue,
    TaskState,
    WorkerState,
    lane_key,
)
from perdure_matching.core.ramping import ramps
from perdure_matching.core.wakeups import Wakeup, WakeupKind, Wakeups
from perdure_schemas.records import DeploymentRouting

__all__ = ["MatchingState"]


class MatchingState:
    """Tasks, workers, queues, and what is to be sent."""

    __slots__ = (
        "changed",
        "config",
        "dispatches_of_gone",
        "epoch",
        "flows",
        "foreseen",
        "grace",
        "live",
        "outputs",
        "queues",
        "removed",
        "routed",
        "routes",
        "routings",
        "strangers",
        "tasks",
        "unconfirmed",
        "undecided",
        "unstored",
        "versions",
        "wakeups",
        "window_until_ms",
        "workers_changed",
    )

    def __init__(self, config: MatchingConfig) -> None:
        self.config = config
        self.tasks: dict[str, TaskState] = {}
        self.queues: dict[str, TaskQueue] = {}
        #: Deployments by name, with their revisions; the versions that serve each task queue; what follows from both.
        self.routings: dict[str, tuple[int, DeploymentRouting]] = {}
        self.versions: dict[str, set[str]] = {}
        self.routes: dict[str, Route] = {}
        #: What is set for tasks of a kind, by task queue and kind.
        self.flows: dict[tuple[str, int], Flow] = {}
        #: Whether those are complete; until then no task is placed.
        self.routed = True
        self.wakeups = Wakeups(self._due_of)
        self.outputs: list[Output] = []
        #: Our epoch; -1 while we only fold.
        self.epoch = -1
        self.live = False
        #: Tasks from before the takeover that nobody is known to hold. While ``grace``, workers are being asked.
        self.undecided: dict[str, TaskState] = {}
        self.grace = False
        self.window_until_ms = 0
        #: Workers that have not yet told what they hold.
        self.unconfirmed = 0
        #: Activities that no record has told of yet, and who holds them.
        self.strangers: dict[str, WorkerState] = {}
        #: The highest number among the dispatches of workers that are forgotten. One that comes back goes on above it:
        #: it may have seen its old ones, and what it said of those must not be taken for new ones.
        self.dispatches_of_gone = 0
        #: For the checkpoint: tasks the store does not have, in order of arrival; stored ones that changed; stored ones
        #: that went; workers that came, changed or went.
        self.unstored: dict[str, TaskState] = {}
        #: Tasks that the log has not confirmed yet, in order of arrival; in none of those three.
        self.foreseen: dict[str, TaskState] = {}
        self.changed: dict[str, TaskState] = {}
        self.removed: list[TaskState] = []
        self.workers_changed: dict[tuple[str, str], WorkerState] = {}

    def queue(self, name: str, version: str = "") -> TaskQueue:
        """The part of a task queue that belongs to a version, made if there is none."""
        key = lane_key(name, version) if version else name
        queue = self.queues.get(key)
        if queue is None:
            flows: tuple[Flow | None, Flow | None] = (None, None)
            if self.flows:
                flows = (self.flows.get((name, SlotKind.WORKFLOW)), self.flows.get((name, SlotKind.ACTIVITY)))
            queue = self.queues[key] = TaskQueue(name, key, flows)
            for flow in flows:
                if flow is not None:
                    flow.queues[key] = queue
        return queue

    def drop_idle(self, key: str) -> None:
        """Forget a queue if it is idle."""
        queue = self.queues.get(key)
        if queue is not None and queue.is_idle():
            del self.queues[key]
            for flow in queue.flows:
                if flow is not None:
                    flow.queues.pop(key, None)

    def version_of(self, task: TaskState) -> str:
        """The version whose workers may have a task now; empty: those without one."""
        if task.version and (task.kind != "activity" or task.version in self.versions.get(task.task_queue, ())):
            return task.version
        route = self.routes.get(task.task_queue)
        if route is None:
            return ""
        ramping = route.ramping
        if ramping is not None and (task.prefers_ramping or ramps(task.workflow_id, route.percentage)):
            return ramping
        return route.current

    def lane_of(self, task: TaskState) -> str:
        """The key of the queue where a task belongs now."""
        return lane_key(task.task_queue, self.version_of(task))

    def worker_of(self, task: TaskState) -> WorkerState | None:
        """The worker a task is leased to or waits for."""
        queue = self.queues.get(task.lane)
        return None if queue is None else queue.workers.get(task.worker_id)

    def touch(self, task: TaskState) -> None:
        """Note that a task changed."""
        if task.stored:
            self.changed[task.task_id] = task

    def take_outputs(self) -> list[Output]:
        """What is to be sent, in order."""
        taken, self.outputs = self.outputs, []
        return taken

    def check(self) -> None:
        """Assert the invariants; for tests, it walks over everything."""
        for task_id, task in self.tasks.items():
            queue = self.queues.get(task.lane)
            worker = self.worker_of(task)
            leased = worker is not None and task_id in worker.leases[task.slot_kind]
            assert (task.phase is Phase.LEASED) == leased, f"{task_id} is {task.phase.name}, leased: {leased}"
            assert (task.phase is Phase.UNDECIDED) == (task_id in self.undecided), f"{task_id} undecided?"
            queued = queue is not None and task_id in queue.backlog[task.slot_kind]
            assert (task.phase is Phase.QUEUED) == queued, f"{task_id} is {task.phase.name}, queued: {queued}"
            sticky = worker is not None and task_id in worker.sticky
            assert (task.phase is Phase.STICKY) == sticky, f"{task_id} is {task.phase.name}, sticky: {sticky}"
            assert task.foreseen == (task_id in self.foreseen), f"{task_id} foreseen: {task.foreseen}"
            places = task.stored + (task_id in self.unstored) + task.foreseen
            assert places == 1, f"{task_id} stored: {task.stored}, foreseen: {task.foreseen}"
        assert self.undecided.keys() <= self.tasks.keys()
        unconfirmed = 0
        for queue in self.queues.values():
            for worker in queue.workers.values():
                unconfirmed += not worker.confirmed
                for kind in SlotKind:
                    assert worker.leases[kind].keys() <= self.tasks.keys()
                    able = worker.confirmed and not worker.draining and worker.free(kind) > 0 and worker.may_take(kind)
                    assert (worker.worker_id in queue.ready[kind]) == able, f"{worker.worker_id} ready for {kind.name}?"
            for kind in SlotKind:
                both = queue.ready[kind] and queue.backlog[kind].has_servable()
                assert not both, f"{queue.name} has both workers and tasks"
        assert unconfirmed == self.unconfirmed
        for flow in self.flows.values():
            self._check_flow(flow)

    def _check_flow(self, flow: Flow) -> None:
        assert flow.queues == {key: queue for key, queue in self.queues.items() if queue.name == flow.name}
        running: dict[str, int] = {}
        for queue in flow.queues.values():
            assert queue.flows[flow.kind] is queue.backlog[flow.kind].flow is flow
            for worker in queue.workers.values():
                for task in worker.leases[flow.kind].values():
                    running[task.fairness_key] = running.get(task.fairness_key, 0) + 1
        for key, gate in flow.gates.items():
            assert gate.running == running.get(key, 0), f"{flow.name} {key!r}: {gate.running} running"
        for key, lanes in flow.aside.items():
            assert flow.closed(key), f"{flow.name} {key!r} is open, and its tasks wait"
            assert all(lane.waiting and lane.aside and lane.turn is None for lane in lanes)

    def _due_of(self, entry: Wakeup) -> int | None:
        kind, subject = entry.kind, entry.subject
        if kind is WakeupKind.LAPSE:
            return None if subject.gone else max(entry.due_ms, subject.last_seen_ms + self.config.heartbeat_lapse_ms)
        if kind is WakeupKind.WINDOW:
            return entry.due_ms
        if kind is WakeupKind.RATE:
            return entry.due_ms if subject.throttled else None
        if kind is WakeupKind.FLOW:
            return entry.due_ms if subject.throttled and subject.waits == entry.number else None
        phase = subject.phase
        if kind is WakeupKind.STICKY:
            valid = phase is Phase.STICKY
        elif kind is WakeupKind.NOTICE:
            valid = phase is Phase.LEASED and subject.lease_count == entry.number and not subject.start_noticed
        elif kind is WakeupKind.LEASE:
            # PARKED: the worker said it was finished, and left; but history has not confirmed it.
            valid = phase in (Phase.LEASED, Phase.PARKED) and subject.lease_count == entry.number
        else:
            valid = phase is not Phase.GONE and not subject.expiry_reported
        return entry.due_ms if valid else None
