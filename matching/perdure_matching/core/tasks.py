"""What a task record does: a new task, a changed one, one that is over.

A task is one by its id, whatever the epochs it was sent under; records that say nothing new change nothing (I3).
Called by the service for each valid record of ``tasks``.
"""

from __future__ import annotations

from perdure_matching.core.flow import clamp_weight
from perdure_matching.core.model import Phase, TaskState
from perdure_matching.core.placing import detach, free_slot, park, place, tell
from perdure_matching.core.state import MatchingState
from perdure_matching.core.wakeups import WakeupKind
from perdure_schemas.records import CancelActivity, TaskRecord

__all__ = ["confirm", "drop_unconfirmed", "foresee", "load", "remove", "upsert"]


def upsert(state: MatchingState, record: TaskRecord, sequence: int, now_ms: int) -> TaskState | None:
    """Take in a task record.

    Parameters:
        sequence: the record's offset.

    Returns:
        The state of a task that is new; ``None`` for one that is known.
    """
    known = state.tasks.get(record.task_id)
    if known is not None:
        if known.foreseen:
            confirm(state, known, sequence)
        if record.left_open and not known.left_open:
            _leave_open(state, known, now_ms)
        if record.cancel_requested and not known.cancel_requested:
            _cancel(state, known)
        if record.reset and not known.reset:
            _reset(state, known)
        if record.paused != known.paused or record.held != known.held:
            _hold(state, known, record, now_ms)
        return None
    task = _task_of(record, sequence, now_ms)
    state.tasks[task.task_id] = task
    state.unstored[task.task_id] = task
    if state.live:
        _begin(state, task, now_ms)
    else:
        state.undecided[task.task_id] = task
    return task


def foresee(state: MatchingState, record: TaskRecord, sequence: int, now_ms: int) -> TaskState | None:
    """History is about to write this task record: dispatch its task already, if it is new and all is well.

    Parameters:
        sequence: an offset near to the one that the record will get.

    Returns:
        The state of the task; ``None`` if the hint is not taken.
    """
    if not state.live or state.grace or not state.routed or record.task_id in state.tasks:
        return None
    task = _task_of(record, sequence, now_ms)
    task.foreseen = True
    state.tasks[task.task_id] = state.foreseen[task.task_id] = task
    _begin(state, task, now_ms)
    return task


def drop_unconfirmed(state: MatchingState, now_ms: int) -> list[TaskState]:
    """Forget foreseen tasks that the log should have shown by now; whoever has one is told. Returns them."""
    late = []
    for task in state.foreseen.values():
        if now_ms - task.arrived_ms < state.config.unconfirmed_ms_max:
            break
        late.append(task)
    for task in late:
        remove(state, task.task_id, now_ms, interrupted=True)
    return late


def confirm(state: MatchingState, task: TaskState, sequence: int) -> None:
    """The log shows the record of a foreseen task, at this offset."""
    del state.foreseen[task.task_id]
    task.foreseen = False
    task.sequence = sequence
    state.unstored[task.task_id] = task


def _begin(state: MatchingState, task: TaskState, now_ms: int) -> None:
    if task.expires_at_ms > 0:
        state.wakeups.push(task.expires_at_ms, WakeupKind.EXPIRY, task)
    place(state, task, now_ms)


def _task_of(record: TaskRecord, sequence: int, now_ms: int) -> TaskState:
    return TaskState(
        record.task_id,
        record.task_queue,
        record.kind,
        record.workflow_id,
        record.run_id,
        record.scheduled_event_id,
        record.attempt,
        record.sticky_worker_id,
        record.sticky_until_ms,
        record.priority,
        record.fairness_key,
        clamp_weight(record.fairness_weight),
        record.start_notice_delay_ms,
        record.lease_ms_max,
        record.expires_at_ms,
        record.cancel_requested,
        sequence,
        now_ms,
        left_open=record.left_open,
        held=record.held,
        paused=record.paused,
        version=record.version,
        prefers_ramping=record.prefers_ramping,
        reset=record.reset,
    )


