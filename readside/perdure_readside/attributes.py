"""The attributes that filters know: those of the platform, and those that runs carry, with their types.

Values of the index are text or numbers: times are milliseconds since the epoch, durations milliseconds, booleans 0 or
1, the words of a Text in lower case. Pure; called by the compiler of filters and by the index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from perdure_readside.filters import FilterError, Value
from perdure_schemas.records import ExecutionSummary, Payload, WorkflowStatus

__all__ = [
    "LAST",
    "SCHEDULE_ATTRIBUTES",
    "STATUS_NAMES",
    "SYSTEM_ATTRIBUTES",
    "Kind",
    "SystemAttribute",
    "custom_values",
    "stored_value",
    "words",
]


class Kind(StrEnum):
    """The type of an attribute. The first group are the types of search attributes."""

    TEXT = "Text"
    KEYWORD = "Keyword"
    INT = "Int"
    DOUBLE = "Double"
    BOOL = "Bool"
    DATETIME = "Datetime"
    KEYWORD_LIST = "KeywordList"
    STATUS = "Status"
    DURATION = "Duration"

    @property
    def is_text(self) -> bool:
        """Whether the index holds text and not a number."""
        return self in (Kind.TEXT, Kind.KEYWORD, Kind.KEYWORD_LIST, Kind.STATUS)


@dataclass(frozen=True, slots=True)
class SystemAttribute:
    """An attribute of the platform: the SQL expression that gives it, its type, and whether a run may lack it."""

    sql: str
    kind: Kind
    nullable: bool = False


SYSTEM_ATTRIBUTES: dict[str, SystemAttribute] = {
    "WorkflowId": SystemAttribute("e.workflow_id", Kind.KEYWORD),
    "RunId": SystemAttribute("e.run_id", Kind.KEYWORD),
    "WorkflowType": SystemAttribute("e.workflow_type", Kind.KEYWORD),
    "TaskQueue": SystemAttribute("e.task_queue", Kind.KEYWORD),
    "ExecutionStatus": SystemAttribute("e.status", Kind.STATUS),
    "StartTime": SystemAttribute("e.start_ms", Kind.DATETIME),
    "ExecutionTime": SystemAttribute("e.execution_ms", Kind.DATETIME),
    "CloseTime": SystemAttribute("e.close_ms", Kind.DATETIME, nullable=True),
    "ExecutionDuration": SystemAttribute("(e.close_ms - e.execution_ms)", Kind.DURATION, nullable=True),
    "HistoryLength": SystemAttribute("e.history_length", Kind.INT),
    "ParentWorkflowId": SystemAttribute("e.parent_workflow_id", Kind.KEYWORD, nullable=True),
    "ParentRunId": SystemAttribute("e.parent_run_id", Kind.KEYWORD, nullable=True),
    "Paused": SystemAttribute("e.paused", Kind.BOOL),
    "Stuck": SystemAttribute("e.stuck", Kind.BOOL),
    "WorkerDeploymentVersion": SystemAttribute("e.deployment_version", Kind.KEYWORD, nullable=True),
    "VersioningBehavior": SystemAttribute("e.versioning_behavior", Kind.KEYWORD, nullable=True),
}

#: The same for schedules. They have the search attributes that they were made with, not those of their workflows.
SCHEDULE_ATTRIBUTES: dict[str, SystemAttribute] = {
    "ScheduleId": SystemAttribute("e.schedule_id", Kind.KEYWORD),
    "TemporalSchedulePaused": SystemAttribute("e.paused", Kind.BOOL),
    "Paused": SystemAttribute("e.paused", Kind.BOOL),
}

#: What sorts behind every value of its type: a missing value comes last.
LAST: dict[bool, Value] = {True: "\U0010ffff", False: 2**63 - 1}

#: How a status is written in filters and shown in groups.
STATUS_NAMES = {status.value: status.value.title().replace("_", "") for status in WorkflowStatus}
_STATUS_NAMES = {status.value.replace("_", "").lower(): status.value for status in WorkflowStatus}
_STATUS_EXAMPLES = "Running, Completed, Failed, Canceled, Terminated, ContinuedAsNew or TimedOut"
_WORD = re.compile(r"\w+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION_UNITS_MS = {
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
    "us": 1e-3,
    "µs": 1e-3,
    "ns": 1e-6,
}
_NANOSECONDS_PER_MS = 1_000_000
_KINDS = {kind.value.encode(): kind for kind in Kind}


def words(text: str) -> list[str]:
    """The words of a Text, in lower case, each once."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def stored_value(name: str, kind: Kind, value: Value) -> Value:
    """A value of a filter as the index holds it.

    Raises:
        FilterError: it does not have the attribute's type; the message says what would.
    """
    if kind is Kind.STATUS:
        status = _STATUS_NAMES.get(str(value).replace("_", "").lower()) if isinstance(value, str) else None
        if status is None:
            raise FilterError(f"{name}: {value!r} is no status; write {_STATUS_EXAMPLES}, in quotes")
        return status
    if kind.is_text:
        if not isinstance(value, str):
            raise FilterError(f"{name} is a {kind}; put {value!r} in quotes")
        return value
    if kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise FilterError(f"{name} is a Bool; compare it with true or false, not with {value!r}")
        return int(value)
    if isinstance(value, bool):
        raise FilterError(f"{name} is of type {kind}; it cannot be compared with {str(value).lower()}")
    if kind is Kind.DATETIME:
        return _time_ms(name, value)
    if kind is Kind.DURATION:
        return _duration_ms(name, value)
    if isinstance(value, str):
        raise FilterError(f"{name} is of type {kind}; write the number without quotes instead of {value!r}")
    return value


