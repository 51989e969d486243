"""The payments example end to end: real processes, real kills, the bank's ledger to the cent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.payments.bank_statement import read_statement
from examples.payments.generate import generate_batch
from examples.payments.models import Batch
from examples.payments.pain001 import read_batch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[3]
COUNT = 40


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "examples.payments", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=170
    )


def logs(directory: Path) -> str:
    return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(directory.glob("logs/*.log")))


def processes_of(directory: Path) -> dict[int, str]:
    """The command lines of this run's processes, by process id."""
    run_file = directory / "run.json"
    marks = [str(directory)]
    if run_file.exists():
        marks.append(f"payments-{json.loads(run_file.read_text())['run_id']}")
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(mark in line for mark in marks):
                found[int(entry.name)] = line
    return found


@pytest.fixture
def batch() -> Batch:
    return read_batch(generate_batch(COUNT, 1).encode())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, far enough that payments were made and a worker was killed and started again."""
    process = subprocess.Popen(
        command("--count", "2000", "--in-flight", "20", "--data", str(tmp_path / "run")),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "killed worker 1" in line:
                break
        else:
            pytest.fail(f"the demo ended before it killed a worker\n{logs(tmp_path / 'run')}")
        yield process
    finally:
        process.kill()
        process.wait()
        for pid in processes_of(tmp_path / "run"):
            os.kill(pid, signal.SIGKILL)


def test_a_batch_reconciles_although_processes_are_killed(tmp_path: Path, batch: Batch) -> None:
    directory = tmp_path / "run"
    first = run_demo("--count", str(COUNT), "--in-flight", "4", "--data", str(directory))
    assert first.returncode == 0, first.stdout + first.stderr + logs(directory)
    assert "killed worker 1" in first.stdout
    assert "killed engine" in first.stdout
    assert f"RECONCILED: all {COUNT} payments" in first.stdout
    assert processes_of(directory) == {}
    # The generator gives one payment of this batch a part to fail at each step.
    statement = read_statement(directory / "ledger.db")
    settled = {payment_id for payment_id, state in statement.transfers.items() if state == "done"}
    assert len(settled) == COUNT - 4
    paid_cents = sum(payment.amount_cents for payment in batch.payments if payment.payment_id in settled)
    received_cents = sum(
        entry.amount_cents for entry in statement.entries if entry.kind == "transfer" and entry.amount_cents > 0
    ) - sum(entry.amount_cents for entry in statement.entries if entry.kind == "refund" and entry.amount_cents > 0)
    assert received_cents == paid_cents
    assert sum(statement.balances_cents.values()) == 0

    # Started again on the same directory, it finds every payment done: the bank is not even called.
    again = run_demo("--count", str(COUNT), "--in-flight", "4", "--data", str(directory))
    assert again.returncode == 0, again.stdout + again.stderr + logs(directory)
    assert read_statement(directory / "ledger.db") == statement


def test_a_directory_of_another_batch_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "run.json").write_text(json.dumps({"run_id": "abc", "batch_digest": "another"}))
    ended = run_demo("--count", "3", "--data", str(directory))
    assert ended.returncode == 2
    assert "belongs to a run of another batch" in ended.stderr


def test_a_broken_file_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "broken.xml"
    file.write_text(generate_batch(30, 1).replace('Ccy="EUR"', 'Ccy="CHF"', 1))
    ended = run_demo(str(file), "--data", str(tmp_path / "run"))
    assert ended.returncode == 2
    assert "currency 'CHF' is refused" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_all_its_processes(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    running.send_signal(number)
    told, _ = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert f"--data {tmp_path / 'run'}" in told
    assert "Traceback" not in told
    assert processes_of(tmp_path / "run") == {}


def test_a_child_that_dies_ends_the_demo_and_names_its_log(running: subprocess.Popen[str], tmp_path: Path) -> None:
    (bank_pid,) = (pid for pid, line in processes_of(tmp_path / "run").items() if "examples.payments.bank" in line)
    os.kill(bank_pid, signal.SIGKILL)
    told, _ = running.communicate(timeout=60)
    assert running.returncode == 1, told
    assert "bank was killed by signal 9" in told
    assert str(tmp_path / "run" / "logs" / "bank.log") in told
    assert processes_of(tmp_path / "run") == {}
