"""Folding the history topic into the runs of a partition, and what a takeover has to send again.

Invariants:

* I1: a record, or a tombstone, whose epoch is older than the newest owner mark before it is void: a deposed owner wrote
  it too late.
* I2: the parts of a decision count together or not at all; event ids of a run are gapless, and a run whose records have
  a gap is put into quarantine, loudly, instead of being carried on wrongly.
* I4: what is folded twice counts once, by command offset; the effects of records at or above the group's committed
  offset are kept for :meth:`Restore.unsent`.

Called by the partition handler.
"""

from __future__ import annotations

import logging
from collections import Counter

from perdure_history.core.effects import Effect, RejectQueries, ReleaseQueries
from perdure_history.core.evolve import HistoryGapError, evolve, finish_record
from perdure_history.core.lifecycle import IllegalTransitionError
from perdure_history.core.react import react, react_to_wake_up
from perdure_history.core.state import RunState
from perdure_history.layout import Positions
from perdure_history.runs import Run, Runs, first_numbered, record_id, sent_since
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, OwnerMark

__all__ = ["Restore", "Unsent"]

_logger = logging.getLogger("perdure.history")

#: Run id, time of the decision, command offset, effect.
Unsent = tuple[str, int, int, Effect]


class Restore:
    """Folds one partition.

    Args:
        positions: where the store stands; kept up to date.
        committed: the group's committed offset of the owned topic; ``None``: it has never committed.
        ignored: counts what was not folded, by reason.
    """

    def __init__(
        self, source: str, runs: Runs, positions: Positions, committed: int | None, ignored: Counter[str]
    ) -> None:
        self._source = source
        self._runs = runs
        self._positions = positions
        self._resend_from = -1 if committed is None else committed
        self._ignored = ignored
        self._parts: list[tuple[HistoryRecord, int, bytes]] = []
        self._parts_offset = 0
        self.unsent: list[Unsent] = []

    @property
    def complete_below(self) -> int:
        """The offset below which everything is included; a decision of which a part is missing is not."""
        return self._parts_offset if self._parts else self._positions.folded_below

    def committed_to(self, committed: int) -> None:
        """The group has committed up to here meanwhile: the effects below were sent, and need not be sent again."""
        if committed > self._resend_from:
            self._resend_from = committed
            self.unsent = [unsent for unsent in self.unsent if unsent[2] >= committed]

    def fold(self, record: LogRecord) -> None:
        """Take in one record of the history topic.

        Raises:
            DecodeError: it is not readable.
            ValueError: its key is not one of the platform's, or that of another record.
        """
        self._positions.folded_below = record.offset + 1
        if keys.is_mark(record.key):
            self._fold_mark(record)
            return
        key = keys.parse_fenced_key(record.key or b"")
        marks = self._positions.marks
        if marks and key.epoch < marks[-1]:
            self._ignored["history record is void"] += 1
            return
        if record.value is None:
            self._fold_tombstone(key.id)
            return
        value = codec.decode_as(record.value, HistoryRecord)
        if (record_id(value), self._source, value.epoch) != (key.id, f"history/{key.source_partition}", key.epoch):
            raise ValueError(
                f"the history record of run {value.run_id} from command {value.command_offset} has the key"
                f" {record.key!r:.200}, which is that of another record"
            )
        if value.command_offset <= self._positions.recorded:
            return
        if self._parts and not self._goes_on(value):
            self._end_parts(complete=value.command_offset > self._parts[0][0].command_offset)
        if not self._parts:
            self._parts_offset = record.offset
        self._parts.append((value, record.timestamp_ms, record.value))
        if value.part == value.parts:
            self._end_parts(complete=True)

    def _goes_on(self, value: HistoryRecord) -> bool:
        """Whether a record is of the decision of which parts were read."""
        first = self._parts[0][0]
        return (value.command_offset, value.epoch) == (first.command_offset, first.epoch)

    def _end_parts(self, *, complete: bool) -> None:
        """No more parts of this decision come: it counts whole or not at all.

        Owners decide in order, and begin with what their predecessor left incomplete. So where a later command is
        decided, or the group has committed, this decision was in the log with all its parts; one that is missing was a
        deleted run's, and compaction has removed it. Where the same command is decided anew, it was not.
        """
        parts, self._parts = self._parts, []
        if not complete:
            self._ignored["decision is incomplete"] += len(parts)
            return
        for part, time_ms, encoded in parts:
            self._fold_record(part, time_ms, encoded)
        self._positions.recorded = parts[0][0].command_offset

    def end(self) -> None:
        """Nothing more is folded: the partition is taken over."""
        if self._parts:
            self._end_parts(complete=self._parts[0][0].command_offset < self._resend_from)

    def _fold_mark(self, record: LogRecord) -> None:
        mark = codec.decode_as(record.value, OwnerMark)
        if mark.source != self._source:
            self._ignored["mark of another source"] += 1
            return
        marks = self._positions.marks
        if not marks or record.offset > marks[-1]:
            marks.append(record.offset)

    def _fold_tombstone(self, record_id: str) -> None:
        run_id, _, what = record_id.partition("/")
        # The tombstone of the first record is written last, and stands for the whole run.
        if what == keys.history_id("", 1)[1:]:
            run = self._runs.get(run_id)
            if run is not None:
                self._runs.remove(run)

    def _fold_record(self, record: HistoryRecord, time_ms: int, encoded: bytes) -> None:
        run = self._runs.get(record.run_id)
        first_event_id = first_numbered(record.events)
        if run is None:
            if first_event_id != 1:
                # The run's beginning was removed by retention; the tombstone that says so comes later in the log.
                self._ignored["record of a removed run"] += 1
                return
            run = self._runs.add(RunState(workflow_id=record.workflow_id, run_id=record.run_id))
        effects: list[Effect] = []
        try:
            self._evolve(run, record, first_event_id, len(encoded), effects)
        except Exception as error:
            # A gap, or events that do not fit: whatever it is, only this run must not be carried on (I5).
            if not run.state.quarantine_reason:
                explained = isinstance(error, (HistoryGapError, IllegalTransitionError))
                _logger.error(
                    "workflow=%s event=history_damaged reason=%r",
                    record.workflow_id,
                    str(error),
                    exc_info=not explained,
                )
            run.state.quarantine_reason = f"the history is damaged: {error}"
        if first_event_id:
            self._runs.attach(run, first_event_id, encoded)
        self._runs.keep(run, record, encoded)
        self._runs.touch(run)
        for effect in effects:
            if not isinstance(effect, (ReleaseQueries, RejectQueries)):
                self.unsent.append((record.run_id, time_ms, record.command_offset, effect))

    def _evolve(
        self, run: Run, record: HistoryRecord, first_event_id: int, size_bytes: int, effects: list[Effect]
    ) -> None:
        state = run.state
        resend = record.command_offset >= self._resend_from
        for event in record.events:
            if resend:
                react(state, event, effects)
            evolve(state, event, sent_since(record))
        if resend:
            react_to_wake_up(state, record.wake_up_number, record.wake_up_due_ms, effects)
        finish_record(
            state,
            first_event_id=first_event_id,
            encoded_bytes=size_bytes,
            wake_up_number=record.wake_up_number,
            wake_up_due_ms=record.wake_up_due_ms,
            epoch=sent_since(record),
        )
