"""What every command says of wrong use: one line that names what was wrong, the exit code, and never a traceback.

The commands and their options are taken from the tree itself, so a new command is tested here without being named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from perdure_ops import cli
from perdure_runtime.remote import link
from tests.e2e.cli.processes import free_port
from tests.integration.ops.conftest import Run
from tests.support.commands import COMMANDS, options

#: They run until they are stopped.
SERVERS = {"dev", "server"}
#: What an option or an argument gets where it is required.
VALUES = {
    "--activity-id": "none",
    "--build-id": "none",
    "--end-time": "2026-01-02",
    "--module": "tests.integration.ops.worker",
    "--new-workflow-id": "new",
    "--partitions": "5",
    "--query": "WorkflowType = 'Nobody'",
    "--start-time": "2026-01-01",
    "letter_id": "none/0/0",
    "statement": "SELECT count(*) FROM executions",
    "topic": "history",
}
#: Where one of several is required.
MORE = {
    **{f"activity {verb}": ("-a", "none") for verb in ("pause", "unpause", "reset", "update-options")},
    **{
        f"batch {verb}": ("--yes",) for verb in ("signal", "cancel", "terminate", "pause", "unpause", "reset", "delete")
    },
    "dlq replay": ("--all", "--yes"),
    "load": ("--yes",),
    "rebuild-state": ("--yes",),
    "schedule create": ("--cron", "@daily"),
    "schedule toggle": ("--pause",),
    "task-queue config set": ("--queue-rps-limit", "1"),
    "topics apply": ("--yes",),
    "reassign execute": ("--yes",),
    "worker deployment set-current-version": ("--build-id", "none"),
    "worker deployment set-ramping-version": ("--build-id", "none"),
}
#: They look at no log.
LOGLESS = {"topics acls", "topics register-schemas"}
KAFKA_ONLY = {path for path in COMMANDS if path.startswith(("topics ", "reassign ", "migrate"))} - LOGLESS
KAFKA_ONLY -= {"topics consume"}
#: Exit codes other than 1: they could not look, which is not the same as having found something.
CODES = {"doctor": 2, "audit": 2, "dump": 2}


def having(*names: str, but: Iterable[str] = ()) -> list[str]:
    """The commands with one of these options."""
    return [path for path in COMMANDS if path not in SERVERS and path not in but and options(path) & set(names)]


def line(path: str, folder: Path, *more: str) -> tuple[str, ...]:
    """A command line that is right: all that the command requires."""
    words = path.split()
    for parameter in COMMANDS[path].params:
        if not parameter.required or parameter.opts[0] == "--address":
            continue
        name = parameter.opts[0]
        if parameter.name == "file":
            value = str(folder / "file.json")
        elif parameter.name == "folder":
            value = str(folder)
        else:
            value = VALUES.get(name, "none")
        words += [value] if parameter.param_type_name == "argument" else [name, value]
    return (*words, *MORE.get(path, ()), *more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has nothing but what `load` and `reassign` may read, and where `sql` keeps its index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = {"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1]}]}
    (tmp_path / "file.json").write_text(json.dumps(plan))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == code, captured.err
    assert captured.out == ""
    (last,) = [text for text in captured.err.splitlines() if not text.startswith("not audited:")]
    assert last.startswith("Error: ")
    return last


@pytest.mark.parametrize("path", COMMANDS)
@pytest.mark.parametrize("wrong", ["--nonsense", "--output=nonsense"])
def test_an_unknown_option_or_format(path: str, wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line(path, folder, wrong))
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert "nonsense" in captured.err or "--output" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("path", [path for path in COMMANDS if any(one.required for one in COMMANDS[path].params)])
def test_what_is_required_is_missing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(path.split())
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert "Missing" in captured.err


@pytest.mark.parametrize("path", having("--address", but=KAFKA_ONLY | {"load"}))
def test_nobody_answers_at_the_address(
    path: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RECONNECT_DELAY_S_MIN", 3600.0)  # do not try again
    address = f"127.0.0.1:{free_port()}"
    (folder / "file.json").unlink()
    assert address in told(capsys, *line(path, folder, "--address", address), code=CODES.get(path, 1))


@pytest.mark.parametrize("path", sorted(KAFKA_ONLY))
def test_an_address_that_is_not_one_of_kafka(path: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'here:1' is not one of Kafka" in told(capsys, *line(path, folder, "--address", "here:1"))


@pytest.mark.parametrize("path", having("--namespace", but=KAFKA_ONLY | LOGLESS | {"load"}))
def test_an_unknown_namespace(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file.json").unlink()
    where = ("--address", run.address, "-n", "nowhere")
    error = told(capsys, *line(path, folder, *where), code=CODES.get(path, 1))
    assert "nowhere" in error
    assert "correct the namespace" in error


#: These begin a workflow of that id; the schedule's is that of the workflows to come.
BEGINNING = ("workflow start", "workflow execute", "workflow signal-with-start", "load", "schedule create")


@pytest.mark.parametrize(
    "path", [*having("--workflow-id", "--schedule-id", but=BEGINNING), *having("--deployment-name"), "dlq show"]
)
def test_an_unknown_id(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file.json").unlink()
    more = ("--workflow-id", "none") if path in ("dump", "history tail") else ()
    where = ("--address", run.address, "-n", run.namespace)
    if path == "history tail":  # there is just nothing to show
        assert run.ok(*line(path, folder, *more, "-o", "json")).split() == ["[]"]
        return
    assert "none" in told(capsys, *line(path, folder, *more, *where))


@pytest.mark.parametrize("path", having("--input", "--signal-input", "--result", "--detail"))
def test_what_is_no_json(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for option in sorted(options(path) & {"--input", "--signal-input", "--result", "--detail"}):
        error = told(capsys, *line(path, folder, option, "{nope", "--address", run.address))
        assert f"{option}" in error
        assert "is not JSON" in error


@pytest.mark.parametrize("path", having("--input-file"))
def test_a_file_that_is_not_there(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(folder / "missing.json")
    assert f"{missing} cannot be read" in told(
        capsys, *line(path, folder, "--input-file", missing, "--address", run.address)
    )


def _durations(path: str) -> list[str]:
    return [one.opts[0] for one in COMMANDS[path].params if one.metavar == "DURATION"]


@pytest.mark.parametrize("path", [path for path in COMMANDS if _durations(path)])
def test_what_is_no_duration(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for option in _durations(path):
        error = told(capsys, *line(path, folder, option, "soon", "--address", run.address))
        assert f"{option}: 'soon' is not a duration" in error


@pytest.mark.parametrize("path", having("--query"))
def test_what_is_no_filter(path: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--address", run.address, "-n", run.namespace)
    error = told(capsys, *line(path, folder, "--query", "Nonsense =", *where))
    assert "filter" in error


def test_limits_for_a_task_queue_in_several_partitions(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--address", run.address, "-n", run.namespace)
    error = told(capsys, "task-queue", "config", "set", "orders~2", "--queue-rps-limit", "1", *where)
    assert "task queue 'orders~2' is matched in several partitions" in error


def test_every_command_is_among_those_above() -> None:
    """Each has at least one wrong use of its own, beside options that there are not."""
    tested = {
        *having("--address"),
        "dev",  # tests/e2e/cli/test_dev.py
        "server",  # tests/unit/ops/test_cli.py
        "topics acls",  # tests/unit/ops/test_acls.py
        "topics register-schemas",  # tests/unit/ops/test_schema_registration.py
        "rebuild-state",  # tests/unit/ops/test_state_folders.py
    }
    assert tested == COMMANDS.keys()
