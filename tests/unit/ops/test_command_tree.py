"""What every command has, whatever it does: output for programs, a way to try changes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.commands import COMMANDS, options

#: They run until they are stopped; what they print is a log.
SERVERS = {"dev", "server"}
#: They change what more than one workflow, or the log itself, holds: they ask, and can be tried.
BATCH = ("signal", "cancel", "terminate", "pause", "unpause", "reset", "delete")
ASKING = {
    "topics apply",
    "topics register-schemas",
    "dlq replay",
    "reassign execute",
    "rebuild-state",
    "load",
    "migrate-partitions",
    *(f"batch {verb}" for verb in BATCH),
}
#: They can be taken back as easily, so they do not ask.
TRIED = {"task-queue config set", "task-queue config unset"}


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - SERVERS))
def test_it_prints_for_programs_too(path: str) -> None:
    assert {"--output", "-o"} <= options(path)


@pytest.mark.parametrize("path", COMMANDS)
def test_what_asks_can_be_told_not_to_and_tried(path: str) -> None:
    asks = path in ASKING
    assert ("--yes" in options(path)) == asks
    assert ("--dry-run" in options(path)) == (asks or path in TRIED)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    """What the scripts of ``perdure --show-completion`` ask for at each tab."""
    typed = {"bash": "perdure workflow sig", "zsh": "perdure workflow sig", "fish": "perdure workflow sig"}[shell]
    asked = {
        "_PERDURE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "sig",
        "COMP_WORDS": typed,
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from perdure_ops.cli import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "signal-with-start" in done.stdout, done.stderr
    assert "list" not in done.stdout
