"""One run of the simulation: a cluster, plans, faults; then quiet, and the checks.

Invariant: the seed, the number of steps and the lists of plans and faults decide everything. Called by the command, by
the tests, by the shrinker and by the enumeration of crash points.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure_runtime.log import NewRecord, TopicPartition
from perdure_runtime.processor import Phase
from perdure_schemas.records import TaskQueueConfig
from perdure_schemas.topics import TOPICS
from tests.sim import program
from tests.sim.driver import TASK_QUEUE, Driver, Outcome
from tests.sim.faults import Fault, make_faults, strike
from tests.sim.limiting import check_limits, limit_queue
from tests.sim.loop import graveyard
from tests.sim.plans import Generator, Plan
from tests.sim.processes import ClientProcess, Cluster, EngineProcess, WorkerProcess
from tests.sim.verdict import judge
from tests.sim.virtual_time import virtual_time
from tests.sim.world import START_MS, SimCrash, World

#: How long everything may take when the last fault is over, in virtual milliseconds.
LIVENESS_MS = 300_000
_TURNS_MAX = 3_000_000
#: Of the seeds without limits: in which the task queue is matched in two partitions.
_SPREAD_SHARE = 0.4


@dataclass
class Report:
    """How a run ended."""

    seed: int
    breaches: list[str]
    steps: int = 0
    events: int = 0
    turns: int = 0
    virtual_ms: int = 0
    faults: list[Fault] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    doubled: int = 0
    trace: list[tuple[int, str]] = field(default_factory=list)
    fingerprint: str = ""

    @property
    def kind(self) -> str:
        """What was violated first."""
        return self.breaches[0].partition(":")[0] if self.breaches else ""


class Simulation:
    """See the module."""

    def __init__(
        self,
        seed: int,
        *,
        plans: Sequence[Plan],
        faults: Sequence[Fault],
        tracing: bool = False,
        engines: int = 2,
        workers: int = 3,
        clients: int = 2,
        partitions: int = 2,
        standbys: bool | None = None,
        limited: bool | None = None,
        spread: bool | None = None,
    ) -> None:
        self.world = World(seed, tracing=tracing)
        if standbys is None:
            standbys = random.Random(f"standbys-{seed}").random() < 0.5
        self.cluster = Cluster(self.world, partitions=partitions, standbys=standbys)
        self.plans = list(plans)
        self.faults = list(faults)
        self.struck: Counter[str] = Counter()
        self.outcomes = {plan.workflow_id: Outcome(plan) for plan in plans}
        self.quiet = False
        #: Events of all histories together.
        self.events = 0
        #: How long an engine is down that was killed at a write; ``None``: any time.
        self.down_ms: float | None = None
        #: How long all partitions have to be live before what there is can be judged.
        self.settle_ms = 4_000
        #: The keys of the dead letters that there must be.
        self.poisoned: set[bytes] = set()
        #: All settings of the task queue that were ever made; whether there are any, or ``None``: the seed decides.
        self.limits_set: list[TaskQueueConfig] = []
        self._limited = limited
        #: Where all run; whether it is matched in two partitions, or ``None``: the seed decides.
        self.task_queue = TASK_QUEUE
        self._spread = spread
        self._rng = random.Random(f"shape-{seed}")
        self._sizes = (engines, workers, clients)
        self._numbers = Counter[str]()
        self._driven_by: dict[str, ClientProcess] = {}

    def run(self) -> Report:
        """Run it to its end, and judge it."""
        program.executions.clear()
        graveyard.clear()
        with virtual_time(self.world):
            self._set_up()
            breaches = self._go()
            if not breaches:
                breaches = judge(self)
        world = self.world
        return Report(
            world.seed,
            breaches,
            steps=sum(plan.steps for plan in self.plans),
            events=self.events,
            turns=world.steps,
            virtual_ms=world.now_ms - START_MS,
            faults=self.faults,
            plans=self.plans,
            struck=self.struck,
            doubled=sum(count - 1 for count in program.executions.values()),
            trace=world.trace,
        )

    # --- the cluster ----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        cluster, (engines, workers, clients) = self.cluster, self._sizes
        for spec in TOPICS:
            cluster.log.create(cluster.names.of(spec), spec, cluster.names.partitions)
        self._limited = limit_queue(self, self.world.seed, self._limited)
        spread = random.Random(f"spread-{self.world.seed}").random() < _SPREAD_SHARE
        if (spread and not self._limited) if self._spread is None else self._spread:
            self.task_queue = f"{TASK_QUEUE}~2"
        for number in range(engines):
            engine = cluster.engines[f"engine-{number}"] = EngineProcess(cluster, f"engine-{number}")
            self.world.later(self._rng.random() * 1_000 * number, engine.start)
        for number in range(workers):
            self._start_worker(f"worker-{number}")
        for number in range(clients):
            self._start_client(f"client-{number}")
        names = list(cluster.clients)
        for plan in self.plans:
            self._drive(plan, cluster.clients[self._rng.choice(names)])
        for fault in self.faults:
            self.world.later(fault.at_ms, lambda fault=fault: None if self.quiet else strike(self, fault))

    def _start_worker(self, name: str) -> None:
        self._numbers[name] += 1
        cache = self._rng.choice((1000, 1000, 5, 1, 0))
        slots = self._rng.choice((None, None, 1, 3))
        try:
            self.cluster.workers[name] = WorkerProcess(
                self.cluster,
                f"{name}.{self._numbers[name]}",
                self.task_queue,
                [program.Program],
                [program.work, program.quick],
                max_cached_workflows=cache,
                max_concurrent_activities=slots,
            )
        except SimCrash:  # it was killed when it said that it is there
            self.world.later(200, lambda: self._start_worker(name))

    def _start_client(self, name: str) -> ClientProcess:
        self._numbers[name] += 1
        client = self.cluster.clients[name] = ClientProcess(self.cluster, f"{name}.{self._numbers[name]}")
        return client

    def _drive(self, plan: Plan, client: ClientProcess) -> None:
        outcome = self.outcomes[plan.workflow_id]
        client.run(Driver(client.client, plan, outcome, self.task_queue).run())
        self._driven_by[plan.workflow_id] = client

    def kill_engine(self, engine: EngineProcess, down_ms: float) -> None:
        """Kill an engine, and start it again in a while."""
        if engine.process.alive:
            engine.kill()
            self._start_later(engine, down_ms)

    def restart_engine(self, engine: EngineProcess, down_ms: float) -> None:
        """Stop an engine gracefully, and start it again in a while."""
        if engine.process.alive and engine.process.stopped_until_ms <= self.world.now_ms:
            engine.leave()
            self._start_later(engine, down_ms)

    def _start_later(self, engine: EngineProcess, down_ms: float) -> None:
        self.world.later(down_ms, engine.start)

    def kill_client(self, rng: random.Random) -> None:
        """Kill a client; another one does its work anew, and knows nothing of what it did."""
        names = sorted(self.cluster.clients)
        name = rng.choice(names)
        dead = self.cluster.clients[name]
        dead.kill()
        self._revive_client(name, dead)

    def _revive_client(self, name: str, dead: ClientProcess) -> None:
        client = self._start_client(name)
        for workflow_id, driver in list(self._driven_by.items()):
            outcome = self.outcomes[workflow_id]
            if driver is dead and not outcome.finished:
                self._drive(outcome.plan, client)

    def poison(self, rng: random.Random) -> None:
        """Somebody writes what is no command."""
        where = TopicPartition(self.cluster.names.commands, rng.randrange(self.cluster.names.partitions))
        offset = self.cluster.log.put(where, [NewRecord(*where, rng.randbytes(4), rng.randbytes(20))])
        self.poisoned.add(f"{where.topic}/{where.partition}/{offset}".encode())

    # --- running --------------------------------------------------------------------------------------------------

    def _go(self) -> list[str]:
        """Run until all is done; breaches that end it early."""
        world = self.world
        last_fault_ms = max((fault.at_ms for fault in self.faults), default=0)
        calm_ms = START_MS + last_fault_ms + 1
        deadline_ms = calm_ms + LIVENESS_MS
        while True:
            self._turn()
            if not world.steps & 0x3F:
                if self.cluster.bugs:  # a partition that never comes back would take its time
                    return [f"bug: {error!r}" for error in self.cluster.bugs]
                if self._limited and (breaches := check_limits(self)):
                    return breaches
                if not self.quiet and world.now_ms >= calm_ms:
                    self._calm()
                    deadline_ms = world.now_ms + LIVENESS_MS
                self._look_after()
                if self.quiet and all(outcome.finished for outcome in self.outcomes.values()):
                    break
            if world.now_ms > deadline_ms or world.steps > _TURNS_MAX:
                waiting = [w for w, outcome in self.outcomes.items() if not outcome.finished]
                return [f"liveness: {', '.join(waiting)} not finished {LIVENESS_MS} ms after the last fault"]
        return self._settle()

    def _turn(self) -> None:
        world = self.world
        try:
            world.turn()
        except SimCrash:
            pass
        if world.doomed:
            dead = list(world.doomed)
            self.cluster.bury()
            for engine in self.cluster.engines.values():
                if engine.process in dead:
                    down_ms = 200 + self._rng.random() * 5_000 if self.down_ms is None else self.down_ms
                    self._start_later(engine, down_ms)

    def _look_after(self) -> None:
        """Workers and clients that are dead come back."""
        for name, worker in list(self.cluster.workers.items()):
            if not worker.alive and self._rng.random() < 0.2:
                self._start_worker(name)
        for name, client in list(self.cluster.clients.items()):
            if not client.alive:
                self._revive_client(name, client)

    def _calm(self) -> None:
        """The last fault is over: everything heals."""
        self.quiet = True
        self.world.note("all faults are over")
        faults = self.cluster.log.faults
        faults.slow = faults.torn = faults.producer_failure = 0.0
        faults.latency_ms = 2.0
        for process in self._processes():
            process.writes_left = None
            process.stopped_until_ms = min(process.stopped_until_ms, self.world.now_ms)

    def _processes(self) -> list[Any]:
        cluster = self.cluster
        return [
            one.process for one in (*cluster.engines.values(), *cluster.workers.values(), *cluster.clients.values())
        ]

    def _settle(self) -> list[str]:
        """Go on until every partition is owned and live, and everything is written."""
        world = self.world
        until_ms = world.now_ms + self.settle_ms
        deadline_ms = until_ms + LIVENESS_MS
        while world.now_ms < until_ms:
            self._turn()
            if not world.steps & 0xFF:
                self._look_after()
            if (not world.steps & 0xF or world.now_ms >= until_ms) and not self._all_done():
                until_ms = world.now_ms + self.settle_ms  # who takes over now has things to do
            if world.now_ms > deadline_ms:
                return ["liveness: not all partitions are live in the end"]
        return []

    def _all_done(self) -> bool:
        """Whether all partitions are live, and no question is left in a queue: a task of an update or a query whose
        tombstone was lost with its owner is dropped when the question expires."""
        return self._all_live() and not any(
            task.kind == "query"
            for engine in self.cluster.engines.values()
            for task in engine.actors["matching"].outstanding_tasks()
        )

    def _all_live(self) -> bool:
        for role in ("history", "matching", "timers"):
            owned: list[int] = []
            for engine in self.cluster.engines.values():
                processor = engine.actors[role].processor
                if processor is not None and engine.process.alive:
                    owned += [p for p, phase in processor.partitions.items() if phase is Phase.LIVE]
            if sorted(owned) != list(range(self.cluster.names.partitions)):
                return False
        return True


def simulate(
    seed: int,
    steps: int = 60,
    *,
    plans: Sequence[Plan] | None = None,
    faults: Sequence[Fault] | None = None,
    tracing: bool = False,
) -> Report:
    """Run a seed. Plans and faults follow from it, unless they are given."""
    if plans is None:
        plans = Generator(seed).plans(steps)
    if faults is None:
        faults = make_faults(seed, 8_000)
    return Simulation(seed, plans=plans, faults=faults, tracing=tracing).run()
