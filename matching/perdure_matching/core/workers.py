"""What workers say and do not say: heartbeats, leaving, silence, and what a new owner learns from them.

A new owner asks the workers it knows (:class:`ProbeWorker`). The answer names our epoch, so it stands behind
everything that earlier owners sent to that inbox; and ``workers`` is one ordered partition, so with the first answer
everybody who could hold an old task is known. Tasks from before the takeover wait for those answers, at most one
lapse; newer ones cannot be held by anybody and do not wait. Called by the service.
"""

from __future__ import annotations

from perdure_matching.core.flow import Flow
from perdure_matching.core.flowing import is_rate_set
from perdure_matching.core.model import Phase, SlotKind, TaskQueue, TaskState, WorkerState, lane_key
from perdure_matching.core.placing import (
    detach,
    fill,
    lease,
    place,
    report,
    serve,
    set_ready,
    tell,
    unthrottle,
    watch_lease,
)
from perdure_matching.core.routing import register
from perdure_matching.core.state import MatchingState
from perdure_matching.core.wakeups import WakeupKind
from perdure_schemas import keys, limits
from perdure_schemas.keys import version_name
from perdure_schemas.records import (
    ActivityLeaseLost,
    CancelActivity,
    HeldTask,
    ProbeWorker,
    WorkerHeartbeat,
    WorkerStopped,
)

__all__ = ["begin", "close_window", "heard", "load_worker", "lost", "stopped"]

#: In so many heartbeats in a row an adopted activity is missed until it is lost.
_MISSED_LOST = 2
_NOBODY: frozenset[str] = frozenset()


def load_worker(state: MatchingState, heartbeat: WorkerHeartbeat) -> WorkerState:
    """Take in a worker that lived when the store was written, before its tasks are loaded."""
    worker = _new_worker(state, heartbeat, 0)
    _describe(worker, heartbeat)
    return worker


def begin(state: MatchingState, epoch: int, now_ms: int) -> None:
    """Be the owner from here on: ask the known workers, and wait for their answers if there are old tasks."""
    state.live = True
    state.epoch = epoch
    state.window_until_ms = now_ms + state.config.heartbeat_lapse_ms
    state.wakeups.push(state.window_until_ms, WakeupKind.WINDOW, None)
    for task in state.tasks.values():
        if task.expires_at_ms > 0 and not task.expiry_reported:
            state.wakeups.push(task.expires_at_ms, WakeupKind.EXPIRY, task)
        if task.phase is Phase.LEASED or (task.phase is Phase.PARKED and task.kind == "workflow"):
            watch_lease(state, task, now_ms)
    for queue in state.queues.values():
        for worker in queue.workers.values():
            worker.last_seen_ms = now_ms
            state.wakeups.push(state.window_until_ms, WakeupKind.LAPSE, worker)
            worker.probed = True
            tell(state, worker, ProbeWorker())
            for task in worker.leases[SlotKind.ACTIVITY].values():
                _tell_requests(state, worker, task)
    state.grace = bool(state.undecided)


def heard(state: MatchingState, heartbeat: WorkerHeartbeat, age_ms: int, now_ms: int) -> None:
    """Take in a heartbeat.

    Parameters:
        age_ms: how old its record is; an old one does not show that the worker lives now.
    """
    queue = _lane(state, heartbeat)
    worker = queue.workers.get(heartbeat.worker_id)
    if worker is None:
        worker = _new_worker(state, heartbeat, now_ms)
        state.wakeups.push(now_ms + state.config.heartbeat_lapse_ms, WakeupKind.LAPSE, worker)
    worker.last_seen_ms = now_ms
    if _describe(worker, heartbeat):
        state.workers_changed[queue.name, worker.worker_id] = worker
    if heartbeat.deployment_name:
        register(state, heartbeat.deployment_name, heartbeat.build_id, heartbeat.task_queue, now_ms)
    _take_rates(state, worker, heartbeat, now_ms)
    answered = heartbeat.last_dispatch_epoch == state.epoch
    worker.reported_number = heartbeat.last_dispatch_number if answered else 0
    _take_held(state, worker, heartbeat, now_ms)
    if worker.draining and worker.sticky:
        _share_sticky(state, worker, now_ms)
    if not worker.confirmed:
        fresh = age_ms <= 2 * state.config.heartbeat_interval_ms and not state.grace
        if answered or fresh or now_ms >= state.window_until_ms:
            _confirm(state, worker)
        elif not worker.probed:
            worker.probed = True
            tell(state, worker, ProbeWorker())
    if state.grace and state.unconfirmed == 0:
        _end_grace(state, now_ms)
    for kind in SlotKind:
        fill(state, worker, kind, now_ms)


