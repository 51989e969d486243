"""The command tree: help, versions, and how errors end a command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perdure_ops import cli
from perdure_ops.errors import CliError
from tests.support.commands import COMMANDS

#: Loaded by none of the command modules, so that every command starts quickly.
HEAVY_MODULES = (
    "confluent_kafka",
    "rocksdict",
    "fastavro",
    "starlette",
    "uvicorn",
    "rich",
    "prometheus_client",
    "perdure",
)


def run(*arguments: str) -> int:
    """The exit code of a command that runs in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_commands_users_know_are_there() -> None:
    assert COMMANDS.keys() >= {
        "dev",
        "server",
        "topics plan",
        "topics apply",
        "topics describe",
        "workflow terminate",
        *(
            f"workflow {verb}"
            for verb in ("start", "execute", "list", "describe", "show", "result", "signal", "query", "cancel")
        ),
    }


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*path.split(), "--help") == 0
    assert f"Example: perdure {path}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("path", [path for path in COMMANDS if path.startswith("workflow ")])
def test_connection_options_and_their_variables_are_on_each_workflow_command(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*path.split(), "--help")
    text = capsys.readouterr().out
    assert all(name in text for name in ("--address", "PERDURE_ADDRESS", "--namespace", "PERDURE_NAMESPACE"))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run("--version") == 0
    assert capsys.readouterr().out == f"perdure {version('perdure')}\n"


def test_wrong_usage_ends_with_2() -> None:
    assert run("no-such-command") == 2
    assert run("workflow", "start") == 2


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "command", lambda: command)


def test_an_error_is_one_line_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    _failing(monkeypatch, CliError("no\n  such thing", exit_code=3))
    assert run() == 3
    captured = capsys.readouterr()
    assert captured.err == "Error: no such thing\n"
    assert captured.out == ""


def test_a_bug_is_one_line_too_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    _failing(monkeypatch, KeyError("x"))
    assert run() == 1
    assert capsys.readouterr().err == "Error: unexpected KeyError: 'x' (PERDURE_DEBUG=1 shows where it comes from)\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    _failing(monkeypatch, CliError("x"))
    with pytest.raises(CliError):
        cli.main([])


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert run() == 130


def test_starting_loads_nothing_heavy() -> None:
    code = f"import sys, perdure_ops.cli; print([name for name in {HEAVY_MODULES!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "perdure_ops", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("perdure ")


def test_a_server_needs_a_kafka_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("server", "--address", "localhost:7233") == 1
    assert "'localhost:7233' is not one of Kafka: write kafka://" in capsys.readouterr().err


def test_invalid_json_is_refused_before_anything_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("workflow", "start", "--type", "A", "-t", "q", "-i", "hello") == 1
    error = capsys.readouterr().err
    assert "--input number 1 is not JSON" in error
    assert "'\"hello\"'" in error
