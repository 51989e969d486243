"""Runs everything that has to pass: lint, format, types, import contracts, and all tests.

``python -m tests`` runs all of it; ``python -m tests unit contract`` only those tiers of the tests, without the checks.
Called by the README's test command and by continuous integration.

The files of tests are spread over one process more than there are cores, four at most, because many tests wait for
other processes. Each has a broker of its own, so that tests in different files never meet. Tests that drive real
processes and brokers depend on what else the machine does. If few of them fail, their files get one second chance,
alone (tests of one file may build on each other); what then passes is named as flaky, and is a bug to fix. No other
test gets one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS = (
    ("lint", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy"]),
    ("import contracts", ["lint-imports"]),
)
#: Where a failure may come from the machine, and how many such failures still look like bad luck.
REAL_PARTS = ("tests/contract/", "tests/integration/", "tests/e2e/")
FLAKY_MAX = 5
PROCESSES = min(4, (os.cpu_count() or 1) + 1)
LAST_FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main(tiers: list[str]) -> int:
    """Run the checks (unless tiers are named) and pytest; returns the exit code."""
    programs = Path(sys.executable).parent
    for name, command in () if tiers else CHECKS:
        started_s = time.monotonic()
        code = subprocess.run([str(programs / command[0]), *command[1:]], cwd=ROOT, check=False).returncode
        print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started_s:.1f} s", flush=True)
        if code:
            return code
    paths = [f"tests/{tier}" for tier in tiers] or ["tests"]
    LAST_FAILED.unlink(missing_ok=True)
    # In the order of their names, tests of processes come first and the many short ones fill what is left in the end.
    code = run_pytest([f"--numprocesses={PROCESSES}", "--dist=loadfile", "--no-loadscope-reorder", *paths])
    failed = sorted(json.loads(LAST_FAILED.read_text())) if code == 1 and LAST_FAILED.exists() else []
    if not failed or len(failed) > FLAKY_MAX or not all(test.startswith(REAL_PARTS) for test in failed):
        return code
    print(f"== once more, alone: {', '.join(failed)}", flush=True)
    code = run_pytest(sorted({test.partition("::")[0] for test in failed}))
    if code == 0:
        print(f"== FLAKY, to be fixed: {', '.join(failed)}", flush=True)
    return code


def run_pytest(arguments: list[str]) -> int:
    """Run pytest in a process of its own; returns its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--durations=25", *arguments], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
