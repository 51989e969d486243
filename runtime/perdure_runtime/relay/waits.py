"""Records of users' topics that workflows wait for: found, and sent to the workflow as a command.

Which waits are open stands in ``executions``: the summary of a run lists its own. Its partitions are shared among the
relays; who gets one reads it from where the oldest open wait stands, which its predecessor has committed, and looks for
records when it has come to its end. Invariants: what is committed is a place from which somebody else comes to the same
waits; a record counts for a wait if its timestamp is not before the wait's beginning, or if it was appended after the
wait was noticed; so nothing written between is missed, and a relay that begins again finds the same. What is sent twice
counts once: a wait ends with its first record. Called by :mod:`perdure_runtime.relay.service`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass

from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import Ack, LogRecord, NewRecord, TopicPartition
from perdure_runtime.newer import refuse_newer
from perdure_runtime.relay.carrier import CarryingLog, Position
from perdure_runtime.relay.conditions import Condition
from perdure_schemas import codec
from perdure_schemas.keys import WAITS_HEADERS, is_mark, partition_of
from perdure_schemas.limits import PAYLOAD_BYTES_MAX
from perdure_schemas.records import Command, DeliverRecord, ExecutionSummary, RecordWait
from perdure_schemas.topics import TopicNames

__all__ = ["WAITS", "Waits"]

_logger = logging.getLogger("perdure.relay")

#: The last part of the group's name.
WAITS = "record-waits"
_FLAG = WAITS_HEADERS[0]
_RECORDS_PER_POLL_MAX = 2_000
_IDLE_S = 0.5
_LINGER_S = 0.01
#: How often it is kept where a successor has to begin.
_ADVANCE_S = 5.0
#: How often a topic is looked for that does not exist.
_MISSING_S = 1.0


@dataclass(slots=True, eq=False)
class _Open:
    """A wait that is open. ``noticed``: where the topic ended when it was noticed, by partition; ``None``: not yet."""

    workflow_id: str
    run_id: str
    wait: RecordWait
    condition: Condition
    noticed: dict[int, int] | None = None
    sent: bool = False

    def takes(self, record: LogRecord) -> bool:
        """Whether this is the record."""
        if self.sent or self.noticed is None or (self.wait.key is not None and record.key != self.wait.key):
            return False
        is_new = record.offset >= self.noticed.get(record.partition, 0)
        return (is_new or record.timestamp_ms >= self.wait.since_ms) and self.condition.holds(record.value)


@dataclass(slots=True)
class Run:
    """A run with open waits: where its newest summary stands, behind a mark of which epoch."""

    position: Position
    waits: dict[str, _Open]


class OwnedPartition:
    """A partition of ``executions`` that is ours.

    Args:
        number: Its number.
        start: Where reading begins.
        end: It is read in full from there on.
    """

    def __init__(self, number: int, start: Position, end: int) -> None:
        self._source = f"history/{number}"
        self.end = end
        self.fence = Fence()
        if start.epoch >= 0:
            self.fence.mark(self._source, start.epoch)
        self.runs: dict[str, Run] = {}
        self.kept = start

    def at(self, offset: int) -> Position:
        """A place of which everything before is taken in."""
        return Position(offset, self.fence.newest(self._source))

    def position(self, next_offset: int) -> Position:
        """From where somebody else comes to the same waits, if all below ``next_offset`` is taken in."""
        return min((run.position for run in self.runs.values()), default=self.at(next_offset))


class Waits:
    """One life of the service: from joining the group to the first failure."""

    def __init__(self, log: CarryingLog, names: TopicNames, instance: str, opened: ExitStack) -> None:
        self._log = log
        self._names = names
        self._partitions: dict[int, OwnedPartition] = {}
        #: The waits that are looked for, by topic.
        self._topics: dict[str, set[_Open]] = {}
        #: How many partitions of a topic are read.
        self._read: dict[str, int] = {}
        self._sent: list[Ack] = []
        self._looked_s = 0.0
        self.reader = log.reader(WAITS, committed_only=True)
        opened.callback(self.reader.close)
        self._producer = log.producer(WAITS)
        opened.callback(self._producer.close)
        group = f"{names.prefix}.{names.namespace}.{WAITS}"
        self._carrier = log.carrier(group, names.executions, instance, self._on_assigned, self._on_revoked)
        opened.callback(self._carrier.leave)

    def run(self, stopping: threading.Event) -> None:
        """Look for records until told to stop."""
        advanced_s = time.monotonic()
        while not stopping.is_set():
            self._carrier.poll()
            records = self.reader.poll(_RECORDS_PER_POLL_MAX, _IDLE_S)
            found: list[NewRecord] = []
            for record in records:
                if record.topic == self._names.executions:
                    self._fold(record)
                else:
                    found += self._offer(record)
            self._look_for_new()
            self._send(found)
            if records and not found:
                stopping.wait(_LINGER_S)
            now_s = time.monotonic()
            if now_s - advanced_s >= _ADVANCE_S:
                advanced_s = now_s
                self._advance(list(self._partitions))
        self._advance(list(self._partitions))

    # --- which waits are open -------------------------------------------------------------------------------------

    def _fold(self, record: LogRecord) -> None:
        partition = self._partitions.get(record.partition)
        if partition is None:
            return
        try:
            if is_mark(record.key):
                admitted_key(partition.fence, record)
                return
            run_id = (record.key or b"").rpartition(b"@")[0].decode(errors="replace")
            if _FLAG not in record.headers and run_id not in partition.runs:
                return
            if admitted_key(partition.fence, record) is None:
                return
            summary = None if record.value is None else codec.decode_as(record.value, ExecutionSummary)
        except (codec.DecodeError, ValueError) as error:
            refuse_newer(record, error, (self._names.executions,))
            _logger.error(
                "event=skipped topic=%s partition=%d offset=%d reason=%r",
                record.topic, record.partition, record.offset, str(error),
            )  # fmt: skip
            return
        run = partition.runs.pop(run_id, None)
        known = {} if run is None else run.waits
        wanted = {} if summary is None else {wait.wait_id: wait for wait in summary.record_waits}
        for wait_id, one in known.items():
            if wait_id not in wanted:
                self._close(one)
        if summary is not None and wanted:
            waits = {
                wait_id: known.get(wait_id) or _Open(summary.workflow_id, run_id, wait, Condition(wait.where))
                for wait_id, wait in wanted.items()
            }
            partition.runs[run_id] = Run(partition.at(record.offset), waits)

    def _close(self, one: _Open) -> None:
        topic = one.wait.topic
        waits = self._topics.get(topic)
        if waits is None:
            return
        waits.discard(one)
        if not waits:
            del self._topics[topic]
            self.reader.unassign([TopicPartition(topic, number) for number in range(self._read.pop(topic))])

    def _on_assigned(self, partitions: list[int]) -> None:
        found = self._carrier.positions(partitions) if partitions else {}
        starts = {}
        for number in partitions:
            place = TopicPartition(self._names.executions, number)
            low, high = self._log.watermarks(place)
            kept = found.get(number, Position(low, -1))
            start = Position(min(max(kept.offset, low), high), kept.epoch)
            self._partitions[number] = OwnedPartition(number, start, high)
            starts[place] = start.offset
        self.reader.assign(starts)

    def _advance(self, partitions: list[int]) -> None:
        """Keep where a successor has to begin."""
        moved = {}
        for number in partitions:
            partition = self._partitions.get(number)
            if partition is not None:
                position = partition.position(self.reader.position(TopicPartition(self._names.executions, number)))
                if position != partition.kept:
                    moved[number] = partition.kept = position
        if moved:
            self._carrier.advance(moved)

    def _on_revoked(self, partitions: list[int], lost: bool) -> None:
        if not lost:
            self._advance(partitions)
        self.reader.unassign([TopicPartition(self._names.executions, number) for number in partitions])
        for number in partitions:
            partition = self._partitions.pop(number, None)
            for run in () if partition is None else partition.runs.values():
                for one in run.waits.values():
                    self._close(one)

    # --- looking for records --------------------------------------------------------------------------------------

    def _look_for_new(self) -> None:
        new: dict[str, list[_Open]] = {}
        for number, partition in self._partitions.items():
            if partition.end > self.reader.position(TopicPartition(self._names.executions, number)):
                continue  # a later record may say that the wait is over
            for run in partition.runs.values():
                for one in run.waits.values():
                    if one.noticed is None:
                        new.setdefault(one.wait.topic, []).append(one)
        if not new:
            return
        now_s = time.monotonic()
        existing = self._log.describe_topics(list(new))
        if now_s - self._looked_s < _MISSING_S and not existing:
            return
        self._looked_s = now_s
        for topic, begun in new.items():
            if topic in existing:
                self._look(topic, existing[topic].partitions, begun)

    def _look(self, topic: str, count: int, waits: list[_Open]) -> None:
        """Read a topic from where the first of these waits began, or go back to there."""
        since_ms = min(one.wait.since_ms for one in waits)
        noticed, starts = {}, {}
        is_read = topic in self._read
        for number in range(self._read.get(topic, count)):
            place = TopicPartition(topic, number)
            low, high = self._log.watermarks(place)
            noticed[number] = high
            start = min(max(self._log.offset_for_time(place, since_ms), low), high)
            if not is_read or start < self.reader.position(place):
                starts[place] = start
        self._read.setdefault(topic, count)
        self._topics.setdefault(topic, set()).update(waits)
        for one in waits:
            one.noticed = noticed
        self.reader.assign(starts)

    def _offer(self, record: LogRecord) -> list[NewRecord]:
        found = []
        for one in self._topics.get(record.topic, ()):
            if one.takes(record):
                if len(record.value or b"") > PAYLOAD_BYTES_MAX:
                    _logger.error(
                        "workflow=%s event=record_too_large topic=%s partition=%d offset=%d",
                        one.workflow_id, record.topic, record.partition, record.offset,
                    )  # fmt: skip
                    continue
                one.sent = True
                found.append(self._command(one, record))
        return found

    def _command(self, one: _Open, record: LogRecord) -> NewRecord:
        body = DeliverRecord(
            wait_id=one.wait.wait_id,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            key=record.key,
            value=record.value,
            headers=dict(record.headers),
        )
        what = f"{record.topic}/{record.partition}/{record.offset}"
        command = Command(
            command_id=f"{one.run_id}/wait/{one.wait.wait_id}/{what}",
            workflow_id=one.workflow_id,
            run_id=one.run_id,
            identity="relay",
            body=body,
        )
        number = partition_of(one.workflow_id, self._names.partitions)
        return NewRecord(self._names.commands, number, one.workflow_id.encode(), codec.encode(command))

    def _send(self, records: list[NewRecord]) -> None:
        if records:
            self._sent.append(self._producer.append(records))
        left = []
        for acknowledgement in self._sent:
            error = acknowledgement.error()
            if error is not None:
                raise error
            if not acknowledgement.done():
                left.append(acknowledgement)
        self._sent = left
