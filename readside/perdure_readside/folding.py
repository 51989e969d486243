"""Folds the ``executions`` topic into the index.

Invariants: records a deposed owner wrote late are left out (I1); a record that cannot be read is skipped and logged,
and stops nothing (I5); each batch is one transaction with the place behind it. Called by
:mod:`perdure_readside.service`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from perdure_readside.index import Change, ExecutionIndex
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas import codec

__all__ = ["Folder"]

_logger = logging.getLogger("perdure.readside")

_RECORDS_PER_POLL_MAX = 5_000
_POLL_S = 0.5
#: Tombstones may be gone after a day (``delete.retention.ms``): an index that is older has missed some, and is rebuilt.
AGE_MS_MAX = 20 * 3_600_000
_AGE_NOTED_MS = 60_000


class Folder:
    """Reads the topic and keeps the index in step.

    Args:
        log: the log.
        topic: the full name of ``executions``.
        partitions: how many it has.
        index: where to.
        now_ms: the wall clock, in milliseconds since the epoch.
    """

    def __init__(self, log: Log, topic: str, partitions: int, index: ExecutionIndex, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._index = index
        self._now_ms = now_ms
        self._noted_ms = 0
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._fences: dict[int, Fence] = {}
        self._positions: dict[int, int] = {}
        self._reader = log.reader("read-side")
        try:
            self._assign()
        except BaseException:
            self._reader.close()
            raise

    @property
    def positions(self) -> dict[int, int]:
        """By partition: the offset behind what the index holds."""
        return dict(self._positions)

    def catch_up(self, timeout_s: float) -> bool:
        """Fold until the index holds all that the topic holds now; false if that takes longer than ``timeout_s``.

        Raises:
            LogError: the log cannot be reached.
        """
        deadline_s = time.monotonic() + timeout_s
        ends = {place.partition: self._log.watermarks(place)[1] for place in self._partitions}
        while any(self._reader.position(place) < ends[place.partition] for place in self._partitions):
            if time.monotonic() > deadline_s:
                return False
            self._fold(self._reader.poll(_RECORDS_PER_POLL_MAX, _POLL_S))
        self._note_time()
        return True

    def fold_some(self) -> bool:
        """Fold what is there already, up to a batch; whether there was anything.

        Raises:
            LogError: the log cannot be reached.
        """
        records = self._reader.poll(_RECORDS_PER_POLL_MAX, 0.0)
        self._fold(records)
        self._note_time()
        return bool(records)

    def behind(self) -> int:
        """How many records of the topic the index does not hold yet, at most.

        Raises:
            LogError: the log cannot be reached.
        """
        return sum(max(0, self._log.watermarks(p)[1] - self._reader.position(p)) for p in self._partitions)

    def unread(self) -> int:
        """The same from what was folded last, for other threads.

        Raises:
            LogError: the log cannot be reached.
        """
        return sum(max(0, self._log.watermarks(p)[1] - self._positions[p.partition]) for p in self._partitions)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _assign(self) -> None:
        places = self._index.places()
        folded_ms = self._index.folded_ms
        if places and self._now_ms() - folded_ms > AGE_MS_MAX:
            _logger.info("event=index_rebuilt reason='it has not followed the log for too long'")
            self._index.clear()
            places = {}
        marks = {place: self._log.watermarks(place) for place in self._partitions}
        if any(places.get(place.partition, (0, b""))[0] > end for place, (_, end) in marks.items()):
            _logger.warning("event=index_rebuilt reason='it is ahead of the log: its topic was made anew'")
            self._index.clear()
            places = {}
        starts = {}
        for place, (low, _) in marks.items():
            position, fence = places.get(place.partition, (low, b""))
            self._fences[place.partition] = Fence.decode(fence or None)
            # What compaction and retention removed below is tombstoned above, or was never folded.
            starts[place] = self._positions[place.partition] = max(low, position)
        self._reader.assign(starts)

    def _note_time(self) -> None:
        now_ms = self._now_ms()
        if now_ms - self._noted_ms > _AGE_NOTED_MS:
            self._noted_ms = self._index.folded_ms = now_ms

    def _fold(self, records: list[LogRecord]) -> None:
        if not records:
            return
        newest: dict[int, dict[str, bytes | None]] = {}
        for record in records:
            self._positions[record.partition] = record.offset + 1
            summaries = newest.setdefault(record.partition, {})
            try:
                key = admitted_key(self._fences[record.partition], record)
            except (codec.DecodeError, ValueError, msgspec.DecodeError) as error:
                _logger.error(
                    "event=skipped topic=%s partition=%d offset=%d reason=%r",
                    record.topic, record.partition, record.offset, str(error),
                )  # fmt: skip
                continue
            if key is not None:
                # The last valid record of a run is its newest, and the only one worth decoding.
                summaries[key.id] = record.value
        self._index.apply(
            Change(partition, summaries, self._positions[partition], self._fences[partition].encode())
            for partition, summaries in newest.items()
        )
