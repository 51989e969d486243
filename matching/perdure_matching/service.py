"""Matching as the processor shell runs it: records in, records out, around the pure core.

Invariants: no decision is made here; every record that is sent follows from an output of the core; positions move on
even when a record cannot be processed, so a poisoned record is met once (I5); an owner that reads the mark of a later
one sends nothing any more. Called by :mod:`perdure_runtime.processor`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from perdure_matching.checkpoint import Bodies, Positions, load_state, save_state
from perdure_matching.core.deadlines import advance
from perdure_matching.core.flowing import forget_config, take_config
from perdure_matching.core.model import Assign, MatchingConfig, Output, Phase, Register, Report, WorkerState
from perdure_matching.core.placing import detach, eager_activities_max, free_slot
from perdure_matching.core.routing import forget_version, note_version, routing_known, take_routing
from perdure_matching.core.tasks import confirm, drop_unconfirmed, foresee, remove, upsert
from perdure_matching.core.workers import begin, heard, stopped
from perdure_matching.monitoring import queue_samples
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.handler import Outbox, PartitionStore
from perdure_runtime.log import LogRecord, NewRecord, TopicPartition
from perdure_runtime.metrics import DISPATCH_LATENCY, PROCESS, Sample
from perdure_runtime.outgoing import UndeliverableError
from perdure_schemas import codec, keys, limits
from perdure_schemas.records import (
    Command,
    DeploymentRouting,
    DeploymentVersionSeen,
    Dispatch,
    DispatchBody,
    OwnerMark,
    RunTask,
    TaskQueueConfig,
    TaskRecord,
    WorkerHeartbeat,
    WorkerStopped,
)
from perdure_schemas.topics import RECORD_BYTES_MAX, TopicNames

__all__ = ["MatchingConfig", "MatchingPartition", "MatchingRole"]

_logger = logging.getLogger("perdure.matching")

_KINDS = frozenset(("workflow", "query", "activity"))
#: A dispatch holds a task and the worker's id. History keeps its records below this, too.
_TASK_BYTES_MAX = RECORD_BYTES_MAX - 16 * 1024


def _check_names(value: WorkerHeartbeat | WorkerStopped) -> None:
    for name, what in ((value.worker_id, "worker id"), (value.task_queue, "task queue")):
        if not name or len(name) > limits.NAME_CHARS_MAX:
            raise ValueError(
                f"the {what} {name[:40]!r} of a worker has {len(name)} characters; 1 to {limits.NAME_CHARS_MAX} are"
                " allowed"
            )
    fault = keys.version_fault(value.deployment_name, value.build_id)
    if fault:
        raise ValueError(f"worker {value.worker_id}: {fault}")


class MatchingRole:
    """The role that leads tasks to workers; see :class:`perdure_runtime.handler.Role`.

    Parameters:
        names: the namespace's topics.
        config: times and bounds.
        clock: the wall clock in milliseconds; a simulation passes its own, the same as the shell's.
    """

    name = "matching"
    store_version = 1

    def __init__(
        self, names: TopicNames, config: MatchingConfig | None = None, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.names = names
        self.config = config or MatchingConfig()
        self.clock = clock
        self.owned_topic = names.tasks
        self.restored_topic = names.tasks
        self.live_topics: Sequence[str] = (names.deployments, names.tasks, names.workers)

    def marks(self, partition: int) -> Sequence[TopicPartition]:
        """Dispatches carry their epoch, and commands are idempotent; but where our mark stands among the deployments,
        all that was decided on them before is read."""
        return (TopicPartition(self.names.deployments, partition),)

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> MatchingPartition:
        """A handler for a partition that is about to be restored."""
        return MatchingPartition(self, partition, store)


class MatchingPartition:
    """One partition of ``tasks`` and ``workers``; see :class:`perdure_runtime.handler.PartitionHandler`."""

    def __init__(self, role: MatchingRole, partition: int, store: PartitionStore) -> None:
        self._names = role.names
        self._clock = role.clock
        self._config = role.config
        self._partition = partition
        self._store = store
        self._bodies = Bodies(store, role.config.task_bodies_bytes_max)
        self.state, stored, self._fence = load_state(store, role.config, role.clock())
        self._restored = stored is not None
        self._positions = stored or Positions()
        self._own_source = f"{role.name}/{partition}"
        self._work_topics: dict[str, str] = {}
        #: What history announced and the log has not shown yet, by task.
        self._announced: dict[str, bytes] = {}
        self.deposed = False
        self._taken_over_ms = 0
        #: Workers whose clock differs so much that their heartbeats are useless; each is logged once.
        self._skewed: set[bytes | None] = set()

    # --- restoring --------------------------------------------------------------------------------------------------

    def restore_offset(self) -> int | None:
        """Behind what the last checkpoint holds."""
        return self._positions.tasks if self._restored else None

    def fold(self, record: LogRecord) -> None:
        """Take in a task record without dispatching anything."""
        self._take_task(record)

    def fold_committed(self, committed: int) -> None:
        """Nothing to do: a takeover asks the workers, whatever was committed."""

    def fold_checkpoint(self, complete_ms: int) -> int | None:
        """Stage what was folded. It may be written at once: tasks stay until history says that they are over."""
        self._stage(max(complete_ms, self._positions.saved_ms))
        return None

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> Mapping[str, int]:
        """Ask the known workers what they hold; tasks that nobody holds are dispatched when they have answered."""
        self._fence.mark(self._own_source, epoch)
        self._positions.mark = max(self._positions.mark, epoch)
        self._positions.tasks = max(self._positions.tasks, epoch + 1)
        self._taken_over_ms = now_ms
        self.state.routed = False
        begin(self.state, epoch, now_ms)
        self._send(now_ms, outbox)
        return {
            self._names.deployments: 0,
            self._names.tasks: epoch + 1,
            self._names.workers: self._positions.workers,
        }

    # --- live -------------------------------------------------------------------------------------------------------

    def handle(self, record: LogRecord, outbox: Outbox) -> None:
        """Process a record of ``tasks``, ``workers`` or ``deployments``.

        Raises:
            DecodeError: the bytes are no record of the platform.
            ValueError: the record makes no sense here; the message says why.
        """
        if record.topic == self._names.workers:
            self._take_worker(record)
            if self._announced:
                self._drop_unconfirmed()
        elif record.topic == self._names.deployments:
            self._take_deployment(record)
        else:
            self._take_task(record)
        self._send(self._clock(), outbox)

    def foresee(self, record: NewRecord, outbox: Outbox) -> None:
        """See :class:`perdure_runtime.handler.Foreseeing`: a task goes out one way through the log sooner.

        What history decided follows from a durable command, so whoever decides it again makes the same task; and it is
        not kept before the log shows it, so a hint that was void leaves nothing behind.
        """
        if self.deposed or record.key is None or record.value is None or len(record.value) > _TASK_BYTES_MAX:
            return
        try:
            key = keys.parse_fenced_key(record.key)
            value = codec.decode_as(record.value, TaskRecord)
        except (ValueError, codec.DecodeError):
            return  # what is wrong with it is said when it is read
        if value.task_id != key.id or value.kind not in _KINDS or not self._bodies.has_room(value.body):
            return
        if not self._fence.admits(f"history/{key.source_partition}", key.epoch):
            return
        now_ms = self._clock()
        task = foresee(self.state, value, self._positions.tasks, now_ms)
        if task is not None:
            self._bodies.add(task, value.body)
            self._announced[task.task_id] = record.value
            self._send(now_ms, outbox)

    def _drop_unconfirmed(self) -> None:
        for task in drop_unconfirmed(self.state, self._clock()):
            _logger.warning("event=unconfirmed task=%s: not in the log", task.task_id)
            del self._announced[task.task_id]
            self._bodies.remove(task)

    def quarantine(self, record: LogRecord, reason: str, outbox: Outbox) -> None:
        """A record that says nothing readable changes nothing; the shell keeps it as a dead letter."""
        _logger.warning(
            "skipped %s[%d]@%d key=%r: %s", record.topic, record.partition, record.offset, record.key, reason
        )

    def tick(self, now_ms: int, outbox: Outbox) -> None:
        """Do what is due by the clock."""
        if not self.deposed:
            advance(self.state, now_ms)
            self._send(now_ms, outbox)

    def next_wakeup_ms(self) -> int | None:
        """When something is due next, exactly."""
        return None if self.deposed else self.state.wakeups.next_due_ms()

    def samples(self) -> list[Sample]:
        """See :class:`perdure_runtime.handler.Measured`."""
        return queue_samples(self.state, self._names, self._partition, self._clock())

    def checkpoint(self) -> int | None:
        """Stage what changed; returns the offset of ``tasks`` to commit."""
        if self.deposed:
            return None
        return self._stage(self._clock())

    def _stage(self, saved_ms: int) -> int:
        self._positions.saved_ms = saved_ms
        return save_state(self.state, self._bodies, self._store, self._positions, self._fence, self._clock())

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _take_task(self, record: LogRecord) -> None:
        self._positions.tasks = record.offset + 1
        if keys.is_mark(record.key):
            self._take_mark(record)
            return
        if record.key is None:
            raise ValueError("a task record has no key; only history writes to this topic")
        key = keys.parse_fenced_key(record.key)
        if not self._fence.admits(f"history/{key.source_partition}", key.epoch):
            return
        if record.value is None:
            self._announced.pop(key.id, None)
            interrupted = record.headers == keys.INTERRUPTED_HEADERS
            task = remove(self.state, key.id, self._clock(), interrupted=interrupted)
            if task is not None:
                self._bodies.remove(task)
            return
        if self._announced and self._announced.pop(key.id, None) == record.value:
            confirm(self.state, self.state.foreseen[key.id], record.offset)
            return
        if len(record.value) > _TASK_BYTES_MAX:
            raise ValueError(f"the task record has {len(record.value)} bytes; {_TASK_BYTES_MAX} fit into a dispatch")
        value = codec.decode_as(record.value, TaskRecord)
        if value.task_id != key.id:
            raise ValueError(f"the task record has the key {key.id!r} and the task id {value.task_id!r}")
        if value.kind not in _KINDS:
            raise ValueError(f"task {value.task_id} is of kind {value.kind!r}; known are {', '.join(sorted(_KINDS))}")
        task = upsert(self.state, value, record.offset, self._clock())
        if task is not None:
            self._bodies.add(task, value.body)

    def _take_mark(self, record: LogRecord) -> None:
        mark = codec.decode_as(record.value, OwnerMark)
        epoch = mark.epoch if mark.epoch >= 0 else record.offset
        self._fence.mark(mark.source, epoch)
        self._positions.mark = record.offset
        if mark.source == self._own_source and self.state.live and epoch > self.state.epoch:
            self.deposed = True
            _logger.info("partition %d of %s was taken over by %s", self._partition, self._names.tasks, mark.owner)

    # --- workers ----------------------------------------------------------------------------------------------------

    def _take_worker(self, record: LogRecord) -> None:
        self._positions.workers = record.offset + 1
        now_ms = self._clock()
        age_ms = now_ms - record.timestamp_ms
        if age_ms > self._config.heartbeat_age_ms_max:
            # Before decoding: a new owner without a checkpoint skips an hour of these.
            self._note_skew(record, age_ms)
            return
        value = codec.decode(record.value)
        if isinstance(value, (WorkerHeartbeat, WorkerStopped)):
            _check_names(value)
        if isinstance(value, WorkerHeartbeat):
            if not 0 <= value.inbox_partition < self._names.partitions:
                raise ValueError(
                    f"worker {value.worker_id} names inbox partition {value.inbox_partition}, but the namespace has"
                    f" {self._names.partitions}: it was started against another topic layout, restart it"
                )
            heard(self.state, value, age_ms, now_ms)
        elif isinstance(value, WorkerStopped):
            stopped(self.state, value, now_ms)
        else:
            raise ValueError(f"a {type(value).__name__} stands in {record.topic}, where only workers write")

    def _note_skew(self, record: LogRecord, age_ms: int) -> None:
        if record.timestamp_ms > self._taken_over_ms and record.key not in self._skewed and len(self._skewed) < 1_000:
            self._skewed.add(record.key)
            _logger.warning(
                "heartbeats of worker %r are %d s old when they arrive: is its clock behind?",
                record.key,
                age_ms // 1000,
            )

    # --- deployments ------------------------------------------------------------------------------------------------

    def _take_deployment(self, record: LogRecord) -> None:
        now_ms = self._clock()
        if keys.is_mark(record.key):
            mark = codec.decode_as(record.value, OwnerMark)
            if mark.source == self._own_source and mark.epoch == self.state.epoch:
                routing_known(self.state, now_ms)
            return
        if record.value is None:
            if record.key is None:
                return
            seen, queue = keys.parse_version_seen_key(record.key), keys.parse_queue_config_key(record.key)
            if seen is not None:
                forget_version(self.state, *seen, now_ms)
            elif queue is not None:
                forget_config(self.state, *queue, now_ms)
            return
        value = codec.decode(record.value)
        if isinstance(value, DeploymentRouting):
            revision = record.offset if value.revision < 0 else value.revision
            take_routing(self.state, value, revision, now_ms)
        elif isinstance(value, DeploymentVersionSeen):
            version = keys.version_name(value.deployment_name, value.build_id)
            note_version(self.state, version, value.task_queue, now_ms)
        elif isinstance(value, TaskQueueConfig):
            take_config(self.state, value, now_ms)
        else:
            raise ValueError(f"a {type(value).__name__} stands in {record.topic}")

    def _seen(self, seen: DeploymentVersionSeen, now_ms: int) -> NewRecord:
        version = keys.version_name(seen.deployment_name, seen.build_id)
        key = keys.version_seen_key(version, seen.task_queue)
        return NewRecord(self._names.deployments, self._partition, key, codec.encode(seen), now_ms)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send(self, now_ms: int, outbox: Outbox) -> None:
        # A task that cannot be sent frees a slot, and the task that takes it is one more output.
        while outputs := self.state.take_outputs():
            if self.deposed:
                return
            for output in outputs:
                try:
                    self._send_one(output, now_ms, outbox)
                except UndeliverableError as error:
                    # It must not take the other outputs with it, nor the partition (I5).
                    _logger.error("event=undeliverable partition=%d reason=%r", self._partition, str(error))
                    if isinstance(output, Assign):
                        self._park(output, now_ms)

    def _send_one(self, output: Output, now_ms: int, outbox: Outbox) -> None:
        if isinstance(output, Assign):
            self._dispatch(output, now_ms, outbox)
        elif isinstance(output, Report):
            outbox.send(self._command(output.command, now_ms))
        elif isinstance(output, Register):
            outbox.send(self._seen(output.seen, now_ms))
        else:
            outbox.send(self._message(output.worker, output.dispatch_number, output.body, now_ms))

    def _park(self, output: Assign, now_ms: int) -> None:
        """Nobody gets this task; its slot goes to the next one."""
        task = output.task
        worker = detach(self.state, task)
        task.phase = Phase.PARKED
        if worker is not None:
            free_slot(self.state, worker, task, now_ms)

    def _dispatch(self, output: Assign, now_ms: int, outbox: Outbox) -> None:
        task = output.task
        body = self._bodies.get(task)
        if body is None:
            _logger.error("the state store has lost the body of task %s; delete the state folder", task.task_id)
            self._park(output, now_ms)
            return
        PROCESS.observe(
            DISPATCH_LATENCY, (self._names.namespace, task.task_queue, task.kind), (now_ms - task.arrived_ms) / 1000
        )
        run = RunTask(
            task_id=task.task_id,
            kind=task.kind,
            workflow_id=task.workflow_id,
            run_id=task.run_id,
            task=body,
            eager_activities_max=eager_activities_max(output.worker) if task.kind == "workflow" else 0,
        )
        outbox.send(self._message(output.worker, output.dispatch_number, run, now_ms))

    def _message(self, worker: WorkerState, number: int, body: DispatchBody, now_ms: int) -> NewRecord:
        queue = worker.queue.name
        topic = self._work_topics.get(queue)
        if topic is None:
            topic = self._work_topics[queue] = self._names.work(queue)
        dispatch = Dispatch(
            worker_id=worker.worker_id,
            source_partition=self._partition,
            epoch=self.state.epoch,
            dispatch_number=number,
            time_ms=now_ms,
            body=body,
        )
        return NewRecord(topic, worker.inbox_partition, worker.worker_id.encode(), codec.encode(dispatch), now_ms)

    def _command(self, command: Command, now_ms: int) -> NewRecord:
        partition = keys.partition_of(command.workflow_id, self._names.partitions)
        return NewRecord(self._names.commands, partition, command.workflow_id.encode(), codec.encode(command), now_ms)
