"""What matching shows of its task queues: backlog, its age, workers and slots. Called by the service, on any thread.

Everything is copied in one step before it is looked at, so the numbers of different queues may be a moment apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure_matching.core.fair_queue import FairQueue
from perdure_matching.core.flow import Flow
from perdure_matching.core.model import Phase, SlotKind, TaskQueue
from perdure_matching.core.state import MatchingState
from perdure_runtime.metrics import (
    BACKLOG_AGE,
    BACKLOG_BLOCKED,
    BACKLOG_COUNT,
    QUEUE_SLOTS_AVAILABLE,
    QUEUE_SLOTS_USED,
    QUEUE_WORKERS,
    Sample,
)
from perdure_schemas.keys import queue_partitions
from perdure_schemas.topics import TopicNames

__all__ = ["queue_samples"]

_KINDS = {int(SlotKind.WORKFLOW): "workflow", int(SlotKind.ACTIVITY): "activity"}
_WAITING = frozenset((Phase.QUEUED, Phase.STICKY))


def queue_samples(state: MatchingState, names: TopicNames, partition: int, now_ms: int) -> list[Sample]:
    """The samples of all task queues of a partition.

    The versions of a queue are added up, and so are its partitions, which have the same workers: the first one counts
    them.
    """
    namespace = names.namespace
    samples: list[Sample] = []
    waiting: set[tuple[str, int]] = set()
    for queue in list(state.queues.values()):
        is_first = queue_partitions(queue.name, names.partitions)[0] == partition
        for sample in _of_queue(queue, namespace, counts_workers=is_first):
            samples.append(sample)
            if sample.metric is BACKLOG_COUNT and sample.value:
                waiting.add((queue.name, int(sample.labels[2] == "activity")))
    for (name, kind), arrived_ms in _oldest(state, waiting).items():
        age_s = max(0, now_ms - arrived_ms) / 1000
        samples.append(Sample(BACKLOG_AGE, (namespace, name, _KINDS[kind]), age_s))
    return samples


def _of_queue(queue: TaskQueue, namespace: str, *, counts_workers: bool) -> Iterator[Sample]:
    workers = [worker for worker in list(queue.workers.values()) if not worker.gone]
    if counts_workers:
        yield Sample(QUEUE_WORKERS, (namespace, queue.name), len(workers))
    for kind, name in _KINDS.items():
        labels = (namespace, queue.name, name)
        count = len(queue.backlog[kind])
        if kind == SlotKind.WORKFLOW:
            count += sum(len(worker.sticky) for worker in workers)
        yield Sample(BACKLOG_COUNT, labels, count)
        flow = queue.flows[kind]
        if flow is not None:
            yield Sample(BACKLOG_BLOCKED, labels, _blocked(flow, queue.backlog[kind]))
        yield Sample(QUEUE_SLOTS_USED, labels, sum(len(worker.leases[kind]) for worker in workers))
        free = sum(max(0, worker.free(kind)) for worker in workers if not worker.draining)
        yield Sample(QUEUE_SLOTS_AVAILABLE, labels, free)


def _blocked(flow: Flow, backlog: FairQueue) -> int:
    if flow.stopped:
        return len(backlog)
    return sum(lane.waiting for lanes in list(flow.aside.values()) for lane in list(lanes) if lane.queue is backlog)


def _oldest(state: MatchingState, waiting: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """When the first of the tasks arrived that wait in each of these queues: tasks stand in the order of arrival."""
    found: dict[tuple[str, int], int] = {}
    if not waiting:
        return found
    for task in list(state.tasks.values()):
        if task.phase in _WAITING:
            key = (task.task_queue, task.slot_kind)
            if key not in found:
                found[key] = task.arrived_ms
                if len(found) == len(waiting):
                    break
    return found
