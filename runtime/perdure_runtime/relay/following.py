"""What workflows emit, as it stands in one partition of ``history``. Pure.

Invariants: a record counts exactly when it counts for the engine: one of an older epoch behind a newer owner mark is
void, and the parts of a decision count together or not at all; what begins a run emits nothing, because it holds at
most copies of what another run has emitted (a reset, a fork); a position is one from which somebody else comes to the
same result. Called by :mod:`perdure_runtime.relay.service`.
"""

from __future__ import annotations

from typing import NamedTuple

from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import LogRecord, NewRecord
from perdure_runtime.relay.carrier import BY_KEY, Position
from perdure_schemas import codec
from perdure_schemas.keys import EMITS_HEADERS, emit_id, is_mark
from perdure_schemas.records import HistoryRecord, RecordEmitted
from perdure_schemas.topics import EMIT_ID_HEADER, RUN_ID_HEADER, WORKFLOW_ID_HEADER

__all__ = ["Emit", "Follower", "emits_of"]

_FLAG = EMITS_HEADERS[0]


class Emit(NamedTuple):
    """A record that a workflow emits. ``id`` is the same whoever reads it, and no other record has it."""

    id: str
    workflow_id: str
    run_id: str
    time_ms: int
    event: RecordEmitted

    def record(self) -> NewRecord:
        """What is written."""
        headers = (
            *self.event.headers.items(),
            (WORKFLOW_ID_HEADER, self.workflow_id.encode()),
            (RUN_ID_HEADER, self.run_id.encode()),
            (EMIT_ID_HEADER, self.id.encode()),
        )
        return NewRecord(self.event.topic, BY_KEY, self.event.key, self.event.value, self.time_ms, headers)


def emits_of(record: HistoryRecord) -> list[Emit]:
    """What one valid history record emits, in order."""
    if not record.events or record.events[0].event_id == 1:
        return []
    return [
        Emit(
            emit_id(record.run_id, event.event_id),
            record.workflow_id,
            record.run_id,
            event.event_time_ms,
            event.attributes,
        )
        for event in record.events
        if isinstance(event.attributes, RecordEmitted)
    ]


class Follower:
    """Follows one partition.

    Args:
        partition: its number.
        position: where the first record that is taken stands, or below.
    """

    def __init__(self, partition: int, position: Position) -> None:
        self._source = f"history/{partition}"
        self._fence = Fence()
        if position.epoch >= 0:
            self._fence.mark(self._source, position.epoch)
        self._next = position.offset
        self._recorded = -1
        self._parts: list[HistoryRecord] = []
        self._parts_offset = 0

    @property
    def position(self) -> Position:
        """Up to where everything that was taken is told."""
        return Position(self._parts_offset if self._parts else self._next, self._fence.newest(self._source))

    def take(self, record: LogRecord) -> list[Emit]:
        """Take in the next record of the partition; returns what is emitted by now.

        Raises:
            DecodeError, ValueError: it cannot be read; it is passed over when the next one comes.
        """
        self._next = record.offset + 1
        if is_mark(record.key):
            admitted_key(self._fence, record)
            # What is missing of a decision would be void from here on, and is decided again.
            self._parts.clear()
            return []
        if _FLAG not in record.headers or admitted_key(self._fence, record) is None:
            return []
        value = codec.decode_as(record.value, HistoryRecord)
        if value.command_offset <= self._recorded:
            return []
        if self._parts and self._parts[0].command_offset != value.command_offset:
            self._parts.clear()
        if not self._parts:
            self._parts_offset = record.offset
        self._parts.append(value)
        if value.part < value.parts:
            return []
        parts, self._parts = self._parts, []
        self._recorded = value.command_offset
        return [emit for part in parts for emit in emits_of(part)]