def _time_ms(name: str, value: str | int | float) -> int:
    """Times are written as RFC 3339, or as nanoseconds since the epoch."""
    if not isinstance(value, str):
        return int(value // _NANOSECONDS_PER_MS)
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise FilterError(f"{name}: {value!r} is no time; write '2026-01-31' or '2026-01-31T10:00:00Z'") from None
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def _duration_ms(name: str, value: str | int | float) -> float:
    """Durations are written as '1h30m', or in nanoseconds."""
    if not isinstance(value, str):
        return value / _NANOSECONDS_PER_MS
    parts = _DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        raise FilterError(f"{name}: {value!r} is no duration; write '500ms', '10s', '1h30m' or '2d'")
    return sum(float(number) * _DURATION_UNITS_MS[unit] for number, unit in parts)


def custom_values(summary: ExecutionSummary) -> list[tuple[str, Kind, Value]]:
    """The search attributes of a run as the index holds them; those that cannot be read are left out."""
    found: list[tuple[str, Kind, Value]] = []
    for name, payload in summary.search_attributes.items():
        try:
            found.extend((name, kind, value) for kind, value in _decode(payload))
        except (ValueError, TypeError, OverflowError, KeyError, msgspec.DecodeError):
            continue  # whoever wrote it is no client of ours; the run is listed without it
    return found


def _decode(payload: Payload) -> list[tuple[Kind, Value]]:
    kind = _KINDS[payload.metadata.get("type", b"")]
    value = msgspec.json.decode(payload.data)
    if kind is Kind.KEYWORD_LIST:
        return [(kind, str(entry)) for entry in dict.fromkeys(value)]
    if kind is Kind.TEXT:
        return [(kind, word) for word in words(str(value))]
    if kind is Kind.DATETIME:
        return [(kind, round(datetime.fromisoformat(value).timestamp() * 1000))]
    if kind is Kind.BOOL:
        return [(kind, int(bool(value)))]
    if kind is Kind.KEYWORD:
        return [(kind, str(value))]
    number = float(value) if kind is Kind.DOUBLE else int(value)
    # Beyond 64 bits SQLite has no integers.
    return [(kind, number if abs(number) < 2**63 else float(number))]
