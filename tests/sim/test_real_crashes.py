"""Crash points on the real logs: a few of one scenario on each, through the command, and what is enumerated."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from tests.sim.__main__ import main
from tests.sim.crash_points import SCENARIOS
from tests.sim.real_crashes import Countdown, real_scenarios

_TIMEOUT_S = 240


def _crash_points(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: its children are forks of it, and this one has threads."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", "--crash-points", *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env={**os.environ, **environment},
    )


def _assert_all_passed(ended: subprocess.CompletedProcess[str], points_min: int) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    name, writes, points, unreached, failed = ended.stdout.splitlines()[-1].split()
    assert (name, int(failed)) == ("together", 0)
    assert int(points) + int(unreached) >= points_min
    assert int(points) > 0 and int(writes) > 15, ended.stdout


@pytest.mark.timeout(600)
def test_some_crash_points_on_the_embedded_log() -> None:
    ended = _crash_points("activity", "--log", "embedded", "--every", "9", "--cuts", "behind", "--jobs", "3")

    _assert_all_passed(ended, 2)


@pytest.mark.timeout(600)
def test_some_crash_points_on_kafka(kafka_bootstrap: str) -> None:
    ended = _crash_points(
        "activity", "--log", "kafka", "--every", "14", "--cuts", "before", PERDURE_TEST_BOOTSTRAP=kafka_bootstrap
    )

    _assert_all_passed(ended, 2)


def test_an_unknown_scenario_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.sim", "--crash-points", "nothing", "--log", "embedded"])
    monkeypatch.setattr(logging, "disable", lambda level: None)

    assert main() == 2
    assert "there is no scenario nothing; there are: activity, " in capsys.readouterr().err


def test_the_scenarios_need_no_client_at_the_right_moment() -> None:
    names = {scenario.name for scenario in real_scenarios()}

    assert len(names) >= 10
    assert names < {scenario.name for scenario in SCENARIOS}
    assert not names & {"update", "cancellation", "termination", "reset"}


def test_writes_are_numbered_and_made_unless_their_number_is_up() -> None:
    countdown = Countdown(-1, "before")
    made = [countdown.write(lambda number=number: number, lambda _: None) for number in range(3)]  # type: ignore[misc]

    assert made == [0, 1, 2]
    assert countdown.count == 3
