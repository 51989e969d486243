"""The index: SQLite with one row for each run, and the place in the topic that it corresponds to.

Invariants: rows and offsets change in one transaction, so a crash neither loses nor repeats a record; a file of another
version, of other topics, or a damaged one is deleted and built again. It belongs to one thread. Called by
:mod:`perdure_readside.folding` and :mod:`perdure_readside.service`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_readside.attributes import STATUS_NAMES, Kind, custom_values
from perdure_readside.compiling import Walk, compile_count, compile_page, compile_schedules
from perdure_readside.filters import FilterError, Value, parse
from perdure_readside.rows import (
    CLEARED,
    INSERT,
    INSERT_ATTRIBUTE,
    TABLES,
    UPDATE,
    UPSERT_SCHEDULE,
    VERSION,
    AttributeRow,
    attribute_rows,
    columns,
)
from perdure_schemas import codec, limits
from perdure_schemas.records import ExecutionSummary, ScheduleSummary, WorkflowStatus

__all__ = ["Change", "ExecutionIndex", "Page", "remove_index"]

_logger = logging.getLogger("perdure.readside")

#: Of so many rows at most, all may be looked at for a page.
_RARE_MAX = 20_000
#: Of memory for the file's pages; 2 MiB, as SQLite has it, make an index of a million runs read and write all the time.
_CACHE_KIB = 64 * 1024
#: Pages between two checkpoints of the file.
_CHECKPOINT_PAGES = 8_000
#: Run ids that one statement asks for.
_KNOWN_PER_STATEMENT = 500


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
    """Encoded summaries in order, and the token of the next page; empty: there is none.

    A page with a token may hold fewer than were asked for, even none: so many runs were looked at.
    """

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
        kinds: dict[str, Kind] = {}
        with self._database:
            for change in changes:
                self._take_in(change.summaries, kinds)
                self._database.execute(
                    "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (change.partition, change.position, change.fence)
                )
            new = [(name, kind.value) for name, kind in kinds.items() if self._kinds.get(name) is not kind]
            self._database.executemany("INSERT OR REPLACE INTO kinds VALUES (?, ?)", new)
        self._kinds.update(kinds)

    def clear(self) -> None:
        """Forget everything."""
        with self._database:
            for table in CLEARED:
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._kinds.clear()

    def _take_in(self, values: Mapping[str, bytes | None], kinds: dict[str, Kind]) -> None:
        """Rows of runs that are new go in together and in order, which is most of the work when an index is built."""
        runs: dict[str, tuple[ExecutionSummary, bytes]] = {}
        for run_id, value in values.items():
            if value is None:
                self._remove(run_id)
                continue
            summary = codec.decode_as(value, ExecutionSummary)
            if summary.schedule is not None:
                self._put_schedule(summary, summary.schedule, value, kinds)
            elif summary.run_id not in runs or runs[summary.run_id][0].version <= summary.version:
                runs[summary.run_id] = (summary, value)
        known = self._known(list(runs))
        (identity,) = self._database.execute("SELECT coalesce(max(id), 0) FROM executions").fetchone()
        rows: list[tuple[object, ...]] = []
        attributes: list[AttributeRow] = []
        for run_id, (summary, value) in runs.items():
            if run_id in known:
                self._update(*known[run_id], summary, value, kinds)
                continue
            identity += 1
            rows.append((identity, *columns(summary, value)))
            attributes += attribute_rows(identity, summary, kinds)
        self._database.executemany(INSERT, rows)
        # Neighbours in the index one after the other: a page of it is then touched once for all of them.
        attributes.sort(key=lambda row: (row[2], isinstance(row[3], str), row[3], row[1]))
        self._database.executemany(INSERT_ATTRIBUTE, attributes)

    def _known(self, run_ids: list[str]) -> dict[str, tuple[int, int]]:
        """Of those runs that the index holds: the id of the row, and the version."""
        found: dict[str, tuple[int, int]] = {}
        for begin in range(0, len(run_ids), _KNOWN_PER_STATEMENT):
            some = run_ids[begin : begin + _KNOWN_PER_STATEMENT]
            marks = ", ".join("?" * len(some))
            asked = f"SELECT run_id, id, version FROM executions WHERE run_id IN ({marks})"  # noqa: S608 - marks alone
            found.update((run_id, (id, version)) for run_id, id, version in self._database.execute(asked, some))
        return found

    def _update(self, id: int, version: int, summary: ExecutionSummary, value: bytes, kinds: dict[str, Kind]) -> None:
        if summary.version < version:
            return  # older than what the index holds
        execute = self._database.execute
        execute(UPDATE, (*columns(summary, value), id))
        held = execute(
            "SELECT execution_id, start_ms, name, value FROM attributes WHERE execution_id = ?", (id,)
        ).fetchall()
        new = attribute_rows(id, summary, kinds)
        if set(held) != set(new):
            execute("DELETE FROM attributes WHERE execution_id = ?", (id,))
            self._database.executemany(INSERT_ATTRIBUTE, new)

    def _put_schedule(
        self, summary: ExecutionSummary, schedule: ScheduleSummary, value: bytes, kinds: dict[str, Kind]
    ) -> None:
        if summary.status is not WorkflowStatus.RUNNING:
            self._remove_schedule(summary.run_id)
            return
        execute = self._database.execute
        row = (summary.run_id, schedule.schedule_id, int(schedule.paused), summary.version, value)
        if execute(UPSERT_SCHEDULE, row).rowcount == 0:
            return  # older than what the index holds
        (identity,) = execute("SELECT id FROM schedules WHERE run_id = ?", (summary.run_id,)).fetchone()
        execute("DELETE FROM schedule_attributes WHERE execution_id = ?", (identity,))
        for name, kind, attribute in custom_values(summary):
            execute("INSERT INTO schedule_attributes VALUES (?, ?, ?)", (identity, name, attribute))
            kinds[name] = kind

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
            page_size: at most this many; also bounded by ``LIST_PAGE_ROWS_MAX`` and ``LIST_PAGE_BYTES_MAX``.
            page_token: from the page before.

        Raises:
            FilterError: the filter or the token makes no sense.
        """
        rows_max = max(1, min(page_size, limits.LIST_PAGE_ROWS_MAX))
        statement = compile_page(parse(text), text, self._kinds, page_token, rows_max + 1, self._is_rare)
        if isinstance(statement, Walk):
            return self._walk(statement, rows_max)
        summaries: list[bytes] = []
        size_bytes = 0
        token = b""
        for row in self._database.execute(statement.sql, statement.parameters):
            size_bytes += len(row[0])
            if summaries and (len(summaries) == rows_max or size_bytes > limits.LIST_PAGE_BYTES_MAX):
                return Page(summaries, token)
            summaries.append(row[0])
            token = statement.token(row)
        return Page(summaries, b"")

    def _walk(self, walk: Walk, rows_max: int) -> Page:
        """Look at runs in order until the page is full, or so many were looked at that others want to ask, too."""
        summaries: list[bytes] = []
        size_bytes = 0
        token = b""
        for start_ms, held in self._starts(walk):
            if held is None:
                return Page(summaries, walk.token_behind_all(start_ms))
            for run_id, summary in sorted(map(self._named, held)):
                if not walk.is_behind(start_ms, run_id):
                    continue
                size_bytes += len(summary)
                if summaries and (len(summaries) == rows_max or size_bytes > limits.LIST_PAGE_BYTES_MAX):
                    return Page(summaries, token)
                summaries.append(summary)
                token = walk.token(start_ms, run_id)
        return Page(summaries, b"")

    def _starts(self, walk: Walk) -> Iterator[tuple[int, list[int] | None]]:
        """By start: the rows of runs that the filter holds for; ``None``: enough were looked at, up to that start."""
        held: list[int] = []
        last_ms = -1
        for examined, (id, start_ms, holds) in enumerate(self._database.execute(walk.sql, walk.parameters)):
            if start_ms != last_ms:
                if held:
                    yield last_ms, held
                    held = []
                if examined >= limits.LIST_EXAMINED_MAX:
                    yield last_ms, None
                last_ms = start_ms
            if holds:
                held.append(id)
        if held:
            yield last_ms, held

    def _named(self, id: int) -> tuple[str, bytes]:
        run_id, summary = self._database.execute(
            "SELECT run_id, summary FROM executions WHERE id = ?", (id,)
        ).fetchone()
        return run_id, summary

    def _is_rare(self, sql: str, parameters: Sequence[Value]) -> bool:
        counting = f"SELECT count(*) FROM ({sql} LIMIT ?)"  # noqa: S608 - the compiler's
        (rows,) = self._database.execute(counting, (*parameters, _RARE_MAX + 1)).fetchone()
        return bool(rows <= _RARE_MAX)

    def schedules(self, text: str, page_size: int, page_token: bytes = b"") -> Page:
        """A page of the schedules that a filter holds for, by id; bounded as :meth:`page` is.

        Raises:
            FilterError: the filter or the token makes no sense.
        """
        rows_max = max(1, min(page_size, limits.LIST_PAGE_ROWS_MAX))
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
            if summaries and (len(summaries) == rows_max or size_bytes > limits.LIST_PAGE_BYTES_MAX):
                return Page(summaries, last.encode())
            summaries.append(summary)
            last = schedule_id
        return Page(summaries, b"")

    def count(self, text: str) -> list[tuple[int, tuple[str, ...]]]:
        """How many runs a filter holds for: one entry, or one for each group with the group's values.

        Raises:
            FilterError: the filter makes no sense.
        """
        statement = compile_count(parse(text), self._kinds, self._is_rare)
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
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return database

    def _is_ours(self, database: sqlite3.Connection) -> bool:
        if database.execute("PRAGMA user_version").fetchone() != (VERSION,):
            return False
        found = database.execute("SELECT value FROM about WHERE name = 'topic'").fetchone()
        return bool(found == (self._topic,))

    def _create(self, database: sqlite3.Connection) -> sqlite3.Connection:
        with database:
            database.executescript(TABLES)
            database.execute("INSERT INTO about VALUES ('topic', ?)", (self._topic,))
            database.execute(f"PRAGMA user_version = {VERSION}")
        return database
