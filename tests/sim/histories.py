"""What the histories of a simulation come to in the end, in a form in which two runs can be compared.

Invariant: what a crash may change is left out (times, run ids, who did it, which attempt did it, workflow tasks, and a
message that was sent again by a client that could not know), and nothing else. Pure. Called by the enumeration of crash
points.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import Event, HistoryRecord, Payload

__all__ = ["comparable", "final_events"]

Runs = dict[str, list[list[Event]]]

_WORKFLOW_TASKS = re.compile("WorkflowTask(Scheduled|Completed|Failed|TimedOut)")
#: Fields that a crash may change.
_LEFT_OUT = frozenset(
    (
        *("attempt", "identity", "worker_id", "sticky_worker_id", "await_result", "reply_to"),
        *("eager_event_id", "eager_worker_id"),
        *("command_id", "start_command_id", "operator_command_id"),
        *("run_id", "new_run_id", "first_execution_run_id", "continued_run_id", "original_run_id", "parent"),
        *("last_event_id", "workflow_task_completed_event_id"),
    )
)
#: The same in what the SDK notes of a local activity.
_LEFT_OUT_OF_MARKERS = ("attempt", "now_ms")
#: A signal tells which client sent it and how often it had tried before.
_SIGNAL = re.compile(r"\b(s\d+)\.\d+\.\d+\b")


def final_events(records: Iterable[LogRecord]) -> Runs:
    """The runs of each workflow, in the order in which they began, each with its numbered events.

    Parameters:
        records: all that ever arrived in ``history``, those of a partition in the order of their offsets.
    """
    marks: dict[int, int] = defaultdict(lambda: -1)
    parts: dict[int, list[HistoryRecord]] = defaultdict(list)
    runs: dict[str, dict[str, list[Event]]] = defaultdict(dict)
    for record in records:
        if keys.is_mark(record.key):
            marks[record.partition] = record.offset
            parts[record.partition].clear()
            continue
        if keys.parse_fenced_key(record.key or b"").epoch < marks[record.partition] or record.value is None:
            continue
        value = codec.decode_as(record.value, HistoryRecord)
        decided = parts[record.partition]
        decided.append(value)
        if value.part == value.parts:
            for part in decided:
                events = runs[part.workflow_id].setdefault(part.run_id, [])
                events += [event for event in part.events if event.event_id]
            decided.clear()
    return {workflow_id: list(found.values()) for workflow_id, found in runs.items()}


def comparable(runs: Runs, *, newest_only: bool = False) -> dict[str, list[list[str]]]:
    """The same in a form that is equal for two runs that came to the same.

    Parameters:
        runs: what :func:`final_events` found.
        newest_only: look at the newest run of each workflow only, and not at those that were reset.
    """
    found: dict[str, list[list[str]]] = {}
    for workflow_id, histories in sorted(runs.items()):
        seen: set[str] = set()
        found[workflow_id] = [
            _comparable_run(events, seen) for events in (histories[-1:] if newest_only else histories)
        ]
    return found


def _comparable_run(events: list[Event], seen: set[str]) -> list[str]:
    numbers: dict[int, int] = {}
    lines: list[str] = []
    for event in events:
        kind = type(event.attributes).__name__.removesuffix("Event")
        if _WORKFLOW_TASKS.fullmatch(kind):
            continue
        line = f"{kind} {_plain(event.attributes, numbers)}"
        if kind in ("WorkflowExecutionSignaled", "WorkflowExecutionCancelRequested"):
            if line in seen:
                continue
            seen.add(line)
        numbers[event.event_id] = len(lines)
        lines.append(line)
    return lines


def _plain(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, Payload):
        return _of_user(msgspec.json.decode(value.data)) if value.data else None
    if isinstance(value, msgspec.Struct):
        found = {}
        for name, item in msgspec.structs.asdict(value).items():
            if name in _LEFT_OUT or name.endswith("_time_ms"):
                continue
            # Workflow tasks are left out, so events are numbered anew.
            found[name] = numbers.get(item) if name.endswith("_event_id") else _plain(item, numbers)
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(item, numbers) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, numbers) for name, item in sorted(value.items())}
    return value


def _of_user(value: Any) -> Any:
    """A value of the workflow's: its signals without who sent them, each once."""
    if isinstance(value, str):
        return _SIGNAL.sub(r"\1", value)
    if isinstance(value, list):
        return [_of_user(item) for item in value]
    if isinstance(value, dict):
        return {
            name: sorted({_of_user(one) for one in item}) if name == "signals" and isinstance(item, list)
            and all(isinstance(one, str) for one in item) else _of_user(item)
            for name, item in value.items() if name not in _LEFT_OUT_OF_MARKERS
        }  # fmt: skip
    return value
