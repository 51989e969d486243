"""``perdure dev`` as a process: how fast it is there, what it costs at rest, how it stops, what it refuses."""

from __future__ import annotations

import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.processes import DevServer, free_port, perdure, start_dev

pytestmark = pytest.mark.e2e

#: Looser than what is promised (2 s, 2 %), because the machine of a test run may be busy; the figures are printed.
READY_S_MAX = 10.0
IDLE_CPU_PERCENT_MAX = 10.0
IDLE_S = 5.0


@pytest.fixture
def server() -> Iterator[DevServer]:
    started = start_dev("--in-memory", "--ui-port", str(free_port()))
    yield started
    started.kill()


def test_it_is_ready_soon_and_rests_when_nothing_happens(server: DevServer) -> None:
    print(f"perdure dev was ready after {server.ready_s:.2f} s")
    assert server.ready_s < READY_S_MAX
    _get(server, "healthz")  # the HTTP server has been loaded when it answers
    before_s = server.cpu_s()
    threading.Event().wait(IDLE_S)
    percent = (server.cpu_s() - before_s) / IDLE_S * 100
    print(f"perdure dev used {percent:.1f} % of a CPU while idle")
    assert percent < IDLE_CPU_PERCENT_MAX


def _get(server: DevServer, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ui_port}/{path}", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def _ready(server: DevServer) -> str:
    """What readiness says, once it is there: the read side starts behind the engine."""
    for _ in range(600):
        try:
            return _get(server, "readyz")
        except urllib.error.HTTPError as error:
            assert error.code == 503
            assert error.read().startswith(b"not ready: the read side")
        threading.Event().wait(0.1)
    raise AssertionError("it was never ready")


def test_health_readiness_and_metrics_are_served(server: DevServer) -> None:
    assert _get(server, "healthz") == "ok\n"
    assert _ready(server) == "ready\n"
    metrics = _get(server, "metrics")
    assert "perdure_engine_ready 1.0" in metrics
    for role in ("history", "matching", "timers"):
        assert f'perdure_engine_live_partitions{{role="{role}"}} 4.0' in metrics


def test_headless_has_no_http_server() -> None:
    server = start_dev("--in-memory", "--headless")
    assert "http" not in server.ready_line
    assert server.stop()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order(number: signal.Signals) -> None:
    server = start_dev("--in-memory", "--ui-port", str(free_port()))
    server.process.send_signal(number)
    out, err = server.process.communicate(timeout=20)
    assert server.process.returncode == 0, err
    assert err == ""
    assert out == ""


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = perdure("dev", "--in-memory", "--headless", "--port", port)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("Error: ")
        assert port in done.stderr
        done = perdure("dev", "--in-memory", "--port", "0", "--ui-port", port)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert port in done.stderr
        assert "--ui-port" in done.stderr


def test_a_data_folder_in_use_is_one_line_and_free_again_after_a_stop(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    server = start_dev("--data", data, "--headless")
    done = perdure("dev", "--data", data, "--port", "0", "--headless")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert data in done.stderr
    assert server.stop() == (0, "")
    again = start_dev("--data", data, "--headless")
    assert again.stop() == (0, "")


def test_the_partition_count_of_a_data_folder_is_kept(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert start_dev("--data", data, "--headless", "--partitions", "2").stop()[0] == 0
    assert start_dev("--data", data, "--headless").stop()[0] == 0
    done = perdure("dev", "--data", data, "--port", "0", "--headless", "--partitions", "3")
    assert done.returncode == 1
    assert "has 2 partitions" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_data_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = perdure("dev", "--data", str(tmp_path / "file"), "--port", "0", "--headless")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--data" in done.stderr


def test_a_wrong_worker_reference_is_one_line() -> None:
    done = perdure("dev", "no_such_module:make", "--in-memory", "--port", "0", "--headless")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: worker 'no_such_module:make': there is no module 'no_such_module' here; the current folder is on the"
        " import path\n"
    )
