"""All task queues and workers of a namespace, kept in step for those who ask often.

Folded from ``tasks`` and ``workers``; one queue, once, is :mod:`perdure_ops.task_queues`. Invariants: a task counts as
running exactly if a living worker's newest heartbeat names it, so numbers are as old as heartbeats, a second or two;
void records (I1) do not count. Called by the HTTP API.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from perdure_ops.audit.reading import TopicScan
from perdure_ops.task_queues import FORGOTTEN_MS, SILENT_MS, WorkersView
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import Log, LogError, LogRecord
from perdure_schemas import codec
from perdure_schemas.records import TaskRecord, WorkerHeartbeat
from perdure_schemas.topics import TASKS, WORKERS, TopicNames

__all__ = ["QueueState", "QueueWatch", "TaskQueues"]


@dataclass(slots=True)
class Waiting:
    """Tasks of one kind in one queue."""

    backlog: int = 0
    running: int = 0
    #: Held back by an operator, or completed from outside of a worker.
    parked: int = 0
    oldest_ms: int | None = None


@dataclass(slots=True)
class QueueState:
    """A task queue: its tasks by kind, and its living workers."""

    name: str
    tasks: dict[str, Waiting] = field(default_factory=dict)
    workers: list[WorkerHeartbeat] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Task:
    queue: str
    kind: str
    created_ms: int
    parked: bool


class TaskQueues:
    """Folds the records of both topics. Pure.

    Args:
        names: The namespace's topics.
    """

    def __init__(self, names: TopicNames) -> None:
        self._names = names
        self._fences = [Fence() for _ in range(names.partitions)]
        self._tasks: dict[str, _Task] = {}
        self._workers = WorkersView()

    def take(self, record: LogRecord, now_ms: int) -> None:
        """Take in a record. What cannot be read is not counted."""
        try:
            if record.topic == self._names.tasks:
                self._task(record)
            elif record.timestamp_ms > now_ms - FORGOTTEN_MS:
                self._workers.take(record)
        except (ValueError, codec.DecodeError):
            return

    def _task(self, record: LogRecord) -> None:
        key = admitted_key(self._fences[record.partition], record)
        if key is None:
            return
        if record.value is None:
            self._tasks.pop(key.id, None)
            return
        task = codec.decode_as(record.value, TaskRecord)
        parked = task.held or task.left_open or task.cancel_requested
        self._tasks[key.id] = _Task(task.task_queue, task.kind, task.created_time_ms, parked)

    def workers(self, now_ms: int) -> list[WorkerHeartbeat]:
        """The living workers, by task queue and identity, as their newest heartbeats say."""
        return [beat for beat in self._workers.heard_of(now_ms) if beat.time_ms > now_ms - SILENT_MS]

    def queues(self, now_ms: int) -> list[QueueState]:
        """The task queues that have a task or a living worker, by name."""
        found: dict[str, QueueState] = {}
        running: set[str] = set()
        for worker in self.workers(now_ms):
            name = worker.task_queue
            found.setdefault(name, QueueState(name)).workers.append(worker)
            running.update(held.task_id for held in worker.held)
        for task_id, task in self._tasks.items():
            queue = found.setdefault(task.queue, QueueState(task.queue))
            waiting = queue.tasks.setdefault(task.kind, Waiting())
            if task_id in running:
                waiting.running += 1
            elif task.parked:
                waiting.parked += 1
            else:
                waiting.backlog += 1
                waiting.oldest_ms = min(task.created_ms, waiting.oldest_ms or task.created_ms)
        return [found[name] for name in sorted(found)]


class QueueWatch:
    """Keeps :class:`TaskQueues` in step with the log: it reads on when it is asked, and not in between.

    Args:
        log: The log.
        names: The namespace's topics.
    """

    def __init__(self, log: Log, names: TopicNames) -> None:
        self._log = log
        self._names = names
        self._lock = threading.Lock()
        self._scan: TopicScan | None = None
        self._state = TaskQueues(names)

    def queues(self) -> tuple[list[QueueState], int]:
        """The task queues as of now, and the time in milliseconds since the epoch. Blocks; the first call longest.

        Raises:
            LogError: the log cannot be read.
        """
        with self._lock:
            try:
                if self._scan is None:
                    self._state = TaskQueues(self._names)
                    self._scan = TopicScan(self._log, self._names, [TASKS, WORKERS])
                self._take(self._scan.to_end())
            except LogError:
                self._drop()  # what was to be read next may be gone: the next call begins anew
                raise
            now_ms = wall_clock_ms()
            return self._state.queues(now_ms), now_ms

    def close(self) -> None:
        """Let go of the reader."""
        with self._lock:
            self._drop()

    def _take(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            self._state.take(record, wall_clock_ms())

    def _drop(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None
