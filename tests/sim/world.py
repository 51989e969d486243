"""The virtual clock and what happens when: one thread, one seed, one order.

Invariants: the same seed gives the same order, in every process; time moves only when nothing is left to do at the
present moment. Used by everything else in this package.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from perdure_runtime.log import NewRecord

#: When a simulation begins: any time that looks like one.
START_MS = 1_700_000_000_000


class SimCrash(BaseException):  # no Exception: what catches those must not catch the end of its process
    """The process that runs now is killed at this very point."""

    def __init__(self, process: object) -> None:
        super().__init__("killed")
        self.process = process


class Actor(Protocol):
    """Something that is stepped when it has been woken."""

    alive: bool
    queued: bool

    def step(self) -> None: ...


class World:
    """The clock, the agenda and the randomness of one simulation."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.now_ms = START_MS
        #: Separate streams, so that a fault more or less does not change all the rest at once.
        self.schedule = random.Random(f"schedule-{seed}")
        self.network = random.Random(f"network-{seed}")
        self.faults = random.Random(f"faults-{seed}")
        self.names = random.Random(f"names-{seed}")
        self.steps = 0
        self.tracing = tracing
        self.trace: list[tuple[int, str]] = []
        #: Processes that were killed within the present step.
        self.doomed: list[Any] = []
        #: Called before each write of a process with what it is and its records, for the enumeration of crash points.
        #: True: the process is killed right behind the write. It may raise :class:`SimCrash`, too.
        self.before_write: Callable[[Any, str, Sequence[NewRecord]], bool] | None = None
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._ready: list[Actor] = []

    # --- time -----------------------------------------------------------------------------------------------------

    def clock_ms(self) -> int:
        """The wall clock."""
        return self.now_ms

    def monotonic_s(self) -> float:
        """The steady clock."""
        return self.now_ms / 1000

    def at(self, due_ms: float, function: Callable[[], None]) -> None:
        """Call a function at a time, or now if that is over."""
        self._number += 1
        heapq.heappush(self._agenda, (max(int(due_ms), self.now_ms), self._number, function))

    def later(self, delay_ms: float, function: Callable[[], None]) -> None:
        """Call a function in a while."""
        self.at(self.now_ms + delay_ms, function)

    # --- who is to run --------------------------------------------------------------------------------------------

    def wake(self, actor: Actor) -> None:
        """Let an actor step soon."""
        if not actor.queued and actor.alive:
            actor.queued = True
            self._ready.append(actor)

    def turn(self) -> bool:
        """Do one thing; false when there is nothing left to do, ever."""
        ready, agenda = self._ready, self._agenda
        self.steps += 1
        if ready:
            draw = int(self.schedule.random() * (len(ready) + 1))
            if draw < len(ready) or not agenda or agenda[0][0] > self.now_ms:
                draw = min(draw, len(ready) - 1)
                actor = ready[draw]
                ready[draw] = ready[-1]
                ready.pop()
                actor.queued = False
                if actor.alive:
                    actor.step()
                return True
        if not agenda:
            return False
        due_ms, _, function = heapq.heappop(agenda)
        self.now_ms = max(self.now_ms, due_ms)
        function()
        return True

    def wait_for(self, condition: Callable[[], bool], timeout_ms: int) -> None:
        """Let time pass inside a step that blocks: what is on its way arrives, nobody else is stepped."""
        until_ms = self.now_ms + timeout_ms
        while not condition() and self._agenda and self._agenda[0][0] <= until_ms:
            due_ms, _, function = heapq.heappop(self._agenda)
            self.now_ms = max(self.now_ms, due_ms)
            try:
                function()
            except SimCrash:
                pass  # somebody else's: he is among the doomed
        if not condition():
            self.now_ms = max(self.now_ms, until_ms)

    def note(self, text: str) -> None:
        """Remember what happened, for the trace of a failure."""
        if self.tracing:
            self.trace.append((self.now_ms - START_MS, text))

    def unique(self) -> str:
        """A name that nothing else has."""
        return f"{self.names.getrandbits(64):016x}"
