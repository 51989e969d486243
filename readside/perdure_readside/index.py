"""The index: SQLite with one row for each run, and the place in the topic that it corresponds to.

Invariants: rows and offsets change in one transaction, so a crash neither loses nor repeats a record; a file of another
version, of other topics, or a damaged one is deleted and built again. It belongs to one thread. Called by
:mod:`perdure_readside.folding` and :mod:`perdure_readside.service`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_readside.attributes import STATUS_NAMES, Kind, custom_values
from perdure_readside.compiling import compile_count, compile_page, compile_schedules
from perdure_readside.filters import FilterError, Value, parse
from perdure_schemas import codec
from perdure_schemas.records import ExecutionSummary, ScheduleSummary, VersioningBehavior, WorkflowStatus

__all__ = ["Change", "ExecutionIndex", "Page", "remove_index"]

_logger = logging.getLogger("perdure.readside")

#: Grows with every change of the tables or of what stands in them.
_VERSION = 6
#: Summaries of one page; one answer has to fit into a record.
PAGE_ROWS_MAX = 1_000
PAGE_BYTES_MAX = 1024 * 1024
#: Of so many rows at most, all may be looked at for a page.
_RARE_MAX = 20_000
_CLEARED = ("executions", "attributes", "schedules", "schedule_attributes", "kinds", "places")
#: Behaviours as users write them.
_BEHAVIORS = {VersioningBehavior.PINNED: "Pinned", VersioningBehavior.AUTO_UPGRADE: "AutoUpgrade"}
_TABLES = """
CREATE TABLE places (partition INTEGER PRIMARY KEY, position INTEGER NOT NULL, fence BLOB NOT NULL) STRICT;
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE executions (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, workflow_id TEXT NOT NULL, workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL, status TEXT NOT NULL, start_ms INTEGER NOT NULL, execution_ms INTEGER NOT NULL,
    close_ms INTEGER, history_length INTEGER NOT NULL, parent_workflow_id TEXT, parent_run_id TEXT,
    paused INTEGER NOT NULL, stuck INTEGER NOT NULL, deployment_version TEXT,
    versioning_behavior TEXT, version INTEGER NOT NULL,
    summary BLOB NOT NULL
) STRICT;
CREATE INDEX executions_by_start ON executions (start_ms DESC, run_id);
CREATE INDEX executions_by_workflow ON executions (workflow_id);
CREATE INDEX executions_by_type ON executions (workflow_type, start_ms DESC, run_id);
CREATE INDEX executions_by_status ON executions (status, start_ms DESC, run_id);
CREATE INDEX executions_stuck ON executions (id) WHERE stuck;
CREATE TABLE schedules (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, schedule_id TEXT NOT NULL, paused INTEGER NOT NULL,
    version INTEGER NOT NULL, summary BLOB NOT NULL
) STRICT;
CREATE INDEX schedules_by_id ON schedules (schedule_id, run_id);
CREATE TABLE schedule_attributes (execution_id INTEGER NOT NULL, name TEXT NOT NULL, value ANY NOT NULL) STRICT;
CREATE INDEX schedule_attributes_by_value ON schedule_attributes (name, value, execution_id);
CREATE INDEX schedule_attributes_by_schedule ON schedule_attributes (execution_id);
CREATE TABLE attributes (
    execution_id INTEGER NOT NULL, name TEXT NOT NULL, value ANY NOT NULL, start_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX attributes_by_value ON attributes (name, value, start_ms DESC, execution_id);
CREATE INDEX attributes_by_execution ON attributes (execution_id, name, value);
CREATE TABLE kinds (name TEXT PRIMARY KEY, kind TEXT NOT NULL) STRICT;
"""
_UPSERT = """
INSERT INTO executions (run_id, workflow_id, workflow_type, task_queue, status, start_ms, execution_ms, close_ms,
    history_length, parent_workflow_id, parent_run_id, paused, stuck, deployment_version, versioning_behavior, version,
    summary)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET status = excluded.status, start_ms = excluded.start_ms,
    execution_ms = excluded.execution_ms, close_ms = excluded.close_ms, history_length = excluded.history_length,
    paused = excluded.paused, stuck = excluded.stuck, deployment_version = excluded.deployment_version,
    versioning_behavior = excluded.versioning_behavior, version = excluded.version, summary = excluded.summary
WHERE excluded.version >= version
"""

_UPSERT_SCHEDULE = """
INSERT INTO schedules (run_id, schedule_id, paused, version, summary) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET paused = excluded.paused, version = excluded.version, summary = excluded.summary
WHERE excluded.version >= version
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What a batch of records does to one partition: the newest summary of each run (``None``: removed), and the place
    behind the batch."""

    partition: int
    summaries: Mapping[str, bytes | None]
    position: int
    fence: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Encoded summaries in order, and the token of the next page; empty: there is none."""

    summaries: list[bytes]
    next_page_token: bytes


def remove_index(path: Path) -> None:
    """Delete an index that nobody has open: the file, and those that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class ExecutionIndex:
    """The runs of a namespace.

    Args:
        path: the file; ``None`` keeps it in memory.
        topic: the full name of the topic it is folded from.
    """

    def __init__(self, path: Path | None, topic: str) -> None:
        self._path = path
        self._topic = topic
        self._database = self._open()
        self._kinds: dict[str, Kind] = {
            name: Kind(kind) for name, kind in self._database.execute("SELECT name, kind FROM kinds")
        }

    # --- folding ----------------------------------------------------------------------------------------------------

    def places(self) -> dict[int, tuple[int, bytes]]:
        """By partition: the offset behind what the index holds, and the fence there."""
        rows = self._database.execute("SELECT partition, position, fence FROM places")
        return {partition: (position, fence) for partition, position, fence in rows}

    @property
    def folded_ms(self) -> int:
        """When it followed the topic last, in milliseconds since the epoch; 0: never."""
        found = self._database.execute("SELECT value FROM about WHERE name = 'folded_ms'").fetchone()
        return int(found[0]) if found else 0

    @folded_ms.setter
    def folded_ms(self, time_ms: int) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO about VALUES ('folded_ms', ?)", (str(time_ms),))

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in batches of partitions, in one transaction."""
        with self._database:
            for change in changes:
                for run_id, value in change.summaries.items():
                    if value is None:
                        self._remove(run_id)
                    else:
                        self._put(value)
                self._database.execute(
                    "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (change.partition, change.position, change.fence)
                )

    def clear(self) -> None:
        """Forget everything."""
        with self._database:
            for table in _CLEARED:
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._kinds.clear()

    def _put(self, value: bytes) -> None:
        summary = codec.decode_as(value, ExecutionSummary)
        if summary.schedule is not None:
            self._put_schedule(summary, summary.schedule, value)
            return
        parent = summary.parent
        row = (
            summary.run_id, summary.workflow_id, summary.workflow_type, summary.task_queue, summary.status.value,
            summary.start_time_ms, summary.execution_time_ms, summary.close_time_ms, summary.history_length,
            parent.workflow_id if parent else None, parent.run_id if parent else None, int(summary.paused),
            int(bool(summary.stuck_reason)), summary.deployment_version or None,
            _BEHAVIORS.get(summary.versioning_behavior), summary.version, value,
        )  # fmt: skip
        execute = self._database.execute
        if execute(_UPSERT, row).rowcount == 0:
            return  # older than what the index holds
        values = custom_values(summary)
        (identity,) = execute("SELECT id FROM executions WHERE run_id = ?", (summary.run_id,)).fetchone()
        execute("DELETE FROM attributes WHERE execution_id = ?", (identity,))
        for name, kind, attribute in values:
            execute("INSERT INTO attributes VALUES (?, ?, ?, ?)", (identity, name, attribute, summary.start_time_ms))
            self._learn(name, kind)

    def _put_schedule(self, summary: ExecutionSummary, schedule: ScheduleSummary, value: bytes) -> None:
        if summary.status is not WorkflowStatus.RUNNING:
            self._remove_schedule(summary.run_id)
            return
        execute = self._database.execute
        row = (summary.run_id, schedule.schedule_id, int(schedule.paused), summary.version, value)
        if execute(_UPSERT_SCHEDULE, row).rowcount == 0:
            return  # older than what the index holds
        (identity,) = execute("SELECT id FROM schedules WHERE run_id = ?", (summary.run_id,)).fetchone()
        execute("DELETE FROM schedule_attributes WHERE execution_id = ?", (identity,))
        for name, kind, attribute in custom_values(summary):
            execute("INSERT INTO schedule_attributes VALUES (?, ?, ?)", (identity, name, attribute))
            self._learn(name, kind)

    def _learn(self, name: str, kind: Kind) -> None:
        """Keep the type a name was given last: what a filter compares with must be of one type."""
        if self._kinds.get(name) is not kind:
            self._kinds[name] = kind
            self._database.execute("INSERT OR REPLACE INTO kinds VALUES (?, ?)", (name, kind.value))

    def _remove(self, run_id: str) -> None:
        row = self._database.execute("DELETE FROM executions WHERE run_id = ? RETURNING id", (run_id,)).fetchone()
        if row is not None:
            self._database.execute("DELETE FROM attributes WHERE execution_id = ?", row)
        else:
            self._remove_schedule(run_id)

    def _remove_schedule(self, run_id: str) -> None:
        row = self._database.execute("DELETE FROM schedules WHERE run_id = ? RETURNING id", (run_id,)).fetchone()
        if row is not None:
            self._database.execute("DELETE FROM schedule_attributes WHERE execution_id = ?", row)

    # --- asking -----------------------------------------------------------------------------------------------------

    def page(self, text: str, page_size: int, page_token: bytes = b"") -> Page:
        """A page of the runs that a filter holds for.

        Args:
            text: the filter; see :mod:`perdure_readside.filters`.
            page_size: at most this many; also bounded by :data:`PAGE_ROWS_MAX` and :data:`PAGE_BYTES_MAX`.
            page_token: from the page before.

        Raises:
            FilterError: the filter or the token makes no sense.
        """
        rows_max = max(1, min(page_size, PAGE_ROWS_MAX))
        statement = compile_page(parse(text), text, self._kinds, page_token, rows_max + 1, self._is_rare)
        summaries: list[bytes] = []
        size_bytes = 0
        token = b""
        for row in self._database.execute(statement.sql, statement.parameters):
            size_bytes += len(row[0])
            if summaries and (len(summaries) == rows_max or size_bytes > PAGE_BYTES_MAX):
                return Page(summaries, token)
            summaries.append(row[0])
            token = statement.token(row)
        return Page(summaries, b"")

    def _is_rare(self, sql: str, parameters: Sequence[Value]) -> bool:
        counting = f"SELECT count(*) FROM ({sql} LIMIT ?)"  # noqa: S608 - the compiler's
        (rows,) = self._database.execute(counting, (*parameters, _RARE_MAX + 1)).fetchone()
        return bool(rows <= _RARE_MAX)

    def schedules(self, text: str, page_size: int, page_token: bytes = b"") -> Page:
        """A page of the schedules that a filter holds for, by id; bounded as :meth:`page` is.

        Raises:
            FilterError: the filter or the token makes no sense.
        """
        rows_max = max(1, min(page_size, PAGE_ROWS_MAX))
        try:
            behind = page_token.decode()
        except UnicodeDecodeError:
            raise FilterError("the page token is not that of a list of schedules") from None
        statement = compile_schedules(parse(text), self._kinds, behind, rows_max + 1)
        rows = self._database.execute(statement.sql, statement.parameters)
        summaries: list[bytes] = []
        size_bytes = 0
        last = ""
        for schedule_id, summary in rows:
            size_bytes += len(summary)
            if summaries and (len(summaries) == rows_max or size_bytes > PAGE_BYTES_MAX):
                return Page(summaries, last.encode())
            summaries.append(summary)
            last = schedule_id
        return Page(summaries, b"")

    def count(self, text: str) -> list[tuple[int, tuple[str, ...]]]:
        """How many runs a filter holds for: one entry, or one for each group with the group's values.

        Raises:
            FilterError: the filter makes no sense.
        """
        statement = compile_count(parse(text), self._kinds)
        rows = self._database.execute(statement.sql, statement.parameters)
        return [(row[0], tuple(STATUS_NAMES.get(value, value or "") for value in row[1:])) for row in rows]

    def overview(self) -> tuple[dict[str, int], int]:
        """How many runs there are of each status, and how many are stuck. May be called from any thread.

        Raises:
            sqlite3.Error: it was closed meanwhile.
        """
        rows = self._database.execute("SELECT status, count(*) FROM executions GROUP BY status").fetchall()
        (stuck,) = self._database.execute("SELECT count(*) FROM executions WHERE stuck").fetchone()
        return {STATUS_NAMES.get(status, status): count for status, count in rows}, stuck

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # --- the file ---------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return self._create(sqlite3.connect(":memory:", check_same_thread=False))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return self._create(self._connect())
        try:
            database = self._connect()
            if self._is_ours(database):
                return database
            reason = "it belongs to another version or to other topics"
            database.close()
        except sqlite3.DatabaseError as error:
            reason = str(error)
        _logger.warning("event=index_rebuilt file=%s reason=%r", self._path, reason)
        remove_index(self._path)
        return self._create(self._connect())

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path or ":memory:", check_same_thread=False)
        # What a power failure takes away is folded again; what must not be is a torn file.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        return database

    def _is_ours(self, database: sqlite3.Connection) -> bool:
        if database.execute("PRAGMA user_version").fetchone() != (_VERSION,):
            return False
        found = database.execute("SELECT value FROM about WHERE name = 'topic'").fetchone()
        return bool(found == (self._topic,))

    def _create(self, database: sqlite3.Connection) -> sqlite3.Connection:
        with database:
            database.executescript(_TABLES)
            database.execute("INSERT INTO about VALUES ('topic', ?)", (self._topic,))
            database.execute(f"PRAGMA user_version = {_VERSION}")
        return database
