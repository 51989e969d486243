"""Reads a namespace's topics, writes the new ones, and reads them again: the shell of ``perdure migrate-partitions``.

Invariants: nothing is written to the old topics; what is written is a fixed sequence for each new partition, so a copy
that was interrupted goes on where each of them ends; ``commands``, without which no engine and no client finds the
namespace, is made last, and the group's offsets come only when everything was read back and compared. Called by
``perdure_ops.migrate_partitions``.
"""

from __future__ import annotations

import threading
import time
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from perdure_ops.audit import AUDITED, Audit
from perdure_ops.audit.reading import TopicScan
from perdure_ops.dead_letters import REPLAY_HEADER
from perdure_ops.errors import CliError
from perdure_ops.migrating.manifest import HEADER, Manifest
from perdure_ops.migrating.survivors import FencedSurvivors, HistorySurvivors
from perdure_ops.migrating.translation import MIGRATED_HEADER, OWNER, Part, Translation, origin_of
from perdure_runtime.log import Ack, Log, LogRecord, NewRecord, TopicPartition
from perdure_schemas.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DEPLOYMENTS,
    EXECUTIONS,
    HISTORY,
    TASKS,
    TIMERS,
    TOPICS,
    TopicNames,
    TopicSpec,
)

__all__ = ["COPIED", "Copy", "Survey", "commit_decided", "copy_late_commands"]

#: In the order in which they are written.
COPIED: tuple[TopicSpec, ...] = (HISTORY, TASKS, TIMERS, EXECUTIONS, DEPLOYMENTS, DEAD_LETTERS, COMMANDS)
_BATCH_RECORDS = 500
_BATCH_BYTES = 1024 * 1024
_BATCHES_OUT_MAX = 8
_TIMEOUT_S = 60.0
_POLL_S = 0.05
_DIFFERENCES_MAX = 5


class Survey:
    """What one reading of the old topics has shown.

    Attributes:
        audit: has taken in all of it.
        histories: what counts in each partition of ``history``.
        replayed: the dead letters whose records were put back.
    """

    def __init__(self, log: Log, names: TopicNames) -> None:
        partitions = range(names.partitions)
        self.audit = Audit(names)
        self.histories = {number: HistorySurvivors(number) for number in partitions}
        self.replayed: set[bytes] = set()
        fenced = {names.of(spec): {number: FencedSurvivors() for number in partitions} for spec in _FENCED}
        for record in _read(log, names, AUDITED):
            self.audit.take(record)
            if record.topic == names.history:
                self.histories[record.partition].take(record)
            elif record.topic in fenced:
                fenced[record.topic][record.partition].take(record)
            self.replayed.update(value for name, value in record.headers if name == REPLAY_HEADER)
        #: The offsets of the records that are carried over, by the topic's own name and partition.
        self.kept = {
            spec.name: {number: survivors.kept() for number, survivors in fenced[names.of(spec)].items()}
            for spec in _FENCED
        }

    def count(self, spec: TopicSpec) -> int:
        """How many records of such a topic are carried over."""
        return sum(map(len, self.kept[spec.name].values()))


_FENCED = (TASKS, TIMERS, EXECUTIONS)


