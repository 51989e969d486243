"""Timers as the processor shell runs them: timer records in, wake-ups out.

All outstanding timers are in the store or, when they are young, in ``unstored``; those in front of the *cursor* are
in memory too, in the order of their due times. The cursor moves on when the near future has been used up, with one
scan for many timers. Invariants: never early; a timer stays outstanding until history tombstones it, so no crash
loses one; a timer that is void within ``store_after_ms`` never reaches the store; the state of a checkpoint together
with the records from its position on is the state now, and that position stands above every mark the fence knows.
Called by :mod:`perdure_runtime.processor`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.fence import Fence
from perdure_runtime.handler import Outbox, PartitionStore
from perdure_runtime.log import LogRecord, NewRecord, TopicPartition
from perdure_runtime.metrics import PROCESS, TIMER_LATENESS, TIMERS_IN_MEMORY, Sample
from perdure_schemas import codec, keys, limits
from perdure_schemas.records import OwnerMark, TimerRecord
from perdure_schemas.topics import TopicNames
from perdure_timers.core.pending import PendingTimers, Timer, wake_up
from perdure_timers.far import FarTimers, Positions

__all__ = ["TimersConfig", "TimersPartition", "TimersRole"]

_logger = logging.getLogger("perdure.timers")


@dataclass(frozen=True, slots=True)
class TimersConfig:
    """The bounds and times of timers.

    Attributes:
        horizon_ms: how far ahead timers are taken into memory.
        in_memory_max: how many of them.
        loaded_per_tick_max: how many of them in one tick.
        fired_per_tick_max: how many wake-ups are sent at once.
        resend_after_ms: a wake-up that history has not confirmed for so long is sent again.
        store_after_ms: timers that are void sooner never reach the state store.
    """

    horizon_ms: int = limits.TIMER_HORIZON_MS
    in_memory_max: int = limits.TIMERS_IN_MEMORY_MAX
    loaded_per_tick_max: int = limits.TIMERS_LOADED_PER_TICK_MAX
    fired_per_tick_max: int = limits.TIMERS_FIRED_PER_TICK_MAX
    resend_after_ms: int = 60_000
    store_after_ms: int = 1_000

    def __post_init__(self) -> None:
        for name in ("horizon_ms", "in_memory_max", "loaded_per_tick_max", "fired_per_tick_max", "resend_after_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class TimersRole:
    """The role that wakes runs up; see :class:`perdure_runtime.handler.Role`.

    Parameters:
        names: the namespace's topics.
        config: times and bounds.
        clock: the wall clock in milliseconds; a simulation passes its own, the same as the shell's.
    """

    name = "timers"
    store_version = 1

    def __init__(
        self, names: TopicNames, config: TimersConfig | None = None, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.names = names
        self.config = config or TimersConfig()
        self.clock = clock
        self.owned_topic = names.timers
        self.restored_topic = names.timers
        self.live_topics: Sequence[str] = (names.timers,)

    def marks(self, partition: int) -> Sequence[TopicPartition]:
        """None: wake-ups are commands, checked against the run's state when they are processed (I6)."""
        return ()

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> TimersPartition:
        """A handler for a partition that is about to be restored."""
        return TimersPartition(self, partition, store)


