"""The first program of the README is what a newcomer types: it runs as it stands there, and is found afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli.processes import ROOT, environment, perdure, start_dev

pytestmark = pytest.mark.e2e

ADDRESS = "localhost:7233"


def _first_program() -> str:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"^## Your first workflow$.*?^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert found, "README.md has no Python block below 'Your first workflow'"
    return found[1]


def test_the_first_program_runs_and_is_listed_and_shown(tmp_path: Path) -> None:
    program = _first_program()
    assert program.count(ADDRESS) == 1
    data = ["--headless", "--data", str(tmp_path / "data")]
    server = start_dev(*data)
    try:
        file = tmp_path / "greeting.py"
        file.write_text(program.replace(ADDRESS, server.address))
        done = subprocess.run(
            [sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, world!\n", "")
        _check_commands(server.address)
    finally:
        server.kill()
    # "Kill the server, start it again, and show once more: it is all still there."
    again = start_dev(*data)
    try:
        _check_commands(again.address)
    finally:
        again.kill()


def _check_commands(address: str) -> None:
    listed = perdure("workflow", "list", "--address", address)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"greeting-1\b.*\bGreeting\b", listed.stdout), listed.stdout
    shown = perdure("workflow", "show", "-w", "greeting-1", "--address", address)
    assert shown.returncode == 0, shown.stderr
    for part in ("ActivityTaskScheduled", "compose", "WorkflowExecutionCompleted", "Hello, world!"):
        assert part in shown.stdout, shown.stdout
