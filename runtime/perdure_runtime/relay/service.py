"""The relay at work: follows ``history``, and writes what workflows emit.

The partitions of ``history`` are shared among the relays of a namespace. All that a look at the topic brings for a
partition is written at once, together with how far the partition is done. Invariants: no record is written twice, and
none of a partition before those that were emitted earlier in it; what the log will never take becomes a dead letter,
written in the place of the record, and the partition goes on (I5); whatever fails is thrown away and made anew from the
positions in the log (crash-only). Called by whoever runs an engine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.dead_letters import dead_letter, reason_of
from perdure_runtime.log import Log, LogClosedError, LogError, LogRecord, NewRecord, Reader, TopicPartition
from perdure_runtime.newer import refuse_newer
from perdure_runtime.relay.carrier import CarryingLog, Position, RefusedError
from perdure_runtime.relay.following import Emit, Follower
from perdure_runtime.relay.waits import WAITS, Waits
from perdure_runtime.restarting import restart_delay_s
from perdure_schemas.topics import TopicNames

__all__ = ["RELAY", "Relay"]

_logger = logging.getLogger("perdure.relay")

#: The last part of the group's name, and of the names of its transactions.
RELAY = "relay"
_RECORDS_PER_POLL_MAX = 2_000
#: Membership must be polled at least every second.
_IDLE_S = 0.5
#: A history record rarely comes alone: a look for each would cost the engine's thread, in whose process this may run.
_LINGER_S = 0.01
#: How often the position is kept of partitions in which nobody emits.
_ADVANCE_S = 5.0
_RESTART_S_MIN = 0.2
_RESTART_S_MAX = 10.0
_STOP_S = 10.0


class Relay:
    """Writes what the workflows of a namespace emit, and finds the records they wait for, each on a thread of its own.

    Args:
        log: the log; it is not closed here.
        names: the namespace's topics; they must exist.
        instance: this relay's name across restarts.
        now_ms: the wall clock.

    Raises:
        LogError: the log is one on which no relay can run, because it belongs to another process.
    """

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        *,
        instance: str,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        if not isinstance(log, CarryingLog):
            raise LogError(f"no relay can run on {log!r}: run it where the log is, or on Kafka")
        self._log = log
        self._names = names
        self._instance = instance
        self._now_ms = now_ms
        self._stopping = threading.Event()
        self._joined = threading.Event()
        #: What makes a thread look up when it waits.
        self._readers: dict[str, Reader] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(name, live), name=f"perdure-{name}", daemon=True)
            for name, live in ((RELAY, self._carry), (WAITS, self._wait))
        ]

    def start(self) -> None:
        """Begin to follow the history and to write, and to look for records that are waited for."""
        for thread in self._threads:
            thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the group has given this relay its share; false if that takes longer."""
        return self._joined.wait(timeout_s)

    def stop(self) -> None:
        """Stop; what is not written yet is written by whoever comes next."""
        self._stopping.set()
        for reader in list(self._readers.values()):
            reader.wake()
        deadline_s = time.monotonic() + _STOP_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def _carry(self, opened: ExitStack) -> None:
        carrying = _Carrying(self, self._log, self._names, opened)
        carrying.run()

    def _wait(self, opened: ExitStack) -> None:
        waits = Waits(self._log, self._names, self._instance, opened)
        self._readers[WAITS] = waits.reader
        waits.run(self._stopping)

    def _run(self, name: str, live: Callable[[ExitStack], None]) -> None:
        delay_s = 0.0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                with ExitStack() as opened:
                    live(opened)
            except LogClosedError:
                return  # whoever closed the log wants nothing more of it
            except LogError as error:
                _logger.warning("part=%s event=restarting reason=%r", name, str(error))
            except Exception:
                _logger.exception("part=%s event=restarting", name)
            run_s = time.monotonic() - started_s
            delay_s = restart_delay_s(delay_s, run_s, min_s=_RESTART_S_MIN, max_s=_RESTART_S_MAX, good_s=_RESTART_S_MAX)
            self._stopping.wait(delay_s)


