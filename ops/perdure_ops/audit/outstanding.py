"""The checks of ``tasks``, ``timers`` and ``executions``: what is outstanding there, and by which record.

Invariants: a record counts exactly when it counts for the role that reads the topic (an older epoch of its source
behind a newer mark is void, and so is its tombstone); one thing is one by its id, whatever the epochs it was sent
under; when it is over, each of its keys has a tombstone, since compaction drops them one by one. Memory: what is
outstanding, and the newest ids that are over. Pure. Called by ``core``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from perdure_ops.audit.breach import Breach, Place
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import ExecutionSummary, OwnerMark, TaskRecord, TimerRecord, WorkflowStatus

__all__ = ["FencedCheck", "OutstandingCheck", "SummaryCheck", "Thing"]

#: How many ids that are over are remembered in each partition, to see one that comes back.
_OVER_MAX = 20_000

_PartitionOf = Callable[[TaskRecord | TimerRecord], int]


class Outstanding(NamedTuple):
    """One outstanding task or timer. ``due_time_ms`` is a timer's; ``readable``: whether the value could be read."""

    workflow_id: str
    run_id: str
    place: Place
    kind: str
    due_time_ms: int = 0
    readable: bool = True


class FencedCheck(ABC):
    """One partition of a topic whose keys end in an epoch.

    Args:
        found: takes each breach.
    """

    def __init__(self, found: Callable[[Breach], None]) -> None:
        self._found = found
        self._newest: dict[str, int] = {}
        self.void_records = 0
        #: Epochs of each source of which a valid record was seen, with the first such record.
        self.epochs: dict[tuple[int, int], Place] = {}

    def take(self, record: LogRecord) -> None:
        """Take in the next record of the partition."""
        place = Place(record.topic, record.partition, record.offset)
        try:
            if keys.is_mark(record.key):
                self._take_mark(codec.decode_as(record.value, OwnerMark), record.offset)
                return
            key = keys.parse_fenced_key(record.key or b"")
        except (codec.DecodeError, ValueError) as error:
            self._found(Breach("unreadable", f"neither a mark nor a key with an epoch: {error}", *place))
            return
        source = f"history/{key.source_partition}"
        newest = self._newest.get(source, -1)
        if key.epoch < newest:
            self.void_records += 1
            self._take_void(record, key)
            return
        if key.epoch > newest:
            message = f"epoch {key.epoch} of {source} has no owner mark before it in this partition"
            self._found(Breach("unmarked", message, *place))
            self._newest[source] = key.epoch
        self.epochs.setdefault((key.source_partition, key.epoch), place)
        self._take_valid(record, key, place)

    def _take_mark(self, mark: OwnerMark, offset: int) -> None:
        epoch = mark.epoch if mark.epoch >= 0 else offset
        self._newest[mark.source] = max(epoch, self._newest.get(mark.source, -1))

    @abstractmethod
    def _take_void(self, record: LogRecord, key: keys.FencedKey) -> None:
        """What compaction makes of a record that does not count."""

    @abstractmethod
    def _take_valid(self, record: LogRecord, key: keys.FencedKey, place: Place) -> None:
        """What a record that counts does."""


class Thing:
    """A task or a timer, by its id.

    Attributes:
        newest: its newest record.
        live: whether it is outstanding.
        ended_epoch: the epoch of the newest tombstone that ended it; -1 before the first.
        keys: the records of it that compaction keeps, by epoch.
    """

    __slots__ = ("ended_epoch", "keys", "live", "newest")

    def __init__(self, newest: Outstanding) -> None:
        self.newest = newest
        self.live = True
        self.ended_epoch = -1
        self.keys: dict[int, Place] = {}


