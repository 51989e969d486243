"""The shell of the audit: reads the topics of a cluster, to their ends and on, for whoever takes records.

Invariants: records of a partition come in the order of their offsets, and each once; memory does not grow with the log.
Called by the commands ``audit``, ``dump`` and ``dlq``, and by tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from perdure_ops.audit.breach import Breach
from perdure_ops.audit.core import Audit
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas.topics import TopicNames, TopicSpec

__all__ = ["Progress", "TopicScan", "settled_breaches"]

_BATCH_RECORDS = 5_000
_POLL_S = 0.5
#: Compaction may have dropped the last records of a partition; it has no more when nothing comes for so long.
_QUIET_S = 5.0
_PROGRESS_INTERVAL_S = 1.0
_SETTLE_SLICE_S = 0.2


@dataclass(slots=True)
class Progress:
    """How far a reading has come, in offsets."""

    done: int
    total: int


class TopicScan:
    """Reads topics from their first records. Close it.

    Args:
        log: where.
        names: the namespace, with its number of partitions.
        topics: which of its topics.
        told: called about once a second with how far it has come.
        partitions: only these of each topic; all if not given.
    """

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        topics: Iterable[TopicSpec],
        told: Callable[[Progress], None] = lambda _: None,
        partitions: Collection[int] | None = None,
    ) -> None:
        self._log = log
        self._told = told
        self._places = [
            TopicPartition(names.of(spec), number)
            for spec in topics
            for number in (range(names.partitions) if partitions is None else partitions)
        ]
        #: Read while waiting, and not handed out yet.
        self._held: list[LogRecord] = []
        self._reader = log.reader("audit")
        try:
            marks = {place: log.watermarks(place) for place in self._places}
            self._next = {place: low for place, (low, _) in marks.items()}
            self._reader.assign(self._next)
        except BaseException:
            self._reader.close()
            raise

    def to_end(self) -> Iterator[LogRecord]:
        """All records from where the last call stopped to where the log ends now.

        Raises:
            LogError: the log is gone, or what was to be read next does not exist any more.
        """
        ends = {place: self._log.watermarks(place)[1] for place in self._places}
        left = {place for place, end in ends.items() if self._next[place] < end}
        total = sum(ends[place] - self._next[place] for place in left)
        told_s = heard_s = time.monotonic()
        while left or self._held:
            records, self._held = self._held or self._reader.poll(_BATCH_RECORDS, _POLL_S), []
            now_s = time.monotonic()
            for record in records:
                place = TopicPartition(record.topic, record.partition)
                self._next[place] = record.offset + 1
                yield record
            if records:
                heard_s = time.monotonic()
            elif now_s - heard_s > _QUIET_S:
                return
            for place in list(left):
                if max(self._next[place], self._reader.position(place)) >= ends[place]:
                    left.discard(place)
            if now_s - told_s > _PROGRESS_INTERVAL_S:
                told_s = now_s
                unread = sum(max(0, ends[place] - self._next[place]) for place in left)
                self._told(Progress(total - unread, total))

    def wait(self, timeout_s: float) -> None:
        """Wait until there are more records, for :meth:`to_end` to hand out."""
        if not self._held:
            self._held = self._reader.poll(_BATCH_RECORDS, timeout_s)

    def close(self) -> None:
        """Let go of all resources."""
        self._reader.close()


def settled_breaches(
    audit: Audit, scan: TopicScan, settle_s: float, take: Callable[[LogRecord], None] | None = None
) -> list[Breach]:
    """All breaches in a cluster that may be working: what concerns several topics has to stand for a while.

    Parameters:
        audit: has taken in what was there.
        scan: reads on.
        settle_s: how long something has to stand to be a breach and not on its way.
        take: takes each further record; the audit's own, unless more than it looks at them.
    """
    take = take or audit.take
    standing = set(audit.open_questions())
    deadline_s = time.monotonic() + settle_s
    while standing and time.monotonic() < deadline_s:
        scan.wait(min(_SETTLE_SLICE_S, settle_s))
        for record in scan.to_end():
            take(record)
        standing &= set(audit.open_questions())
    return [*audit.told(), *(breach for breach in audit.open_questions() if breach in standing)]
