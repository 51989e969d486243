"""``perdure sql``: what it reads, and that it can do nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from pathlib import Path

import pytest

from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_runs_and_events_are_read_and_the_index_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    stem = f"s{uuid.uuid4().hex[:8]}"
    statement = f"SELECT workflow_id, status, close_time FROM executions WHERE workflow_id LIKE '{stem}%' ORDER BY 1"
    run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", f"{stem}-1")
    (row,) = json.loads(run.ok("sql", statement, "-o", "json"))
    assert (row["workflow_id"], row["status"], row["close_time"]) == (f"{stem}-1", "RUNNING", None)
    run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", f"{stem}-2")
    run.ok("workflow", "terminate", "-w", f"{stem}-1", "--reason", "enough")
    rows = [json.loads(line) for line in run.ok("sql", statement, "-o", "jsonl").splitlines()]
    assert [row["status"] for row in rows] == ["TERMINATED", "RUNNING"]
    assert rows[0]["close_time"].endswith("Z")
    assert len(list((tmp_path / "perdure" / "sql").glob("*.sqlite3"))) == 1
    types = json.loads(
        run.ok(
            "sql", f"SELECT type, details FROM events WHERE workflow_id = '{stem}-1' ORDER BY event_id", "-o", "json"
        )
    )
    assert types[0]["type"] == "WorkflowExecutionStarted"
    assert types[-1]["type"] == "WorkflowExecutionTerminated"
    assert json.loads(types[-1]["details"])["reason"] == "enough"
    table = run.ok("sql", f"SELECT count(*) AS n, count(*) AS n FROM executions WHERE workflow_id LIKE '{stem}%'")
    assert [line.split() for line in table.splitlines()] == [["n", "n_2"], ["2", "2"]]
    code, out, err = run("sql", "SELECT workflow_id FROM executions", "--limit", "1", "-o", "jsonl")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "raise --limit" in err
    run.ok("workflow", "terminate", "-w", f"{stem}-2")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM executions",
        "UPDATE main.executions SET status = 'FAILED'",
        "INSERT INTO temp.history VALUES ('a', 'b', 1, 'c', 'd', 'e')",
        "CREATE TABLE more (a)",
        "DROP VIEW executions",
        "ATTACH '/tmp/other.sqlite3' AS other",
        "PRAGMA query_only = OFF",
        "VACUUM INTO '/tmp/copy.sqlite3'",
        "SELECT load_extension('/tmp/evil.so')",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM nowhere",
        "",
    ],
)
def test_what_does_more_than_read_is_refused(run: Run, statement: str) -> None:
    err = run.fails("sql", statement)
    assert "statement" in err
    assert len(err.splitlines()) == 1


def test_a_statement_without_end_is_stopped(run: Run) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    assert "took longer than 0.1 s and was stopped" in run.fails("sql", endless, "--timeout", "0.1")


def test_wrong_use(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.fails("sql", code=2)
    run.fails("sql", "SELECT 1", "--limit", "0", code=2)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "give a file with --index" in run.fails("sql", "SELECT 1")


def test_a_statement_from_stdin_and_an_index_of_ones_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.write(write, b"SELECT 40 + 2 AS answer")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        file = tmp_path / "mine.sqlite3"
        assert json.loads(run.ok("sql", "-", "--index", str(file), "-o", "json")) == [{"answer": 42}]
    holder = sqlite3.connect(file)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        err = run.fails("sql", "SELECT 1", "--index", str(file))
    finally:
        holder.rollback()
        holder.close()
    assert "in use by another" in err
