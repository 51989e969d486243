"""``python -m bench compare``: our targets beside other systems, in interleaved rounds, by medians.

All systems are started once and stay; in each round each of them is measured, one after the other, so that what else
the machine does falls on all of them alike. Every system is a program of its own, driven by the same code.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.chart import NoChartError, bars, require_charts
from bench.peers.installing import PEERS, command_of, is_installed
from bench.peers.process import MeasuredProgram, PeerError
from bench.peers.protocol import WORKLOADS
from bench.report import Result, markdown_table, number, show_table, to_json_line
from bench.running import add_output_options
from bench.stats import Figures, medians, spread
from bench.targets import TARGETS

#: What the table shows.
COLUMNS = (
    ("latency_ms_p50", "p50, ms"),
    ("latency_ms_p99", "p99, ms"),
    ("workflows_per_s", "workflows/s"),
    ("activities_per_s", "activities/s"),
    ("cpu_s_per_1000", "CPU s per 1,000"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``compare``."""
    names = [*TARGETS, *PEERS]
    parser.add_argument("--system", action="append", choices=names, help="default: all that are there")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured (5)")
    parser.add_argument("--latency-count", type=int, default=200, help="workflows one at a time, each round (200)")
    parser.add_argument("--latency-seconds", type=float, default=10.0, help="but no longer than that (10)")
    parser.add_argument("--seconds", type=float, default=5.0, help="at saturation, each round (5)")
    parser.add_argument("--in-flight", type=int, default=100, help="workflows at a time at saturation (100)")
    parser.add_argument("--bootstrap", help="a Kafka broker; default: one is started natively")
    parser.add_argument("--temporal", metavar="HOST:PORT", help="a Temporal server to compare with")
    parser.add_argument("--chart", type=Path, help="an SVG file to write")
    add_output_options(parser)


