"""What ``perdure dev`` has acknowledged is there again after ``kill -9``; workers may be in the server or outside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.processes import ROOT, DevServer, environment, free_port, perdure, start_dev
from tests.e2e.cli.worker_process import WORKER_PROCESS

pytestmark = pytest.mark.e2e

MAKE_WORKER = "tests.e2e.cli.worker_module:make_worker"


def _ok(server: DevServer, verb: str, *arguments: str) -> str:
    done = perdure("workflow", verb, "--address", server.address, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_workflow_survives_the_kill_of_the_server(tmp_path: Path) -> None:
    options = (MAKE_WORKER, "--data", str(tmp_path / "data"), "--headless")
    server = start_dev(*options)
    try:
        _ok(server, "start", "--type", "Basket", "-t", "cli-tests", "-w", "basket")
        _ok(server, "signal", "-w", "basket", "--name", "add", "-i", "1")
        server.kill()
        server = start_dev(*options)
        _ok(server, "signal", "-w", "basket", "--name", "add", "-i", "2")
        assert json.loads(_ok(server, "query", "-w", "basket", "--name", "content")) == [1, 2]
        _ok(server, "signal", "-w", "basket", "--name", "close")
        assert json.loads(_ok(server, "result", "-w", "basket")) == [1, 2]
    finally:
        server.kill()


@pytest.fixture
def fixed_port_server() -> Iterator[tuple[DevServer, int]]:
    port = free_port()
    server = start_dev("--in-memory", "--headless", "--port", str(port))
    yield server, port
    server.kill()


def test_a_worker_of_another_process_uses_the_socket(fixed_port_server: tuple[DevServer, int]) -> None:
    server, port = fixed_port_server
    assert server.port == port
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER_PROCESS, server.address, "default"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "worker\n"
        result = _ok(server, "execute", "--type", "Greeting", "-t", "cli-tests", "-i", '"Eve"')
        assert json.loads(result) == "Hello, Eve!"
    finally:
        worker.kill()
        worker.communicate()
