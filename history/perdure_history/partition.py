"""One partition of HISTORY: reads commands, has the core decide them, keeps and sends what follows.

Invariants:

* I1: everything it writes carries its epoch, in the key and (history records) in the value.
* I2: a command is decided once: what has been handled or folded is passed over; the history record of a decision is
  sent before its effects, and nothing of a decision is kept or sent unless all of it could be made.
* I3, I6: what the core ignores is counted under its reason.
* I4: a takeover sends again the effects of what the group has not committed, then goes on behind the last folded
  command; it reads again what is not committed to answer workflows once more, which do not repeat what they ask.
* I5: what cannot be processed puts one run into quarantine; its state is rebuilt from its records first.

Called by the processor shell, on its one thread.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from perdure_history import intake, layout
from perdure_history.answering import answer_again
from perdure_history.config import HistoryConfig
from perdure_history.core.decide import Decision, QuarantinedError, RunDecision, decide, quarantine
from perdure_history.core.effects import Answer, Effect, Ignored
from perdure_history.core.evolve import finish_record
from perdure_history.core.state import RunState
from perdure_history.cron import next_cron_ms
from perdure_history.layout import POSITIONS, Positions
from perdure_history.reactions import Reactions
from perdure_history.restore import Restore
from perdure_history.runs import Run, Runs, first_numbered, record_id, sent_since
from perdure_history.schedules.times import SpecTimes
from perdure_runtime.handler import ACKNOWLEDGED_KEY, Outbox, PartitionStore
from perdure_runtime.log import LogRecord, NewRecord
from perdure_runtime.metrics import CACHED_BYTES, CACHED_RUNS, IGNORED, PROCESS, WORKFLOW_ENDTOEND, Sample
from perdure_schemas import codec, keys, records
from perdure_schemas.records import Command, ErrorCode, Event, HistoryRecord, Rejected, StartWorkflow
from perdure_schemas.topics import RECORD_BYTES_MAX, TopicNames

__all__ = ["HistoryPartition"]

_logger = logging.getLogger("perdure.history")

#: As lists and metrics call them.
_STATUS_LABELS = {status: status.value.title().replace("_", "") for status in records.WorkflowStatus}
#: Room is left for the key, headers and the log's own framing.
_RECORD_BYTES_MAX = RECORD_BYTES_MAX - 16 * 1024
#: How many owners before us may have decided a command that none of them got into the history. One that was deposed
#: goes on until it hears of it, so it can be more than one; each costs a tombstone for each thing of such a decision.
_EARLIER_OWNERS_MAX = 8
#: A failure on these leaves no run in doubt: the asker is told, and that is all.
_HARMLESS = (
    records.StartWorkflow,
    records.CreateSchedule,
    records.DescribeSchedule,
    records.ListScheduleTimes,
    records.ResetWorkflow,
    records.ForkWorkflow,
    records.DescribeWorkflow,
    records.AwaitResult,
    records.FetchHistory,
    records.QueryWorkflow,
    records.QueryTaskCompleted,
    records.QueryTaskExpired,
    records.UpdateWorkflow,
    records.AwaitUpdate,
)


def _events_brought(body: records.ForkWorkflow, _run_id: str) -> list[Event]:
    """The events that a fork brings along; none if they cannot be read, which is refused like a missing start."""
    try:
        found = [codec.decode_as(value, HistoryRecord) for value in body.records]
    except codec.DecodeError:
        return []
    return [event for record in found for event in record.events if event.event_id]


class RecordTooLargeError(Exception):
    """A decision makes a record that no topic takes."""


class HistoryPartition:
    """Implements :class:`perdure_runtime.handler.PartitionHandler`."""

    def __init__(
        self,
        names: TopicNames,
        config: HistoryConfig,
        partition: int,
        store: PartitionStore,
        committed: int | None,
        clock: Callable[[], int],
    ) -> None:
        self._namespace = names.namespace
        self._commands_topic = names.commands
        self._history_topic = names.history
        self._executions_topic = names.executions
        self._config = config
        self._policy = msgspec.structs.replace(config.policy, next_cron_ms=next_cron_ms, schedule_times=SpecTimes)
        self._partition = partition
        self._partitions = names.partitions
        self._store = store
        self._clock = clock
        stored = layout.load_positions(store, clock(), config.retention_ms)
        self._had_state = stored is not None
        self._positions = stored or Positions()
        #: What changed nothing, or was void, by reason: for metrics.
        self.ignored: Counter[str] = Counter()
        self._runs = Runs(store, config)
        source = f"history/{partition}"
        self._restore: Restore | None = Restore(source, self._runs, self._positions, committed, self.ignored)
        self._reactions = Reactions(names, config, partition, self._runs, self._positions.marks, self.ignored, clock)
        self._next_removal_ms: int | None = None
        #: The newest command read since the takeover: behind what was handled as long as askers are told again.
        self._read = -1
        self.deposed = False  # it reads no marks while it lives: the shell sees them by the offsets of what it sends
        #: Commands below this offset may have been decided by an earlier owner, too, who was stopped before his history
        #: record was in the log; ``None``: the shell has not told yet where that ends, so all of them.
        self._inherited_below: int | None = None

    # --- restoring --------------------------------------------------------------------------------------------------

    def restore_offset(self) -> int | None:
        """Where folding starts: behind what the store's state includes; ``None``: at the beginning."""
        if not self._had_state:
            return None
        acknowledged = self._store.get(ACKNOWLEDGED_KEY)
        offset = 0 if acknowledged is None else int.from_bytes(acknowledged, "big")
        return max(offset, self._positions.folded_below)

    def fold(self, record: LogRecord) -> None:
        """Take in one record of the history topic, without sending anything."""
        assert self._restore is not None, "the partition is owned already"
        self._restore.fold(record)

    def fold_committed(self, committed: int) -> None:
        """What the group has committed meanwhile has been sent by its owner."""
        assert self._restore is not None, "the partition is owned already"
        self._restore.committed_to(committed)

    def fold_checkpoint(self, complete_ms: int) -> int | None:
        """Stage what was folded; the effects of the newest folded command may be unsent until it is committed."""
        assert self._restore is not None, "the partition is owned already"
        positions = self._positions
        self._runs.flush()
        positions.saved_ms = max(complete_ms, positions.saved_ms)
        # Of a decision that is not complete nothing is in the state: its parts are read again.
        staged = msgspec.structs.replace(positions, folded_below=self._restore.complete_below)
        self._store.put(POSITIONS, layout.encode_positions(staged))
        return positions.recorded + 1

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> Mapping[str, int]:
        """Own the partition from here on; sends again what may be unsent. See ``PartitionHandler.take_over``."""
        assert self._restore is not None, "the partition is owned already"
        positions = self._positions
        if not positions.marks or positions.marks[-1] < epoch:
            positions.marks.append(epoch)
        self._restore.end()
        unsent, self._restore = self._restore.unsent, None
        out: list[NewRecord] = []
        for run_id, time_ms, offset, effect in unsent:
            run = self._runs.get(run_id)
            if run is not None:
                self._send_again(run, effect, time_ms, offset, out)
        for record in out:
            outbox.send(record)
        positions.folded_below = max(positions.folded_below, epoch + 1)
        positions.handled = max(positions.handled, positions.recorded, (committed or 0) - 1)
        self._find_next_removal()
        _logger.info(
            "partition=%d event=taken_over epoch=%d effects=%d next_command=%d",
            self._partition, epoch, len(unsent), positions.handled + 1,
        )  # fmt: skip
        # What the group has not committed is read again, for the sake of workflows that wait for an answer.
        self._read = min(positions.handled, (committed or 0) - 1)
        return {self._commands_topic: self._read + 1}

    def inherit(self, below: int) -> None:
        """Told by the shell once no record of an earlier owner can become valid any more: see ``Inheriting``."""
        self._inherited_below = below

    def _sent_since(self, offset: int) -> int:
        """The oldest epoch under which the effects of this command may have been sent; -1: ours alone."""
        marks = self._positions.marks
        if len(marks) < 2 or (self._inherited_below is not None and offset >= self._inherited_below):
            return -1
        return marks[-min(len(marks), _EARLIER_OWNERS_MAX + 1)]

    def _send_again(self, run: Run, effect: Effect, time_ms: int, offset: int, out: list[NewRecord]) -> None:
        sent_before = len(out)
        try:
            self._reactions.of(run, effect, time_ms, offset, out)
        except Exception as error:
            # A history that is damaged in just this place must not keep the whole partition from coming back (I5).
            del out[sent_before:]
            reason = f"the history is damaged: {type(effect).__name__} cannot be sent again: {error}"
            _logger.exception("workflow=%s run=%s event=effect_lost", run.state.workflow_id, run.state.run_id)
            if run.state.is_open and not run.state.quarantine_reason:
                run.state.quarantine_reason = reason
                self._runs.touch(run)

    # --- processing -------------------------------------------------------------------------------------------------

    def handle(self, record: LogRecord, outbox: Outbox) -> None:
        """Decide one command and send what follows.

        Raises:
            DecodeError: the record is no command. UnacceptableCommandError: it is one that does not belong here.
            QuarantinedError: it is a message for a quarantined run.
            Exception: the decision failed; the run is as it was before.
        """
        positions = self._positions
        self._read = max(self._read, record.offset)
        if record.offset <= positions.handled:
            self._answer_again(record, outbox)
            return
        positions.handled = record.offset
        command = codec.decode_as(record.value, Command)
        intake.check(command, self._partition, self._partitions)
        body = command.body
        run = self._find(command)
        repeated = (
            run is not None
            and (
                isinstance(body, records.SignalWorkflow)
                or (isinstance(body, StartWorkflow) and body.signal is not None)
            )
            and self._runs.chain_has_taken(run, command.command_id, record.timestamp_ms)
        )
        decision: Decision | None = None
        try:
            decision = decide(
                command,
                run=None if run is None else run.state,
                timestamp_ms=record.timestamp_ms,
                offset=record.offset,
                epoch=positions.marks[-1],
                since_epoch=self._sent_since(record.offset),
                repeated=repeated,
                policy=self._policy,
                started_of=self._runs.started_of,
                events_of=partial(_events_brought, body)
                if isinstance(body, records.ForkWorkflow)
                else self._runs.events_of,
            )
            out = self._carry_out(decision, command.workflow_id, record, run)
        except QuarantinedError:
            raise
        except Exception:
            touched = {run.state.run_id} if run is not None else set()
            touched.update(part.state.run_id for part in (decision.runs if decision is not None else ()))
            if isinstance(body, StartWorkflow | records.ResetWorkflow | records.ForkWorkflow | records.CreateSchedule):
                touched.add(body.run_id)
            for run_id in touched:
                self._runs.rebuild(run_id)
            raise
        for new in out:
            outbox.send(new)

    def _answer_again(self, record: LogRecord, outbox: Outbox) -> None:
        """Tell a workflow again what became of its command, which an earlier owner decided.

        Raises:
            DecodeError, UnacceptableCommandError: as :meth:`handle`; that owner's dead letter may not have been sent.
        """
        command = codec.decode_as(record.value, Command)
        intake.check(command, self._partition, self._partitions)
        if command.reply is None or command.reply.origin is None:
            return
        run = self._find(command)
        taken = run is not None and self._runs.chain_has_taken(run, command.command_id, record.timestamp_ms)
        answer = answer_again(command, None if run is None else run.state, taken)
        if answer is not None:
            out: list[NewRecord] = []
            self._reactions.reply(command.reply, command.workflow_id, answer, record.timestamp_ms, out)
            for new in out:
                outbox.send(new)

    def _find(self, command: Command) -> Run | None:
        """The run a command is about."""
        if isinstance(command.body, StartWorkflow | records.CreateSchedule):
            current = self._runs.current(command.workflow_id)
            if current is not None and current.state.run_id == command.body.run_id:
                return current
            return self._runs.get(command.body.run_id) or current
        if not command.run_id or isinstance(command.body, records.ResetWorkflow | records.ForkWorkflow):
            return self._runs.current(command.workflow_id)
        run = self._runs.get(command.run_id)
        return run if run is not None and run.state.workflow_id == command.workflow_id else None

    def _carry_out(self, decision: Decision, workflow_id: str, record: LogRecord, asked: Run | None) -> list[NewRecord]:
        """Make every record of a decision, then keep what has to be kept, and return what has to be sent."""
        out: list[NewRecord] = []
        recorded = [part for part in decision.runs if part.is_recorded]
        kept: list[tuple[Run, HistoryRecord, bytes]] = []
        headers = keys.EMITS_HEADERS if any(part.emits for part in recorded) else ()
        for number, part in enumerate(recorded, 1):
            kept.append(self._record(part, record.offset, number, len(recorded), asked, out, headers))
        for part in decision.runs:
            if part.effects:
                run = next((run for run, _, _ in kept if run.state is part.state), asked)
                assert run is not None
                for effect in part.effects:
                    self._reactions.of(run, effect, part.now_ms, record.offset, out)
        for effect in decision.effects:
            if isinstance(effect, Answer):
                self._reactions.reply(effect.to, workflow_id, effect.body, record.timestamp_ms, out)
            else:
                assert isinstance(effect, Ignored)
                self.ignored[effect.reason] += 1
        for new in out:
            if new.value is not None and len(new.value) > _RECORD_BYTES_MAX:
                raise RecordTooLargeError(
                    f"a record for {new.topic} would have {len(new.value)} bytes; the limit is {_RECORD_BYTES_MAX}"
                )
        for run, history_record, value in kept:
            self._runs.keep(run, history_record, value)
            self._runs.touch(run)
            self._after(run, history_record)
        if kept:
            self._positions.recorded = record.offset
        return out

    def _record(
        self,
        part: RunDecision,
        offset: int,
        number: int,
        parts: int,
        asked: Run | None,
        out: list[NewRecord],
        headers: tuple[tuple[str, bytes], ...],
    ) -> tuple[Run, HistoryRecord, bytes]:
        """Make the history record of a decision for one run, and take it in."""
        state = part.state
        epoch = self._positions.marks[-1]
        record = HistoryRecord(
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            command_offset=offset,
            epoch=epoch,
            part=number,
            parts=parts,
            events=part.events,
            wake_up_number=part.wake_up_number,
            wake_up_due_ms=part.wake_up_due_ms,
            since_epoch=self._sent_since(offset),
        )
        value = codec.encode(record)
        first_event_id = first_numbered(part.events)
        finish_record(
            state,
            first_event_id=first_event_id,
            encoded_bytes=len(value),
            wake_up_number=part.wake_up_number,
            wake_up_due_ms=part.wake_up_due_ms,
            epoch=sent_since(record),
        )
        run = asked if asked is not None and asked.state is state else self._runs.add(state)
        if first_event_id:
            self._runs.attach(run, first_event_id, value)
        key = keys.fenced_key(record_id(record), self._partition, epoch)
        out.append(NewRecord(self._history_topic, self._partition, key, value, part.now_ms, headers))
        return run, record, value

    def _after(self, run: Run, record: HistoryRecord) -> None:
        state = run.state
        if not state.is_open:
            if first_numbered(record.events):
                # Nothing numbered follows the close of a run, so this is it.
                self._note_close(state)
            removal_ms = self._runs.removal_ms(state)
            if self._next_removal_ms is None or removal_ms < self._next_removal_ms:
                self._next_removal_ms = removal_ms
        warned = self._config.history_events_warned
        if state.last_event_id >= warned and 0 < first_numbered(record.events) <= warned:
            _logger.warning(
                "workflow=%s run=%s event=history_grows_large events=%d limit=%d",
                state.workflow_id, state.run_id, state.last_event_id, self._config.policy.history_events_max,
            )  # fmt: skip

    def _note_close(self, state: RunState) -> None:
        assert state.status is not None
        labels = (self._namespace, state.workflow_type, state.task_queue, _STATUS_LABELS[state.status])
        PROCESS.observe(WORKFLOW_ENDTOEND, labels, (state.close_time_ms - state.start_time_ms) / 1000)

    def samples(self) -> list[Sample]:
        """See :class:`perdure_runtime.handler.Measured`."""
        ignored = [Sample(IGNORED, (reason,), count) for reason, count in dict(self.ignored).items()]
        cached_runs, cached_bytes = self._runs.cached
        return [*ignored, Sample(CACHED_RUNS, (), cached_runs), Sample(CACHED_BYTES, (), cached_bytes)]

    def quarantine(self, record: LogRecord, reason: str, outbox: Outbox) -> None:
        """Put the run that a record concerns into quarantine, and tell whoever asked (I5)."""
        if record.offset < self._positions.handled:
            return  # an earlier owner has done so: only its dead letter is written again
        command: Command | None = None
        try:
            command = codec.decode_as(record.value, Command)
        except codec.DecodeError:
            run = self._runs.current((record.key or b"").decode(errors="replace"))
        else:
            run = self._find(command)
        harmless = command is not None and isinstance(command.body, _HARMLESS)
        if run is not None and run.state.is_open and not run.state.quarantine_reason and not harmless:
            part = quarantine(
                run.state,
                reason,
                timestamp_ms=record.timestamp_ms,
                offset=record.offset,
                epoch=self._positions.marks[-1],
                since_epoch=self._sent_since(record.offset),
                policy=self._config.policy,
            )
            for new in self._carry_out(Decision(runs=[part]), run.state.workflow_id, record, run):
                outbox.send(new)
        if command is not None and command.reply is not None:
            rejected = Rejected(code=ErrorCode.INTERNAL, message=f"the engine could not process this: {reason}")
            answers: list[NewRecord] = []
            self._reactions.reply(command.reply, command.workflow_id, rejected, record.timestamp_ms, answers)
            for answer in answers:
                outbox.send(answer)

    # --- time -------------------------------------------------------------------------------------------------------

    def next_wakeup_ms(self) -> int | None:
        """When the next closed run is to be removed, or the next late answer to be given."""
        late_ms, removal_ms = self._reactions.late.due_ms(), self._next_removal_ms
        if late_ms is None or removal_ms is None:
            return removal_ms if late_ms is None else late_ms
        return min(late_ms, removal_ms)

    def tick(self, now_ms: int, outbox: Outbox) -> None:
        """Give late answers, and remove closed runs whose retention is over, some at a time."""
        answers: list[NewRecord] = []
        self._reactions.answer_late(now_ms, answers)
        for answer in answers:
            outbox.send(answer)
        if self._next_removal_ms is None or now_ms < self._next_removal_ms:
            return
        due: list[tuple[int, str]] = []
        for removal_ms, run_id in self._runs.due_for_removal():
            if removal_ms > now_ms or len(due) >= self._config.runs_removed_per_tick_max:
                break
            due.append((removal_ms, run_id))
        for removal_ms, run_id in due:
            # The entry may have been made with another retention than the configuration has now.
            self._runs.clear_removal(removal_ms, run_id)
            run = self._runs.get(run_id)
            if run is not None:
                self._remove(run, now_ms, outbox)
        self._find_next_removal()

    def _find_next_removal(self) -> None:
        first = next(iter(self._runs.due_for_removal()), None)
        self._next_removal_ms = None if first is None else first[0]

    def _remove(self, run: Run, now_ms: int, outbox: Outbox) -> None:
        """Write a run's tombstones. The one of its first record comes last: folded, it stands for the whole run."""
        state = run.state
        epochs = self._reactions.epochs_since(state.first_epoch)
        ids = [keys.history_id(state.run_id, first) for first in reversed(self._runs.first_event_ids(state.run_id))]
        for epoch in epochs:
            key = keys.fenced_key(state.run_id, self._partition, epoch)
            outbox.send(NewRecord(self._executions_topic, self._partition, key, None, now_ms))
        for record in [*self._runs.unnumbered_ids(state.run_id), *ids]:
            for epoch in epochs:
                key = keys.fenced_key(record, self._partition, epoch)
                outbox.send(NewRecord(self._history_topic, self._partition, key, None, now_ms))
        self._runs.remove(run)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def checkpoint(self) -> int | None:
        """Stage all changed state. Returns the offset below which every command is done; ``None`` before the first."""
        self._runs.flush()
        self._positions.saved_ms = self._clock()
        self._store.put(POSITIONS, layout.encode_positions(self._positions))
        return self._read + 1 if self._read >= 0 else None
