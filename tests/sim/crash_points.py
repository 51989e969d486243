"""Crash points: small scenarios, killed at every write in every way a write can be torn, recovered, compared.

A run without faults numbers the writes of all processes: appends, commits of groups, checkpoints. Then, for each write,
the process that makes it is killed before it, behind it, and with only a part of it in the log (one partition of
several; all records but the last ones), once to start again before the group notices and once to let another engine
take over. Each such run must pass all checks of the simulation, and come to the same histories, results and answers as
the one without faults. Invariant: up to the crash both runs are the same, step by step.

Called by the command (``python -m tests.sim --crash-points``) and by the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure_runtime.log import NewRecord
from tests.sim.histories import comparable, final_events
from tests.sim.mortal import Cut, Process
from tests.sim.plans import Plan
from tests.sim.simulation import Simulation
from tests.sim.world import SimCrash

#: Later than any recovery: what clients do then finds the workflow where it waits, with a crash and without.
_LATE_MS = 20_000


@dataclass(frozen=True)
class Scenario:
    """A workflow, and what clients do to it. Whatever happens in it has one order only."""

    name: str
    plan: Plan
    #: A client that is killed may reset once more: only the newest run can be compared.
    newest_only: bool = False
    #: How long to wait at the end for what ends by expiring.
    settle_ms: int = 4_000


@dataclass(frozen=True)
class Write:
    """A write of the run without faults."""

    process: str
    what: str
    #: How many partitions it is for, and how many records it has at most for one.
    partitions: int
    records: int


@dataclass(frozen=True)
class CrashPoint:
    """Where a process is killed, and how long it is down, in ms."""

    write: int
    #: "before", "behind", "short" (without the last record of each partition), or the number of the only partition.
    cut: str | int
    down_ms: int

    def __str__(self) -> str:
        cut = f"with only its partition {self.cut}" if isinstance(self.cut, int) else self.cut
        return f"write {self.write} ({cut}), {self.down_ms} ms down"


@dataclass
class Result:
    """What the enumeration of a scenario came to."""

    scenario: str
    writes: int = 0
    crash_points: int = 0
    doubled: int = 0
    #: What was violated, by crash point; that of the run without faults has none.
    failures: list[tuple[CrashPoint | None, str]] = field(default_factory=list)


@dataclass
class _Run:
    breaches: list[str]
    histories: dict[str, list[list[str]]]
    answers: tuple[Any, ...]
    doubled: int


def _one(name: str, *ops: list[Any], newest_only: bool = False, settle_ms: int = 4_000, **sent: Any) -> Scenario:
    return Scenario(name, Plan(f"w-{name}", {"ops": list(ops)}, **sent), newest_only, settle_ms)


SCENARIOS = (
    _one("activity", ["act", "a", {}]),
    _one("activity-retry", ["act", "a", {"fail": 2}]),
    _one("activity-failure", ["act", "a", {"bad": True}]),
    _one("heartbeat-timeout", ["act", "a", {"hang": 1, "hb_ms": 1_000}]),
    _one("start-to-close-timeout", ["act", "a", {"hang": 1, "stc_ms": 1_000}]),
    _one("timer", ["sleep", 500], ["sleep", 1_500]),
    _one("signal", ["signals", 1], ["act", "a", {}], signals=[_LATE_MS]),
    _one("signal-with-start", ["signals", 1], ["act", "a", {}], start_signal=True),
    # The task that brought an update may outlive its run, and is gone when the update expires.
    _one("update", ["updates", 1], ["act", "a", {}], updates=[_LATE_MS], settle_ms=35_000),
    _one("child", ["child", "c", {"ops": [["act", "a", {}]]}]),
    _one("child-signal", ["childsignal", "c", {"ops": [["signals", 1]]}]),
    _one("child-failure", ["child", "c", {"ops": [["fail", "f"]]}]),
    _one("continue-as-new", ["act", "a", {}], ["again"], ["act", "b", {}]),
    _one("cancellation", ["forever"], cancel_ms=_LATE_MS),
    _one("termination", ["sleep", 4 * _LATE_MS], terminate_ms=_LATE_MS),
    _one("local-activity", ["local", "l", 0], ["sleep", 300], ["local", "m", 1]),
    _one("reset", ["sleep", 2 * _LATE_MS], ["act", "a", {}], reset_ms=_LATE_MS, newest_only=True),
    _one("failure", ["act", "a", {}], ["fail", "f"]),
)


def writes_of(scenario: Scenario) -> list[Write]:
    """The writes of the run without faults, in their order."""
    return _without_faults(scenario)[1]


def enumerate_crashes(scenario: Scenario, downs_ms: Sequence[int] = (300, 15_000)) -> Result:
    """Run all crash points of a scenario.

    Parameters:
        scenario: which.
        downs_ms: how long a killed engine is down: shorter than the session's timeout (6 s) means that it comes back
            before the others notice; longer, that another engine takes over.
    """
    result = Result(scenario.name)
    wanted, writes = _without_faults(scenario)
    result.writes = len(writes)
    result.failures += [(None, breach) for breach in wanted.breaches]
    if wanted.breaches:
        return result
    for point in crash_points(writes, downs_ms):
        run = crash(scenario, point, writes[point.write])
        result.crash_points += 1
        result.doubled += run.doubled
        result.failures += [(point, breach) for breach in [*run.breaches, *_differences(wanted, run)]]
    return result


def crash_points(writes: Sequence[Write], downs_ms: Sequence[int]) -> Iterator[CrashPoint]:
    """All crash points. Only engines can be taken over, so for others there is one length of being down."""
    for number, write in enumerate(writes):
        cuts: list[str | int] = ["before", "behind"]
        if write.records > 1:
            cuts.append("short")
        if write.partitions > 1:
            cuts += range(write.partitions)
        for cut in cuts:
            for down_ms in downs_ms if write.process.startswith("engine") else downs_ms[:1]:
                yield CrashPoint(number, cut, down_ms)


def crash(scenario: Scenario, point: CrashPoint, expected: Write, *, trace: list[Any] | None = None) -> _Run:
    """One run with a crash. ``trace`` takes what happened.

    Raises:
        AssertionError: the run was another one than that without faults before the crash.
    """
    simulation = _simulation(scenario, tracing=trace is not None)
    simulation.down_ms = point.down_ms
    number = -1

    def before_write(process: Process, what: str, records: Sequence[NewRecord]) -> bool:
        nonlocal number
        number += 1
        if number != point.write:
            return False
        assert _write(process, what, records) == expected, f"write {number} is another one: {process.name}: {what}"
        simulation.world.note(f"{process.name} is killed at {point}: {what}")
        process.cut = Cut(point.cut if isinstance(point.cut, int) else None, int(point.cut == "short"))
        process.doom()
        if point.cut == "before":
            raise SimCrash(process)
        return True

    simulation.world.before_write = before_write
    run = _finish(simulation, scenario)
    if trace is not None:
        trace += simulation.world.trace
    if number < point.write:
        run.breaches.append(f"crash point: there were {number + 1} writes only")
    return run


def _without_faults(scenario: Scenario) -> tuple[_Run, list[Write]]:
    simulation = _simulation(scenario)
    writes: list[Write] = []

    def before_write(process: Process, what: str, records: Sequence[NewRecord]) -> bool:
        writes.append(_write(process, what, records))
        return False

    simulation.world.before_write = before_write
    return _finish(simulation, scenario), writes


def _simulation(scenario: Scenario, *, tracing: bool = False) -> Simulation:
    plans = [scenario.plan]
    simulation = Simulation(
        1, plans=plans, faults=[], tracing=tracing, engines=2, workers=1, clients=1, limited=False, spread=False
    )
    simulation.settle_ms = scenario.settle_ms
    return simulation


def _write(process: Process, what: str, records: Sequence[NewRecord]) -> Write:
    counts: dict[tuple[str, int], int] = {}
    for record in records:
        counts[record[0], record[1]] = counts.get((record[0], record[1]), 0) + 1
    return Write(process.name, what, len(counts), max(counts.values(), default=0))


def _finish(simulation: Simulation, scenario: Scenario) -> _Run:
    report = simulation.run()
    log = simulation.cluster.log
    histories = comparable(final_events(log.read(simulation.cluster.names.history)), newest_only=scenario.newest_only)
    outcome = simulation.outcomes[scenario.plan.workflow_id]
    returned = (outcome.result or {}).get("out")
    return _Run(report.breaches, histories, (returned, outcome.failure, outcome.updates), report.doubled)


def _differences(wanted: _Run, run: _Run) -> list[str]:
    if run.breaches:
        return []  # they say it better
    found = []
    if run.answers != wanted.answers:
        found.append(f"answers: {run.answers}, without the crash {wanted.answers}")
    for workflow_id in sorted(wanted.histories.keys() | run.histories.keys()):
        before, after = wanted.histories.get(workflow_id, []), run.histories.get(workflow_id, [])
        if before != after:
            found.append(f"history: {workflow_id} is\n{_lines(after)}\n  without the crash\n{_lines(before)}")
    return found


def _lines(histories: list[list[str]]) -> str:
    return "\n".join(f"    {number}: {line}" for number, run in enumerate(histories, 1) for line in run)
