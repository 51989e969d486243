"""What ``perdure sql`` does: an index of the caller's own over a namespace's topics, and one statement that reads it.

The index is that of the read side, folded here, so a statement needs no server and is in nobody's way; it is kept in
the user's cache and only follows the topic the next time. Invariants: a statement can read the tables named here and
nothing else, and change nothing: the file is opened read-only, and SQLite asks :func:`_may` about each thing it is to
do; it ends when its time is over. Called by its command.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perdure_ops.audit.reading import TopicScan
from perdure_ops.errors import CliError, one_line
from perdure_ops.history_view import event_row
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, print_rows, progress, to_json
from perdure_readside.folding import Folder
from perdure_readside.index import ExecutionIndex
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.connect import without_secrets
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import Log
from perdure_schemas import codec
from perdure_schemas.records import HistoryRecord
from perdure_schemas.topics import HISTORY, TopicNames

__all__ = ["TABLES", "Statement", "query"]

_CATCH_UP_S = 600.0
#: SQLite's steps between two looks at the clock.
_STEPS = 10_000
_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {} / 1000.0, 'unixepoch')"
#: What a statement may read: each a view, by its name.
TABLES = {
    "executions": f"""SELECT workflow_id, run_id, workflow_type, task_queue, status,
        {_TIME.format("start_ms")} AS start_time, {_TIME.format("execution_ms")} AS execution_time,
        {_TIME.format("close_ms")} AS close_time, (close_ms - start_ms) / 1000.0 AS duration_s, history_length,
        parent_workflow_id, parent_run_id, paused, stuck, deployment_version, versioning_behavior
        FROM main.executions""",  # noqa: S608 - no text of a user
    "search_attributes": """SELECT e.workflow_id AS workflow_id, e.run_id AS run_id, a.name AS name, a.value AS value
        FROM main.attributes a JOIN main.executions e ON e.id = a.execution_id""",
    "events": "SELECT workflow_id, run_id, event_id, time, type, details FROM temp.history",
}
_HISTORY = """CREATE TEMP TABLE history (
    workflow_id TEXT NOT NULL, run_id TEXT NOT NULL, event_id INTEGER NOT NULL, time TEXT NOT NULL, type TEXT NOT NULL,
    details TEXT NOT NULL, PRIMARY KEY (run_id, event_id)) STRICT"""
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
_REFUSED_FUNCTIONS = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"))


class Statement:
    """A statement and its bounds: how long it may run, in seconds, and how many rows it may print."""

    def __init__(self, text: str, timeout_s: float, limit: int) -> None:
        self.text = text
        self.timeout_s = timeout_s
        self.limit = limit


def query(
    address: str, namespace: str, statement: Statement, *, events: bool, index_file: Path | None, output: OutputFormat
) -> None:
    """Bring the index up to date, run the statement, print its rows.

    Parameters:
        events: also read the topic of histories, into the table ``events``.
        index_file: where the index is kept; one in the user's cache if not given.

    Raises:
        CliError: the statement is wrong, is none that only reads, or takes too long.
    """
    needs_events = events or re.search(r"\bevents\b", statement.text, re.IGNORECASE) is not None
    with ExitStack() as stack:
        log, names = stack.enter_context(opened(address, namespace))
        file = index_file or _cache_file(address, names)
        try:
            _follow(log, names, file)
            database = _connect(file, log, names, with_events=needs_events)
            stack.callback(database.close)
            columns, rows, more = run(database, statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise CliError(f"{file} is in use by another `perdure sql`: wait for it, or give --index") from error
    _print(columns, rows, output)
    if more:
        print(f"only the first {statement.limit} rows are shown; raise --limit for more", file=sys.stderr)


def run(database: sqlite3.Connection, statement: Statement) -> tuple[list[str], list[tuple[Any, ...]], bool]:
    """The names of the columns, the rows, and whether there are more than may be printed.

    Raises:
        CliError: the statement is wrong, is none that only reads, or takes too long.
    """
    deadline_s = time.monotonic() + statement.timeout_s
    database.set_progress_handler(lambda: int(time.monotonic() > deadline_s), _STEPS)
    try:
        cursor = database.execute(statement.text)
        if cursor.description is None:
            raise CliError("the statement reads nothing: write a SELECT")
        rows = cursor.fetchmany(statement.limit + 1)
        names = [str(column[0]) for column in cursor.description]
    except (sqlite3.Error, sqlite3.Warning) as error:
        text = str(error)
        if "interrupted" in text:
            raise CliError(
                f"the statement took longer than {statement.timeout_s:g} s and was stopped; see --timeout"
            ) from error
        if "locked" in text:
            raise
        hint = "; only reading is allowed" if "not authorized" in text or "prohibited" in text else ""
        raise CliError(f"the statement cannot be run: {one_line(text)}{hint}. Tables: {', '.join(TABLES)}") from error
    finally:
        database.set_progress_handler(None, 0)
    return _distinct(names), rows[: statement.limit], len(rows) > statement.limit


def _distinct(names: list[str]) -> list[str]:
    """Column names that can be keys: a repeated one gets a number."""
    found: list[str] = []
    for name in names:
        number, shown = 1, name
        while shown in found:
            number += 1
            shown = f"{name}_{number}"
        found.append(shown)
    return found


def _print(columns: list[str], rows: list[tuple[Any, ...]], output: OutputFormat) -> None:
    print_rows([dict(zip(columns, row, strict=True)) for row in rows], output, columns)


def _follow(log: Log, names: TopicNames, file: Path) -> None:
    """Bring the index in a file up to what its topic holds now."""
    index = ExecutionIndex(file, names.executions)
    try:
        folder = Folder(log, names.executions, names.partitions, index, wall_clock_ms)
        try:
            with progress("following the executions"):
                if not folder.catch_up(_CATCH_UP_S):
                    raise CliError(f"the index is not up to date after {_CATCH_UP_S:g} s; run it again to go on")
        finally:
            folder.close()
    finally:
        index.close()


def _connect(file: Path, log: Log, names: TopicNames, *, with_events: bool) -> sqlite3.Connection:
    """The index, to be read only, with the views of :data:`TABLES`."""
    database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    database.execute(_HISTORY)
    if with_events:
        with progress("reading the histories"):
            database.executemany("INSERT OR REPLACE INTO temp.history VALUES (?, ?, ?, ?, ?, ?)", _events(log, names))
        database.commit()
    for name, text in TABLES.items():
        database.execute(f"CREATE TEMP VIEW {name} AS {text}")
    database.execute("PRAGMA query_only = ON")
    database.set_authorizer(_may)
    return database


def _may(action: int, first: str | None, second: str | None, schema: str | None, _: str | None) -> int:
    """SQLite's question whether a statement may do something."""
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in _REFUSED_FUNCTIONS else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _events(log: Log, names: TopicNames) -> Iterator[tuple[Any, ...]]:
    """The valid events of all runs that are kept; of a removed run there is nothing."""
    scan = TopicScan(log, names, [HISTORY])
    fences = [Fence() for _ in range(names.partitions)]
    kept: dict[str, list[HistoryRecord]] = {}
    try:
        for record in scan.to_end():
            try:
                key = admitted_key(fences[record.partition], record)
                value = None if record.value is None else codec.decode_as(record.value, HistoryRecord)
            except (codec.DecodeError, ValueError):
                continue
            if key is None:
                continue
            run_id = key.id.partition("/")[0]
            if value is not None:
                kept.setdefault(run_id, []).append(value)
            elif key.id == f"{run_id}/1":
                kept.pop(run_id, None)
    finally:
        scan.close()
    for run_id, values in kept.items():
        for value in values:
            for event in value.events:
                if event.event_id:
                    row = event_row(event)
                    details = to_json(row["details"])
                    yield value.workflow_id, run_id, event.event_id, row["time"], row["type"], details


def _cache_file(address: str, names: TopicNames) -> Path:
    """A file in the user's cache for a namespace at an address.

    Raises:
        CliError: it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    about = hashlib.sha256(f"{without_secrets(address)}\n{names.prefix}\n{names.namespace}".encode()).hexdigest()[:16]
    folder = cache / "perdure" / "sql"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CliError(f"the folder {folder} cannot be made: {error.strerror}; give a file with --index") from error
    return folder / f"{about}.sqlite3"
