"""Where a task goes: to a worker at once, to its own worker's queue, to the backlog; and what a free slot takes next.

Order of service: the worker's sticky tasks, which flow control does not hold back, then priority, fairness, first in
first out. Every function keeps the invariants of :mod:`perdure_matching.core.state`. Called by the other modules of
this core.
"""

from __future__ import annotations

from perdure_matching.core.flow import Flow, Gate
from perdure_matching.core.model import Assign, Phase, Report, SlotKind, TaskQueue, TaskState, Tell, WorkerState
from perdure_matching.core.state import MatchingState
from perdure_matching.core.wakeups import WakeupKind
from perdure_schemas import limits
from perdure_schemas.records import (
    ActivityTaskCanceled,
    ActivityTaskStarted,
    CancelActivity,
    Command,
    CommandBody,
    ProbeWorker,
)

__all__ = [
    "assign",
    "await_token",
    "detach",
    "eager_activities_max",
    "fill",
    "free_slot",
    "lease",
    "notice_start",
    "park",
    "place",
    "release",
    "report",
    "serve",
    "set_ready",
    "tell",
    "throttle",
    "unthrottle",
    "watch_lease",
]

#: How matching names itself in what it tells history.
_IDENTITY = "matching"


def place(state: MatchingState, task: TaskState, now_ms: int) -> None:
    """Find a place for a task that is in no structure: a worker, or a queue."""
    if task.cancel_requested or task.expiry_reported or task.left_open or task.held:
        park(state, task)
        return
    if not state.routed:
        task.phase = Phase.UNDECIDED
        state.undecided[task.task_id] = task
        return
    version = state.version_of(task) if task.version or state.routes else ""
    queue = state.queue(task.task_queue, version)
    task.lane = queue.key
    kind = task.slot_kind
    if kind == SlotKind.WORKFLOW and task.sticky_worker_id and now_ms < task.sticky_until_ms:
        own = queue.workers.get(task.sticky_worker_id)
        if own is not None and not own.draining:
            if own.worker_id in queue.ready[kind]:
                assign(state, own, task, now_ms)
            else:
                _wait_for(state, own, task)
            return
    flow = queue.flows[kind]
    if flow is not None and state.grace and flow.counts(task.fairness_key):
        # A worker that has not answered yet may run others of its key.
        task.phase = Phase.UNDECIDED
        state.undecided[task.task_id] = task
        return
    if kind == SlotKind.ACTIVITY and task.sticky_worker_id:
        # It has begun the task: it takes a slot there, free or not, and what else is sent to it waits.
        own = queue.workers.get(task.sticky_worker_id)
        task.sticky_worker_id = ""
        if own is not None and own.confirmed and not own.draining and not own.gone:
            _assign_by_flow(state, own, task, now_ms)
            return
    if state.strangers and (own := state.strangers.pop(task.task_id, None)) is not None and own.queue is queue:
        # An earlier owner gave it away before the log had its record; it takes the slot that it has already.
        own.unknown_held -= {task.task_id}
        own.stale_held = min(own.stale_held, len(own.unknown_held))
        lease(state, own, task, now_ms)
        watch_lease(state, task, now_ms)
        return
    ready = queue.ready[kind]
    if ready and (flow is None or flow.admits(task.fairness_key)):
        _assign_by_flow(state, _choose(ready, task), task, now_ms)
        return
    task.phase = Phase.QUEUED
    task.fair_start = queue.backlog[kind].push(
        task.task_id,
        priority=task.priority,
        fairness_key=task.fairness_key,
        weight=task.fairness_weight,
        sequence=task.sequence,
        start=task.fair_start,
    )


def eager_activities_max(worker: WorkerState) -> int:
    """How many activities a worker may begin by itself when it answers a workflow task now: none that would pass by
    others that wait, or a rate limit."""
    queue = worker.queue
    limited = queue.flows[SlotKind.ACTIVITY] is not None or queue.rate.rate or worker.rate.rate
    if limited or queue.backlog[SlotKind.ACTIVITY] or worker.draining:
        return 0
    return max(0, min(worker.free(SlotKind.ACTIVITY), limits.EAGER_ACTIVITIES_MAX))


def park(state: MatchingState, task: TaskState) -> None:
    """Keep a task that is in no structure from being dispatched until history takes it away.

    An activity that was asked to stop before anybody had it is stopped: nobody else could tell history so.
    """
    task.phase = Phase.PARKED
    state.touch(task)
    if task.cancel_requested and task.kind == "activity" and not task.left_open:
        body = ActivityTaskCanceled(scheduled_event_id=task.scheduled_event_id, attempt=task.attempt, started_time_ms=0)
        report(state, task, "canceled", body)


