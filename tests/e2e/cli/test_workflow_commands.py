"""``perdure workflow …`` end to end: one development server with a tiny worker, every command as a process."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.processes import DevServer, environment, free_port, perdure, perdure_command, start_dev

pytestmark = pytest.mark.e2e

TASK_QUEUE = "cli-tests"


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    started = start_dev("tests.e2e.cli.worker_module:make_worker", "--in-memory", "--headless")
    yield started
    started.process.terminate()
    started.process.communicate(timeout=30)


@pytest.fixture
def run(server: DevServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return perdure("workflow", verb, "--address", server.address, *arguments)

    return run


@pytest.fixture
def ok(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    def ok(verb: str, *arguments: str) -> str:
        done = run(verb, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ok


@pytest.fixture
def workflow_id() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def _eventually(look: Callable[[], Any]) -> Any:
    """The first true result of ``look``."""
    deadline_s = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline_s, "it never came to pass"
        threading.Event().wait(0.1)
    return found


def test_execute_prints_the_result(ok: Callable[..., str], workflow_id: str) -> None:
    options = ("--type", "Greeting", "-t", TASK_QUEUE, "-i", '"Ada"')
    assert ok("execute", *options, "-w", workflow_id) == '"Hello, Ada!"\n'
    answer = json.loads(ok("execute", *options, "-o", "json"))
    assert answer["status"] == "COMPLETED"
    assert answer["result"] == "Hello, Ada!"
    assert answer["workflow_id"]


def test_start_then_result_describe_show_and_list(ok: Callable[..., str], workflow_id: str, tmp_path: Path) -> None:
    (tmp_path / "name.json").write_text('"Bob"\n')
    started = json.loads(
        ok(
            "start", "--type", "Greeting", "-t", TASK_QUEUE, "-w", workflow_id, "-o", "json",
            "--input-file", str(tmp_path / "name.json"), "--memo", 'team="red"', "--run-timeout", "1h",
        )
    )  # fmt: skip
    assert started["workflow_id"] == workflow_id
    assert json.loads(ok("result", "-w", workflow_id)) == "Hello, Bob!"

    described = json.loads(ok("describe", "-w", workflow_id, "-r", started["run_id"], "-o", "json"))
    assert described["status"] == "COMPLETED"
    assert described["run_timeout_ms"] == 3_600_000
    assert described["memo"] == {"team": "red"}
    assert described["pending_activities"] == []

    types = [json.loads(line)["type"] for line in ok("show", "-w", workflow_id, "-o", "jsonl").splitlines()]
    assert types[0] == "WorkflowExecutionStarted"
    assert types[-1] == "WorkflowExecutionCompleted"
    assert "ActivityTaskCompleted" in types
    assert len(json.loads(ok("show", "-w", workflow_id, "-o", "json"))["events"]) == len(types)
    table = ok("show", "-w", workflow_id)
    assert len(table.splitlines()) == len(types) + 1
    assert "activity_type=greet" in table

    rows = [json.loads(line) for line in ok("list", "--limit", "1000", "-o", "jsonl").splitlines()]
    assert [row["status"] for row in rows if row["workflow_id"] == workflow_id] == ["COMPLETED"]
    assert len(ok("list", "--limit", "1").splitlines()) == 2


def test_signals_and_queries_reach_the_workflow(ok: Callable[..., str], workflow_id: str) -> None:
    ok("start", "--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    ok("signal", "-w", workflow_id, "--name", "add", "-i", '{"sku": "ä", "count": 2}')
    ok("signal", "-w", workflow_id, "--name", "add", "-i", "null")
    assert json.loads(ok("query", "-w", workflow_id, "--name", "content")) == [{"sku": "ä", "count": 2}, None]
    ok("signal", "-w", workflow_id, "--name", "close")
    assert json.loads(ok("result", "-w", workflow_id)) == [{"sku": "ä", "count": 2}, None]


def test_describe_shows_the_last_failure_of_a_pending_activity(ok: Callable[..., str], workflow_id: str) -> None:
    ok("start", "--type", "Stubborn", "-t", TASK_QUEUE, "-w", workflow_id, "-i", "0")

    def failed() -> Any:
        pending = json.loads(ok("describe", "-w", workflow_id, "-o", "json"))["pending_activities"]
        return pending and pending[0]["last_failure"] and pending[0]

    activity = _eventually(failed)
    assert activity["type"] == "fail"
    assert activity["last_failure"] == "Broken: no luck"
    assert "Broken: no luck" in ok("describe", "-w", workflow_id)
    ok("terminate", "-w", workflow_id, "--reason", "enough")
    assert json.loads(ok("describe", "-w", workflow_id, "-o", "json"))["status"] == "TERMINATED"
    assert "enough" in ok("show", "-w", workflow_id)


def test_cancel_ends_a_waiting_workflow(
    ok: Callable[..., str], run: Callable[..., subprocess.CompletedProcess[str]], workflow_id: str
) -> None:
    ok("start", "--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    ok("cancel", "-w", workflow_id, "--reason", "not needed")
    done = run("result", "-w", workflow_id)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert workflow_id in done.stderr
    assert json.loads(ok("describe", "-w", workflow_id, "-o", "json"))["status"] == "CANCELED"


def test_a_failed_workflow_fails_the_command_and_says_why(
    run: Callable[..., subprocess.CompletedProcess[str]], workflow_id: str
) -> None:
    done = run("execute", "--type", "Stubborn", "-t", TASK_QUEUE, "-w", workflow_id, "-i", "1", "-o", "json")
    assert done.returncode == 1
    assert "no luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["status"] == "FAILED"


def test_an_unknown_workflow_is_one_line_for_every_command(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    unknown = ("-w", "no-such-workflow")
    commands: list[tuple[str, ...]] = [
        ("describe", *unknown),
        ("show", *unknown),
        ("result", *unknown),
        ("signal", *unknown, "--name", "x"),
        ("query", *unknown, "--name", "x"),
        ("cancel", *unknown),
        ("terminate", *unknown),
    ]
    for command in commands:
        done = run(*command)
        assert done.returncode == 1, command
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("Error: ")
        assert "not found" in done.stderr, done.stderr
        assert done.stdout == ""


def test_a_second_start_of_a_running_workflow_is_refused(
    ok: Callable[..., str], run: Callable[..., subprocess.CompletedProcess[str]], workflow_id: str
) -> None:
    options = ("--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    first = json.loads(ok("start", *options, "-o", "json"))
    done = run("start", *options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    second = json.loads(ok("start", *options, "--id-conflict-policy", "UseExisting", "-o", "json"))
    assert second["run_id"] == first["run_id"]
    ok("terminate", "-w", workflow_id)


def test_invalid_json_and_options_are_one_line(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    start = ("start", "--type", "Greeting", "-t", TASK_QUEUE)
    for options, what in [
        (("-i", "{nope"), "--input number 1 is not JSON"),
        (("--input-file", "/no/such/file"), "/no/such/file cannot be read"),
        (("--run-timeout", "soon"), "'soon' is not a duration"),
        (("--id-reuse-policy", "Maybe"), "'Maybe' is none of AllowDuplicate"),
    ]:
        done = run(*start, *options)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert what in done.stderr


def test_an_address_where_nobody_listens_is_one_line() -> None:
    address = f"localhost:{free_port()}"
    done = perdure("workflow", "list", "--address", address)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert address in done.stderr


def test_a_malformed_address_is_one_line() -> None:
    done = perdure("workflow", "list", "--address", "nonsense")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nonsense" in done.stderr


def test_an_unknown_namespace_is_one_line(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("list", "--namespace", "elsewhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "elsewhere" in done.stderr


def test_the_address_may_come_from_the_environment(server: DevServer) -> None:
    done = subprocess.run(
        perdure_command("workflow", "list"),
        capture_output=True,
        text=True,
        env=environment() | {"PERDURE_ADDRESS": server.address},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