def stopped(state: MatchingState, message: WorkerStopped, now_ms: int) -> None:
    """A worker left: what it held goes to others at once."""
    version = version_name(message.deployment_name, message.build_id)
    queue = state.queues.get(lane_key(message.task_queue, version))
    worker = None if queue is None else queue.workers.get(message.worker_id)
    if worker is not None:
        read_to = message.last_dispatch_number if message.last_dispatch_epoch == state.epoch else None
        _drop(state, worker, now_ms, read_to)


def lost(state: MatchingState, worker: WorkerState, late_ms: int, now_ms: int) -> None:
    """A worker is silent. If we noticed late we stood still ourselves, and its heartbeats may wait to be read."""
    if late_ms > state.config.late_ms_max:
        worker.last_seen_ms = now_ms - state.config.heartbeat_lapse_ms + state.config.heartbeat_interval_ms
        state.wakeups.push(now_ms + state.config.heartbeat_interval_ms, WakeupKind.LAPSE, worker)
        return
    _drop(state, worker, now_ms, None)


def close_window(state: MatchingState, now_ms: int) -> None:
    """Workers had one lapse to answer: who was heard counts with what it said last, who was not is lost."""
    lapse_ms = state.config.heartbeat_lapse_ms
    waiting = [w for queue in state.queues.values() for w in queue.workers.values() if not w.confirmed]
    for worker in waiting:
        if worker.last_seen_ms > state.window_until_ms - lapse_ms:
            _confirm(state, worker)
            for kind in SlotKind:
                fill(state, worker, kind, now_ms)
        else:
            _drop(state, worker, now_ms, None)
    _end_grace(state, now_ms)


# --- steps ----------------------------------------------------------------------------------------------------------


def _new_worker(state: MatchingState, heartbeat: WorkerHeartbeat, now_ms: int) -> WorkerState:
    queue = _lane(state, heartbeat)
    worker = WorkerState(heartbeat.worker_id, queue, now_ms)
    worker.deployment_name, worker.build_id = heartbeat.deployment_name, heartbeat.build_id
    worker.dispatch_number = state.dispatches_of_gone
    queue.workers[worker.worker_id] = worker
    state.unconfirmed += 1
    return worker


def _lane(state: MatchingState, heartbeat: WorkerHeartbeat) -> TaskQueue:
    version = version_name(heartbeat.deployment_name, heartbeat.build_id)
    return state.queue(heartbeat.task_queue, version)


def _describe(worker: WorkerState, heartbeat: WorkerHeartbeat) -> bool:
    """Note what a worker offers; whether that changed."""
    slots = [
        min(max(heartbeat.workflow_slots, 0), limits.WORKER_SLOTS_MAX),
        min(max(heartbeat.activity_slots, 0), limits.WORKER_SLOTS_MAX),
    ]
    described = (slots, heartbeat.draining, heartbeat.inbox_partition, heartbeat.identity)
    if described == (worker.slots, worker.draining, worker.inbox_partition, worker.identity):
        return False
    worker.slots, worker.draining, worker.inbox_partition, worker.identity = described
    return True


