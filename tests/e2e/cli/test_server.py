"""``perdure server`` and ``perdure topics`` on a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
