"""What a worker counts and measures, under the labels of its namespace and task queue.

Invariant: nothing here can fail a task. Made by the worker; told by the dispatch thread, the event loop and the
executor's threads; read through :mod:`perdure.runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure_runtime.metrics import (
    ACTIVITY_ENDTOEND,
    ACTIVITY_EXECUTION,
    ACTIVITY_FAILED,
    ACTIVITY_SCHEDULE_TO_START,
    LOCAL_ACTIVITY_EXECUTION,
    LOCAL_ACTIVITY_FAILED,
    PROCESS,
    SLOTS_AVAILABLE,
    SLOTS_USED,
    STICKY_CACHE_HIT,
    STICKY_CACHE_MISS,
    STICKY_CACHE_SIZE,
    WORKER_START,
    WORKFLOW_TASK_EXECUTION,
    WORKFLOW_TASK_FAILED,
    WORKFLOW_TASK_SCHEDULE_TO_START,
    Recorder,
    Sample,
)
from perdure_schemas.records import (
    ActivityTask,
    HistoryRecord,
    WorkflowTask,
    WorkflowTaskCompletedEvent,
    WorkflowTaskFailed,
)

__all__ = ["WorkerGauges", "WorkerMetrics"]

#: Causes by our names, as metrics have them.
_REASONS = {"NON_DETERMINISTIC_ERROR": "NonDeterminismError", "WORKFLOW_TYPE_NOT_FOUND": "WorkflowTypeNotFound"}


class WorkerMetrics:
    """The metrics of one worker.

    Args:
        namespace: Its namespace.
        task_queue: Its task queue.
        now_ms: The engine's clock, in milliseconds since the epoch.
        recorder: Where they go; the process's if not given.
    """

    def __init__(
        self, namespace: str, task_queue: str, now_ms: Callable[[], int], recorder: Recorder = PROCESS
    ) -> None:
        self._about = (namespace, task_queue)
        self._now_ms = now_ms
        self._recorder = recorder

    def started(self, gauges: Callable[[], Sequence[Sample]]) -> None:
        """The worker lives; ``gauges`` is asked until :meth:`stopped`."""
        self._recorder.count(WORKER_START, self._about)
        self._recorder.add_source(gauges)

    def stopped(self, gauges: Callable[[], Sequence[Sample]]) -> None:
        """The worker is gone."""
        self._recorder.remove_source(gauges)

    def workflow_task(
        self,
        task: WorkflowTask,
        records: Sequence[HistoryRecord],
        waited_ms: int,
        ran_s: float,
        answer: object,
        *,
        cached: bool,
    ) -> None:
        """A workflow task was run.

        Args:
            task: The task.
            records: The history it came with.
            waited_ms: From its newest event, which scheduled it, to its start, in milliseconds.
            ran_s: How long its code ran, in seconds.
            answer: What it came to; ``None`` while it waits for local activities.
            cached: Whether the run was in memory.
        """
        record = self._recorder
        labels = (*self._about, task.workflow_type)
        if task.attempt == 1 and not task.speculative_id:
            record.observe(WORKFLOW_TASK_SCHEDULE_TO_START, labels, waited_ms / 1000)
        record.observe(WORKFLOW_TASK_EXECUTION, labels, ran_s)
        if isinstance(answer, WorkflowTaskFailed):
            reason = _REASONS.get(answer.cause, "WorkflowError")
            record.count(WORKFLOW_TASK_FAILED, (*labels, reason))
        if cached:
            record.count(STICKY_CACHE_HIT, self._about)
        elif _has_run_before(records):
            record.count(STICKY_CACHE_MISS, self._about)

    def activity_started(self, task: ActivityTask) -> None:
        """An attempt of an activity begins."""
        waited_s = (self._now_ms() - task.attempt_scheduled_time_ms) / 1000
        self._recorder.observe(ACTIVITY_SCHEDULE_TO_START, (*self._about, task.options.activity_type), waited_s)

    def activity_ended(self, task: ActivityTask, started_ms: int, *, local: bool, outcome: str) -> None:
        """An attempt ended.

        Args:
            task: The task.
            started_ms: When it began, by the engine's clock.
            local: Whether it is a local activity.
            outcome: ``completed``, ``failed``, or ``other``: cancelled, or to be completed from outside.
        """
        labels = (*self._about, task.options.activity_type)
        now_ms = self._now_ms()
        execution = LOCAL_ACTIVITY_EXECUTION if local else ACTIVITY_EXECUTION
        self._recorder.observe(execution, labels, (now_ms - started_ms) / 1000)
        if outcome == "failed":
            self._recorder.count(LOCAL_ACTIVITY_FAILED if local else ACTIVITY_FAILED, labels)
        elif outcome == "completed" and not local:
            self._recorder.observe(ACTIVITY_ENDTOEND, labels, (now_ms - task.scheduled_time_ms) / 1000)


class WorkerGauges:
    """What is read of a worker when somebody asks.

    Args:
        namespace: Its namespace.
        task_queue: Its task queue.
        cached: How many runs are in memory.
        slots: By kind of worker, how many slots there are and how many are used.
    """

    def __init__(
        self,
        namespace: str,
        task_queue: str,
        cached: Callable[[], int],
        slots: Callable[[], dict[str, tuple[int, int]]],
    ) -> None:
        self._about = (namespace, task_queue)
        self._cached = cached
        self._slots = slots

    def __call__(self) -> list[Sample]:
        """The samples now."""
        found = [Sample(STICKY_CACHE_SIZE, self._about, self._cached())]
        for kind, (slots, used) in self._slots().items():
            found.append(Sample(SLOTS_USED, (*self._about, kind), used))
            found.append(Sample(SLOTS_AVAILABLE, (*self._about, kind), max(0, slots - used)))
        return found


def _has_run_before(records: Sequence[HistoryRecord]) -> bool:
    """Whether a history goes beyond the first workflow task. Its completion comes early if it is there."""
    return any(
        isinstance(event.attributes, WorkflowTaskCompletedEvent) for record in records for event in record.events
    )
