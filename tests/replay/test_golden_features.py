"""Every feature of the programming model has a golden history that replays: nothing is left out unnoticed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest

from perdure import workflow
from perdure.client import WorkflowHistory
from perdure_schemas import records
from perdure_schemas.records import Event, EventAttributes, WorkflowExecutionStarted
from tests.replay import golden_messages, golden_workflows
from tests.replay.record import FOLDER, path_of

#: Events that no exported history has, or that its workflow code cannot cause; the code does not see them either.
_NOT_IN_HISTORIES = {
    records.ActivityAttemptRecorded: "has no number, so no history shows it",
    records.WorkflowTaskAttemptRecorded: "has no number, so no history shows it",
    records.WorkflowQuarantined: "has no number, so no history shows it",
    records.WorkflowExecutionDeleted: "has no number, and nobody reads the history any more",
    records.ScheduleCreated: "is of a schedule, which has no workflow code",
    records.ScheduleRecorded: "is of a schedule, which has no workflow code",
    records.WorkflowTaskTimedOut: "a worker was lost; the code is replayed as if nothing had happened",
}
#: Functions of ``perdure.workflow`` that only look or convert, and others whose twin is in a golden workflow.
_WITHOUT_TRACE = frozenset(
    {
        "as_completed", "cancellation_reason", "current_update_info", "dynamic_config", "extern_functions",
        "get_current_details", "get_dynamic_query_handler", "get_dynamic_signal_handler", "get_dynamic_update_handler",
        "get_query_handler", "get_signal_handler", "get_update_handler", "in_workflow", "instance",
        "is_failure_exception", "logger", "memo", "memo_value", "metric_meter", "new_random", "random_seed",
        "set_dynamic_query_handler", "set_dynamic_signal_handler", "set_dynamic_update_handler", "set_query_handler",
        "set_update_handler", "time_ns", "uuid7",
        "execute_activity_class", "execute_activity_method", "execute_local_activity_class",
        "execute_local_activity_method", "start_activity_class", "start_activity_method",
        "start_local_activity_class", "start_local_activity_method",
    }
)  # fmt: skip


def _history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, path_of(name).read_text())


def _has(name: str, kind: type, matches: Callable[[Any], bool] = lambda _: True) -> bool:
    return any(isinstance(e.attributes, kind) and matches(e.attributes) for e in _history(name).events)


def _started(name: str) -> WorkflowExecutionStarted:
    first = _history(name).events[0].attributes
    assert isinstance(first, WorkflowExecutionStarted)
    return first


def _signal_stands_before_the_code_ran(name: str) -> bool:
    kinds = [type(event.attributes) for event in _history(name).events]
    return kinds.index(records.WorkflowExecutionSignaled) < kinds.index(records.WorkflowTaskCompletedEvent)


#: What has no function or event of its own: the feature, its golden history, and what shows that it is in it.
FEATURES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "signal with start": ("signalled", _signal_stands_before_the_code_ran),
    "signal before its handler is set": (
        "signalled",
        lambda name: _has(name, records.WorkflowExecutionSignaled, lambda a: a.signal_name == "late"),
    ),
    "queries alongside": ("paused", lambda name: "query" in inspect.getsource(golden_workflows.Paused)),
    "dynamic workflow": ("dynamic", lambda name: _started(name).workflow_type == "NeverDefined"),
    "dynamic signal": ("dynamic", lambda name: _has(name, records.WorkflowExecutionSignaled)),
    "dynamic update": ("dynamic", lambda name: _has(name, records.WorkflowExecutionUpdateAccepted)),
    "rejected update": (
        "updated",
        lambda name: (
            not _has(name, records.WorkflowExecutionUpdateAccepted, lambda a: a.request.update_id == "rejected")
        ),
    ),
    "failed update": ("reset", lambda name: "raise ApplicationError" in inspect.getsource(golden_messages.Amended)),
    "workflow retry": ("retried", lambda name: _started(name).attempt == 3),
    "cron": ("daily", lambda name: _started(name).cron_schedule != ""),
    "last completion result": ("daily", lambda name: bool(_started(name).last_completion_result)),
    "reset": ("reset", lambda name: _started(name).original_run_id != ""),
    "fork": ("forked", lambda name: _started(name).original_run_id != ""),
    "current details": (
        "forked",
        lambda name: _has(name, records.WorkflowTaskCompletedEvent, lambda a: a.current_details is not None),
    ),
    "local activity": ("locals", lambda name: _has(name, records.MarkerRecorded)),
    "patch": ("patched", lambda name: _has(name, records.MarkerRecorded)),
    "asynchronous completion": (
        "activities",
        lambda name: _has(name, records.ActivityTaskCompletedEvent, lambda a: b"outside" in a.result[0].data),
    ),
    "pause": ("paused", lambda name: _has(name, records.WorkflowExecutionPaused)),
    "wait_condition timeout": ("deadlines", lambda name: _has(name, records.TimerFired)),
    "workflow code that was repaired": ("stumbles", lambda name: _has(name, records.WorkflowTaskFailedEvent)),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_has_its_golden_history(feature: str) -> None:
    name, shows = FEATURES[feature]
    assert path_of(name).exists()
    assert shows(name)


def test_every_kind_of_event_stands_in_a_golden_history() -> None:
    found = {type(event.attributes) for path in FOLDER.glob("*.json") for event in _events(path.stem)}
    missing = set(get_args(EventAttributes)) - found - set(_NOT_IN_HISTORIES)
    assert {kind.__name__ for kind in missing} == set(), "add a golden workflow for these"
    assert {kind.__name__ for kind in found & set(_NOT_IN_HISTORIES)} == set(), "take these from the exceptions"


def test_every_function_of_workflow_code_is_in_a_golden_workflow() -> None:
    source = inspect.getsource(golden_workflows) + inspect.getsource(golden_messages)
    used = set(re.findall(r"\bworkflow\.([a-z_0-9]+)", source))
    functions = {name for name in workflow.__all__ if name[0].islower()}
    assert functions - used - _WITHOUT_TRACE == set(), "use these in a golden workflow"
    assert _WITHOUT_TRACE - functions == set(), "these are gone"


def _events(name: str) -> list[Event]:
    return list(_history(name).events)
