"""Compaction and retention in the background, in steps so small that nobody waits for them.

Invariants:

* records that readers may still get from memory are never compacted, nor are the newest ``lag_records``;
* what replaces a record is durable before the record is removed, and a tombstone goes only after all it covers:
  removals are commits like all others, in ascending order;
* a pass may stop anywhere, because its progress is written last;
* an idle log costs one look at each partition's numbers every ``interval_s``.

One thread. Started and closed by :class:`perdure_runtime.embedded.log.EmbeddedLog`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.embedded import compaction, layout
from perdure_runtime.embedded.core import LogCore
from perdure_runtime.embedded.partition import Partition
from perdure_runtime.log import LogRecord
from perdure_runtime.sizes import record_bytes

_logger = logging.getLogger("perdure.log")

#: Keys held in memory for one pass; a pass over more new keys stops there, and the next one goes on.
KEYS_MAX = 200_000
#: Blocks handled between two pauses.
STEP_BLOCKS = 32
#: Remote producers that appended nothing for so long are forgotten.
PRODUCER_KEPT_MS = 24 * 3_600_000
_COMMIT_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class CleanerOptions:
    """How the cleaner works.

    Attributes:
        interval_s: how often it looks for work.
        pause_s: its pause after each step.
        lag_records: the newest records of a partition, which it never compacts.
        records_min: new records below which compaction is not worth it.
    """

    interval_s: float = 20.0
    pause_s: float = 0.005
    lag_records: int = 1_000
    records_min: int = 1_000


class Cleaner:
    """Cleans all partitions of a log, one after the other."""

    def __init__(self, core: LogCore, options: CleanerOptions) -> None:
        self._core = core
        self._options = options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="perdure-log-cleaner", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop in the middle of whatever it does."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._options.interval_s):
            try:
                self.run_once(wall_clock_ms())
            except Exception:
                _logger.exception("log=%s event=cleaner_failed", self._core.where)

    def run_once(self, time_ms: int) -> None:
        """Do all that is due at ``time_ms``."""
        for partition in list(self._core.partitions.values()):
            if self._stop.is_set() or self._core.failure is not None:
                return
            config = self._core.topics[partition.place.topic].config
            if partition.compacted:
                self._compact(partition, config, time_ms)
            if "delete" in config.get("cleanup.policy", "delete"):
                self._expire(partition, int(config.get("retention.ms", "-1")), time_ms)
        self._forget_producers(time_ms)

    # --- compaction -----------------------------------------------------------------------------------------------

    def _compact(self, partition: Partition, config: dict[str, str], time_ms: int) -> None:
        state = partition.clean
        with self._core.lock:
            target = min(partition.base, partition.synced, partition.end - max(1, self._options.lag_records))
        target = max(target, state.end)
        removable = compaction.tombstones_below(state, int(config.get("delete.retention.ms", "86400000")), time_ms)
        ratio = float(config.get("min.cleanable.dirty.ratio", "0.5"))
        if not compaction.is_due(state, target, ratio, self._options.records_min, removable):
            return
        found = self._newest(partition, state.end, target)
        if found is None:
            return
        newest, target = found
        counts = self._rewrite(partition, newest, target, removable)
        if counts is None:
            return
        live, tombstones, removed = counts
        partition.clean = compaction.after_pass(state, target, live, tombstones, removable, time_ms)
        self._write({layout.CLEAN_PREFIX + partition.identity: layout.encode(partition.clean)})
        _logger.debug("topic=%s partition=%d event=compacted removed=%d live=%d", *partition.place, removed, live)

    def _newest(self, partition: Partition, begin: int, target: int) -> tuple[dict[bytes, int], int] | None:
        """Offset of the newest record of each key in ``[begin, target)``, and where that ends; ``None``: stopped."""
        newest: dict[bytes, int] = {}
        position = begin
        while position < target:
            blocks = self._blocks(partition, position)
            if not blocks:
                break
            for _, records in blocks:
                for record in records:
                    if record.key is not None and begin <= record.offset < target:
                        newest[record.key] = record.offset
            position = blocks[-1][0] + 1
            if len(newest) >= KEYS_MAX:
                target = min(target, position)
            if self._pause():
                return None
        return newest, target

    def _rewrite(
        self, partition: Partition, newest: dict[bytes, int], target: int, removable: int
    ) -> tuple[int, int, int] | None:
        """Remove what may go below ``target``. Returns how many records and tombstones are left, and how many went."""
        live = tombstones = removed = 0
        position = 0
        while position < target:
            blocks = self._blocks(partition, position)
            if not blocks:
                break
            kept: list[LogRecord] = []
            before = sum(len(records) for _, records in blocks)
            for _, records in blocks:
                inside = [record for record in records if record.offset < target]
                stay = compaction.surviving(inside, newest, removable)
                live += len(stay)
                tombstones += sum(record.value is None for record in stay)
                removed += len(inside) - len(stay)
                kept += stay
                kept += records[len(inside) :]
            # Small blocks are joined on the way: a quiet log writes one for each record.
            if len(kept) < before or (len(blocks) > 1 and before <= layout.BLOCK_RECORDS_MAX):
                self._replace(partition, [last for last, _ in blocks], kept)
            position = blocks[-1][0] + 1
            if self._pause():
                return None
        return live, tombstones, removed

    def _replace(self, partition: Partition, old: list[int], records: list[LogRecord]) -> None:
        """Put these records into the place of the blocks with these last offsets."""
        entries: dict[bytes, bytes | None] = {layout.block_key(partition.identity, last): None for last in old}
        if records:
            for block in layout.cut_blocks(records, sum(record_bytes(record) for record in records)):
                entries[layout.block_key(partition.identity, block[-1].offset)] = layout.encode(block)
        self._write(entries)

    # --- retention ------------------------------------------------------------------------------------------------

    def _expire(self, partition: Partition, retention_ms: int, time_ms: int) -> None:
        if retention_ms < 0 or partition.low >= partition.synced:
            return
        if partition.oldest_ms is not None and partition.oldest_ms + retention_ms > time_ms:
            return
        low = position = partition.low
        partition.oldest_ms = None
        while partition.oldest_ms is None:
            blocks = self._blocks(partition, position)
            if not blocks:
                break
            for last, records in blocks:
                if last >= partition.synced:
                    blocks = []
                    break
                newest_ms = max((record.timestamp_ms for record in records), default=0)
                if newest_ms + retention_ms > time_ms:
                    partition.oldest_ms = newest_ms
                    break
                position = last + 1
            if not blocks or self._pause():
                break
        if position > low:
            self._remove_below(partition, low, position)

    def _remove_below(self, partition: Partition, old_low: int, low: int) -> None:
        identity = partition.identity
        with self._core.lock:
            partition.raise_low(low)
            self._core.change(
                {layout.LOW_PREFIX + identity: low.to_bytes(8, "big")},
                [(layout.block_key(identity, old_low), layout.block_key(identity, low))],
            )
        _logger.debug("topic=%s partition=%d event=expired low=%d", *partition.place, low)

    # --- what both need -------------------------------------------------------------------------------------------

    def _forget_producers(self, time_ms: int) -> None:
        core = self._core
        with core.lock:
            silent = [key for key, producer in core.producers.items() if producer.time_ms + PRODUCER_KEPT_MS < time_ms]
            for key in silent:
                del core.producers[key]
            if silent:
                core.change({layout.PRODUCER_PREFIX + key: None for key in silent})

    def _blocks(self, partition: Partition, position: int) -> list[tuple[int, list[LogRecord]]]:
        """The next blocks from ``position`` on: their last offsets and records."""
        begin, end = layout.block_key(partition.identity, position), layout.blocks_end(partition.identity)
        blocks = []
        for key, value in self._core.storage.scan(begin, end):
            blocks.append((layout.last_offset_of(key), layout.decode_block(value)))
            if len(blocks) >= STEP_BLOCKS:
                break
        return blocks

    def _write(self, entries: dict[bytes, bytes | None]) -> None:
        with self._core.lock:
            ack = self._core.change(entries)
        ack.wait(_COMMIT_S_MAX)
        error = ack.error()
        if error is not None:
            raise error

    def _pause(self) -> bool:
        return self._stop.wait(self._options.pause_s)
