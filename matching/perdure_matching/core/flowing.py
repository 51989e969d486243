"""What settings of a task queue do: they are taken in, changed and forgotten, and tokens come. Called by the service.

Settings are seldom changed, so each change counts anew what runs, and judges anew what waits. A queue without settings
has no :class:`perdure_matching.core.flow.Flow`, and pays nothing.
"""

from __future__ import annotations

from perdure_matching.core.flow import Flow, Gate
from perdure_matching.core.model import SlotKind, TaskQueue
from perdure_matching.core.placing import await_token, fill, serve, unthrottle
from perdure_matching.core.state import MatchingState
from perdure_schemas.records import TaskQueueConfig

__all__ = ["forget_config", "is_rate_set", "take_config", "token_came"]

_KINDS = {"workflow": SlotKind.WORKFLOW, "activity": SlotKind.ACTIVITY}


def take_config(state: MatchingState, config: TaskQueueConfig, now_ms: int) -> None:
    """A task queue has other settings.

    Raises:
        ValueError: they are for no type of tasks.
    """
    kind = _KINDS.get(config.task_type)
    if kind is None:
        raise ValueError(
            f"settings of task queue {config.task_queue!r} are for tasks of type {config.task_type!r};"
            f" known are {', '.join(_KINDS)}"
        )
    flow = state.flows.get((config.task_queue, kind))
    if flow is None:
        flow = state.flows[config.task_queue, kind] = Flow(config.task_queue, kind)
        flow.queues = {key: queue for key, queue in state.queues.items() if queue.name == config.task_queue}
    flow.configure(config, now_ms)
    for queue in flow.queues.values():
        for worker in queue.workers.values():
            for task in worker.leases[kind].values():
                flow.began(task.fairness_key, task.fairness_weight, now_ms)
    for limited in _limited(flow):
        if limited.throttled:
            await_token(state, limited, now_ms)
    for queue in flow.queues.values():
        _use(queue, kind, flow)
        _follow_workers(state, queue, now_ms)
    serve(state, flow, now_ms)


def forget_config(state: MatchingState, task_queue: str, task_type: str, now_ms: int) -> None:
    """Nothing is set any more for tasks of a type in a task queue: what waited for it goes."""
    kind = _KINDS.get(task_type)
    flow = None if kind is None else state.flows.pop((task_queue, kind), None)
    if kind is None or flow is None:
        return
    for limited in _limited(flow):
        limited.throttled = False
    for queue in flow.queues.values():
        _use(queue, kind, None)
        _follow_workers(state, queue, now_ms)
        for worker in list(queue.ready[kind].values()):
            fill(state, worker, kind, now_ms)


def token_came(state: MatchingState, limited: Flow | Gate, now_ms: int) -> None:
    """A rate has a token again: dispatch what waits for it, as far as it lets."""
    await_token(state, limited, now_ms)
    if limited.throttled:
        return
    if isinstance(limited, Gate):
        limited.flow.reopen(limited.key)
        serve(state, limited.flow, now_ms)
    else:
        serve(state, limited, now_ms)


def is_rate_set(queue: TaskQueue) -> bool:
    """Whether a rate was set for the activities of a task queue, which goes before what its workers say."""
    flow = queue.flows[SlotKind.ACTIVITY]
    return flow is not None and flow.config.queue_rate is not None


def _limited(flow: Flow) -> list[Flow | Gate]:
    return [flow, *flow.gates.values()]


def _follow_workers(state: MatchingState, queue: TaskQueue, now_ms: int) -> None:
    """What workers say of the rate of their task queue counts exactly if none was set."""
    said = (worker.queue_rate for worker in queue.workers.values() if worker.queue_rate > 0)
    if queue.rate.set(0.0 if is_rate_set(queue) else next(said, 0.0), now_ms):
        unthrottle(state, queue, now_ms)


def _use(queue: TaskQueue, kind: int, flow: Flow | None) -> None:
    queue.flows = (flow, queue.flows[1]) if kind == SlotKind.WORKFLOW else (queue.flows[0], flow)
    queue.backlog[kind].use(flow)
