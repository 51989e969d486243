"""What a worker tells matching: that it lives, which slots it has, what it holds, and that it goes.

A task queue may be matched in several partitions (:func:`perdure_schemas.keys.queue_partitions`). The worker is
registered in each, with its share of the slots and rates, and tells each of that one's tasks. Called by the dispatch
thread and the timer thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from perdure._connection import Connection
from perdure.worker._inbox import Inbox
from perdure.worker._options import WorkerOptions
from perdure_runtime.log import LogError, NewRecord, Producer, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import is_activity_task, partition_of, queue_partitions
from perdure_schemas.records import HeldTask, WorkerHeartbeat, WorkerStopped

_logger = logging.getLogger("perdure.worker")


class Registration:
    """Tells matching that the worker lives, and what it holds.

    Args:
        worker_id: The worker.
        options: Its options.
        connection: Knows the topics.
        producer: Takes the heartbeats.
        inbox: Knows the tasks held.
    """

    def __init__(
        self, worker_id: str, options: WorkerOptions, connection: Connection, producer: Producer, inbox: Inbox
    ) -> None:
        self._worker_id = worker_id
        self._options = options
        self._version = options.routed_version
        self._producer = producer
        self._inbox = inbox
        self._now_ms = connection.now_ms
        names = connection.names
        self.inbox_partition = TopicPartition(names.work(options.task_queue), partition_of(worker_id, names.partitions))
        self._workers = names.workers
        #: Where the task queue is matched.
        self.partitions = queue_partitions(options.task_queue, names.partitions)
        self.draining = False
        #: As they were said last: of workflow tasks, and of activities.
        self._slots_said = (0, 0)

    def slots(self) -> dict[str, tuple[int, int]]:
        """By kind, for metrics: how many slots there are, and how many are used. May be called from any thread."""
        workflow_tasks, activities = _counts(self._inbox.held())
        workflow_slots, activity_slots = self._slots_said
        return {
            "WorkflowWorker": (workflow_slots, workflow_tasks),
            "ActivityWorker": (activity_slots, activities),
        }

    def heartbeat(self, *, probed: bool = False) -> None:
        """Say that the worker lives. A log that is away makes no error here: the next heartbeat follows.

        Args:
            probed: It is the answer to a new matching owner, which must also know what was finished just now.
        """
        # Read before what is held: a task that comes in between must not look as if it was here and done.
        last = [self._inbox.last_dispatch(partition) for partition in self.partitions]
        held = self._inbox.held()
        workflow_tasks, activities = _counts(held)
        tuner, options = self._options.tuner, self._options
        self._slots_said = (
            tuner.workflow.slots(workflow_tasks) if options.workflows else 0,
            tuner.activity.slots(activities) if options.has_activities else 0,
        )
        count = len(self.partitions)
        self._append(
            WorkerHeartbeat(
                worker_id=self._worker_id,
                task_queue=options.task_queue,
                identity=options.identity,
                inbox_partition=self.inbox_partition.partition,
                workflow_slots=share(self._slots_said[0], count, part),
                activity_slots=share(self._slots_said[1], count, part),
                held=held.get(partition, []),
                last_dispatch_epoch=last[part].epoch,
                last_dispatch_number=last[part].number,
                finished=self._inbox.finished(partition) if probed else [],
                time_ms=self._now_ms(),
                draining=self.draining,
                queue_activities_per_second=options.queue_activities_per_second / count,
                activities_per_second=options.activities_per_second / count,
                deployment_name=self._version[0],
                build_id=self._version[1],
            )
            for part, partition in enumerate(self.partitions)
        )

    def stopped(self) -> None:
        """Say that the worker is gone."""
        last = [self._inbox.last_dispatch(partition) for partition in self.partitions]
        self._append(
            WorkerStopped(
                worker_id=self._worker_id,
                task_queue=self._options.task_queue,
                time_ms=self._now_ms(),
                last_dispatch_epoch=seen.epoch,
                last_dispatch_number=seen.number,
                deployment_name=self._version[0],
                build_id=self._version[1],
            )
            for seen in last
        )

    def _append(self, messages: Iterable[WorkerHeartbeat | WorkerStopped]) -> None:
        """Tell each partition of the task queue, in their order."""
        key = self._worker_id.encode()
        records = [
            NewRecord(self._workers, partition, key, codec.encode(message))
            for partition, message in zip(self.partitions, messages, strict=True)
        ]
        try:
            self._producer.append(records)
        except LogError as error:
            _logger.warning("event=heartbeat_unsent worker=%s reason=%r", self._worker_id, str(error))


def share(slots: int, count: int, part: int) -> int:
    """How many of its slots a worker offers in one of the partitions of its task queue.

    A fair part, but not none, since tasks may wait there; what is given beyond all its slots waits at the worker.
    """
    return min(slots, max(1, slots // count + (part < slots % count)))


def _counts(held: Mapping[int, Sequence[HeldTask]]) -> tuple[int, int]:
    """How many workflow tasks and queries are held, and how many activities."""
    ids = [one.task_id for of_partition in held.values() for one in of_partition]
    activities = sum(map(is_activity_task, ids))
    return len(ids) - activities, activities
