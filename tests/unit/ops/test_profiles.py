"""Connection profiles on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure_ops import cli, profiles, workflow_actions

FILE = """
[profile.default]
address = "localhost:7001"
[profile.prod]
address = "kafka://b1:9092"
namespace = "payments"
[profile.prod.kafka]
client.id = "cli"
[profile.prod.codec]
endpoint = "http://localhost:8081"
[profile.cloud]
address = "localhost:7001"
api_key = "geheim"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ADDRESS", "NAMESPACE", "PROFILE", "CONFIG_FILE", "CODEC_ENDPOINT"):
        monkeypatch.delenv(f"PERDURE_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    path = tmp_path / "profiles.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The address and namespace of every command that was run."""
    calls: list[tuple[str, str]] = []

    def run(address: str, namespace: str, *_rest: Any) -> None:
        calls.append((address, namespace))

    monkeypatch.setattr(workflow_actions, "run", run)
    return calls


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


COMMAND = ("activity", "complete", "-w", "w", "-a", "a")


def test_a_profile_gives_the_defaults_of_options_wherever_it_stands(file: Path, asked: list[tuple[str, str]]) -> None:
    of_file = ("--config-file", str(file))
    assert _run(*COMMAND, "--profile", "prod", *of_file) == 0
    assert _run("--profile=prod", *of_file, *COMMAND) == 0
    assert _run(*of_file, *COMMAND) == 0
    assert _run(*COMMAND) == 0
    prod = ("kafka://b1:9092?client.id=cli", "payments")
    assert asked == [prod, prod, ("localhost:7001", "default"), ("localhost:7233", "default")]


def test_options_win_over_variables_and_those_over_the_profile(
    file: Path, asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_CONFIG_FILE", str(file))
    monkeypatch.setenv("PERDURE_PROFILE", "prod")
    assert _run(*COMMAND, "--namespace", "tests") == 0
    monkeypatch.setenv("PERDURE_NAMESPACE", "variable")
    monkeypatch.setenv("PERDURE_ADDRESS", "kafka://b2:9092")
    assert _run(*COMMAND) == 0
    assert _run(*COMMAND, "--address", "localhost:1") == 0
    assert asked == [
        ("kafka://b1:9092?client.id=cli", "tests"),
        ("kafka://b2:9092?client.id=cli", "variable"),
        ("localhost:1", "variable"),
    ]


def test_wrong_profiles_are_one_line_without_secrets(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*COMMAND, "--config-file", str(file), "--profile", "none") == 1
    assert "has no profile 'none'; it has: cloud, default, prod" in capsys.readouterr().err
    assert _run(*COMMAND, "--config-file", str(file), "--profile", "cloud") == 1
    shown = capsys.readouterr().err
    assert "the profile has api_key, which mean nothing here" in shown
    assert "geheim" not in shown
    assert _run(*COMMAND, "--config-file", str(file.with_name("other.toml"))) == 1
    assert "does not exist" in capsys.readouterr().err


def test_what_stands_behind_two_dashes_stays_there() -> None:
    given = ["workflow", "start", "--profile", "a", "--", "--profile", "b"]
    assert profiles.to_front(given) == ["--profile", "a", "workflow", "start", "--", "--profile", "b"]
    assert profiles.to_front(["dev", "--profile"]) == ["--profile", "dev"]