def _take_rates(state: MatchingState, worker: WorkerState, heartbeat: WorkerHeartbeat, now_ms: int) -> None:
    """Note a worker's rate limits.

    That of the queue is the one said last, unless one was set; it ends when no living worker says one.
    """
    queue = worker.queue
    worker.queue_rate = heartbeat.queue_activities_per_second
    rate = worker.queue_rate
    if is_rate_set(queue):
        rate = 0.0
    elif rate <= 0 and queue.rate.rate:
        rate = 0.0 if not any(one.queue_rate > 0 for one in queue.workers.values()) else queue.rate.rate
    if worker.rate.set(heartbeat.activities_per_second, now_ms):
        unthrottle(state, worker, now_ms)
    if queue.rate.set(rate, now_ms):
        unthrottle(state, queue, now_ms)


def _confirm(state: MatchingState, worker: WorkerState) -> None:
    worker.confirmed = True
    state.unconfirmed -= 1


def _take_held(state: MatchingState, worker: WorkerState, heartbeat: WorkerHeartbeat, now_ms: int) -> None:
    """Compare what a worker holds with what we think. Readiness is the caller's business."""
    _miss_adopted(state, worker, heartbeat)
    if not heartbeat.held and not heartbeat.finished:
        _forget_strangers(state, worker)
        worker.held = worker.unknown_held = worker.told_gone = _NOBODY
        worker.stale_held = 0
        return
    if worker.unknown_held:
        _forget_strangers(state, worker)
    unknown: set[str] = set()
    for held in heartbeat.held:
        task = state.tasks.get(held.task_id)
        if task is None:
            if keys.is_activity_task(held.task_id):
                unknown.add(held.task_id)
        elif task.phase is not Phase.LEASED or task.worker_id != worker.worker_id:
            _adopt(state, worker, task, held, now_ms)
    for task_id in heartbeat.finished:
        task = state.tasks.get(task_id)
        if task is not None and task.phase is Phase.UNDECIDED:
            _adopt(state, worker, task, HeldTask(task_id=task_id, started_time_ms=now_ms), now_ms)
    worker.held = frozenset(held.task_id for held in heartbeat.held)
    # Seen once it may just have finished; seen twice it runs on although nobody waits for it. But one that it has begun
    # by itself, or that an earlier owner gave it before the log showed it, may be on its way to us.
    stale = worker.unknown_held & unknown
    gone = stale - _begun_lately(heartbeat, now_ms - state.config.unconfirmed_ms_max) if stale else stale
    for task_id in sorted(gone - worker.told_gone):
        tell(state, worker, CancelActivity(task_id=task_id, gone=True))
    worker.told_gone = gone if gone else _NOBODY
    worker.stale_held = len(stale)
    worker.unknown_held = frozenset(unknown)
    for task_id in unknown:
        state.strangers[task_id] = worker


def _forget_strangers(state: MatchingState, worker: WorkerState) -> None:
    for task_id in worker.unknown_held:
        if state.strangers.get(task_id) is worker:
            del state.strangers[task_id]


def _miss_adopted(state: MatchingState, worker: WorkerState, heartbeat: WorkerHeartbeat) -> None:
    """Activities that an earlier owner gave it, and that it does not hold any more, in two heartbeats in a row.

    Most have just ended, and history hears of the end first. But an old heartbeat may have told of one that the worker
    was since told to forget: nobody else would ever end that.
    """
    adopted = [task for task in worker.leases[SlotKind.ACTIVITY].values() if not task.dispatch_number]
    held = {one.task_id for one in heartbeat.held} if adopted else ()
    before = worker.missed
    worker.missed = {task.task_id: before.get(task.task_id, 0) + 1 for task in adopted if task.task_id not in held}
    for task in adopted:
        if worker.missed.get(task.task_id) == _MISSED_LOST:
            _report_lost(state, task)


def _begun_lately(heartbeat: WorkerHeartbeat, since_ms: int) -> set[str]:
    """What the worker holds since then."""
    return {held.task_id for held in heartbeat.held if held.started_time_ms > since_ms}