def _commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The systems to measure, and how each is started; tells of those that are left out."""
    found = {}
    for name in options.system or [*TARGETS, *PEERS]:
        if name in TARGETS:
            bootstrap = [options.bootstrap] if options.bootstrap and name == "kafka" else []
            found[name] = [sys.executable, "-m", "bench.peers.perdure_peer", name, *bootstrap]
        elif name == "temporal" and options.temporal is None:
            _tell("temporal is left out: give the address of a server with --temporal HOST:PORT")
        elif not is_installed(name):
            _tell(f"{name} is left out: install it with `python -m bench peers install {name}`")
        else:
            found[name] = command_of(name, *([options.temporal] if name == "temporal" else []))
    return found


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(options: argparse.Namespace, rounds: dict[tuple[str, str], list[Figures]]) -> None:
    """Add the figures of each round, by workload and system. A system that fails is left out from then on."""
    async with contextlib.AsyncExitStack() as stack:
        systems: dict[str, MeasuredProgram] = {}
        for name, command in _commands(options).items():
            try:
                systems[name] = await stack.enter_async_context(MeasuredProgram(name, command))
            except PeerError as error:
                _tell(f"{name} is left out: {error}")
        for turn in range(options.rounds + 1):
            names = list(systems)
            first = turn % len(names) if names else 0
            for name in names[first:] + names[:first]:
                try:
                    await _turn(systems[name], options, turn, rounds)
                except PeerError as error:
                    _tell(f"{name} is left out from here on: {error}")
                    del systems[name]


async def _turn(
    system: MeasuredProgram, options: argparse.Namespace, turn: int, rounds: dict[tuple[str, str], list[Figures]]
) -> None:
    """One round of one system; the first only warms it up."""
    for workload in options.workload or WORKLOADS:
        if turn == 0:
            await system.warm_up(workload, options.in_flight, min(options.seconds, 3.0))
            continue
        figures = await system.measure(
            workload,
            latency_count=options.latency_count,
            latency_seconds=options.latency_seconds,
            in_flight=options.in_flight,
            seconds=options.seconds,
        )
        rounds.setdefault((workload, system.name), []).append(figures)
        _tell(
            f"round {turn}, {workload}, {system.name}: {number(figures['workflows_per_s'])} workflows/s, "
            f"p50 {number(figures['latency_ms_p50'])} ms, others took {number(figures['others_cores'])} cores"
        )


def comparison_table(rounds: dict[tuple[str, str], list[Figures]]) -> tuple[list[str], list[list[str]]]:
    """Medians of each system and workload, with the least and the greatest throughput of all rounds."""
    order = {name: place for place, name in enumerate([*TARGETS, *PEERS])}
    rows = []
    for workload, system in sorted(rounds, key=lambda key: (key[0], order.get(key[1], len(order)))):
        found = medians(rounds[workload, system])
        least, most = spread(rounds[workload, system], "workflows_per_s")
        cells = [number(found.get(name)) for name, _ in COLUMNS]
        rows.append([f"{workload}, {system}", *cells, f"{number(least)} to {number(most)}"])
    return ["workload, system", *(heading for _, heading in COLUMNS), "workflows/s, all rounds"], rows


def ratio_table(rounds: dict[tuple[str, str], list[Figures]]) -> tuple[list[str], list[list[str]]]:
    """How many times the throughput of each peer each of our targets has, and how many times shorter its p50 is."""
    found = {key: medians(figures) for key, figures in rounds.items()}
    rows = []
    for (workload, target), ours in found.items():
        for (other_workload, peer), theirs in found.items():
            if target in TARGETS and peer not in TARGETS and workload == other_workload:
                faster = ours["workflows_per_s"] / theirs["workflows_per_s"]
                shorter = theirs["latency_ms_p50"] / ours["latency_ms_p50"]
                rows.append([f"{workload}, {target} : {peer}", f"{number(faster)} ×", f"{number(shorter)} ×"])
    return ["ratio", "throughput", "p50 shorter by"], sorted(rows)


def _rounds_done(rounds: dict[tuple[str, str], list[Figures]]) -> int:
    """How many rounds every system has had."""
    return min(map(len, rounds.values()))


def _draw(rounds: dict[tuple[str, str], list[Figures]], path: Path) -> None:
    panels: dict[str, dict[str, float]] = {}
    for (workload, system), figures in rounds.items():
        found = medians(figures)
        panels.setdefault(f"{workload}: workflows/s (more is better)", {})[system] = found["workflows_per_s"]
        panels.setdefault(f"{workload}: p50 in ms (less is better)", {})[system] = found["latency_ms_p50"]
    bars(path, panels, f"Medians of {_rounds_done(rounds)} rounds, one machine, one run")


def _results(rounds: dict[tuple[str, str], list[Figures]]) -> Sequence[Result]:
    return [Result(workload, system, medians(figures)) for (workload, system), figures in rounds.items()]


def main(options: argparse.Namespace) -> int:
    """Measure, print, draw."""
    if options.rounds < 1:
        raise SystemExit(f"--rounds is {options.rounds}; it must be 1 or more")
    try:
        if options.chart is not None:
            require_charts()
    except NoChartError as error:
        raise SystemExit(f"error: {error}") from None
    rounds: dict[tuple[str, str], list[Figures]] = {}
    try:
        asyncio.run(measure(options, rounds))
    except KeyboardInterrupt:
        _tell("interrupted: this is what was measured until now")
    if not rounds:
        _tell("nothing could be measured")
        return 1
    if options.json:
        print("\n".join(map(to_json_line, _results(rounds))))
    elif options.markdown:
        print(markdown_table(*comparison_table(rounds)), markdown_table(*ratio_table(rounds)), sep="\n\n")
    else:
        show_table(*comparison_table(rounds), f"Medians of {_rounds_done(rounds)} rounds, this machine, one run")
        show_table(*ratio_table(rounds), "Ours against theirs")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("".join(f"{to_json_line(result)}\n" for result in _results(rounds)))
    if options.chart is not None:
        _draw(rounds, options.chart)
    return 0
