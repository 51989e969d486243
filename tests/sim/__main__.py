"""``python -m tests.sim``: run seeds, show a failing one in its shortest form, try the deliberately broken builds."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time

if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
    # The order of a set of strings would be another one in each process.
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])

from tests.sim.crash_points import SCENARIOS, Result, enumerate_crashes
from tests.sim.faults import KINDS
from tests.sim.mutations import MUTATIONS, seeds_needed
from tests.sim.real_crashes import RealResult, enumerate_real_crashes, real_scenarios
from tests.sim.shrink import describe, shrink
from tests.sim.simulation import Report, simulate
from tests.support.kafka_broker import session_bootstrap

_SEEDS_FOR_MUTATION_MAX = 300
_FAILURES_SHOWN_MAX = 5


def main() -> int:
    """Returns 1 if a seed failed, or a broken build was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="run this seed")
    parser.add_argument("--seeds", help="run these seeds: A-B")
    parser.add_argument("--steps", type=int, default=60, help="operations of the workflows of a seed, at least")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failing seed")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a shorter run")
    parser.add_argument("--mutations", nargs="?", const="", metavar="NAME", help="seeds needed to catch broken builds")
    parser.add_argument(
        "--crash-points",
        nargs="?",
        const="",
        metavar="SCENARIO",
        help="kill at every write of small scenarios",
    )
    parser.add_argument(
        "--log", choices=("simulated", "embedded", "kafka"), default="simulated", help="for crash points"
    )
    parser.add_argument("--every", type=int, default=1, help="on a real log: every so-manieth write only")
    parser.add_argument("--cuts", default="before,behind", help="on a real log: whether the write is made")
    parser.add_argument("--jobs", type=int, default=4, help="on a real log: how many runs at once")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.mutations is not None:
        return _try_mutations(arguments.mutations, arguments.steps)
    if arguments.crash_points is not None:
        if arguments.log != "simulated":
            return _enumerate_real_crashes(arguments)
        return _enumerate_crashes(arguments.crash_points)
    first, _, last = (arguments.seeds or str(arguments.seed)).partition("-")
    return _run_seeds(range(int(first), int(last or first) + 1), arguments)


def _run_seeds(seeds: range, arguments: argparse.Namespace) -> int:
    failed = 0
    reports = Totals()
    for seed in seeds:
        report = simulate(seed, arguments.steps, tracing=arguments.trace)
        reports.add(report)
        if arguments.trace:
            for at_ms, text in report.trace:
                print(f"{at_ms:>8} ms  {text}")
        if report.breaches:
            failed += 1
            if not arguments.no_shrink:
                report = shrink(report)
                print(describe(report))
            else:
                print(f"seed {seed}: {report.breaches[0][:500]}")
            sys.stdout.flush()
            if not arguments.keep_going:
                break
    print(f"{reports.seeds} seeds, {failed} failed; {reports}")
    return 1 if failed else 0


def _enumerate_crashes(only: str) -> int:
    names = [scenario.name for scenario in SCENARIOS]
    if only and only not in names:
        print(f"there is no scenario {only!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    print(f"{'scenario':<24} {'writes':>7} {'crash points':>13} {'doubled':>8} {'failed':>7}")
    results: list[Result] = []
    for scenario in SCENARIOS:
        if only in ("", scenario.name):
            result = enumerate_crashes(scenario)
            results.append(result)
            print(_row(scenario.name, [result]), flush=True)
            for point, breach in result.failures[:_FAILURES_SHOWN_MAX]:
                print(f"  {point or 'without a crash'}: {breach[:4_000]}", flush=True)
    print(_row("together", results))
    return 1 if any(result.failures for result in results) else 0


def _enumerate_real_crashes(arguments: argparse.Namespace) -> int:
    scenarios = real_scenarios()
    wanted = [name for name in arguments.crash_points.split(",") if name]
    unknown = set(wanted) - {scenario.name for scenario in scenarios}
    if unknown:
        names = ", ".join(scenario.name for scenario in scenarios)
        print(f"on a real log there is no scenario {', '.join(sorted(unknown))}; there are: {names}", file=sys.stderr)
        return 2
    print(f"{'scenario':<24} {'writes':>7} {'crash points':>13} {'unreached':>10} {'failed':>7}", flush=True)
    results: list[RealResult] = []
    with session_bootstrap() if arguments.log == "kafka" else contextlib.nullcontext("") as bootstrap:
        for scenario in scenarios:
            if wanted and scenario.name not in wanted:
                continue
            result = enumerate_real_crashes(
                scenario,
                bootstrap=bootstrap,
                cuts=arguments.cuts.split(","),
                every=arguments.every,
                jobs=arguments.jobs,
            )
            results.append(result)
            print(_real_row(scenario.name, [result]), flush=True)
            for point, breach in result.failures[:_FAILURES_SHOWN_MAX]:
                print(f"  {point}: {breach[:4_000]}", flush=True)
    print(_real_row("together", results))
    return 1 if any(result.failures for result in results) else 0


def _real_row(name: str, results: list[RealResult]) -> str:
    writes, points = sum(r.writes for r in results), sum(r.crash_points for r in results)
    unreached, failed = sum(r.unreached for r in results), sum(len({p for p, _ in r.failures}) for r in results)
    return f"{name:<24} {writes:>7} {points:>13} {unreached:>10} {failed:>7}"


def _row(name: str, results: list[Result]) -> str:
    writes, points = sum(r.writes for r in results), sum(r.crash_points for r in results)
    failed = sum(len({point for point, _ in r.failures}) for r in results)
    return f"{name:<24} {writes:>7} {points:>13} {sum(r.doubled for r in results):>8} {failed:>7}"


def _try_mutations(only: str, steps: int) -> int:
    missed = 0
    for mutation in MUTATIONS:
        if only not in mutation.name:
            continue
        needed, kind = seeds_needed(mutation, _SEEDS_FOR_MUTATION_MAX, steps)
        missed += needed is None
        caught = f"{needed:>4} seeds: {kind}" if needed is not None else f"   not caught {kind}"
        print(f"{mutation.invariant}  {mutation.name:<42} {caught}", flush=True)
    return 1 if missed else 0


class Totals:
    """What a series of runs came to."""

    def __init__(self) -> None:
        self.seeds = self.events = self.turns = self.faults = self.doubled = 0
        self.virtual_ms = 0
        self.longest_ms = 0
        self._started_s, self._cpu_s = time.monotonic(), time.process_time()

    def add(self, report: Report) -> None:
        """One more run."""
        self.seeds += 1
        self.events += report.events
        self.turns += report.turns
        self.faults += sum(report.struck.values())
        self.doubled += report.doubled
        self.virtual_ms += report.virtual_ms
        self.longest_ms = max(self.longest_ms, report.virtual_ms)

    def __str__(self) -> str:
        cpu_s = time.process_time() - self._cpu_s
        return (
            f"{self.events} workflow steps (events of histories), {self.faults} faults of {len(set(KINDS))} kinds, "
            f"{self.doubled} doubled executions of activities, {self.virtual_ms / 3_600_000:.1f} h of virtual time "
            f"in {time.monotonic() - self._started_s:.1f} s; {self.events / cpu_s:.0f} steps per CPU second"
        )


if __name__ == "__main__":
    sys.exit(main())