def _choose(ready: dict[str, WorkerState], task: TaskState) -> WorkerState:
    """The worker that was used longest ago; not the one that kept the task too long, if there is another."""
    for worker in ready.values():
        if worker.worker_id != task.expired_from or len(ready) == 1:
            return worker
    raise AssertionError("two workers have one id")


def _wait_for(state: MatchingState, worker: WorkerState, task: TaskState) -> None:
    task.phase = Phase.STICKY
    task.worker_id = worker.worker_id
    worker.sticky.push(task.task_id, priority=task.priority, fairness_key="", weight=1.0, sequence=task.sequence)
    state.wakeups.push(task.sticky_until_ms, WakeupKind.STICKY, task)


def assign(state: MatchingState, worker: WorkerState, task: TaskState, now_ms: int) -> None:
    """Dispatch a task to a worker that is ready for it."""
    worker.dispatch_number += 1
    lease(state, worker, task, now_ms)
    task.dispatch_number = worker.dispatch_number
    state.outputs.append(Assign(worker, task, worker.dispatch_number))
    watch_lease(state, task, now_ms)
    kind = task.slot_kind
    ready = worker.queue.ready[kind]
    if kind == SlotKind.ACTIVITY:
        _take_tokens(state, worker, now_ms)
    if worker.free(kind) <= 0:
        ready.pop(worker.worker_id, None)
    elif worker.worker_id in ready:
        ready.move_to_end(worker.worker_id)


def lease(state: MatchingState, worker: WorkerState, task: TaskState, leased_ms: int) -> None:
    """Note that a worker has a task that is in no structure. Readiness is the caller's business."""
    task.phase = Phase.LEASED
    task.lane = worker.queue.key
    task.worker_id = worker.worker_id
    task.leased_ms = leased_ms
    task.lease_count += 1
    task.dispatch_number = 0
    kind = task.slot_kind
    worker.leases[kind][task.task_id] = task
    flow = worker.queue.flows[kind]
    if flow is not None:
        flow.began(task.fairness_key, task.fairness_weight, leased_ms)
    state.touch(task)


def watch_lease(state: MatchingState, task: TaskState, now_ms: int) -> None:
    """Arm what depends on the age of a lease."""
    if task.kind == "activity":
        if not task.start_noticed:
            due_ms = task.leased_ms + task.start_notice_delay_ms
            if due_ms <= now_ms:
                notice_start(state, task)
            else:
                state.wakeups.push(due_ms, WakeupKind.NOTICE, task, task.lease_count)
    elif task.lease_ms_max > 0:
        state.wakeups.push(task.leased_ms + task.lease_ms_max, WakeupKind.LEASE, task, task.lease_count)


def notice_start(state: MatchingState, task: TaskState) -> None:
    """Tell history that an activity attempt began."""
    task.start_noticed = True
    state.touch(task)
    body = ActivityTaskStarted(
        scheduled_event_id=task.scheduled_event_id,
        attempt=task.attempt,
        started_time_ms=task.leased_ms,
        worker_id=task.worker_id,
    )
    report(state, task, "started", body)


def release(state: MatchingState, task: TaskState) -> WorkerState | None:
    """Take a leased task from its worker; returns the worker, whose slot the caller fills."""
    worker = state.worker_of(task)
    if worker is None:
        return None
    kind = task.slot_kind
    held = worker.leases[kind].pop(task.task_id, None)
    flow = worker.queue.flows[kind]
    if flow is not None and held is not None:
        flow.ended(task.fairness_key)
    return worker


def detach(state: MatchingState, task: TaskState) -> WorkerState | None:
    """Take a task out of whatever structure it is in; returns the worker that has a slot free by it.

    The caller sets the new phase.
    """
    phase = task.phase
    if phase is Phase.LEASED:
        return release(state, task)
    if phase is Phase.QUEUED:
        state.queues[task.lane].backlog[task.slot_kind].discard(task.task_id)
    elif phase is Phase.STICKY:
        worker = state.worker_of(task)
        if worker is not None:
            worker.sticky.discard(task.task_id)
    elif phase is Phase.UNDECIDED:
        del state.undecided[task.task_id]
    return None


def fill(state: MatchingState, worker: WorkerState, kind: int, now_ms: int) -> None:
    """Give a worker what waits for its free slots of a kind, and note whether it can take more."""
    queue = worker.queue
    backlog = queue.backlog[kind]
    if worker.confirmed and not worker.draining:
        free = worker.free(kind)
        while free > 0 and worker.may_take(kind):
            own = kind == SlotKind.WORKFLOW and len(worker.sticky) > 0
            task_id = worker.sticky.pop() if own else backlog.pop()
            if task_id is None:
                break
            (assign if own else _assign_by_flow)(state, worker, state.tasks[task_id], now_ms)
            free -= 1
    set_ready(queue, worker, kind)