class Copy:
    """One copy, from its manifest.

    Args:
        log: where both topic sets are.
        source / target: the old namespace and the new one.
        manifest: what the copy was begun from.
        survey: what is there now; the manifest says that it was the same then.
    """

    def __init__(self, log: Log, source: TopicNames, target: TopicNames, manifest: Manifest, survey: Survey) -> None:
        self._log = log
        self._source = source
        self._target = target
        self._manifest = manifest
        self._survey = survey
        self._translation = Translation(target, manifest.time_ms, manifest.emitted_below)
        self._sums: dict[TopicPartition, array[int]] = {}

    @property
    def decisions(self) -> list[int]:
        """How many decisions each new partition holds, once all is written."""
        return self._translation.decisions

    def write(self, replication: int) -> int:
        """Write what is missing; returns how many records that was.

        Raises:
            LogError: the log does not take it. CliError: it does not answer.
        """
        early = {self._target.of(spec): spec for spec in TOPICS if spec is not COMMANDS}
        self._log.create_topics(early, self._target.partitions, replication)
        writer = _Writer(self._log, self._ends([spec for spec in COPIED if spec is not COMMANDS]), self._sums)
        try:
            writer.write(self._translation.history_mark(0, ((HEADER, self._manifest.encode()),)))
            writer.settle()
            for record in self._before_commands():
                writer.write(record)
            writer.settle()
            self._log.create_topics({self._target.commands: COMMANDS}, self._target.partitions, replication)
            writer.existing.update(self._ends([COMMANDS]))
            for record in self._commands():
                writer.write(record)
            writer.settle()
        finally:
            writer.close()
        return writer.written

    def _ends(self, specs: Iterable[TopicSpec]) -> dict[TopicPartition, int]:
        return {place: self._log.watermarks(place)[1] for place in _places(self._target, specs)}

    def _before_commands(self) -> Iterator[NewRecord]:
        translation = self._translation
        for number in range(1, self._target.partitions):
            yield translation.history_mark(number)
        yield from self._history()
        yield from translation.marks(self._target.tasks)
        for record in self._kept(TASKS):
            yield translation.task(record)
        yield from translation.marks(self._target.timers)
        for record in self._kept(TIMERS):
            yield translation.timer(record)
        yield from translation.marks(self._target.executions)
        for record in self._kept(EXECUTIONS):
            summary = translation.summary(record)
            if summary is not None:
                yield summary
        yield from translation.deployments(self._old(DEPLOYMENTS))
        for record in self._old(DEAD_LETTERS):
            if record.key not in self._survey.replayed:
                yield translation.dead_letter(record)

    def _history(self) -> Iterator[NewRecord]:
        for number, survivors in self._survey.histories.items():
            kept = survivors.kept()
            parts: list[Part] = []
            for record in _read(self._log, self._source, [HISTORY], number):
                found = kept.get(record.offset)
                if found is None:
                    continue
                parts.append(Part(record, found.removed))
                if record.offset == found.last:
                    yield from self._translation.decision(parts)
                    parts = []

    def _kept(self, spec: TopicSpec) -> Iterator[LogRecord]:
        for number, offsets in self._survey.kept[spec.name].items():
            if offsets:
                for record in _read(self._log, self._source, [spec], number):
                    if record.offset in offsets:
                        yield record

    def _old(self, spec: TopicSpec) -> Iterator[LogRecord]:
        for number in range(self._source.partitions):
            yield from _read(self._log, self._source, [spec], number)

    def _commands(self) -> Iterator[NewRecord]:
        yield from self._translation.padding()
        manifest = self._manifest
        for record in _commands_between(self._log, self._source, manifest.decided_below, manifest.commands_to):
            yield self._translation.command(record)

    def verify(self) -> tuple[Audit, list[str]]:
        """Read the new topics, compare them with what was to be written, and audit them; returns what differs.

        Compaction may have dropped what a tombstone ends already; all else has to be there.
        """
        check = Audit(self._target)
        differences = [
            f"{place.topic}[{place.partition}] ends at {end}, not at {len(self._sums.get(place, ()))}"
            for place, end in self._ends(COPIED).items()
            if end != len(self._sums.get(place, ()))
        ]
        for record in _read(self._log, self._target, COPIED):
            check.take(record)
            sums = self._sums.get(TopicPartition(record.topic, record.partition))
            if sums is None or record.offset >= len(sums) or sums[record.offset] != _checksum(record):
                differences.append(f"{record.topic}[{record.partition}]@{record.offset} is another record")
        return check, differences[:_DIFFERENCES_MAX]


def copy_late_commands(log: Log, source: TopicNames, target: TopicNames, manifest: Manifest) -> int:
    """Carry over commands that came into the old topics behind the copy, each once; returns how many there were.

    An engine may be at work on the new topics already: this is what a client does that sends them.
    """
    ends = [log.watermarks(place)[1] for place in _places(source, [COMMANDS])]
    if ends == manifest.commands_to:
        return 0
    seen = {
        value for record in _read(log, target, [COMMANDS]) for name, value in record.headers if name == MIGRATED_HEADER
    }
    translation = Translation(target, manifest.time_ms, manifest.emitted_below)
    writer = _Writer(log, {}, {})
    try:
        for record in _commands_between(log, source, manifest.commands_to, ends):
            if origin_of(record) not in seen:
                writer.write(translation.command(record))
        writer.settle()
    finally:
        writer.close()
    return writer.written


