"""What a processor counts. Written by the processor shell, read by metrics and the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class ProcessorStats:
    """Counters since the start, for metrics and the log."""

    records: int = 0
    sent: int = 0
    batches: int = 0
    checkpoints: int = 0
    dead_letters: int = 0
    folded: int = 0
    takeovers: int = 0
    live_partitions: int = 0
    restoring_partitions: int = 0
    restore_records_remaining: int = 0
    standby_partitions: int = 0
    standby_records_remaining: int = 0
    standby_folded: int = 0
    standby_lag_seconds: float = 0.0
    checkpoint_age_seconds: float = 0.0


class PartitionStatus(NamedTuple):
    """Where one partition of a role stands in this engine, and how many offsets it still has to fold."""

    role: str
    partition: int
    state: str
    remaining: int