def serve(state: MatchingState, flow: Flow, now_ms: int) -> None:
    """Flow control may let tasks go that waited for it: give them to workers that are ready."""
    for queue in flow.queues.values():
        ready, backlog = queue.ready[flow.kind], queue.backlog[flow.kind]
        while ready and (task_id := backlog.pop()) is not None:
            task = state.tasks[task_id]
            _assign_by_flow(state, _choose(ready, task), task, now_ms)


def free_slot(state: MatchingState, worker: WorkerState, task: TaskState, now_ms: int) -> None:
    """A worker does not have a task any more, which is out of its leases: use the slot, and that of its key."""
    kind = task.slot_kind
    flow = worker.queue.flows[kind]
    reopened = flow is not None and flow.reopen(task.fairness_key)
    fill(state, worker, kind, now_ms)
    if flow is not None and reopened:
        serve(state, flow, now_ms)


def _assign_by_flow(state: MatchingState, worker: WorkerState, task: TaskState, now_ms: int) -> None:
    """Dispatch a task that is not its worker's own: of the rates that were set, whoever has no token left waits."""
    assign(state, worker, task, now_ms)
    flow = worker.queue.flows[task.slot_kind]
    if flow is not None:
        for limited in flow.limited(task.fairness_key):
            if limited.rate.rate:
                limited.rate.take(now_ms)
                await_token(state, limited, now_ms)


def await_token(state: MatchingState, limited: Flow | Gate, now_ms: int) -> None:
    """Note whether a rate that was set has a token now, and wake up for it if not."""
    wait_ms = limited.rate.wait_ms(now_ms)
    limited.throttled = wait_ms > 0
    if wait_ms:
        limited.waits += 1
        state.wakeups.push(now_ms + wait_ms, WakeupKind.FLOW, limited, limited.waits)


def _take_tokens(state: MatchingState, worker: WorkerState, now_ms: int) -> None:
    """An activity was dispatched: whoever has no token left waits for the next one."""
    for limited in (worker, worker.queue):
        if limited.rate.rate:
            limited.rate.take(now_ms)
            throttle(state, limited, now_ms)


def throttle(state: MatchingState, limited: WorkerState | TaskQueue, now_ms: int) -> None:
    """Take a worker, or all workers of a task queue, from the ready ones while its rate limit has no token."""
    wait_ms = limited.rate.wait_ms(now_ms)
    if not wait_ms:
        return
    limited.throttled = True
    state.wakeups.push(now_ms + wait_ms, WakeupKind.RATE, limited)
    if isinstance(limited, TaskQueue):
        limited.ready[SlotKind.ACTIVITY].clear()
    else:
        limited.queue.ready[SlotKind.ACTIVITY].pop(limited.worker_id, None)


def unthrottle(state: MatchingState, limited: WorkerState | TaskQueue, now_ms: int) -> None:
    """A token may have come, or the rate is another one: dispatch what waits, as far as it lets."""
    limited.throttled = False
    throttle(state, limited, now_ms)
    if limited.throttled:
        return
    workers = list(limited.workers.values()) if isinstance(limited, TaskQueue) else [limited]
    for worker in workers:
        if not worker.gone:
            fill(state, worker, SlotKind.ACTIVITY, now_ms)


def set_ready(queue: TaskQueue, worker: WorkerState, kind: int) -> None:
    """Put a worker into the ready ones of its queue, or take it out."""
    ready = queue.ready[kind]
    if worker.confirmed and not worker.draining and not worker.gone and worker.free(kind) > 0 and worker.may_take(kind):
        ready.setdefault(worker.worker_id, worker)
    else:
        ready.pop(worker.worker_id, None)


def tell(state: MatchingState, worker: WorkerState, body: CancelActivity | ProbeWorker) -> None:
    """Send a message to a worker."""
    worker.dispatch_number += 1
    state.outputs.append(Tell(worker, worker.dispatch_number, body))


def report(state: MatchingState, task: TaskState, what: str, body: CommandBody) -> None:
    """Send a command about a task to history; its id follows from the task's, so a repetition is recognised (I3)."""
    command = Command(
        command_id=f"{what}/{task.task_id}",
        workflow_id=task.workflow_id,
        run_id=task.run_id,
        identity=_IDENTITY,
        body=body,
    )
    state.outputs.append(Report(command))
