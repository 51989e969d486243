"""What the processor shell knows of a partition that it owns, or is about to. Read and written by the shell only."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from perdure_runtime.folding import Folding
from perdure_runtime.handler import Foreseeing, Inheriting, Measured, Outbox, PartitionHandler
from perdure_runtime.log import Ack, Log, NewRecord, TopicPartition
from perdure_runtime.metrics import Sample
from perdure_runtime.stats import PartitionStatus, ProcessorStats

__all__ = ["Owned", "Phase", "count_partitions", "foresee", "samples_of", "statuses", "where_to_read"]

_logger = logging.getLogger("perdure.engine")


class Phase(Enum):
    """Where a partition stands."""

    MARKING = auto()
    RESTORING = auto()
    LIVE = auto()


@dataclass(slots=True)
class Owned:
    """A partition that is ours, or about to be."""

    partition: int
    mark: Ack
    phase: Phase = Phase.MARKING
    epoch: int = -1
    committed: int | None = None
    #: What a standby had folded, until the mark is acknowledged; then what is being restored, until it is live.
    folding: Folding | None = None
    handler: PartitionHandler | None = None
    #: A live handler that is to be told when our marks are in the log, and the append that they are in.
    heir: Inheriting | None = None
    marks: Ack | None = None
    #: A live handler that takes hints of what will be in the restored topic.
    foreseeing: Foreseeing | None = None
    dirty: bool = False
    #: When the handler's tick is due; ``None``: not by itself.
    due_ms: int | None = None
    restore_started_s: float = 0.0
    restore_logged_s: float = 0.0

    def inherit(self) -> None:
        """It has gone live: its handler may want to know what an earlier owner did in vain, and what is to come."""
        self.foreseeing = self.handler if isinstance(self.handler, Foreseeing) else None
        self.heir = self.handler if isinstance(self.handler, Inheriting) else None

    def note_sent(self, acknowledgement: Ack) -> None:
        """Something was sent; the first time after it has gone live, our marks are in it."""
        if self.heir is not None and self.marks is None:
            self.marks = acknowledgement

    def tell_inheritance(self, log: Log, owned_topic: str) -> None:
        """Once our marks are in the log, tell the handler where what an earlier owner may have processed ends."""
        if self.heir is None or self.marks is None or not self.marks.done():
            return
        if self.marks.error() is None:
            self.heir.inherit(log.watermarks(TopicPartition(owned_topic, self.partition))[1])
        self.heir = self.marks = None

    @property
    def remaining(self) -> int:
        """How many offsets are still to be folded; 0 before that is known."""
        return max(0, self.epoch - self.folding.position) if self.folding is not None and self.epoch >= 0 else 0


def statuses(role: str, owned: Iterable[Owned], standbys: Mapping[int, int]) -> list[PartitionStatus]:
    """Where each partition stands, in order.

    Args:
        role: the name of the role.
        owned: what it owns.
        standbys: the partitions of others that it folds, and how many offsets each has still to fold.
    """
    found = [PartitionStatus(role, one.partition, one.phase.name.lower(), one.remaining) for one in owned]
    for partition, remaining in standbys.items():
        state = "standby, catching up" if remaining else "standby"
        found.append(PartitionStatus(role, partition, state, remaining))
    return sorted(found)


def foresee(owned: Mapping[int, Owned], topic: str, records: Iterable[NewRecord], outbox: Outbox) -> bool:
    """Tell live handlers of records for their topic before the log shows them; whether any was told.

    Only a hint: a handler that acts on one finds out by itself whether the log confirms it.
    """
    told = False
    for record in records:
        if record.topic == topic and record.value is not None:
            one = owned.get(record.partition)
            if one is not None and one.foreseeing is not None and one.handler is not None:
                one.foreseeing.foresee(record, outbox)
                one.due_ms = one.handler.next_wakeup_ms()
                one.dirty = told = True
    return told


def count_partitions(stats: ProcessorStats, owned: Sequence[Owned], standbys: Mapping[int, int]) -> None:
    """Count the partitions that are owned, and those that are only followed, with what these have yet to fold."""
    stats.live_partitions = sum(one.phase is Phase.LIVE for one in owned)
    stats.restoring_partitions = len(owned) - stats.live_partitions
    stats.restore_records_remaining = sum(one.remaining for one in owned)
    stats.standby_partitions = len(standbys)
    stats.standby_records_remaining = sum(standbys.values())


def samples_of(owned: Iterable[Owned]) -> list[Sample]:
    """What the handlers of live partitions show of themselves."""
    samples: list[Sample] = []
    for one in owned:
        if one.phase is Phase.LIVE and isinstance(one.handler, Measured):
            samples += one.handler.samples()
    return samples


def where_to_read(log: Log, role: str, partition: int, offsets: Mapping[str, int]) -> dict[TopicPartition, int]:
    """Where a new owner reads on in its live topics: from what its handler wants, as far as that is there.

    Args:
        offsets: what the handler wants, by topic.
    """
    starts = {}
    for topic, offset in offsets.items():
        place = TopicPartition(topic, partition)
        low, high = log.watermarks(place)
        if not low <= offset <= high:
            # Below: retention was faster than we; above: only where topics were made anew.
            level = logging.INFO if offset < 0 or offset <= low else logging.WARNING
            _logger.log(
                level, "role=%s topic=%s partition=%d event=offset_moved from=%d to=[%d, %d]",
                role, topic, partition, offset, low, high,
            )  # fmt: skip
        starts[place] = min(max(offset, low), high)
    return starts
