"""Task queues and workers over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec

from perdure_ops.http_api.context import Api
from perdure_ops.http_api.operations import Answer, Operations
from perdure_ops.http_api.problems import ProblemError
from perdure_ops.http_api.views import time_of
from perdure_ops.task_queue_view import QueueState
from perdure_schemas.records import WorkerHeartbeat

__all__ = ["operation"]

operation = Operations("Task queues", "What waits for workers, and which workers there are.")


class TasksView(msgspec.Struct, kw_only=True):
    """Tasks of one kind: ``workflow``, ``activity`` or ``query``.

    ``backlog`` wait for a worker, the oldest of them for ``oldest_age_ms``; ``running`` are with one; ``parked`` are
    held back by an operator, or are activities that are completed from outside.
    """

    kind: str
    backlog: int
    running: int
    parked: int
    oldest_age_ms: int


class WorkerView(msgspec.Struct, kw_only=True):
    """A living worker, as its newest heartbeat says. Slots are those it has in all."""

    worker_id: str
    identity: str
    task_queue: str
    version: str
    workflow_slots: int
    activity_slots: int
    running: int
    draining: bool
    last_heartbeat_time: datetime | None


class TaskQueueView(Answer, kw_only=True):
    """A task queue that has a task or a living worker."""

    name: str
    tasks: list[TasksView]
    workers: list[WorkerView]


class TaskQueueList(Answer, kw_only=True):
    """The task queues that have a task or a living worker."""

    task_queues: list[TaskQueueView]


class WorkerList(Answer, kw_only=True):
    """The living workers."""

    workers: list[WorkerView]


@operation("GET", "/task-queues")
async def list_task_queues(api: Api) -> TaskQueueList:
    """List task queues: what waits, what runs, and who works."""
    found, now_ms = await asyncio.to_thread(api.queues.queues)
    return TaskQueueList(task_queues=[_queue(queue, now_ms) for queue in found])


@operation("GET", "/task-queues/{task_queue}")
async def describe_task_queue(api: Api, task_queue: str) -> TaskQueueView:
    """Describe a task queue."""
    found, now_ms = await asyncio.to_thread(api.queues.queues)
    for queue in found:
        if queue.name == task_queue:
            return _queue(queue, now_ms)
    detail = f"task queue {task_queue!r} has no task and no living worker; start a worker on it, or look at its name"
    raise ProblemError(404, "NOT_FOUND", detail, "task_queue")


@operation("GET", "/workers")
async def list_workers(api: Api) -> WorkerList:
    """List the living workers of all task queues."""
    found, _ = await asyncio.to_thread(api.queues.queues)
    return WorkerList(workers=[_worker(worker) for queue in found for worker in queue.workers])


def _queue(queue: QueueState, now_ms: int) -> TaskQueueView:
    tasks = [
        TasksView(
            kind=kind,
            backlog=waiting.backlog,
            running=waiting.running,
            parked=waiting.parked,
            oldest_age_ms=0 if waiting.oldest_ms is None else max(0, now_ms - waiting.oldest_ms),
        )
        for kind, waiting in sorted(queue.tasks.items())
    ]
    return TaskQueueView(name=queue.name, tasks=tasks, workers=[_worker(worker) for worker in queue.workers])


def _worker(beat: WorkerHeartbeat) -> WorkerView:
    return WorkerView(
        worker_id=beat.worker_id,
        identity=beat.identity,
        task_queue=beat.task_queue,
        version=f"{beat.deployment_name}.{beat.build_id}" if beat.deployment_name else "",
        workflow_slots=beat.workflow_slots,
        activity_slots=beat.activity_slots,
        running=len(beat.held),
        draining=beat.draining,
        last_heartbeat_time=time_of(beat.time_ms),
    )