def commit_decided(log: Log, names: TopicNames, decided: list[int]) -> None:
    """Tell the group of history that these commands are decided, by partition.

    Raises:
        LogError: the group does not take it. CliError: it does not answer.
    """
    assigned: set[int] = set()

    def on_revoked(partitions: list[int], lost: bool) -> None:
        assigned.difference_update(partitions)

    group = f"{names.prefix}.{names.namespace}.history"
    member = log.join(group, names.commands, OWNER, assigned.update, on_revoked)
    pause = threading.Event()
    deadline_s = time.monotonic() + _TIMEOUT_S
    try:
        while len(assigned) < names.partitions and time.monotonic() < deadline_s:
            member.poll()
            pause.wait(_POLL_S)
        if len(assigned) < names.partitions:
            raise CliError(
                f"the group {group} has not given this program its partitions in {_TIMEOUT_S:g} s; try again"
            )
        acknowledgement = member.commit(dict(enumerate(decided)))
        while not acknowledgement.wait(_POLL_S) and time.monotonic() < deadline_s:
            member.poll()
        _require(acknowledgement, f"the group {group} did not take its offsets")
    finally:
        member.leave()


class _Writer:
    """Appends what is not there yet, in order for each partition.

    Args:
        existing: where each partition ended at first; so many of its records are passed over.
        sums: takes a checksum of each record, in order.
    """

    def __init__(self, log: Log, existing: dict[TopicPartition, int], sums: dict[TopicPartition, array[int]]) -> None:
        self.existing = existing
        self.written = 0
        self._sums = sums
        self._producer = log.producer(OWNER)
        self._batch: list[NewRecord] = []
        self._batch_bytes = 0
        self._out: deque[Ack] = deque()

    def write(self, record: NewRecord) -> None:
        """Append a record, unless it is there."""
        place = TopicPartition(record.topic, record.partition)
        sums = self._sums.setdefault(place, array("L"))
        sums.append(_checksum(record))
        if len(sums) <= self.existing.get(place, 0):
            return
        self.written += 1
        self._batch.append(record)
        self._batch_bytes += len(record.value or b"")
        if len(self._batch) >= _BATCH_RECORDS or self._batch_bytes >= _BATCH_BYTES:
            self._send()

    def _send(self) -> None:
        if self._batch:
            self._out.append(self._producer.append(self._batch))
            self._batch, self._batch_bytes = [], 0
        while len(self._out) > _BATCHES_OUT_MAX:
            self._settle_first()

    def _settle_first(self) -> None:
        acknowledgement = self._out.popleft()
        acknowledgement.wait(_TIMEOUT_S)
        _require(acknowledgement, "the log did not take the records")

    def settle(self) -> None:
        """Wait until all of it is safe."""
        self._send()
        while self._out:
            self._settle_first()

    def close(self) -> None:
        self._producer.close()


def _require(acknowledgement: Ack, what: str) -> None:
    error = acknowledgement.error()
    if error is not None:
        raise error
    if not acknowledgement.done():
        raise CliError(f"{what} within {_TIMEOUT_S:g} s; run the command again, it goes on where it stopped")


def _read(log: Log, names: TopicNames, specs: Iterable[TopicSpec], partition: int | None = None) -> Iterator[LogRecord]:
    """All records of some topics up to where they end now, those of a partition in order."""
    scan = TopicScan(log, names, specs, partitions=None if partition is None else [partition])
    try:
        yield from scan.to_end()
    finally:
        scan.close()


def _commands_between(log: Log, names: TopicNames, begins: Sequence[int], ends: Sequence[int]) -> Iterator[LogRecord]:
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin < end:
            for record in _read(log, names, [COMMANDS], number):
                if begin <= record.offset < end:
                    yield record


def _places(names: TopicNames, specs: Iterable[TopicSpec]) -> list[TopicPartition]:
    return [TopicPartition(names.of(spec), number) for spec in specs for number in range(names.partitions)]


def _checksum(record: NewRecord | LogRecord) -> int:
    """Of all that has to be the same."""
    total = zlib.crc32(repr((record.key, record.timestamp_ms, record.headers)).encode())
    return zlib.crc32(b"\0" if record.value is None else b"\1" + record.value, total)
