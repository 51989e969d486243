"""Records as people and programs read them: payloads, failures, events, pending work. Pure functions, called by the
workflow commands.

A field that holds its default is left out: histories are read by eye.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from perdure_ops.output import iso, to_json
from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import (
    Described,
    Event,
    ExecutionSummary,
    Failure,
    Payload,
    PendingActivity,
    PendingChildWorkflow,
    Record,
)

_EVENT_SUFFIX = "Event"
#: Fields of events that only the engine and the SDK need; ``-o json`` shows them.
_INTERNAL_FIELDS = frozenset(
    {
        "workflow_task_completed_event_id",
        "sdk_flags",
        "sticky_worker_id",
        "start_command_id",
        "command_id",
        "header",
        "eager_event_id",
        "eager_worker_id",
    }
)


def payload_value(payload: Payload) -> Any:
    """A payload as JSON-like data: JSON is read, anything else is shown as its encoding and base64."""
    encoding = payload.metadata.get("encoding", b"").decode(errors="replace")
    if encoding == "binary/null":
        return None
    if encoding.startswith("json/"):
        try:
            if not is_too_deep(payload.data):
                return json.loads(payload.data)
            encoding = f"too deeply nested {encoding}"
        except ValueError:
            encoding = f"damaged {encoding}"
    return {"encoding": encoding or "none", "base64": base64.b64encode(payload.data).decode()}


def failure_text(failure: Failure | None) -> str:
    """A failure and its causes in one line, the outermost first."""
    parts = []
    while failure is not None:
        kind = failure.type or failure.kind.value.lower()
        parts.append(f"{kind}: {failure.message}" if failure.message else kind)
        failure = failure.cause
    return " ← ".join(parts)


def plain(value: Any, shown: Callable[[Payload], Any] = payload_value) -> Any:
    """A record as JSON-like data without fields at their defaults; payloads are shown by their values.

    Parameters:
        value: the record, or a part of one.
        shown: what to put in place of a payload.
    """
    if isinstance(value, Payload):
        return shown(value)
    if isinstance(value, Record):
        fields = {}
        for info in msgspec.structs.fields(value):
            part = getattr(value, info.name)
            default = info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()
            if part != default:
                fields[info.name] = plain(part, shown)
        return fields
    if isinstance(value, Mapping):
        return {key: plain(part, shown) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, shown) for part in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Enum):
        return value.value
    return value


def event_type(event: Event) -> str:
    """The name of an event as users know it."""
    return type(event.attributes).__name__.removesuffix(_EVENT_SUFFIX)


def event_row(event: Event) -> dict[str, Any]:
    """An event with its details as data, for JSON."""
    return {
        "id": event.event_id,
        "time": iso(event.event_time_ms),
        "type": event_type(event),
        "details": plain(event.attributes),
    }


def event_line(event: Event) -> dict[str, Any]:
    """An event with its details as one line of text, for the table."""
    details = dict(plain(event.attributes))
    failure = getattr(event.attributes, "failure", None)
    if failure is not None:
        details["failure"] = failure_text(failure)
    options = details.pop("options", None)
    if options is not None:
        details = {**options, **details}
    shown = {name: part for name, part in details.items() if name not in _INTERNAL_FIELDS}
    return event_row(event) | {"details": " ".join(f"{name}={_short(part)}" for name, part in shown.items())}


def _short(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def pending_activity_row(activity: PendingActivity) -> dict[str, Any]:
    """A pending activity and its last failure."""
    if activity.paused:
        running = activity.started_time_ms is not None
        state = (
            "paused"
            + (" (still runs)" if running else "")
            + (f": {activity.pause_reason}" if activity.pause_reason else "")
        )
    elif activity.cancel_requested:
        state = "cancel requested"
    elif activity.started_time_ms is not None:
        state = "started"
    else:
        state = "waiting" if activity.next_attempt_time_ms is not None else "scheduled"
    limit = str(activity.maximum_attempts) if activity.maximum_attempts else "∞"
    return {
        "activity": activity.activity_id,
        "type": activity.activity_type,
        "state": state,
        "attempt": f"{activity.attempt}/{limit}",
        "task_queue": activity.task_queue,
        "scheduled": iso(activity.scheduled_time_ms),
        "next_attempt": iso(activity.next_attempt_time_ms),
        "last_heartbeat": iso(activity.last_heartbeat_time_ms),
        "heartbeat_details": [payload_value(payload) for payload in activity.heartbeat_details],
        "worker": activity.worker_id,
        "last_failure": failure_text(activity.last_failure),
    }


def pending_child_row(child: PendingChildWorkflow) -> dict[str, Any]:
    """An open child workflow."""
    return {
        "workflow_id": child.workflow_id,
        "type": child.workflow_type,
        "state": "started" if child.run_id else "starting",
        "first_run_id": child.run_id,
        "when_parent_closes": child.parent_close_policy.value,
    }


PENDING_CHILD_COLUMNS: Sequence[str] = ("workflow_id", "type", "state", "first_run_id", "when_parent_closes")
PENDING_COLUMNS: Sequence[str] = (
    "activity",
    "type",
    "state",
    "attempt",
    "next_attempt",
    "last_heartbeat",
    "heartbeat_details",
    "last_failure",
)


def _text(payload: Payload | None) -> Any:
    return None if payload is None else payload_value(payload)


def _stuck(summary: ExecutionSummary) -> str:
    if not summary.stuck_reason:
        return ""
    return (
        f"attempt {summary.stuck_attempt} of its workflow task comes next, the last one failed: {summary.stuck_reason};"
        " mend the code and restart the worker, or reset or terminate the run"
    )


def description_fields(described: Described) -> dict[str, Any]:
    """What ``describe`` says of the run itself."""
    summary, task = described.summary, described.pending_workflow_task
    return {
        "workflow_id": summary.workflow_id,
        "run_id": summary.run_id,
        "type": summary.workflow_type,
        "task_queue": summary.task_queue,
        "status": summary.status.value,
        "started": iso(summary.start_time_ms),
        "closed": iso(summary.close_time_ms),
        "history_events": summary.history_length,
        "history_bytes": described.history_bytes,
        "execution_timeout_ms": described.execution_timeout_ms,
        "run_timeout_ms": described.run_timeout_ms,
        "task_timeout_ms": described.task_timeout_ms,
        "memo": plain(summary.memo) or None,
        "static_summary": _text(described.static_summary),
        "static_details": _text(described.static_details),
        "current_details": _text(described.current_details) or None,
        "paused": (described.pause_reason or True) if summary.paused else None,
        "quarantined": summary.quarantine_reason,
        "stuck": _stuck(summary),
        "worker_version": summary.deployment_version or None,
        "versioning_behavior": summary.versioning_behavior.value if summary.deployment_version else None,
        "pending_workflow_task": None
        if task is None
        else {
            "attempt": task.attempt,
            "scheduled": iso(task.scheduled_time_ms),
            "last_cause": task.last_cause,
            "last_failure": failure_text(task.last_failure),
        },
    }
