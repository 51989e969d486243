"""``perdure server`` and ``perdure topics`` on a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from perdure_ops.http_endpoints import NO_READ_SIDE
from perdure_schemas.topics import TOPICS
from tests.e2e.cli.processes import ROOT, environment, free_port, perdure, perdure_command
from tests.e2e.cli.worker_process import WORKER_PROCESS

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]


@contextmanager
def _server(address: str, namespace: str, state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A running ``perdure server``, from its ready line on."""
    command = perdure_command("server", "--namespace", namespace, "--state-dir", str(state), "--instance", namespace)
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment() | {"PERDURE_ADDRESS": address},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("Perdure server is ready: "):
            process.kill()
            raise AssertionError(f"the server did not get ready: {line}{process.communicate()}")
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _worker(address: str, namespace: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER_PROCESS, address, namespace],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "worker\n"
        yield
    finally:
        process.kill()
        process.communicate()


def _greet(address: str, namespace: str, name: str) -> str:
    where = ("--address", address, "-n", namespace)
    done = perdure("workflow", "execute", *where, "--type", "Greeting", "-t", "cli-tests", "-i", json.dumps(name))
    assert done.returncode == 0, done.stderr
    greeting: str = json.loads(done.stdout)
    return greeting


def test_one_process_creates_its_topics_and_runs_workflows(
    kafka_bootstrap: str, kafka_namespace: str, tmp_path: Path
) -> None:
    address = f"kafka://{kafka_bootstrap}"
    options = ("--partitions", "2", "--http-port", str(free_port()))
    with _server(address, kafka_namespace, tmp_path, *options) as server, _worker(address, kafka_namespace):
        assert _greet(address, kafka_namespace, "Ada") == "Hello, Ada!"
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=30)
        assert server.returncode == 0, err
        assert "Traceback" not in err
    rows = json.loads(perdure("topics", "describe", "--address", address, "-n", kafka_namespace, "-o", "json").stdout)
    assert {row["topic"] for row in rows} == {f"perdure.{kafka_namespace}.{spec.name}" for spec in TOPICS}
    assert {row["partitions"] for row in rows} == {2}


def test_the_http_api_on_kafka_with_and_without_a_read_side_in_the_process(
    kafka_bootstrap: str, kafka_namespace: str, tmp_path: Path
) -> None:
    address = f"kafka://{kafka_bootstrap}"
    ports = free_port(), free_port()
    common = ("--partitions", "2", "--no-standbys", "--ui-port")
    first = (*common, str(ports[0]))
    second = (*common, str(ports[1]), "--no-read-side", "--instance", "second")
    with (
        _server(address, kafka_namespace, tmp_path / "first", *first),
        _server(address, kafka_namespace, tmp_path / "second", *second),
        httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=90) as listing,
        httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}", timeout=90) as other,
    ):
        assert _readiness(listing) == "ready\n"
        assert _readiness(other) == f"ready\n{NO_READ_SIDE}\n"
        new = {"workflow_id": "a/b", "workflow_type": "Nobody", "task_queue": "nobody", "args": [1.50]}
        started = other.post("/api/v1/workflows", json=new)
        assert started.status_code == 201, started.text
        run_id = started.json()["run_id"]
        for api in (listing, other):
            described = api.get("/api/v1/workflows/a%2Fb").json()
            assert (described["run_id"], described["status"]) == (run_id, "RUNNING")
            listed = api.get("/api/v1/workflows", params={"query": "WorkflowId = 'a/b'"})
            assert [run["run_id"] for run in listed.json()["runs"]] == [run_id], listed.text
        event = listing.get("/api/v1/workflows/a%2Fb/history").json()["events"][0]
        assert (event["event_type"], event["attributes"]["input"]) == ("WorkflowExecutionStarted", [1.5])
        assert "<title>Perdure</title>" in other.get("/workflows/a%2Fb").text


def _readiness(api: httpx.Client) -> str:
    """What readiness says, once it is there."""
    for _ in range(600):
        answer = api.get("/readyz")
        if answer.status_code == 200:
            return answer.text
        assert answer.status_code == 503
        assert answer.text.startswith("not ready: ")
        threading.Event().wait(0.1)
    raise AssertionError(f"it was never ready: {answer.text}")


def test_a_process_for_each_role_survives_the_kill_of_one(
    kafka_bootstrap: str, kafka_namespace: str, tmp_path: Path
) -> None:
    address = f"kafka://{kafka_bootstrap}"
    options = ("--partitions", "2", "--processes", "roles", "--session-timeout-ms", "6000")
    with _server(address, kafka_namespace, tmp_path, *options) as server, _worker(address, kafka_namespace):
        assert _greet(address, kafka_namespace, "Ada") == "Hello, Ada!"
        children = _children(server.pid)
        assert len(children) == 3
        history = next(pid for pid, command in children.items() if "--roles history" in command)
        os.kill(history, signal.SIGKILL)
        assert _greet(address, kafka_namespace, "Bob") == "Hello, Bob!"
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=40)
        assert server.returncode == 0, err
        assert re.search(r"process=\S+-history event=ended", err)


def _children(pid: int) -> dict[int, str]:
    """Command lines of a process's children."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for path in found for child in path.read_text().split()]
    return {child: Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in pids}


def test_topics_are_planned_applied_and_then_as_they_must_be(kafka_bootstrap: str, kafka_namespace: str) -> None:
    where = ("--address", f"kafka://{kafka_bootstrap}", "-n", kafka_namespace)
    planned = json.loads(perdure("topics", "plan", *where, "--partitions", "2", "-o", "json").stdout)
    assert {row["action"] for row in planned} == {"create"}
    done = perdure("topics", "apply", *where, "--partitions", "2", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"done: {len(TOPICS)} changes"
    assert perdure("topics", "apply", *where).stdout.splitlines()[-1].startswith("nothing to do")
    refused = perdure("topics", "apply", *where, "--partitions", "3", "--yes")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_a_server_refuses_missing_topics_if_it_must_not_create_them(kafka_bootstrap: str, kafka_namespace: str) -> None:
    done = perdure(
        "server", "--address", f"kafka://{kafka_bootstrap}", "-n", kafka_namespace, "--no-create-topics"
    )  # fmt: skip
    assert done.returncode == 1
    assert "perdure topics apply" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broker_that_is_not_there_is_one_line() -> None:
    done = perdure("topics", "describe", "--address", f"kafka://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == done.stderr.splitlines()
    assert "is not available" in done.stderr
