"""The command that each README gives first runs, and ends with what it promises."""

from __future__ import annotations

import logging
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
#: What stands in the last lines of each command's output. Those of the others are run by tests of their own.
SAYS = {
    "saga": "the agency holds ['Hotel Lisboa', 'TP 573', 'TP 574']",
    "subscription": "to ada: your card was declined",
    "loan_approval": "Outcome(status='approved'",
    "fulfilment": "[('clerk', 'o-2'), ('supervisor', 'o-2')]",
    "agent": "there is no order o9",
    "dsl": "to Ada Lovelace: your card is on its way",
    "polling": "Change(value='version 2'",
    "fleet --devices 20": "nothing lost, nothing doubled, every device in order",
}
RUN_ELSEWHERE = {"payments", "order_service", "java_worker", "pipeline"}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Some commands silence the log; that must not last."""
    logger = logging.getLogger("perdure")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("command", SAYS)
@pytest.mark.usefixtures("quiet")
def test_the_command_runs(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *options = command.split()
    monkeypatch.setattr(sys, "argv", [name, *options])
    try:
        runpy.run_module(f"examples.{name}", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
    assert SAYS[command] in capsys.readouterr().out


def test_every_example_is_run_and_listed() -> None:
    folders = {path.parent.name for path in EXAMPLES.glob("*/__main__.py")}
    assert folders == {command.split()[0] for command in SAYS} | RUN_ELSEWHERE
    index = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+)/README\.md\)", index)) == folders
    for folder in folders:
        assert f"python -m examples.{folder}" in (EXAMPLES / folder / "README.md").read_text()
