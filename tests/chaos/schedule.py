"""Which fault hits what, and when: all drawn from a seed before the run begins. Pure.

Called by :mod:`tests.chaos.run`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        targets: what it hits: ``engine``, ``worker``, ``broker``, ``link`` or ``topic``.
        duration_s: how long it lasts, from and to; 0 where it is over at once.
        amount: what else is drawn for it, from and to; its meaning is the kind's.
    """

    targets: str
    duration_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 1.0)


#: Every kind of fault, in the order in which they are told.
KINDS: Mapping[str, Kind] = {
    "worker-kill": Kind("worker", (0.0, 1.0)),
    "worker-stop": Kind("worker", (1.0, 4.0)),
    "engine-kill": Kind("engine", (0.0, 1.0)),
    # Up to longer than the session: others take its partitions, and it wakes up as one that was deposed.
    "engine-stop": Kind("engine", (1.0, 9.0)),
    "broker-kill": Kind("broker", (0.0, 3.0)),
    "broker-stop": Kind("broker", (1.0, 4.0)),
    "link-cut": Kind("link", (1.0, 4.0)),
    "link-stall": Kind("link", (1.0, 4.0)),
    "link-slow": Kind("link", (2.0, 4.0), (0.02, 0.3)),
    "state-delete": Kind("engine"),
    "state-damage": Kind("engine"),
    "disk-full": Kind("engine", (1.0, 4.0)),
    "clock-jump": Kind("clock", (1.0, 4.0), (-90.0, 90.0)),
    "bad-record": Kind("topic"),
}
#: On the embedded log: the one engine process is the log, too.
EMBEDDED_KINDS = tuple(kind for kind, of in KINDS.items() if of.targets != "broker")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at_s: when, in seconds from the beginning.
        kind: one of :data:`KINDS`.
        target: number of what it hits, among those of its sort.
        duration_s: after how long it is healed.
        amount: see the kind.
        seed: for what is drawn while it is done.
    """

    at_s: float
    kind: str
    target: int
    duration_s: float
    amount: float
    seed: int


def schedule(
    seed: int, seconds: float, fault_every_s: float, kinds: Collection[str], targets: Mapping[str, int]
) -> list[Fault]:
    """The faults of a run: each kind as often as any other, in an order of chance.

    Args:
        seed: the same seed gives the same faults.
        seconds: how long the run is.
        fault_every_s: the time between two faults.
        kinds: which kinds of fault.
        targets: how many there are of each sort of target.
    """
    chance = random.Random(seed)
    faults = []
    deck: list[str] = []
    for number in range(1, int(seconds / fault_every_s)):
        if not deck:
            deck = sorted(kinds)
            chance.shuffle(deck)
        name = deck.pop()
        kind = KINDS[name]
        faults.append(
            Fault(
                at_s=number * fault_every_s,
                kind=name,
                target=chance.randrange(targets[kind.targets]),
                duration_s=round(chance.uniform(*kind.duration_s), 2),
                amount=round(chance.uniform(*kind.amount), 3),
                seed=chance.getrandbits(32),
            )
        )
    return faults