def load(state: MatchingState, task: TaskState) -> None:
    """Take in a task from the store, before any record is folded."""
    state.tasks[task.task_id] = task
    task.lane = task.lane or task.task_queue
    task.fair_start = None  # places are those of one owner; tasks from before come in the order of their records
    if task.phase is Phase.LEASED:
        worker = state.worker_of(task)
        if worker is not None:
            worker.leases[task.slot_kind][task.task_id] = task
            return
    if task.phase is not Phase.PARKED:
        task.phase = Phase.UNDECIDED
        state.undecided[task.task_id] = task


def remove(state: MatchingState, task_id: str, now_ms: int, *, interrupted: bool = False) -> TaskState | None:
    """History needs a task no more: forget it, and use its slot.

    Parameters:
        interrupted: something else than its worker ended it. Else nobody can tell, and a worker that has it for long is
            told to be sure.

    Returns:
        The task as it was; ``None`` if it is not known.
    """
    task = state.tasks.pop(task_id, None)
    if task is None:
        return None
    if task.stored:
        state.changed.pop(task_id, None)
        state.removed.append(task)
    elif task.foreseen:
        del state.foreseen[task_id]
    else:
        del state.unstored[task_id]
    worker = detach(state, task)
    task.phase = Phase.GONE
    if worker is not None and state.live:
        if (
            task.kind == "activity"
            and (interrupted or now_ms - task.leased_ms > state.config.gone_notice_age_ms)
            and not worker.has_finished(task)
        ):
            tell(state, worker, CancelActivity(task_id=task_id, gone=True))
        free_slot(state, worker, task, now_ms)
    elif worker is None:
        state.drop_idle(task.lane)
    return task


def _leave_open(state: MatchingState, task: TaskState, now_ms: int) -> None:
    """A client completes the activity: its worker has a slot free, and nobody else is to get it."""
    task.left_open = True
    worker = detach(state, task)
    task.phase = Phase.PARKED
    state.touch(task)
    if worker is not None and state.live:
        free_slot(state, worker, task, now_ms)


def _cancel(state: MatchingState, task: TaskState) -> None:
    task.cancel_requested = True
    state.touch(task)
    if task.phase is Phase.LEASED:
        worker = state.worker_of(task)
        if worker is not None and state.live:
            tell(state, worker, CancelActivity(task_id=task.task_id))
    elif task.phase in (Phase.QUEUED, Phase.STICKY) or (task.phase is Phase.PARKED and task.held):
        detach(state, task)
        park(state, task)


def _reset(state: MatchingState, task: TaskState) -> None:
    """The activity was reset: who has it is told, and goes on with another attempt if it stops."""
    task.reset = True
    state.touch(task)
    worker = state.worker_of(task)
    if task.phase is Phase.LEASED and worker is not None and state.live:
        tell(state, worker, CancelActivity(task_id=task.task_id, reset=True))


def _hold(state: MatchingState, task: TaskState, record: TaskRecord, now_ms: int) -> None:
    """A task is held, or not any more. Who has it keeps it, and is told if its activity is paused."""
    was_held, was_paused = task.held, task.paused
    task.held, task.paused = record.held, record.paused
    state.touch(task)
    if task.phase is Phase.LEASED:
        worker = state.worker_of(task)
        if task.paused and not was_paused and worker is not None and state.live:
            tell(state, worker, CancelActivity(task_id=task.task_id, paused=True))
    elif task.held and task.phase in (Phase.QUEUED, Phase.STICKY):
        detach(state, task)
        park(state, task)
    elif was_held and not task.held and task.phase is Phase.PARKED and not task.cancel_requested:
        if state.live:
            place(state, task, now_ms)
        else:
            task.phase = Phase.UNDECIDED
            state.undecided[task.task_id] = task