class _Carrying:
    """One life of the relay: from joining the group to the first failure."""

    def __init__(self, relay: Relay, log: CarryingLog, names: TopicNames, opened: ExitStack) -> None:
        self._relay = relay
        self._log = log
        self._names = names
        self._followers: dict[int, Follower] = {}
        #: What the log knows of our positions.
        self._kept: dict[int, Position] = {}
        self._reader = relay._readers[RELAY] = log.reader(RELAY)
        opened.callback(self._reader.close)
        group = f"{names.prefix}.{names.namespace}.{RELAY}"
        self._carrier = log.carrier(group, names.history, relay._instance, self._on_assigned, self._on_revoked)
        opened.callback(self._carrier.leave)

    def run(self) -> None:
        """Write until the relay is stopped."""
        stopping = self._relay._stopping
        advanced_s = time.monotonic()
        while not stopping.is_set():
            self._carrier.poll()
            records = self._reader.poll(_RECORDS_PER_POLL_MAX, _IDLE_S)
            if records and not self._take(records):
                stopping.wait(_LINGER_S)
            now_s = time.monotonic()
            if now_s - advanced_s >= _ADVANCE_S:
                advanced_s = now_s
                self._advance(list(self._followers))
        self._advance(list(self._followers))

    def _take(self, records: list[LogRecord]) -> bool:
        """Follow, and write what is emitted; returns whether there was anything."""
        out: dict[int, list[tuple[NewRecord, Emit | None]]] = {}
        for record in records:
            follower = self._followers.get(record.partition)
            if follower is None:
                continue
            try:
                emits = follower.take(record)
            except Exception as error:
                refuse_newer(record, error, (self._names.history,))
                _logger.error("partition=%d offset=%d event=dead_letter", record.partition, record.offset)
                letter = dead_letter(self._names.dead_letters, record, reason_of(error), self._relay._now_ms())
                out.setdefault(record.partition, []).append((letter, None))
                continue
            if emits:
                out.setdefault(record.partition, []).extend((emit.record(), emit) for emit in emits)
        for partition, batch in out.items():
            self._write(partition, batch)
        return bool(out)

    def _write(self, partition: int, batch: list[tuple[NewRecord, Emit | None]]) -> None:
        position = self._followers[partition].position
        while True:
            try:
                self._carrier.carry(partition, [record for record, _ in batch], position)
            except RefusedError as error:
                if any(batch[index][1] is None for index in error.reasons):
                    raise  # not even the dead letter
                for index, reason in error.reasons.items():
                    emit = batch[index][1]
                    assert emit is not None
                    _logger.error(
                        "workflow=%s emit=%s topic=%s event=dead_letter reason=%r",
                        emit.workflow_id, emit.id, emit.event.topic, reason,
                    )  # fmt: skip
                    batch[index] = (self._letter(partition, position, emit, reason), None)
            else:
                self._kept[partition] = position
                return

    def _letter(self, partition: int, position: Position, emit: Emit, reason: str) -> NewRecord:
        record = emit.record()
        at = LogRecord(record.topic, partition, position.offset, record.key, record.value, emit.time_ms, record.headers)
        return dead_letter(self._names.dead_letters, at, reason, self._relay._now_ms(), emit_id=emit.id)

    # --- partitions -----------------------------------------------------------------------------------------------

    def _on_assigned(self, partitions: list[int]) -> None:
        found = self._carrier.positions(partitions) if partitions else {}
        starts = {}
        for number in partitions:
            place = TopicPartition(self._names.history, number)
            low, high = self._log.watermarks(place)
            kept = found.get(number, Position(low, -1))
            position = Position(min(max(kept.offset, low), high), kept.epoch)
            if position.offset < kept.offset:
                _logger.warning("partition=%d event=offset_moved from=%d to=%d", number, kept.offset, position.offset)
            self._followers[number] = Follower(number, position)
            self._kept[number] = position
            starts[place] = position.offset
        self._reader.assign(starts)
        self._relay._joined.set()

    def _on_revoked(self, partitions: list[int], lost: bool) -> None:
        if not lost:
            self._advance(partitions)
        self._reader.unassign([TopicPartition(self._names.history, number) for number in partitions])
        for number in partitions:
            self._followers.pop(number, None)
            self._kept.pop(number, None)

    def _advance(self, partitions: list[int]) -> None:
        """Keep where these partitions stand; all that they emitted is written."""
        moved = {}
        for number in partitions:
            follower = self._followers.get(number)
            if follower is not None and follower.position != self._kept.get(number):
                moved[number] = follower.position
        if moved:
            self._carrier.advance(moved)
            self._kept.update(moved)
