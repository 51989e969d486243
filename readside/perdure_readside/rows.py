"""The tables of the index, and what stands in their rows. Pure; called by :mod:`perdure_readside.index`."""

from __future__ import annotations

from perdure_readside.attributes import Kind, custom_values
from perdure_readside.filters import Value
from perdure_schemas.records import ExecutionSummary, VersioningBehavior

__all__ = [
    "CLEARED",
    "INSERT",
    "INSERT_ATTRIBUTE",
    "TABLES",
    "UPDATE",
    "UPSERT_SCHEDULE",
    "VERSION",
    "AttributeRow",
    "attribute_rows",
    "columns",
]

#: Grows with every change of the tables or of what stands in them.
VERSION = 7
CLEARED = ("executions", "attributes", "schedules", "schedule_attributes", "kinds", "places")
#: Behaviours as users write them.
_BEHAVIORS = {VersioningBehavior.PINNED: "Pinned", VersioningBehavior.AUTO_UPGRADE: "AutoUpgrade"}
TABLES = """
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
CREATE INDEX executions_by_start ON executions (start_ms);
CREATE INDEX executions_by_workflow ON executions (workflow_id, start_ms);
CREATE INDEX executions_by_type ON executions (workflow_type, start_ms);
CREATE INDEX executions_by_status ON executions (status, start_ms);
CREATE INDEX executions_by_parent ON executions (parent_workflow_id, start_ms) WHERE parent_workflow_id IS NOT NULL;
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
    name TEXT NOT NULL, value ANY NOT NULL, start_ms INTEGER NOT NULL, execution_id INTEGER NOT NULL,
    PRIMARY KEY (name, value, start_ms, execution_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attributes_by_execution ON attributes (execution_id, name, value);
CREATE TABLE kinds (name TEXT PRIMARY KEY, kind TEXT NOT NULL) STRICT;
"""
_COLUMNS = (
    "run_id", "workflow_id", "workflow_type", "task_queue", "status", "start_ms", "execution_ms", "close_ms",
    "history_length", "parent_workflow_id", "parent_run_id", "paused", "stuck", "deployment_version",
    "versioning_behavior", "version", "summary",
)  # fmt: skip
INSERT = f"INSERT INTO executions (id, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})"  # noqa: S608 - ours
UPDATE = f"UPDATE executions SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"  # noqa: S608 - ours
INSERT_ATTRIBUTE = "INSERT INTO attributes (execution_id, start_ms, name, value) VALUES (?, ?, ?, ?)"

UPSERT_SCHEDULE = """
INSERT INTO schedules (run_id, schedule_id, paused, version, summary) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET paused = excluded.paused, version = excluded.version, summary = excluded.summary
WHERE excluded.version >= version
"""


#: Id of the row of the run, its start in milliseconds, the name, the value.
AttributeRow = tuple[int, int, str, Value]


def columns(summary: ExecutionSummary, value: bytes) -> tuple[object, ...]:
    """The row of a run, without its id, from its summary and that as it was encoded."""
    parent = summary.parent
    return (
        summary.run_id, summary.workflow_id, summary.workflow_type, summary.task_queue, summary.status.value,
        summary.start_time_ms, summary.execution_time_ms, summary.close_time_ms, summary.history_length,
        parent.workflow_id if parent else None, parent.run_id if parent else None, int(summary.paused),
        int(bool(summary.stuck_reason)), summary.deployment_version or None,
        _BEHAVIORS.get(summary.versioning_behavior), summary.version, value,
    )  # fmt: skip


def attribute_rows(id: int, summary: ExecutionSummary, kinds: dict[str, Kind]) -> list[AttributeRow]:
    """The rows of a run's attributes. ``kinds`` takes the type each name was given last: what a filter compares with
    must be of one type."""
    values = custom_values(summary)
    kinds.update((name, kind) for name, kind, _ in values)
    return [(id, summary.start_time_ms, name, value) for name, _, value in values]