def _adopt(state: MatchingState, worker: WorkerState, task: TaskState, held: HeldTask, now_ms: int) -> None:
    """Lease a task to the worker that says it has it, unless we know better.

    The holder it may be taken from has not told what it holds, so nothing waits for the slot that this frees.
    """
    if task.phase is Phase.PARKED or task.expired_from == worker.worker_id:
        return
    if task.phase is Phase.LEASED:
        holder = state.worker_of(task)
        if holder is not None and holder.confirmed:
            return
    detach(state, task)
    lease(state, worker, task, held.started_time_ms)
    watch_lease(state, task, now_ms)
    _tell_requests(state, worker, task)


def _tell_requests(state: MatchingState, worker: WorkerState, task: TaskState) -> None:
    """What was asked of an activity while its worker may not have been told."""
    if task.cancel_requested or task.paused or task.reset:
        paused = task.paused and not task.cancel_requested
        reset = task.reset and not (task.cancel_requested or paused)
        tell(state, worker, CancelActivity(task_id=task.task_id, paused=paused, reset=reset))


def _drop(state: MatchingState, worker: WorkerState, now_ms: int, read_to: int | None) -> None:
    """Forget a worker. ``read_to``: the last dispatch it looked at, if it left in good order."""
    queue = worker.queue
    worker.gone = True
    _forget_strangers(state, worker)
    state.dispatches_of_gone = max(state.dispatches_of_gone, worker.dispatch_number)
    if not worker.confirmed:
        state.unconfirmed -= 1
    del queue.workers[worker.worker_id]
    for kind in SlotKind:
        set_ready(queue, worker, kind)
    state.workers_changed[queue.name, worker.worker_id] = worker
    again, reopened = _end_leases(state, worker, read_to)
    for task in again:
        place(state, task, now_ms)
    for flow in reopened:
        serve(state, flow, now_ms)
    _share_sticky(state, worker, now_ms)
    if state.grace and state.unconfirmed == 0 and any(other.workers for other in state.queues.values()):
        _end_grace(state, now_ms)
    state.drop_idle(queue.key)


def _end_leases(state: MatchingState, worker: WorkerState, read_to: int | None) -> tuple[list[TaskState], list[Flow]]:
    """Take all tasks from a worker. Returns those that others may have, and the flows of which a key opened."""
    again: list[TaskState] = []
    reopened: list[Flow] = []
    for kind in SlotKind:
        leases, flow = worker.leases[kind], worker.queue.flows[kind]
        for task in leases.values():
            if flow is not None:
                flow.ended(task.fairness_key)
                if flow.reopen(task.fairness_key):
                    reopened.append(flow)
            unread = read_to is not None and task.dispatch_number > read_to
            task.phase = Phase.PARKED
            state.touch(task)
            if worker.has_finished(task):
                continue  # its completion is on its way
            if task.kind == "activity" and not unread:
                _report_lost(state, task)
            else:
                task.fair_start = 0.0
                again.append(task)
        leases.clear()
    return again, reopened


def _share_sticky(state: MatchingState, worker: WorkerState, now_ms: int) -> None:
    """What waits for a worker that takes nothing more goes to anyone."""
    while (task_id := worker.sticky.pop()) is not None:
        task = state.tasks[task_id]
        task.sticky_worker_id = ""
        task.fair_start = 0.0
        place(state, task, now_ms)


def _report_lost(state: MatchingState, task: TaskState) -> None:
    body = ActivityLeaseLost(
        scheduled_event_id=task.scheduled_event_id,
        attempt=task.attempt,
        started_time_ms=task.leased_ms,
        worker_id=task.worker_id,
    )
    report(state, task, "lost", body)


def _end_grace(state: MatchingState, now_ms: int) -> None:
    """All who could hold an old task have spoken, or had their time: dispatch what nobody holds, oldest first."""
    state.grace = False
    if not state.routed:
        return  # they are placed when the routing is known
    waiting = sorted(state.undecided.values(), key=lambda task: task.sequence)
    state.undecided.clear()
    for task in waiting:
        place(state, task, now_ms)
