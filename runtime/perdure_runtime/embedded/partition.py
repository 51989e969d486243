"""A partition in memory: its newest records, its marks, and the readers that follow it.

Invariants (all under the log's lock): ``low <= base <= end``, ``written >= synced``; ``tail`` holds every record of
``[base, end)`` without gaps; everything below ``base`` that still exists is in the storage and synced.
Called by the log, its readers, its commit thread and its cleaner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure_runtime.embedded.layout import CleanState, TopicEntry, partition_id
from perdure_runtime.log import LogRecord, TopicPartition

if TYPE_CHECKING:
    from perdure_runtime.embedded.reader import Cursor

#: The newest records kept in memory, so that readers that keep up never touch the storage.
TAIL_RECORDS_KEPT = 1024
TAIL_BYTES_KEPT = 512 * 1024


class Partition:
    """The memory of one partition."""

    __slots__ = (
        "base",
        "clean",
        "compacted",
        "cursors",
        "dirty",
        "end",
        "gated",
        "identity",
        "low",
        "oldest_ms",
        "place",
        "synced",
        "tail",
        "tail_bytes",
        "unwritten_bytes",
        "written",
    )

    def __init__(self, place: TopicPartition, entry: TopicEntry, low: int, end: int) -> None:
        self.place = place
        self.identity = partition_id(entry.topic_id, place.partition)
        self.gated = entry.answers_clients
        self.compacted = False
        self.low = low
        self.base = self.end = self.written = self.synced = end
        self.tail: list[LogRecord] = []
        self.tail_bytes = 0
        self.unwritten_bytes = 0
        self.dirty = False
        self.cursors: list[Cursor] = []
        self.clean = CleanState()
        #: Timestamp up to which the oldest stored block must be kept, if known (cleaner).
        self.oldest_ms: int | None = None
        self.configure(entry)

    def configure(self, entry: TopicEntry) -> None:
        """Take over what depends on the topic's configuration."""
        self.compacted = "compact" in entry.config.get("cleanup.policy", "delete")

    def take_unwritten(self) -> tuple[list[LogRecord], int]:
        """The records that are not in the storage yet, and their size in bytes; they count as written from here on."""
        records = self.tail[self.written - self.base :]
        size_bytes = self.unwritten_bytes
        self.written = self.end
        self.unwritten_bytes = 0
        self.dirty = False
        return records, size_bytes

    def trim(self) -> None:
        """Forget old records that are synced, if the tail is twice as long as it should be."""
        length = len(self.tail)
        if length > 2 * TAIL_RECORDS_KEPT:
            drop = length - TAIL_RECORDS_KEPT
        elif self.tail_bytes > 2 * TAIL_BYTES_KEPT:
            drop = length - length // 2
        else:
            return
        drop = min(drop, self.synced - self.base)
        if drop > 0:
            self.tail_bytes -= self.tail_bytes * drop // length
            del self.tail[:drop]
            self.base += drop

    def raise_low(self, low: int) -> None:
        """Everything below ``low`` is gone."""
        self.low = low
        drop = low - self.base
        if drop > 0:
            self.tail_bytes -= self.tail_bytes * drop // len(self.tail)
            del self.tail[:drop]
            self.base = low
