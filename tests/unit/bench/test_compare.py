"""What is told of a comparison, and the protocol between the driver and a measured program."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bench.__main__ import parser
from bench.comparing import comparison_table, ratio_table
from bench.peers.installing import PEERS, command_of, folder_of
from bench.peers.process import MeasuredProgram, PeerError

ROUNDS = {
    ("one", "restate"): [{"workflows_per_s": 100.0, "latency_ms_p50": 10.0}] * 3,
    ("one", "embedded"): [
        {"workflows_per_s": 900.0, "latency_ms_p50": 2.5},
        {"workflows_per_s": 1000.0, "latency_ms_p50": 2.0},
        {"workflows_per_s": 5000.0, "latency_ms_p50": 1.0},
    ],
}

#: A program that answers as the protocol says, with nothing to measure.
_PROGRAM = """
import asyncio, os
from bench.peers.protocol import answers_on_stdout, serve

async def run(workload):
    print("a library that prints")
    if workload == "ten":
        raise ValueError("ten is too much")

async def main():
    await serve(run, answers_on_stdout(), processes={"all": [os.getpid()]}, folders=[], records=lambda: 42)

asyncio.run(main())
"""


def test_the_table_tells_medians_and_the_spread_with_our_targets_first() -> None:
    headings, rows = comparison_table(ROUNDS)
    assert headings[0] == "workload, system"
    assert rows == [
        ["one, embedded", "2", "–", "1,000", "–", "–", "900 to 5,000"],
        ["one, restate", "10", "–", "100", "–", "–", "100 to 100"],
    ]


def test_ratios_are_of_medians_of_the_same_workload() -> None:
    assert ratio_table(ROUNDS)[1] == [["one, embedded : restate", "10 ×", "5 ×"]]
    assert ratio_table({**ROUNDS, ("ten", "dbos"): ROUNDS["one", "restate"]})[1] == ratio_table(ROUNDS)[1]


def test_every_peer_has_its_own_environment_and_fixed_versions() -> None:
    for name, peer in PEERS.items():
        assert command_of(name)[:3] == [str(folder_of(name) / "venv" / "bin" / "python"), "-m", peer.module]
        assert all("==" in package for package in peer.packages)
        assert all("@" in package[1:] for package in peer.node_packages)


def test_every_command_has_options() -> None:
    for command in ("run", "compare", "peers", "profile", "growth", "scale"):
        with pytest.raises(SystemExit) as end:
            parser().parse_args([command, "--help"])
        assert end.value.code == 0


async def test_a_measured_program_is_asked_and_answers(tmp_path: Path) -> None:
    async with MeasuredProgram("fake", [sys.executable, "-c", _PROGRAM]) as program:
        assert set(program.processes) == {"all"}
        assert await program.ask(do="records") == {"records": 42}
        found = await program.ask(do="closed", workload="one", count=3, seconds_max=60)
        assert len(found["latencies_ms"]) == 3
        figures = await program.measure("one", latency_count=5, latency_seconds=60, in_flight=2, seconds=0.05)
        assert figures["latency_ms_samples"] == 5
        assert figures["workflows_per_s"] > 0
        assert figures["records_per_workflow"] == 0
        with pytest.raises(PeerError, match=r"fake: .*ten is too much"):
            await program.ask(do="closed", workload="ten", count=1, seconds_max=60)
        with pytest.raises(PeerError, match="no workload 'fan'"):
            await program.ask(do="closed", workload="fan", count=1, seconds_max=60)


async def test_a_program_that_ends_is_told_with_what_it_printed() -> None:
    with pytest.raises(PeerError, match=r"fake ended:\n(?s:.*)no such bank"):
        async with MeasuredProgram("fake", [sys.executable, "-c", "raise SystemExit('no such bank')"]):
            await asyncio.sleep(0)
