"""What the clock does: every wake-up that is due, in order. Called by the service's tick."""

from __future__ import annotations

from perdure_matching.core.flowing import token_came
from perdure_matching.core.model import Phase, TaskState
from perdure_matching.core.placing import detach, free_slot, notice_start, place, report, unthrottle
from perdure_matching.core.state import MatchingState
from perdure_matching.core.wakeups import WakeupKind
from perdure_matching.core.workers import close_window, lost
from perdure_schemas import keys
from perdure_schemas.records import QueryTaskExpired

__all__ = ["advance"]


def advance(state: MatchingState, now_ms: int) -> None:
    """Do everything that is due at ``now_ms``."""
    while (wakeup := state.wakeups.pop_due(now_ms)) is not None:
        kind, subject = wakeup.kind, wakeup.subject
        if kind is WakeupKind.NOTICE:
            notice_start(state, subject)
        elif kind is WakeupKind.STICKY:
            _release_sticky(state, subject, now_ms)
        elif kind is WakeupKind.LEASE:
            _expire_lease(state, subject, now_ms)
        elif kind is WakeupKind.EXPIRY:
            _expire_query(state, subject)
        elif kind is WakeupKind.RATE:
            unthrottle(state, subject, now_ms)
        elif kind is WakeupKind.FLOW:
            token_came(state, subject, now_ms)
        elif kind is WakeupKind.LAPSE:
            lost(state, subject, now_ms - wakeup.due_ms, now_ms)
        else:
            close_window(state, now_ms)


def _release_sticky(state: MatchingState, task: TaskState, now_ms: int) -> None:
    detach(state, task)
    task.sticky_worker_id = ""
    task.fair_start = 0.0
    place(state, task, now_ms)


def _expire_lease(state: MatchingState, task: TaskState, now_ms: int) -> None:
    """A worker keeps a task too long: somebody else may try; whichever completes it first wins."""
    task.expired_from = task.worker_id
    task.sticky_worker_id = ""
    task.fair_start = 0.0
    worker = detach(state, task)
    place(state, task, now_ms)
    state.touch(task)
    if worker is not None:
        free_slot(state, worker, task, now_ms)


def _expire_query(state: MatchingState, task: TaskState) -> None:
    """Nobody answered in time. A worker that has it keeps its slot until history takes the task away."""
    task.expiry_reported = True
    state.touch(task)
    if task.phase in (Phase.QUEUED, Phase.STICKY, Phase.UNDECIDED):
        detach(state, task)
        task.phase = Phase.PARKED
    report(state, task, "expired", QueryTaskExpired(query_id=keys.query_id_of(task.task_id)))