class TimersPartition:
    """One partition of ``timers``; see :class:`perdure_runtime.handler.PartitionHandler`."""

    def __init__(self, role: TimersRole, partition: int, store: PartitionStore) -> None:
        self._names = role.names
        self._config = role.config
        self._clock = role.clock
        self._own_source = f"{role.name}/{partition}"
        self._partition = partition
        self._far = FarTimers(store)
        stored = self._far.load(role.clock())
        self._restored = stored is not None
        self._positions = stored or Positions()
        self._fence = Fence.decode(self._positions.fence or None)
        self._pending = PendingTimers(role.config.resend_after_ms)
        #: Timers the store does not have, in the order of arrival.
        self._unstored: dict[str, Timer] = {}
        #: Every timer in front of the cursor is in ``_pending``. Nothing behind it is due before ``_beyond_ms``.
        self._cursor: tuple[int, str] = (0, "")
        self._beyond_ms: int | None = 0
        self._epoch = -1
        self.deposed = False

    # --- restoring --------------------------------------------------------------------------------------------------

    def restore_offset(self) -> int | None:
        """Behind what the last checkpoint holds."""
        return self._positions.timers if self._restored else None

    def fold(self, record: LogRecord) -> None:
        """Take in a timer record; nothing fires."""
        self._take(record)

    def fold_committed(self, committed: int) -> None:
        """Nothing to do: what is due is sent by the clock, whatever was committed."""

    def fold_checkpoint(self, complete_ms: int) -> int | None:
        """Stage what was folded. It may be written at once: a wake-up that an owner had to send is still a timer here
        until history says that it is over."""
        self._stage(max(complete_ms, self._positions.saved_ms))
        return None

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> Mapping[str, int]:
        """Own the partition: what is due fires at the next tick, also what an earlier owner may have fired."""
        self._epoch = epoch
        self._fence.mark(self._own_source, epoch)
        self._positions.mark = max(self._positions.mark, epoch)
        self._positions.timers = max(self._positions.timers, epoch + 1)
        self._refill(now_ms)
        return {self._names.timers: epoch + 1}

    # --- live -------------------------------------------------------------------------------------------------------

    def handle(self, record: LogRecord, outbox: Outbox) -> None:
        """Process a timer record.

        Raises:
            DecodeError: the bytes are no record of the platform.
            ValueError: the record makes no sense here; the message says why.
        """
        self._take(record)

    def quarantine(self, record: LogRecord, reason: str, outbox: Outbox) -> None:
        """A record that says nothing readable changes nothing; the shell keeps it as a dead letter."""
        _logger.warning(
            "skipped %s[%d]@%d key=%r: %s", record.topic, record.partition, record.offset, record.key, reason
        )

    def tick(self, now_ms: int, outbox: Outbox) -> None:
        """Send the wake-ups that are due, up to a batch; the rest is due at once again."""
        if self.deposed:
            return
        refill_ms = self._refill_ms()
        if refill_ms is not None and refill_ms <= now_ms:
            self._refill(now_ms)
        for timer in self._pending.take_due(now_ms, self._config.fired_per_tick_max):
            partition = keys.partition_of(timer.workflow_id, self._names.partitions)
            value = codec.encode(wake_up(timer))
            PROCESS.observe(TIMER_LATENESS, (self._names.namespace,), (now_ms - timer.due_ms) / 1000)
            outbox.send(NewRecord(self._names.commands, partition, timer.workflow_id.encode(), value, now_ms))

    def samples(self) -> list[Sample]:
        """See :class:`perdure_runtime.handler.Measured`."""
        return [Sample(TIMERS_IN_MEMORY, (), self._pending.waiting_count)]

    def next_wakeup_ms(self) -> int | None:
        """When the next timer is due, or the next part of the future must be looked at."""
        if self.deposed:
            return None
        due_ms = self._pending.next_due_ms()
        refill_ms = self._refill_ms()
        if due_ms is None or refill_ms is None:
            return refill_ms if due_ms is None else due_ms
        return min(due_ms, refill_ms)

    def checkpoint(self) -> int | None:
        """Stage what changed; returns the offset of ``timers`` to commit."""
        return None if self.deposed else self._stage(self._clock())

    def _stage(self, saved_ms: int) -> int:
        now_ms = self._clock()
        position = self._positions.timers
        store_after_ms = self._config.store_after_ms
        stored = []
        for timer in self._unstored.values():
            if timer.sequence > self._positions.mark and now_ms - timer.arrived_ms < store_after_ms:
                position = timer.sequence
                break
            self._far.put(timer)
            stored.append(timer.timer_id)
        for timer_id in stored:
            del self._unstored[timer_id]
        self._positions.saved_ms = saved_ms
        self._far.save(Positions(position, saved_ms, self._fence.encode(), self._positions.mark))
        return position

    # --- records ----------------------------------------------------------------------------------------------------

    def _take(self, record: LogRecord) -> None:
        self._positions.timers = record.offset + 1
        if keys.is_mark(record.key):
            self._take_mark(record)
            return
        if record.key is None:
            raise ValueError("a timer record has no key; only history writes to this topic")
        key = keys.parse_fenced_key(record.key)
        if not self._fence.admits(f"history/{key.source_partition}", key.epoch):
            return
        if record.value is None:
            self._remove(key.id)
            return
        value = codec.decode_as(record.value, TimerRecord)
        if value.timer_id != key.id:
            raise ValueError(f"the timer record has the key {key.id!r} and the timer id {value.timer_id!r}")
        if len(value.workflow_id) > limits.WORKFLOW_ID_CHARS_MAX or len(value.run_id) > limits.NAME_CHARS_MAX:
            raise ValueError(f"timer {key.id[:80]!r} names a workflow or a run whose id is longer than ids may be")
        if value.due_time_ms < 0:
            raise ValueError(f"timer {value.timer_id} is due at {value.due_time_ms} ms, before the epoch")
        self._arm(value, record.offset)

    def _take_mark(self, record: LogRecord) -> None:
        mark = codec.decode_as(record.value, OwnerMark)
        epoch = mark.epoch if mark.epoch >= 0 else record.offset
        self._fence.mark(mark.source, epoch)
        self._positions.mark = record.offset
        if mark.source == self._own_source and 0 <= self._epoch < epoch:
            self.deposed = True
            _logger.info("partition %d of %s was taken over by %s", self._partition, self._names.timers, mark.owner)

    def _arm(self, record: TimerRecord, offset: int) -> None:
        known_ms = self._due_of(record.timer_id)
        if known_ms == record.due_time_ms:
            return  # sent again after a takeover of history
        if known_ms is not None:
            self._remove(record.timer_id)
        timer = Timer(
            record.timer_id,
            record.workflow_id,
            record.run_id,
            record.arm_number,
            record.due_time_ms,
            offset,
            self._clock(),
        )
        self._unstored[timer.timer_id] = timer
        if timer.key < self._cursor:
            self._pending.add(timer)
        else:
            self._beyond_ms = timer.due_ms if self._beyond_ms is None else min(self._beyond_ms, timer.due_ms)

    def _due_of(self, timer_id: str) -> int | None:
        timer = self._unstored.get(timer_id) or self._pending.get(timer_id)
        return self._far.due_of(timer_id) if timer is None else timer.due_ms

    def _remove(self, timer_id: str) -> None:
        young = self._unstored.pop(timer_id, None)
        timer = self._pending.remove(timer_id)
        if young is not None:
            return
        due_ms = self._far.due_of(timer_id) if timer is None else timer.due_ms
        if due_ms is not None:
            self._far.delete(due_ms, timer_id)

    # --- the near future --------------------------------------------------------------------------------------------

    def _refill_ms(self) -> int | None:
        """When the cursor is to move on; ``None`` while there is enough in memory, or nothing behind it."""
        if self._beyond_ms is None or self._pending.waiting_count > self._config.in_memory_max // 2:
            return None
        return self._beyond_ms - self._config.horizon_ms // 2

    def _refill(self, now_ms: int) -> None:
        """Move the cursor on: up to the horizon, or as far as memory and one tick allow."""
        start = self._cursor
        until_ms = now_ms + self._config.horizon_ms
        room = min(self._config.in_memory_max - self._pending.waiting_count, self._config.loaded_per_tick_max)
        self._cursor = max(start, (until_ms + 1, ""))
        self._beyond_ms = None
        for timer in self._far.scan(start):
            if room <= 0 or timer.due_ms > until_ms:
                self._cursor = timer.key
                self._beyond_ms = timer.due_ms
                break
            self._pending.add(timer)
            room -= 1
        for timer in self._unstored.values():
            if timer.key >= self._cursor:
                self._beyond_ms = timer.due_ms if self._beyond_ms is None else min(self._beyond_ms, timer.due_ms)
            elif timer.key >= start:
                self._pending.add(timer)