class OutstandingCheck(FencedCheck):
    """One partition of ``tasks`` or ``timers``.

    Args:
        found: takes each breach.
        partition_of: the partition in which a value has to stand.
    """

    def __init__(
        self, found: Callable[[Breach], None], partition_of: Callable[[TaskRecord | TimerRecord], int]
    ) -> None:
        super().__init__(found)
        self._partition_of = partition_of
        #: What is outstanding, or over with a key left.
        self.things: dict[str, Thing] = {}
        self.scheduled = 0
        self.done = 0
        #: Ids that are over, with the epoch that ended them.
        self._over: OrderedDict[str, int] = OrderedDict()

    def _take_void(self, record: LogRecord, key: keys.FencedKey) -> None:
        if record.value is None:
            self._drop_key(key)

    def _take_valid(self, record: LogRecord, key: keys.FencedKey, place: Place) -> None:
        if record.value is None:
            thing = self.things.get(key.id)
            if thing is not None and thing.live:
                thing.live = False
                thing.ended_epoch = key.epoch
                self.done += 1
            self._drop_key(key)
            return
        entry = self._read(record, key, place)
        thing = self.things.get(key.id)
        if thing is None:
            thing = self.things[key.id] = Thing(entry)
            self.scheduled += 1
        if not thing.live or key.id in self._over:
            if thing.live:
                thing.ended_epoch = self._over.pop(key.id)
            else:
                self.scheduled += 1
            thing.live = True
            # A later owner may not know the decision that ended it, if its history record was lost with the owner that
            # took it: it sends the task again, and decides again. Nobody else may.
            if key.epoch <= thing.ended_epoch:
                message = f"{key.id!r} was done and is there again"
                self._found(Breach("task-revived", message, *place, entry.workflow_id, entry.run_id))
        thing.newest = entry
        thing.keys[key.epoch] = place

    def _drop_key(self, key: keys.FencedKey) -> None:
        thing = self.things.get(key.id)
        if thing is None:
            return
        thing.keys.pop(key.epoch, None)
        if not thing.live and not thing.keys:
            del self.things[key.id]
            self._over[key.id] = thing.ended_epoch
            if len(self._over) > _OVER_MAX:
                self._over.popitem(last=False)

    def _read(self, record: LogRecord, key: keys.FencedKey, place: Place) -> Outstanding:
        run_id = key.id.partition("/")[0]
        try:
            value = codec.decode(record.value)
        except codec.DecodeError:
            value = None
        if isinstance(value, TaskRecord):
            found, value_id = Outstanding(value.workflow_id, value.run_id, place, value.kind), value.task_id
        elif isinstance(value, TimerRecord):
            found = Outstanding(value.workflow_id, value.run_id, place, "timer", value.due_time_ms)
            value_id = value.timer_id
        else:
            return Outstanding("", run_id, place, "", readable=False)
        if value_id != key.id:
            message = f"the key {key.id!r} stands before {value_id!r}"
            self._found(Breach("wrong-key", message, *place, value.workflow_id, value.run_id))
        right = self._partition_of(value)
        if right != place.partition:
            message = f"{value_id!r} belongs to partition {right}"
            self._found(Breach("misplaced", message, *place, value.workflow_id, value.run_id))
        return found


class SummaryCheck(FencedCheck):
    """One partition of ``executions``.

    Args:
        found: takes each breach.
        seen: is told of each summary.
        gone: is told of each run whose summary is removed.
    """

    def __init__(
        self,
        found: Callable[[Breach], None],
        seen: Callable[[str, WorkflowStatus, str, Place], None],
        gone: Callable[[str], None],
    ) -> None:
        super().__init__(found)
        self._seen = seen
        self._gone = gone

    def _take_void(self, record: LogRecord, key: keys.FencedKey) -> None:
        pass  # a summary under another key is another summary

    def _take_valid(self, record: LogRecord, key: keys.FencedKey, place: Place) -> None:
        if record.value is None:
            self._gone(key.id)
            return
        try:
            value: Any = codec.decode_as(record.value, ExecutionSummary)
        except codec.DecodeError as error:
            self._found(Breach("unreadable", str(error), *place, "", key.id))
            return
        if value.run_id != key.id:
            message = f"the key {key.id!r} stands before the summary of run {value.run_id!r}"
            self._found(Breach("wrong-key", message, *place, value.workflow_id, value.run_id))
            return
        self._seen(value.run_id, value.status, value.workflow_id, place)
