"""What the processor shell knows of a partition that it owns, or is about to. Read and written by the shell only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from perdure_runtime.folding import Folding
from perdure_runtime.handler import Inheriting, PartitionHandler
from perdure_runtime.log import Ack

__all__ = ["Owned", "Phase"]


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
    dirty: bool = False
    #: When the handler's tick is due; ``None``: not by itself.
    due_ms: int | None = None
    restore_started_s: float = 0.0
    restore_logged_s: float = 0.0

    @property
    def remaining(self) -> int:
        """How many offsets are still to be folded; 0 before that is known."""
        return max(0, self.epoch - self.folding.position) if self.folding is not None and self.epoch >= 0 else 0
