"""The runs of a partition: in memory while they are in use, in the partition store always.

Invariants: the store's copy of a run's records is complete at any time, its copy of the state as of the last
checkpoint; memory is bounded by count and bytes, and dropping a run from memory loses nothing. On the hot path a
workflow task's history comes from memory, without a scan. Called by the partition handler and its parts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from perdure_history import layout
from perdure_history.config import HistoryConfig
from perdure_history.core.evolve import UNNUMBERED, evolve, finish_record
from perdure_history.core.state import RunState
from perdure_runtime.handler import PartitionStore
from perdure_schemas import codec, keys, records
from perdure_schemas.records import Event, HistoryRecord

__all__ = ["CachedRecord", "Run", "Runs", "first_numbered", "record_id", "sent_since"]

#: How long after it was first sent a client may repeat a signal, in milliseconds; and how many runs of a chain that may
#: have closed in this time are looked at.
_REPETITION_MS_MAX = 120_000
_CHAIN_LINKS_MAX = 64
#: How long the records of a deleted run are kept, in milliseconds.
DELETED_KEPT_MS = 60_000
#: First event id, last event id, bytes.
CachedRecord = tuple[int, int, bytes]


class Run:
    """A run in memory. ``records`` are its newest encoded records with numbered events, without a gap to its end."""

    __slots__ = ("records", "records_bytes", "state")

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.records: list[CachedRecord] = []
        self.records_bytes = 0


def first_numbered(events: list[Event]) -> int:
    """The first event id of a record; 0 if it has no numbered events."""
    for event in events:
        if event.event_id:
            return event.event_id
    return 0


def record_id(record: HistoryRecord) -> str:
    """The id under which a history record stands in its topic."""
    first_event_id = first_numbered(record.events)
    if first_event_id:
        return keys.history_id(record.run_id, first_event_id)
    if not record.events:
        return keys.wake_up_id(record.run_id)
    attributes = record.events[0].attributes
    if isinstance(attributes, records.ActivityAttemptRecorded):
        return keys.activity_attempt_id(record.run_id, attributes.scheduled_event_id)
    if isinstance(attributes, records.WorkflowTaskAttemptRecorded):
        return keys.workflow_task_attempt_id(record.run_id)
    if isinstance(attributes, records.ScheduleRecorded):
        return keys.schedule_id(record.run_id, attributes.definition is not None)
    if isinstance(attributes, records.WorkflowExecutionDeleted):
        return keys.deletion_id(record.run_id)
    assert type(attributes) in UNNUMBERED
    return keys.quarantine_id(record.run_id)


def sent_since(record: HistoryRecord) -> int:
    """The oldest epoch under which the effects of a decision may stand in other topics."""
    return record.epoch if record.since_epoch < 0 else record.since_epoch


class Runs:
    """The runs of one partition."""

    def __init__(self, store: PartitionStore, config: HistoryConfig) -> None:
        self._store = store
        self._config = config
        self._cached: OrderedDict[str, Run] = OrderedDict()
        self._cached_bytes = 0
        #: Those of them that are closed, in the order in which that was seen. They leave memory first.
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._current: dict[str, str] = {}
        #: Runs whose state differs from the store's.
        self._dirty: dict[str, Run] = {}

    def get(self, run_id: str) -> Run | None:
        """A run by its id."""
        run = self._cached.get(run_id)
        if run is not None:
            self._cached.move_to_end(run_id)
            return run
        data = self._store.get(layout.state_key(run_id))
        if data is None:
            return None
        run = Run(layout.decode_state(data))
        self._insert(run)
        return run

    @property
    def cached(self) -> tuple[int, int]:
        """How many runs are in memory, and how many bytes their records have there."""
        return len(self._cached), self._cached_bytes

    def current(self, workflow_id: str) -> Run | None:
        """The newest run of a workflow id."""
        run_id = self._current.get(workflow_id)
        if run_id is None:
            data = self._store.get(layout.current_key(workflow_id))
            if data is None:
                return None
            run_id = data.decode()
        return self.get(run_id)

    def add(self, state: RunState) -> Run:
        """Take in a new run, in memory only until its first record is kept."""
        run = Run(state)
        self._insert(run)
        self._current[state.workflow_id] = state.run_id
        return run

    def touch(self, run: Run) -> None:
        """The run's state has changed: the next checkpoint writes it."""
        self._dirty[run.state.run_id] = run

    def attach(self, run: Run, first_event_id: int, value: bytes) -> None:
        """Add an encoded record with numbered events, up to the state's newest one, to what is in memory."""
        kept = run.records
        kept.append((first_event_id, run.state.last_event_id, value))
        size_bytes = len(value)
        while len(kept) > 1 and run.records_bytes + size_bytes > self._config.task_history_bytes_max:
            size_bytes -= len(kept.pop(0)[2])
        run.records_bytes += size_bytes
        self._cached_bytes += size_bytes

    def keep(self, run: Run, record: HistoryRecord, value: bytes) -> None:
        """Stage a record, and what follows from its events, in the store."""
        store = self._store
        state = run.state
        first_event_id = 0
        for event in record.events:
            if event.event_id and not first_event_id:
                first_event_id = event.event_id
            attributes = event.attributes
            if type(attributes) is records.WorkflowExecutionSignaled:
                store.put(layout.signal_key(state.run_id, attributes.command_id), b"")
                if keys.is_named_request(attributes.command_id):
                    key = layout.named_request_key(state.workflow_id, attributes.command_id)
                    store.put(key, state.run_id.encode())
            elif type(attributes) in (records.WorkflowExecutionStarted, records.ScheduleCreated):
                store.put(layout.current_key(state.workflow_id), state.run_id.encode())
            elif type(attributes) is records.WorkflowExecutionDeleted:
                store.delete(layout.retention_key(state.close_time_ms + self._config.retention_ms, state.run_id))
                store.put(layout.retention_key(self.removal_ms(state), state.run_id), b"")
        if first_event_id:
            store.put(layout.record_key(state.run_id, first_event_id), value)
            if not state.is_open:
                store.put(self._retention_key(state), b"")
                self._note_closed(run)
        else:
            store.put(layout.unnumbered_key(record_id(record)), value)

    def has_taken(self, run_id: str, command_id: str) -> bool:
        """Whether the run has taken the signal of this command."""
        return self._store.get(layout.signal_key(run_id, command_id)) is not None

    def chain_has_taken(self, run: Run, command_id: str, now_ms: int) -> bool:
        """Whether the run, or one before it in its chain that closed a short time ago, has taken that signal.

        A client repeats a signal whose answer it misses; meanwhile the run may have been continued as a new one. Who
        names a request may repeat it at any time: then every run of the workflow id counts that is still kept.
        """
        if keys.is_named_request(command_id):
            return self._store.get(layout.named_request_key(run.state.workflow_id, command_id)) is not None
        link: Run | None = run
        for _ in range(_CHAIN_LINKS_MAX):
            if link is None:
                return False
            if self.has_taken(link.state.run_id, command_id):
                return True
            if not link.state.continued_run_id or link.state.start_time_ms < now_ms - _REPETITION_MS_MAX:
                return False
            link = self.get(link.state.continued_run_id)
        return False

    def started_of(self, run_id: str) -> records.WorkflowExecutionStarted:
        """The first event of a run.

        Raises:
            LookupError: the run's first record is not there.
        """
        attributes = self.events_of_record(run_id, 1)[0].attributes
        assert isinstance(attributes, records.WorkflowExecutionStarted)
        return attributes

    def events_of(self, run_id: str) -> list[Event]:
        """All numbered events of a run, in order; for the rare decision that needs them.

        Raises:
            LookupError: there is no such run.
        """
        run = self.get(run_id)
        if run is None:
            raise LookupError(f"there is no run {run_id}")
        return [
            event
            for _, _, value in self.records_from(run, 1)
            for event in codec.decode_as(value, HistoryRecord).events
            if event.event_id > 0
        ]

    def records_from(self, run: Run, first_event_id: int) -> Iterator[CachedRecord]:
        """The run's records with numbered events, from the one that holds ``first_event_id`` on."""
        in_memory_from = run.records[0][0] if run.records else run.state.last_event_id + 1
        if first_event_id < in_memory_from:
            yield from self._stored_records(run.state.run_id, first_event_id, in_memory_from)
        for record in run.records:
            if record[1] >= first_event_id:
                yield record

    def _stored_records(self, run_id: str, first_event_id: int, end_event_id: int) -> Iterator[CachedRecord]:
        """Records in the store, from the one that holds ``first_event_id`` to the one before ``end_event_id``."""
        prefix = layout.records_prefix(run_id)
        start = layout.record_key(run_id, first_event_id)
        if first_event_id > 1 and self._store.get(start) is None:
            # The event stands inside a record. Asked for rarely enough to look for it from the beginning.
            firsts = [layout.first_event_id_of(key) for key, _ in self._store.scan(prefix)]
            before = [first for first in firsts if first <= first_event_id]
            start = layout.record_key(run_id, before[-1] if before else 1)
        entries = self._store.scan(prefix, start)
        held = next(entries, None)
        while held is not None:
            first = layout.first_event_id_of(held[0])
            if first >= end_event_id:
                return
            following = next(entries, None)
            last = end_event_id - 1
            if following is not None:
                last = min(last, layout.first_event_id_of(following[0]) - 1)
            yield first, last, held[1]
            held = following

    def events_of_record(self, run_id: str, first_event_id: int) -> list[Event]:
        """The events of the record that begins with ``first_event_id``, or with the event before it: where a task for
        updates is completed, the event that scheduled it stands first in the same record.

        Raises:
            LookupError: there is no such record.
        """
        value = self._store.get(layout.record_key(run_id, first_event_id))
        if value is None and first_event_id > 1:
            value = self._store.get(layout.record_key(run_id, first_event_id - 1))
        if value is None:
            raise LookupError(f"run {run_id} has no history record that begins with event {first_event_id}")
        return codec.decode_as(value, HistoryRecord).events

    def rebuild(self, run_id: str) -> None:
        """Make a run's state anew from its records: what a decision that failed halfway did to it is gone."""
        self.forget(run_id)
        values = [value for _, value in self._store.scan(layout.records_prefix(run_id))]
        if not values:
            return
        values += [value for _, value in self._store.scan(layout.unnumbered_prefix(run_id))]
        folded = sorted(
            ((codec.decode_as(value, HistoryRecord), len(value)) for value in values),
            key=lambda item: item[0].command_offset,
        )
        state = RunState(workflow_id=folded[0][0].workflow_id, run_id=run_id)
        for record, size_bytes in folded:
            fold_record(state, record, size_bytes)
        run = Run(state)
        self._insert(run)
        self.touch(run)

    def remove(self, run: Run) -> None:
        """Remove a run from memory and from the store."""
        state = run.state
        run_id = state.run_id
        self.forget(run_id)
        for prefix in (layout.records_prefix, layout.unnumbered_prefix, layout.signals_prefix):
            for key, _ in list(self._store.scan(prefix(run_id))):
                self._store.delete(key)
                if prefix is layout.signals_prefix:
                    self._forget_request(state.workflow_id, run_id, key)
        self._store.delete(layout.state_key(run_id))
        if not state.is_open:
            self._store.delete(self._retention_key(state))
        if self._store.get(layout.current_key(state.workflow_id)) == run_id.encode():
            self._store.delete(layout.current_key(state.workflow_id))

    def _forget_request(self, workflow_id: str, run_id: str, signal_key: bytes) -> None:
        command_id = signal_key[len(layout.signals_prefix(run_id)) :].decode()
        if keys.is_named_request(command_id):
            key = layout.named_request_key(workflow_id, command_id)
            if self._store.get(key) == run_id.encode():
                self._store.delete(key)

    def unnumbered_ids(self, run_id: str) -> list[str]:
        """The ids of the run's records of unnumbered events."""
        return [key[2:].decode() for key, _ in self._store.scan(layout.unnumbered_prefix(run_id))]

    def first_event_ids(self, run_id: str) -> list[int]:
        """The first event ids of the run's records with numbered events."""
        return [layout.first_event_id_of(key) for key, _ in self._store.scan(layout.records_prefix(run_id))]

    def due_for_removal(self) -> Iterator[tuple[int, str]]:
        """Closed runs and when they are to be removed, by that time."""
        for key, _ in self._store.scan(layout.RETENTION):
            yield layout.parse_retention_key(key)

    def clear_removal(self, remove_at_ms: int, run_id: str) -> None:
        """Take an entry of :meth:`due_for_removal` back."""
        self._store.delete(layout.retention_key(remove_at_ms, run_id))

    def forget(self, run_id: str) -> None:
        """Drop a run from memory, with changes that no checkpoint has written."""
        self._dirty.pop(run_id, None)
        self._closed.pop(run_id, None)
        run = self._cached.pop(run_id, None)
        if run is not None:
            self._cached_bytes -= run.records_bytes
            if self._current.get(run.state.workflow_id) == run_id:
                del self._current[run.state.workflow_id]

    def flush(self) -> None:
        """Stage the state of every run that has changed."""
        for run in self._dirty.values():
            self._stage(run)
        self._dirty.clear()

    def _stage(self, run: Run) -> None:
        self._store.put(layout.state_key(run.state.run_id), layout.encode_state(run.state))

    def _insert(self, run: Run) -> None:
        self._cached[run.state.run_id] = run
        if not run.state.is_open:
            self._note_closed(run)
        while len(self._cached) > self._config.cached_runs_max or self._cached_bytes > self._config.cached_bytes_max:
            oldest = next(iter(self._cached.values()))
            if oldest is run:
                break
            self._drop(oldest)

    def _note_closed(self, run: Run) -> None:
        if run.state.run_id in self._cached:
            self._closed[run.state.run_id] = None
        while len(self._closed) > self._config.cached_closed_runs_max:
            oldest = self._cached[next(iter(self._closed))]
            if oldest is run:
                break
            self._drop(oldest)

    def _drop(self, run: Run) -> None:
        """Drop a run from memory; the store has all of it."""
        if run.state.run_id in self._dirty:
            self._stage(run)
        self.forget(run.state.run_id)

    def removal_ms(self, state: RunState) -> int:
        """When a closed run is to be removed."""
        removal_ms = state.close_time_ms + self._config.retention_ms
        if not state.deleted_time_ms:
            return removal_ms
        # What the deletion has asked of others is acknowledged by then, and would be sent again by a new owner (I4).
        return min(removal_ms, state.deleted_time_ms + DELETED_KEPT_MS)

    def _retention_key(self, state: RunState) -> bytes:
        return layout.retention_key(self.removal_ms(state), state.run_id)


def fold_record(state: RunState, record: HistoryRecord, size_bytes: int) -> None:
    """Fold a whole record into a run's state.

    Raises:
        HistoryGapError: its events are not the next ones.
        IllegalTransitionError: its events do not fit the state.
    """
    for event in record.events:
        evolve(state, event, sent_since(record))
    finish_record(
        state,
        first_event_id=first_numbered(record.events),
        encoded_bytes=size_bytes,
        wake_up_number=record.wake_up_number,
        wake_up_due_ms=record.wake_up_due_ms,
        epoch=sent_since(record),
    )
