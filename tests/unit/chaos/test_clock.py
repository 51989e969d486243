"""A child process's wall clock that the test sets wrong while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.clock import ProcessClock

PROGRAM = "import sys, time\nfor line in sys.stdin: print(time.time(), time.time_ns(), flush=True)"


def test_a_clock_jumps_there_and_back_while_the_process_runs(tmp_path: Path) -> None:
    clock = ProcessClock(tmp_path / "clock")
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def offset_s() -> float:
        before_s = time.time()
        print("ask", file=child.stdin, flush=True)
        told_s, told_ns = child.stdout.readline().split()
        after_s = time.time()
        assert abs(float(told_s) - int(told_ns) / 1e9) < 60
        middle_s = (before_s + after_s) / 2
        return float(told_s) - middle_s

    try:
        for wanted_s in (0.0, 3_600.0, -3_600.0, 0.0):
            clock.set(wanted_s)
            assert abs(offset_s() - wanted_s) < 600, "whatever else the machine does"
    finally:
        child.kill()
        child.communicate()
