"""The checks of one partition of ``history``: which records count, and whether the runs they tell of make sense.

Invariants: a record counts exactly when it counts for the engine (an older epoch behind a newer mark is void, and so is
its tombstone; the parts of a decision count together or not at all); a run that broke a rule is told once. Records come
in the order of their offsets; gaps that compaction made are fine. Memory: what is open, and a few words for each closed
run whose history is kept. Pure. Called by ``core``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from perdure_ops.audit.breach import Breach, Misfit, Place
from perdure_ops.audit.run_view import RunView
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys, records
from perdure_schemas.records import HistoryRecord, OwnerMark, WorkflowExecutionDeleted, WorkflowStatus

__all__ = ["ClosedRun", "HistoryCheck", "expected_id"]


class ClosedRun(NamedTuple):
    """What is kept of a run that is over."""

    workflow_id: str
    status: WorkflowStatus
    place: Place


class _Part(NamedTuple):
    record: HistoryRecord
    place: Place


def expected_id(record: HistoryRecord) -> str:
    """The id that the key of a history record has to have."""
    for event in record.events:
        if event.event_id:
            return keys.history_id(record.run_id, event.event_id)
    if not record.events:
        return keys.wake_up_id(record.run_id)
    attributes = record.events[0].attributes
    if isinstance(attributes, records.ActivityAttemptRecorded):
        return keys.activity_attempt_id(record.run_id, attributes.scheduled_event_id)
    if isinstance(attributes, records.WorkflowTaskAttemptRecorded):
        return keys.workflow_task_attempt_id(record.run_id)
    if isinstance(attributes, records.ScheduleRecorded):
        return keys.schedule_id(record.run_id, attributes.definition is not None)
    if isinstance(attributes, WorkflowExecutionDeleted):
        return keys.deletion_id(record.run_id)
    return keys.quarantine_id(record.run_id)


class HistoryCheck:
    """Folds one partition.

    Args:
        partition / partitions: its number, and how many there are.
        found: takes each breach.
        closed: is told of each run that closes, with its id.
        removed: is told of each run that retention has removed.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        found: Callable[[Breach], None],
        closed: Callable[[str, ClosedRun], None],
        removed: Callable[[str], None],
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._source = f"history/{partition}"
        self._found = found
        self._on_closed = closed
        self._on_removed = removed
        self.runs: dict[str, RunView] = {}
        self.closed: dict[str, ClosedRun] = {}
        self.marks: list[int] = []
        self.void_records = 0
        self.events = 0
        self._recorded = -1
        self._parts: list[_Part] = []
        #: Records of runs whose beginning is not there; fine if it was removed, and the log says so later.
        self._orphans: dict[str, tuple[HistoryRecord, Place]] = {}
        #: Open runs by workflow id.
        self._open: dict[str, set[str]] = {}
        #: Runs that broke a rule: what follows from that is not told, too.
        self.damaged: set[str] = set()

    def take(self, record: LogRecord) -> None:
        """Take in the next record of the partition."""
        place = Place(record.topic, record.partition, record.offset)
        try:
            self._take(record, place)
        except codec.DecodeError as error:
            self._tell("unreadable", str(error), place)

    def open_questions(self) -> Iterator[Breach]:
        """What is a breach unless a later record explains it."""
        for run_id, (record, place) in self._orphans.items():
            what = expected_id(record).partition("/")[2]
            yield _breach("event-gap", f"the history begins with record {what!r}", place, record.workflow_id, run_id)
        if self._parts and self._parts[0].record.epoch == self.marks[-1]:
            yield self._half_decided()

    # --- which records count --------------------------------------------------------------------------------------

    def _take(self, record: LogRecord, place: Place) -> None:
        if keys.is_mark(record.key):
            mark = codec.decode_as(record.value, OwnerMark)
            if mark.source == self._source:
                self.marks.append(record.offset)
            return
        try:
            key = keys.parse_fenced_key(record.key or b"")
        except ValueError as error:  # a UnicodeDecodeError is one
            self._tell("unreadable", f"the key cannot be read: {error}", place)
            return
        newest = self.marks[-1] if self.marks else -1
        if key.epoch < newest:
            self.void_records += 1
            return
        if key.epoch > newest:
            self._tell("unmarked", f"epoch {key.epoch} has no owner mark before it; the newest is {newest}", place)
            self.marks.append(key.epoch)
        if record.value is None:
            self._take_tombstone(key.id)
            return
        value = codec.decode_as(record.value, HistoryRecord)
        if (expected_id(value), self._partition, value.epoch) != key:
            message = f"the key {record.key!r:.200} is not that of {expected_id(value)!r} in epoch {value.epoch}"
            self._tell("wrong-key", message, place, value)
            return
        if keys.partition_of(value.workflow_id, self._partitions) != self._partition:
            right = keys.partition_of(value.workflow_id, self._partitions)
            self._tell("misplaced", f"workflow {value.workflow_id!r} belongs to partition {right}", place, value)
        self._take_part(value, place)

    def _take_part(self, value: HistoryRecord, place: Place) -> None:
        if value.command_offset <= self._recorded:
            message = f"command {value.command_offset} is decided after command {self._recorded}"
            self._tell("decided-twice", message, place, value)
            return
        if self._parts:
            first = self._parts[0].record
            if (first.command_offset, first.epoch) != (value.command_offset, value.epoch):
                self._leave_parts(value, place)
        self._parts.append(_Part(value, place))
        if value.part == value.parts:
            self._take_parts()

    def _leave_parts(self, value: HistoryRecord, place: Place) -> None:
        """Another decision begins before all parts of this one were read."""
        first, last = self._parts[0].record, self._parts[-1].place
        if value.command_offset > first.command_offset and place.offset > last.offset + 1:
            self._take_parts()  # compaction has removed the part of a deleted run
            return
        if value.epoch == first.epoch:
            self._found(self._half_decided())
        # Else what is missing would have been void behind the mark of the owner who decides it again.
        self._parts.clear()

    def _take_parts(self) -> None:
        parts, self._parts = self._parts, []
        self._recorded = parts[0].record.command_offset
        for part in parts:
            self._take_run_record(part.record, part.place)
        self._check_decision(parts)

    def _take_tombstone(self, record_id: str) -> None:
        run_id, _, what = record_id.partition("/")
        if what != keys.history_id("", 1)[1:]:
            return
        self._orphans.pop(run_id, None)
        self.damaged.discard(run_id)
        self.closed.pop(run_id, None)
        run = self.runs.pop(run_id, None)
        if run is not None:
            # Compaction may have dropped the run's end before its beginning, so an open one is no breach.
            self._close_open(run)
        self._on_removed(run_id)

    # --- what they say --------------------------------------------------------------------------------------------

    def _take_run_record(self, record: HistoryRecord, place: Place) -> None:
        run_id = record.run_id
        if run_id in self.damaged:
            return
        ended = self.closed.get(run_id)
        if ended is not None:
            if record.events and all(isinstance(e.attributes, WorkflowExecutionDeleted) for e in record.events):
                self._on_removed(run_id)  # its summary goes with it
                return
            what = ", ".join(type(event.attributes).__name__ for event in record.events) or "a wake-up"
            self._tell("after-close", f"{what} follows the close as {ended.status}", place, record)
            return
        run = self.runs.get(run_id)
        if run is None:
            if not record.events or record.events[0].event_id != 1:
                self._orphans[run_id] = (record, place)
                return
            run = self.runs[run_id] = RunView(record.workflow_id, run_id, place)
            self._open.setdefault(record.workflow_id, set()).add(run_id)
        self.events += len(record.events)
        try:
            run.take(record, place)
            if _hides_events(record):
                raise Misfit("wrong-key", "several events without ids stand under the key of the first one")
        except Misfit as misfit:
            self._tell(misfit.check, str(misfit), place, record)
            self.damaged.add(run_id)
            del self.runs[run_id]
            self._close_open(run)
            return
        if not run.is_open:
            del self.runs[run_id]
            self._close_open(run)
            assert run.status is not None
            ended = self.closed[run_id] = ClosedRun(run.workflow_id, run.status, place)
            self._on_closed(run_id, ended)
            if any(isinstance(e.attributes, WorkflowExecutionDeleted) for e in record.events):
                self._on_removed(run_id)

    def _check_decision(self, parts: list[_Part]) -> None:
        """What must hold after a whole decision."""
        for record, place in parts:
            others = self._open.get(record.workflow_id, set())
            if len(others) > 1 and record.run_id in others:
                self._tell("two-open-runs", f"open at once are {', '.join(sorted(others))}", place, record)
        started = {record.run_id for record, _ in parts}
        for record, place in parts:
            for event in record.events:
                following = getattr(event.attributes, "new_run_id", "")
                if following and following not in started:
                    self._tell("missing-run", f"run {following} is to follow, and is not started", place, record)

    def _close_open(self, run: RunView) -> None:
        others = self._open.get(run.workflow_id)
        if others is not None:
            others.discard(run.run_id)
            if not others:
                del self._open[run.workflow_id]

    def _half_decided(self) -> Breach:
        record, place = self._parts[-1]
        message = (
            f"of the decision on command {record.command_offset} there is part {record.part} of {record.parts} only"
        )
        return _breach("half-decided", message, place, record.workflow_id, record.run_id)

    def _tell(self, check: str, message: str, place: Place, record: HistoryRecord | None = None) -> None:
        workflow_id, run_id = ("", "") if record is None else (record.workflow_id, record.run_id)
        self._found(_breach(check, message, place, workflow_id, run_id))


def _breach(check: str, message: str, place: Place, workflow_id: str, run_id: str) -> Breach:
    return Breach(check, message, place.topic, place.partition, place.offset, workflow_id, run_id)


def _hides_events(record: HistoryRecord) -> bool:
    """Whether compaction could lose an event: without ids, and of another kind than the first one of its record."""
    if len(record.events) < 2 or any(event.event_id for event in record.events):
        return False
    return len({expected_id(msgspec.structs.replace(record, events=[event])) for event in record.events}) > 1
