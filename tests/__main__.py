"""Runs everything that has to pass: lint, format, types, import contracts, and all tests.

``python -m tests`` runs all of it; ``python -m tests unit contract`` only those tiers of the tests, without the checks.
Called by the README's test command and by continuous integration.
"""

from __future__ import annotations

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
    return subprocess.run([sys.executable, "-m", "pytest", *paths], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
