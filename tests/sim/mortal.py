"""A process as the log sees it: what it writes, when it is killed at a write, and what then becomes of that write.

Invariant: a process that was killed writes nothing more. Called by the simulated producers, groups and stores before
each write, by faults and by the enumeration of crash points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure_runtime.log import NewRecord
from tests.sim.world import SimCrash, World

if TYPE_CHECKING:
    from tests.sim.sending import Flight, SimProducer


@dataclass
class Cut:
    """How much of a write becomes durable: of its partitions one or all, of their records all or all but the last."""

    #: The number of the only partition; ``None``: all.
    only: int | None = None
    short: int = 0
    #: The call of ``append`` that is cut; ``None``: the process was killed before it, or the write was of another kind.
    flight: Flight | None = None

    def kept(self, flight: Flight, number: int, count: int) -> int:
        """How many of its ``count`` records for its partition ``number`` arrive."""
        if flight is not self.flight:
            return count
        return 0 if self.only not in (None, number) else count - self.short


class Process:
    """A process as the log sees it: killed, stopped, or about to be killed at its next write number so-and-so."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        #: To be killed when the present step is over: nothing it still does has any effect.
        self.doomed = False
        self.stopped_until_ms = 0
        #: Killed at this many writes from now; ``None``: not.
        self.writes_left: int | None = None
        self.producers: list[SimProducer] = []
        #: What becomes of its newest write, and of that alone, when it is killed: all earlier ones arrive. ``None``:
        #: any beginning of what travels does.
        self.cut: Cut | None = None

    def write(self, what: str, records: Sequence[NewRecord] = ()) -> bool:
        """A write is about to happen. True: it still happens, and the process is killed right behind it.

        Raises:
            SimCrash: the process is killed before it.
        """
        if not self.alive or self.doomed:
            raise SimCrash(self)
        before = self.world.before_write
        if before is not None and before(self, what, records):
            return True
        if self.writes_left is None:
            return False
        self.writes_left -= 1
        if self.writes_left > 0:
            return False
        self.writes_left = None
        self.world.note(f"{self.name} is killed at a write: {what}")
        self.doom()
        if self.world.faults.random() < 0.5:
            raise SimCrash(self)
        return True

    def doom(self) -> None:
        """It is killed now; the simulation buries it when the present step is over."""
        self.doomed = True
        self.world.doomed.append(self)
