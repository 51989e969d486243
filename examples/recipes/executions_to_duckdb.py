"""``python -m examples.recipes.executions_to_duckdb BOOTSTRAP FILE``: every run as a row of a DuckDB table.

Offsets are kept in the same database and written in the same transaction as the rows, so it may be killed at any time
and started again: it goes on where it was. ``--follow`` keeps the table up to date.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import duckdb

from examples.recipes.records import Change, Reading, Schemas

_TABLES = """
CREATE TABLE IF NOT EXISTS executions (
    run_id VARCHAR PRIMARY KEY, workflow_id VARCHAR, workflow_type VARCHAR, task_queue VARCHAR, status VARCHAR,
    started TIMESTAMPTZ, closed TIMESTAMPTZ, history_length BIGINT, search_attributes JSON
);
CREATE TABLE IF NOT EXISTS positions (
    topic VARCHAR, partition INTEGER, next BIGINT, marks JSON, PRIMARY KEY (topic, partition)
);
"""


def copy(bootstrap: str, namespace: str, file: str, *, follow: bool = False) -> int:
    """Bring the tables of a database file up to date; returns how many changes there were."""
    topic = f"perdure.{namespace}.executions"
    count = 0
    with duckdb.connect(file) as database:
        database.execute(_TABLES)
        known = database.execute("SELECT partition, next, marks FROM positions WHERE topic = ?", [topic]).fetchall()
        positions = {partition: (offset, json.loads(marks)) for partition, offset, marks in known}
        reading = Reading(bootstrap, topic, Schemas.of_folder(), positions)
        try:
            for batch in reading.changes(follow=follow):
                database.begin()
                _write(database, batch)
                rows = [[topic, one, offset, json.dumps(marks)] for one, (offset, marks) in reading.positions.items()]
                database.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", rows)
                database.commit()
                count += len(batch)
        finally:
            reading.close()
    return count


def _write(database: Any, batch: Iterable[Change]) -> None:
    newest = {change.id: change.fields for change in batch}
    gone = [[run_id] for run_id, fields in newest.items() if fields is None]
    rows = [_row(fields) for fields in newest.values() if fields is not None]
    if gone:
        database.executemany("DELETE FROM executions WHERE run_id = ?", gone)
    if rows:
        database.executemany("INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _row(run: dict[str, Any]) -> list[Any]:
    attributes = {
        name: json.loads(payload["data"])
        for name, payload in run["search_attributes"].items()
        if payload["metadata"].get("encoding") == b"json/plain"
    }
    return [
        run["run_id"],
        run["workflow_id"],
        run["workflow_type"],
        run["task_queue"],
        run["status"],
        _time(run["start_time_ms"]),
        _time(run["close_time_ms"]),
        run["history_length"],
        json.dumps(attributes),
    ]


def _time(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)


def main() -> None:
    """Read the arguments, copy, and say how much there was."""
    parser = argparse.ArgumentParser(prog="python -m examples.recipes.executions_to_duckdb")
    parser.add_argument("bootstrap", help="brokers, as HOST:PORT,HOST:PORT")
    parser.add_argument("file", help="the database; made if it is not there")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--follow", action="store_true", help="go on until interrupted")
    options = parser.parse_args()
    count = copy(options.bootstrap, options.namespace, options.file, follow=options.follow)
    print(f"{count} changes")


if __name__ == "__main__":
    main()
