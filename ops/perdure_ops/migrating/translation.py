"""What a record becomes in a topic set with another partition count. Pure; called by ``copying``.

Invariants: the order of everything that concerns one workflow id stays; the decisions of a partition are numbered anew
from 0, as if the commands there had been decided one after the other, so each is decided once (I2); all of it stands
under the epoch of one owner mark at the beginning of each partition of ``history``, so whoever takes over writes its
tombstones under that epoch, too (I1). The same records in the same order always give the same result.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    Command,
    DeploymentRouting,
    DeploymentVersionSeen,
    Event,
    ExecutionSummary,
    HistoryRecord,
    OwnerMark,
    TaskQueueConfig,
    TaskRecord,
    TimerRecord,
    WorkflowQuarantined,
)
from perdure_schemas.topics import TopicNames

__all__ = ["MIGRATED_HEADER", "OWNER", "Part", "Translation"]

#: On a command that was not decided yet: ``<topic>/<partition>/<offset>`` of where it came from.
MIGRATED_HEADER = "perdure-migrated-from"
#: Who the marks name.
OWNER = "migrate-partitions"
#: The offset of the mark in each partition of ``history``, which is written first.
_EPOCH = 0
_PADDING_KEY = b"~migrated"


class Part(NamedTuple):
    """A history record of a decision; ``removed``: retention has removed its run."""

    record: LogRecord
    removed: bool


class Translation:
    """Translates the records of one namespace, those of ``history`` before all others.

    Args:
        target: the new topic set.
        time_ms: when the copy was begun: the time of what it adds.
        emitted_below: the offset of each old partition of ``history`` below which all emitted records are written.
    """

    def __init__(self, target: TopicNames, time_ms: int, emitted_below: Sequence[int]) -> None:
        self._target = target
        self._partitions = target.partitions
        self._time_ms = time_ms
        self._emitted_below = emitted_below
        #: How many decisions each new partition holds.
        self.decisions = [0] * target.partitions
        self._newest_of_run: dict[str, int] = {}

    # --- marks ----------------------------------------------------------------------------------------------------

    def history_mark(self, partition: int, headers: tuple[tuple[str, bytes], ...] = ()) -> NewRecord:
        """The first record of a partition of ``history``; its offset is the epoch of all that is carried over."""
        return self._mark(self._target.history, partition, partition, -1, headers)

    def marks(self, topic: str) -> Iterator[NewRecord]:
        """The marks in another topic: in each partition of ``tasks`` one for each source, else one of its own."""
        for partition in range(self._partitions):
            for source in range(self._partitions) if topic == self._target.tasks else (partition,):
                yield self._mark(topic, partition, source, _EPOCH)

    def _mark(
        self, topic: str, partition: int, source: int, epoch: int, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> NewRecord:
        name = f"history/{source}"
        mark = OwnerMark(source=name, epoch=epoch, owner=OWNER, time_ms=self._time_ms)
        return NewRecord(topic, partition, keys.mark_key(name, OWNER), codec.encode(mark), self._time_ms, headers)

    # --- history --------------------------------------------------------------------------------------------------

    def decision(self, parts: Sequence[Part]) -> Iterator[NewRecord]:
        """The records of one decision, and a tombstone for each run that is there for its sake only."""
        by_partition: dict[int, list[tuple[Part, HistoryRecord]]] = {}
        for part in parts:
            value = codec.decode_as(part.record.value, HistoryRecord)
            by_partition.setdefault(self._partition_of(value.workflow_id), []).append((part, value))
        for partition, group in by_partition.items():
            number = self.decisions[partition]
            self.decisions[partition] += 1
            for index, (part, value) in enumerate(group, 1):
                self._newest_of_run[value.run_id] = number
                new = replace(
                    value,
                    command_offset=number,
                    epoch=_EPOCH,
                    since_epoch=-1,
                    part=index,
                    parts=len(group),
                    events=[_renumbered(event, value.command_offset, number) for event in value.events],
                )
                yield self._fenced(self._target.history, partition, part.record, codec.encode(new), partition)
            for part, value in group:
                if part.removed:
                    key = keys.fenced_key(keys.history_id(value.run_id, 1), partition, _EPOCH)
                    yield NewRecord(self._target.history, partition, key, None, _time_ms(part.record))

    def _fenced(self, topic: str, partition: int, record: LogRecord, value: bytes, source: int) -> NewRecord:
        key = keys.fenced_key(keys.parse_fenced_key(record.key or b"").id, source, _EPOCH)
        headers = record.headers
        if topic == self._target.history and record.offset < self._emitted_below[record.partition]:
            # The relay decodes only what has this header: what it has written is not written again.
            headers = tuple(header for header in headers if header not in keys.EMITS_HEADERS)
        return NewRecord(topic, partition, key, value, _time_ms(record), headers)

    # --- what follows from history ----------------------------------------------------------------------------------

    def task(self, record: LogRecord) -> NewRecord:
        """A task, which is sent to its queue's partition, in the name of its workflow's."""
        value = codec.decode_as(record.value, TaskRecord)
        assert record.value is not None
        partition = keys.queue_partition(value.task_queue, value.workflow_id, self._partitions)
        return self._fenced(self._target.tasks, partition, record, record.value, self._partition_of(value.workflow_id))

    def timer(self, record: LogRecord) -> NewRecord:
        """A run's armed wake-up."""
        partition = self._partition_of(codec.decode_as(record.value, TimerRecord).workflow_id)
        assert record.value is not None
        return self._fenced(self._target.timers, partition, record, record.value, partition)

    def summary(self, record: LogRecord) -> NewRecord | None:
        """A run's summary, whose version is the number of its newest decision; ``None`` for a run without history."""
        value = codec.decode_as(record.value, ExecutionSummary)
        version = self._newest_of_run.get(value.run_id)
        if version is None:
            return None
        partition = self._partition_of(value.workflow_id)
        new = codec.encode(replace(value, version=version))
        return self._fenced(self._target.executions, partition, record, new, partition)

    # --- the other topics -------------------------------------------------------------------------------------------

    def deployments(self, records: Iterable[LogRecord]) -> Iterator[NewRecord]:
        """Versions of workers, settings of task queues, and where new work goes.

        Of each routing the newest goes on, with a copy in each partition.
        """
        of_queues: dict[bytes, tuple[str, LogRecord]] = {}
        routings: dict[str, tuple[int, LogRecord, DeploymentRouting]] = {}
        for record in records:
            if record.key is None or keys.is_mark(record.key):
                continue
            if record.value is None:
                of_queues.pop(record.key, None)
                continue
            try:
                value = codec.decode(record.value)
            except codec.DecodeError:
                continue  # the engine passes it over, too
            if isinstance(value, (DeploymentVersionSeen, TaskQueueConfig)):
                of_queues[record.key] = (value.task_queue, record)
            elif isinstance(value, DeploymentRouting):
                revision = record.offset if value.revision < 0 else value.revision
                known = routings.get(value.deployment_name)
                if known is None or known[0] <= revision:
                    routings[value.deployment_name] = (revision, record, value)
        counts = [0] * self._partitions
        for name, (_, record, value) in sorted(routings.items()):
            own = self._partition_of(name)
            revision = counts[own]
            for partition in (own, *(number for number in range(self._partitions) if number != own)):
                counts[partition] += 1
                new = codec.encode(replace(value, revision=-1 if partition == own else revision))
                key = keys.routing_key(name)
                yield NewRecord(self._target.deployments, partition, key, new, _time_ms(record))
        for key, (task_queue, record) in sorted(of_queues.items(), key=lambda item: item[0]):
            time_ms = _time_ms(record)
            for partition in keys.queue_partitions(task_queue, self._partitions):
                yield NewRecord(self._target.deployments, partition, key, record.value, time_ms, record.headers)

    def dead_letter(self, record: LogRecord) -> NewRecord:
        """A dead letter as it is: it names the place where its record stood."""
        partition = record.partition % self._partitions
        return NewRecord(
            self._target.dead_letters, partition, record.key, record.value, _time_ms(record), record.headers
        )

    # --- commands -------------------------------------------------------------------------------------------------

    def padding(self) -> Iterator[NewRecord]:
        """What stands in the place of the commands that were decided: nobody reads it, but it takes their offsets."""
        for partition, count in enumerate(self.decisions):
            for _ in range(count):
                yield NewRecord(self._target.commands, partition, _PADDING_KEY, None, self._time_ms)

    def command(self, record: LogRecord) -> NewRecord:
        """A command that is not decided yet; one that cannot be read stays one, to become a dead letter."""
        try:
            partition = self._partition_of(codec.decode_as(record.value, Command).workflow_id)
        except codec.DecodeError:
            partition = zlib.crc32(record.key or b"") % self._partitions
        headers = tuple(header for header in record.headers if header[0] != MIGRATED_HEADER)
        headers = (*headers, (MIGRATED_HEADER, origin_of(record)))
        return NewRecord(self._target.commands, partition, record.key, record.value, _time_ms(record), headers)

    def _partition_of(self, key: str) -> int:
        return keys.partition_of(key, self._partitions)


def origin_of(record: LogRecord) -> bytes:
    """Where a record stands, as :data:`MIGRATED_HEADER` says it."""
    return f"{record.topic}/{record.partition}/{record.offset}".encode()


def _renumbered(event: Event, before: int, after: int) -> Event:
    attributes = event.attributes
    if isinstance(attributes, WorkflowQuarantined) and attributes.command_offset == before:
        return replace(event, attributes=replace(attributes, command_offset=after))
    return event


def _time_ms(record: LogRecord) -> int:
    # A time of 0 would mean the current one, and a copy that is taken up again would differ.
    return max(record.timestamp_ms, 1)
