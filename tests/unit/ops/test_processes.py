"""Roles, processes and their supervisor, and how a process is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_ops import supervisor
from perdure_ops.addresses import check_kafka_address
from perdure_ops.errors import CliError
from perdure_ops.roles import ROLE_NAMES, parse_roles
from perdure_ops.server import ServerOptions, child_specs
from perdure_ops.stopping import StopRequest
from perdure_ops.supervisor import RESTART_DELAY_S_MAX, RESTART_DELAY_S_MIN, RUN_S_GOOD, ChildSpec, restart_delay_s

OPTIONS = ServerOptions(address="kafka://b1:9092", state_dir=Path("/state"))


def test_roles_come_in_their_order_whatever_the_text() -> None:
    assert parse_roles("timers, history") == ("history", "timers")
    assert parse_roles("history,matching,timers") == ROLE_NAMES


@pytest.mark.parametrize(("text", "what"), [("", "no role"), ("history,mathcing", "unknown role mathcing")])
def test_wrong_roles_are_refused(text: str, what: str) -> None:
    with pytest.raises(CliError, match=f"--roles: {what}.*choose from history, matching, timers"):
        parse_roles(text)


@pytest.mark.parametrize("processes", ["one", "1"])
def test_one_process_has_no_children(processes: str) -> None:
    assert child_specs(ServerOptions(address="kafka://b", processes=processes), "me") == []


def _option(spec: ChildSpec, name: str) -> str:
    return spec.command[spec.command.index(name) + 1]


def test_a_process_for_each_role() -> None:
    specs = child_specs(ServerOptions(address="kafka://b", processes="roles", http_port=8080), "me")
    assert [spec.name for spec in specs] == ["me-history", "me-matching", "me-timers"]
    assert [_option(spec, "--roles") for spec in specs] == list(ROLE_NAMES)
    assert [_option(spec, "--http-port") for spec in specs] == ["8080", "8081", "8082"]


def test_several_processes_each_with_all_roles_under_names_of_their_own() -> None:
    specs = child_specs(ServerOptions(address="kafka://b", processes="3"), "me")
    assert [_option(spec, "--instance") for spec in specs] == ["me-1", "me-2", "me-3"]
    assert {_option(spec, "--roles") for spec in specs} == {"history,matching,timers"}
    assert all(_option(spec, "--processes") == "one" for spec in specs)


def test_children_get_the_address_where_other_users_cannot_read_it() -> None:
    address = "kafka://b?sasl.password=secret"
    for spec in child_specs(ServerOptions(address=address, processes="2"), "me"):
        assert "secret" not in " ".join(spec.command)
        assert spec.environment["PERDURE_ADDRESS"] == address


def test_the_first_process_alone_serves_the_web_ui_and_its_token_stands_in_no_command() -> None:
    options = ServerOptions(
        address="kafka://b", processes="2", ui_port=8233, api_token="secret", allowed_hosts=("ui.example.com",)
    )
    first, second = child_specs(options, "me")
    assert (_option(first, "--ui-port"), _option(first, "--allowed-host")) == ("8233", "ui.example.com")
    assert "--ui-port" not in second.command
    assert "secret" not in " ".join(first.command)
    assert first.environment["PERDURE_API_TOKEN"] == "secret"


def test_children_are_told_the_registry_where_other_users_cannot_read_it() -> None:
    registry = "http://me:secret@registry:8081"
    options = ServerOptions(address="kafka://b", processes="2", schema_registry=registry, registry_auth="Bearer secret")
    for spec in child_specs(options, "me"):
        assert "secret" not in " ".join(spec.command)
        assert spec.environment["PERDURE_SCHEMA_REGISTRY"] == registry
        assert spec.environment["PERDURE_SCHEMA_REGISTRY_AUTH"] == "Bearer secret"


@pytest.mark.parametrize("processes", ["0", "-1", "many", "65", ""])
def test_a_wrong_number_of_processes_is_refused(processes: str) -> None:
    with pytest.raises(CliError, match="--processes"):
        child_specs(ServerOptions(address="kafka://b", processes=processes), "me")


def test_an_address_without_kafka_is_refused() -> None:
    check_kafka_address("kafka://b1:9092,b2:9092")
    with pytest.raises(CliError, match="perdure dev"):
        check_kafka_address("localhost:7233")


@given(st.floats(0, RESTART_DELAY_S_MAX), st.floats(0, RUN_S_GOOD * 2))
def test_restart_delays_are_bounded_and_short_after_a_good_run(previous_s: float, run_s: float) -> None:
    delay_s = restart_delay_s(previous_s, run_s)
    assert delay_s <= RESTART_DELAY_S_MAX
    if run_s >= RUN_S_GOOD:
        assert delay_s == RESTART_DELAY_S_MIN


def test_restart_delays_double() -> None:
    delays = [0.0]
    for _ in range(9):
        delays.append(restart_delay_s(delays[-1], 1.0))
    assert delays[1:4] == [0.5, 1.0, 2.0]
    assert delays[-1] == RESTART_DELAY_S_MAX


def test_a_stop_is_waited_for_and_carries_its_reason() -> None:
    stop = StopRequest()
    threading.Thread(target=stop.ask).start()
    stop.wait()
    stop.ask(CliError("a part failed"))
    with pytest.raises(CliError, match="a part failed"):
        stop.wait()


_STOPPING = """
import sys, threading
from perdure_ops.stopping import StopRequest
stop = StopRequest()
stop.install_signal_handlers()
if "supervised" in sys.argv:
    stop.ask_at_end_of_input()
