"""What goes wrong in a simulation, and when: a plan made from the seed, so that a shorter one can be tried.

Called by the simulation. Times are milliseconds after its start.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.groups import SimMembership

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

KINDS = (
    "kill engine", "kill engine", "kill at write", "kill at write", "kill at write", "stop engine", "give up",
    "rebalance", "kill worker", "stop worker", "kill worker at write", "kill client", "compact", "compact", "slow",
    "torn", "producer fails", "lose writes", "wipe state", "restart gracefully", "compact all", "poison",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault. ``number`` picks who is hit and how hard."""

    at_ms: int
    kind: str
    number: float

    def __str__(self) -> str:
        return f"{self.at_ms:>7} ms  {self.kind} ({self.number:.3f})"


def make_faults(seed: int, until_ms: int) -> list[Fault]:
    """A plan of faults."""
    rng = random.Random(f"fault-plan-{seed}")
    count = int(rng.random() ** 2 * 30) if rng.random() > 0.1 else 0
    kinds = rng.sample(KINDS, 1 + int(rng.random() * len(KINDS)))
    found = [Fault(int(rng.random() * until_ms), rng.choice(kinds), rng.random()) for _ in range(count)]
    return sorted(found, key=lambda fault: fault.at_ms)


def strike(simulation: Simulation, fault: Fault) -> None:
    """Let a fault happen."""
    world, cluster, number = simulation.world, simulation.cluster, fault.number
    world.note(f"fault: {fault.kind} ({number:.3f})")
    simulation.struck[fault.kind] += 1
    rng = random.Random(number)
    engines = list(cluster.engines.values())
    engine = rng.choice(engines)
    kind = fault.kind
    if kind == "kill engine":
        simulation.kill_engine(engine, 200 + rng.random() * 8_000)
    elif kind == "kill at write":
        engine.process.writes_left = 1 + int(rng.random() * 40)
    elif kind == "stop engine":
        engine.process.stopped_until_ms = world.now_ms + int(rng.random() * 12_000)
        lapse_ms = world.now_ms + cluster.session_ms
        if engine.process.stopped_until_ms > lapse_ms:
            for member in _members(simulation, engine.name):
                world.at(lapse_ms, lambda m=member: m.group.give_up(m, engine.process.stopped_until_ms - world.now_ms))
    elif kind == "give up":
        for member in _members(simulation, engine.name):
            if rng.random() < 0.6:
                member.group.give_up(member, rng.random() * 4_000)
    elif kind == "rebalance":
        for group in cluster.log.groups.values():
            group.rebalance()
    elif kind in ("kill worker", "stop worker", "kill worker at write"):
        _hit_worker(simulation, kind, rng)
    elif kind == "kill client":
        simulation.kill_client(rng)
    elif kind == "compact":
        cluster.log.compact(0.5)
    elif kind == "poison":
        simulation.poison(rng)
    elif kind == "compact all":
        cluster.log.compact(1.0)
    else:
        _hit_log(simulation, kind, rng)


def _hit_worker(simulation: Simulation, kind: str, rng: random.Random) -> None:
    workers = [worker for worker in simulation.cluster.workers.values() if worker.alive]
    if not workers:
        return
    worker = rng.choice(workers)
    if kind == "kill worker":
        worker.kill()
    elif kind == "stop worker":
        worker.process.stopped_until_ms = simulation.world.now_ms + int(rng.random() * 15_000)
    else:
        worker.process.writes_left = 1 + int(rng.random() * 10)


def _hit_log(simulation: Simulation, kind: str, rng: random.Random) -> None:
    world, cluster = simulation.world, simulation.cluster
    log = cluster.log.faults
    duration_ms = 500 + rng.random() * 6_000
    engine = rng.choice(list(cluster.engines.values()))
    if kind == "slow":
        log.slow, log.slow_ms = rng.random(), rng.choice((50.0, 500.0, 4_000.0))
        world.later(duration_ms, lambda: setattr(log, "slow", 0.0))
    elif kind == "torn":
        log.torn, log.latency_ms = rng.random(), 10 + rng.random() * 200

        def calm() -> None:
            log.torn, log.latency_ms = 0.0, 2.0

        world.later(duration_ms, calm)
    elif kind == "producer fails":
        log.producer_failure = 0.02 + rng.random() * 0.1
        world.later(duration_ms / 2, lambda: setattr(log, "producer_failure", 0.0))
    elif kind == "restart gracefully":
        simulation.restart_engine(engine, 100 + rng.random() * 3_000)
    else:
        simulation.kill_engine(engine, 500 + rng.random() * 3_000)
        for disk in engine.disks.values():
            if kind == "wipe state":
                if rng.random() < 0.6:
                    disk.wipe()
            else:
                disk.lose(int(rng.random() * 8))


def _members(simulation: Simulation, name: str) -> list[SimMembership]:
    groups = simulation.cluster.log.groups.values()
    return [group.members[name] for group in groups if name in group.members]
