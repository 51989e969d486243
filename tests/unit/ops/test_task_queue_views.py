"""What operators see of workers and tasks of a task queue in several partitions."""

from __future__ import annotations

from typing import Any

from perdure_ops.task_queue_view import TaskQueues
from perdure_ops.task_queues import FORGOTTEN_MS, QueueView, WorkersView
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import HeldTask, OwnerMark, TaskRecord, WorkerHeartbeat, WorkerStopped
from perdure_schemas.topics import TopicNames

NAMES = TopicNames(partitions=4)
NOW_MS = 1_000_000
QUEUE = "orders~2"


def record(topic: str, partition: int, key: bytes, value: Any, offset: int = 0) -> LogRecord:
    return LogRecord(topic, partition, offset, key, None if value is None else codec.encode(value), NOW_MS)


def heartbeat(partition: int, *held: str, slots: int = 2, time_ms: int = NOW_MS) -> LogRecord:
    beat = WorkerHeartbeat(
        worker_id="w", task_queue=QUEUE, identity="i", inbox_partition=0, workflow_slots=1, activity_slots=slots,
        held=[HeldTask(task_id=task_id, started_time_ms=1) for task_id in held], last_dispatch_epoch=1,
        last_dispatch_number=1, time_ms=time_ms,
    )  # fmt: skip
    return record(NAMES.workers, partition, b"w", beat)


def task(partition: int, task_id: str, epoch: int = 3) -> LogRecord:
    value = TaskRecord(
        task_id=task_id, task_queue=QUEUE, kind="activity", workflow_id="wf", run_id="r", created_time_ms=1, body=b""
    )
    return record(NAMES.tasks, partition, keys.fenced_key(task_id, 0, epoch), value, 9)


def mark(partition: int, epoch: int) -> LogRecord:
    value = OwnerMark(source="history/0", epoch=epoch, owner="e", time_ms=1)
    return record(NAMES.tasks, partition, keys.mark_key("history/0", f"{partition}.{epoch}"), value, 1)


def test_what_a_worker_says_to_several_partitions_counts_together() -> None:
    view = WorkersView()
    view.take(heartbeat(2, "a"))
    view.take(heartbeat(3, "b", "c", slots=1))
    view.take(heartbeat(2, "d", time_ms=NOW_MS + 1))
    (row,) = view.rows(NOW_MS, QUEUE)
    assert (row["workflow_slots"], row["activity_slots"], row["held"]) == (2, 3, 3)
    (beat,) = view.heard_of(NOW_MS)
    assert [held.task_id for held in beat.held] == ["d", "b", "c"]
    assert beat.time_ms == NOW_MS + 1
    assert view.rows(NOW_MS, "orders") == []
    gone = WorkerStopped(worker_id="w", task_queue=QUEUE, time_ms=NOW_MS, last_dispatch_epoch=1, last_dispatch_number=1)
    view.take(record(NAMES.workers, 3, b"w", gone))
    assert view.rows(NOW_MS) == []


def test_a_worker_that_was_not_heard_of_is_forgotten() -> None:
    view = WorkersView()
    view.take(heartbeat(2))
    assert view.rows(NOW_MS + FORGOTTEN_MS) == []
    assert view.heard_of(NOW_MS) == []


def test_each_partition_of_tasks_has_owners_of_its_own() -> None:
    view = QueueView(QUEUE, NOW_MS)
    view.take(mark(2, 3))
    view.take(task(2, "r/a5.1"))
    view.take(mark(3, 7))
    view.take(task(3, "r/a6.1"))  # void there: of an older owner
    view.take(task(2, "r/a7.1"))
    assert view.rows(["r/a7.1"])[1] | {"added_per_s": 0} == {
        "type": "activity", "backlog": 1, "oldest_s": 999.999, "running": 1, "held_back": 0, "added_per_s": 0,
        "done_per_s": 0.0,
    }  # fmt: skip


def test_the_list_of_task_queues_has_a_worker_once() -> None:
    queues = TaskQueues(NAMES)
    for one in (heartbeat(2, "r/a5.1"), heartbeat(3), mark(2, 3), mark(3, 3), task(2, "r/a5.1"), task(3, "r/a6.1")):
        queues.take(one, NOW_MS)
    (queue,) = queues.queues(NOW_MS)
    assert [(worker.worker_id, worker.activity_slots) for worker in queue.workers] == [("w", 4)]
    assert (queue.tasks["activity"].running, queue.tasks["activity"].backlog) == (1, 1)