print("waiting", flush=True)
stop.wait()
print("stopping", flush=True)
if "slow" in sys.argv:
    threading.Event().wait()
"""


def _stopping(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPING, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_ends_the_process(number: signal.Signals) -> None:
    process = _stopping("slow")
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number


def test_a_supervised_process_stops_at_the_end_of_its_input() -> None:
    process = _stopping("supervised")
    out, _ = process.communicate(timeout=20)
    assert out == "stopping\n"
    assert process.returncode == 0


_SUPERVISOR = """
import sys, time, logging
from perdure_ops import supervisor
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
child = [sys.executable, "-u", "-c", sys.argv[1]]
specs = [supervisor.ChildSpec(f"child-{n}", (*child, str(n))) for n in (1, 2)]
supervisor.RESTART_DELAY_S_MIN = 0.01
supervisor.Supervisor(specs, lambda: print("all ready", flush=True), time.monotonic).run()
print("stopped", flush=True)
"""
#: Says it is ready and its process id, then waits for the end of its input; SIGTERM makes it say goodbye.
_CHILD = """
import os, signal, sys
def stop(*_):
    print("goodbye", sys.argv[1], flush=True); os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("pid", sys.argv[1], os.getpid(), flush=True)
print("Perdure server is ready: here", flush=True)
while sys.stdin.buffer.read(1): pass
stop()
"""


def _supervise(child: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", _SUPERVISOR, child], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _pids(process: subprocess.Popen[str], count: int) -> dict[str, int]:
    """Process ids of the next ``count`` children that start, by their number."""
    found: dict[str, int] = {}
    assert process.stderr is not None
    while len(found) < count:
        line = process.stderr.readline()
        assert line, "the supervisor ended"
        if line.startswith("pid "):
            _, number, pid = line.split()
            found[number] = int(pid)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 20
    while _lives(pid):
        assert time.monotonic() < deadline_s, f"process {pid} still lives"
        threading.Event().wait(0.02)


def test_the_supervisor_starts_a_crashed_child_again_and_stops_all_on_a_signal() -> None:
    process = _supervise(_CHILD)
    try:
        pids = _pids(process, 2)
        assert process.stdout is not None
        assert process.stdout.readline() == "all ready\n"
        os.kill(pids["1"], signal.SIGKILL)
        again = _pids(process, 1)
        assert list(again) == ["1"]
        assert again["1"] != pids["1"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert out == "stopped\n"
        assert process.returncode == 0
        assert "goodbye 1" in err
        assert "goodbye 2" in err
        _wait_gone(again["1"])
        _wait_gone(pids["2"])
    finally:
        process.kill()
        process.communicate()


def test_children_end_when_the_supervisor_is_killed() -> None:
    process = _supervise(_CHILD)
    try:
        pids = _pids(process, 2)
        process.kill()
        process.wait()
        for pid in pids.values():
            _wait_gone(pid)
    finally:
        process.communicate()


def test_a_child_that_never_comes_up_ends_the_supervisor_with_an_error() -> None:
    process = _supervise("import sys; print('wrong password', file=sys.stderr); sys.exit(1)")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "wrong password" in err
    assert "did not start; its error is above" in err


def test_the_ready_line_of_the_server_is_the_one_the_supervisor_waits_for() -> None:
    assert supervisor.READY_PREFIX == "Perdure server is ready"
