"""Records as people and programs read them."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import HealthCheck, given, settings

from perdure_ops import history_view as view
from perdure_ops.output import to_json
from perdure_schemas import records
from tests.unit.schemas.strategies import records_of


def _json(value: object) -> records.Payload:
    return records.Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


def _event(attributes: records.EventAttributes) -> records.Event:
    return records.Event(event_id=7, event_time_ms=1_000, attributes=attributes)


def _activity(**changes: object) -> records.PendingActivity:
    fields: dict[str, typing.Any] = {
        "activity_id": "1",
        "activity_type": "pay",
        "task_queue": "q",
        "attempt": 2,
        "maximum_attempts": 0,
        "scheduled_time_ms": 1_000,
    }
    return records.PendingActivity(**(fields | changes))


BOOM = records.Failure(
    kind=records.FailureKind.ACTIVITY,
    message="activity failed",
    cause=records.Failure(kind=records.FailureKind.APPLICATION, type="ValueError", message="boom"),
)


def test_payloads_are_shown_by_their_value() -> None:
    assert view.payload_value(_json({"a": [1, "ü"]})) == {"a": [1, "ü"]}
    assert view.payload_value(records.Payload(metadata={"encoding": b"binary/null"})) is None
    assert view.payload_value(records.Payload(metadata={"encoding": b"binary/plain"}, data=b"\0")) == {
        "encoding": "binary/plain",
        "base64": "AA==",
    }


def test_a_damaged_json_payload_is_shown_as_such() -> None:
    damaged = records.Payload(metadata={"encoding": b"json/plain"}, data=b"{")
    assert view.payload_value(damaged) == {"encoding": "damaged json/plain", "base64": "ew=="}


def test_a_failure_is_one_line_with_its_causes() -> None:
    assert view.failure_text(BOOM) == "activity: activity failed ← ValueError: boom"
    assert view.failure_text(None) == ""


@pytest.mark.parametrize(
    "member", typing.get_args(records.EventAttributes), ids=lambda member: typing.cast("type", member).__name__
)
def test_every_event_can_be_shown(member: type[records.Record]) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(records_of(member))
    def show(attributes: records.EventAttributes) -> None:
        row = view.event_row(_event(attributes))
        assert json.loads(to_json(row))["id"] == 7
        assert not row["type"].endswith("Event")
        assert isinstance(view.event_line(_event(attributes))["details"], str)

    show()


def test_a_line_shows_what_matters_and_leaves_out_what_only_machines_need() -> None:
    options = records.ActivityOptions(activity_id="1", activity_type="pay", task_queue="q", input=[_json(5)])
    attributes = records.ActivityTaskScheduled(options=options, workflow_task_completed_event_id=4)
    assert view.event_line(_event(attributes)) == {
        "id": 7,
        "time": "1970-01-01T00:00:01.000Z",
        "type": "ActivityTaskScheduled",
        "details": "activity_id=1 activity_type=pay task_queue=q input=[5]",
    }
    assert view.event_row(_event(attributes))["details"]["workflow_task_completed_event_id"] == 4


def test_a_failed_activity_shows_its_failure_in_the_line() -> None:
    attributes = records.ActivityTaskFailedEvent(
        scheduled_event_id=5, attempt=3, failure=BOOM, retry_state=records.RetryState.MAXIMUM_ATTEMPTS_REACHED
    )
    details = view.event_line(_event(attributes))["details"]
    assert "failure=activity: activity failed ← ValueError: boom" in details
    assert "retry_state=MAXIMUM_ATTEMPTS_REACHED" in details


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "scheduled"),
        ({"next_attempt_time_ms": 5}, "waiting"),
        ({"started_time_ms": 5}, "started"),
        ({"started_time_ms": 5, "cancel_requested": True}, "cancel requested"),
    ],
)
def test_the_state_of_a_pending_activity(changes: dict[str, object], state: str) -> None:
    assert view.pending_activity_row(_activity(**changes))["state"] == state


def test_a_pending_activity_shows_attempts_and_the_last_failure() -> None:
    row = view.pending_activity_row(_activity(maximum_attempts=5, last_failure=BOOM))
    assert row["attempt"] == "2/5"
    assert "boom" in row["last_failure"]
    assert view.pending_activity_row(_activity())["attempt"] == "2/∞"
    assert set(view.PENDING_COLUMNS) <= set(row)


def test_a_description_names_a_pending_workflow_task_and_a_quarantine() -> None:
    summary = records.ExecutionSummary(
        workflow_id="w",
        run_id="r",
        first_execution_run_id="r",
        workflow_type="T",
        task_queue="q",
        status=records.WorkflowStatus.RUNNING,
        start_time_ms=1_000,
        execution_time_ms=1_000,
        history_length=3,
        version=1,
        memo={"a": _json(1)},
        quarantine_reason="bad command",
    )
    task = records.PendingWorkflowTask(attempt=4, scheduled_time_ms=2_000, last_cause="X", last_failure=BOOM)
    fields = view.description_fields(records.Described(summary=summary, pending_workflow_task=task))
    assert fields["status"] == "RUNNING"
    assert fields["memo"] == {"a": 1}
    assert fields["quarantined"] == "bad command"
    assert fields["pending_workflow_task"]["attempt"] == 4
    assert "boom" in fields["pending_workflow_task"]["last_failure"]
    assert view.description_fields(records.Described(summary=summary))["pending_workflow_task"] is None
