"""Which records of a topic count, however much of it compaction has dropped already: what a copy is made of.

Invariants: a record counts exactly when it counts for the engine (an older epoch behind a newer mark is void, and so is
its tombstone; the parts of a decision count together or not at all; of unnumbered records the newest). So the result is
the same before and after compaction. Memory: an id for each record that counts. Pure. Called by ``copying``.
"""

from __future__ import annotations

from typing import NamedTuple

from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, OwnerMark

__all__ = ["FencedSurvivors", "HistorySurvivors", "Kept"]

_FIRST_RECORD = keys.history_id("", 1)[1:]


class Kept(NamedTuple):
    """A history record that is carried over.

    Attributes:
        last: the offset of the last such record of its decision.
        removed: retention has removed its run; it stays as long as another run of its decision does.
    """

    last: int
    removed: bool


class _Part(NamedTuple):
    offset: int
    record_id: str
    run_id: str


class HistorySurvivors:
    """One partition of ``history``. Give it all records, in order; then ask.

    Args:
        partition: its number.
    """

    def __init__(self, partition: int) -> None:
        self._source = f"history/{partition}"
        self._newest_mark = -1
        #: The newest command with a complete decision; -1 before the first.
        self.recorded = -1
        #: Records that nobody can read; the engine gives them up, too.
        self.unreadable = 0
        self._parts: list[_Part] = []
        self._parts_command = -1
        self._decisions: list[tuple[_Part, ...]] = []
        self._newest: dict[str, int] = {}
        self._removed: set[str] = set()

    def take(self, record: LogRecord) -> None:
        """Take in the next record."""
        try:
            self._take(record)
        except (codec.DecodeError, ValueError):
            self.unreadable += 1

    def _take(self, record: LogRecord) -> None:
        if keys.is_mark(record.key):
            if codec.decode_as(record.value, OwnerMark).source == self._source:
                self._newest_mark = max(self._newest_mark, record.offset)
                self._parts.clear()  # what is missing of the decision would be void from here on
            return
        key = keys.parse_fenced_key(record.key or b"")
        if key.epoch < self._newest_mark:
            return
        if record.value is None:
            run_id, _, what = key.id.partition("/")
            if what == _FIRST_RECORD:  # written last, and stands for the whole run
                self._removed.add(run_id)
            return
        value = codec.decode_as(record.value, HistoryRecord)
        if value.command_offset <= self.recorded:
            return
        if self._parts_command != value.command_offset:
            self._parts.clear()
        self._parts_command = value.command_offset
        self._parts.append(_Part(record.offset, key.id, value.run_id))
        if value.part < value.parts:
            return
        for part in self._parts:
            self._newest[part.record_id] = part.offset
        self._decisions.append(tuple(self._parts))
        self._parts.clear()
        self.recorded = value.command_offset

    def kept(self) -> dict[int, Kept]:
        """The records that are carried over, by offset.

        A removed run is left out, but for the record that began it in one decision with what another run has kept:
        else the other one would be followed by a run that was never started.
        """
        found: dict[int, Kept] = {}
        for decision in self._decisions:
            newest = [part for part in decision if self._newest[part.record_id] == part.offset]
            stays = any(part.run_id not in self._removed for part in newest)
            chosen = [
                part
                for part in newest
                if part.run_id not in self._removed or (stays and part.record_id.endswith(f"/{_FIRST_RECORD}"))
            ]
            for part in chosen:
                found[part.offset] = Kept(chosen[-1].offset, part.run_id in self._removed)
        return found


class FencedSurvivors:
    """One partition of ``tasks``, ``timers`` or ``executions``. Give it all records, in order; then ask."""

    def __init__(self) -> None:
        self._fence = Fence()
        self._live: dict[str, int] = {}
        self.unreadable = 0

    def take(self, record: LogRecord) -> None:
        """Take in the next record."""
        try:
            key = admitted_key(self._fence, record)
        except (codec.DecodeError, ValueError):
            self.unreadable += 1
            return
        if key is None:
            return
        if record.value is None:
            self._live.pop(key.id, None)
        else:
            self._live[key.id] = record.offset

    def kept(self) -> frozenset[int]:
        """The offsets of the records that are carried over.

        Queries, and tasks for updates only, are left out: no history tells of them, and who asked asks again.
        """
        return frozenset(offset for thing, offset in self._live.items() if not _is_query(thing))


def _is_query(record_id: str) -> bool:
    return record_id.partition("/")[2].startswith("q")
