"""Activities that left their worker: what clients say of them; and workflow tasks that ask for another one."""

from __future__ import annotations

from typing import Any

from perdure_schemas.records import (
    ActivityHeartbeatAnswer,
    ActivityLeaseLost,
    ActivityLeftOpen,
    CompleteActivity,
    Done,
    ErrorCode,
    FailActivity,
    Failure,
    FailureKind,
    HeartbeatActivity,
    Rejected,
    ReportActivityCanceled,
    RequestCancelActivityTask,
    SignalInput,
    SignalWorkflow,
)
from tests.unit.history.harness import History, options, payload, reply_to

FAILURE = Failure(kind=FailureKind.APPLICATION, type="Declined", message="no")


def _left_open(**fields: Any) -> tuple[History, int]:
    history = History()
    (event_id,) = history.schedule(options(**fields))
    history.send(
        ActivityLeftOpen(scheduled_event_id=event_id, attempt=1, started_time_ms=history.now_ms, worker_id="w1"),
        run_id="run",
    )
    return history, event_id


def _ask(history: History, body: Any) -> Any:
    history.send(body, run_id="run", reply=reply_to())
    (reply,) = history.replies()
    return reply.body


def test_matching_learns_that_the_activity_left_its_worker() -> None:
    history, event_id = _left_open()
    (task,) = history.tasks("activity")
    assert task.left_open
    again = ActivityLeftOpen(scheduled_event_id=event_id, attempt=1, started_time_ms=history.now_ms, worker_id="w1")
    history.send(again, run_id="run")
    assert history.kinds() == []


def test_the_loss_of_the_worker_does_not_end_it() -> None:
    history, event_id = _left_open()
    lost = ActivityLeaseLost(scheduled_event_id=event_id, attempt=1, started_time_ms=history.now_ms, worker_id="w1")
    history.send(lost, run_id="run")
    assert history.kinds() == []


def test_it_is_completed_by_its_attempt_or_by_its_id_once() -> None:
    for reference in ({"activity_id": "a"}, {"scheduled_event_id": 0, "attempt": 1}):
        history, event_id = _left_open()
        if "attempt" in reference:
            reference = {"scheduled_event_id": event_id, "attempt": 1}
        body = CompleteActivity(**reference, result=[payload("done")])  # type: ignore[arg-type]
        assert _ask(history, body) == Done()
        assert "ActivityTaskCompletedEvent" in history.kinds()
        answer = _ask(history, body)
        assert isinstance(answer, Rejected)
        assert answer.code is ErrorCode.NOT_FOUND


def test_another_attempt_is_not_found() -> None:
    history, event_id = _left_open()
    answer = _ask(history, CompleteActivity(scheduled_event_id=event_id, attempt=2))
    assert isinstance(answer, Rejected)
    assert "in attempt 2" in answer.message


def test_a_failure_is_retried_with_the_details_it_brings() -> None:
    history, event_id = _left_open()
    assert _ask(history, FailActivity(activity_id="a", failure=FAILURE, heartbeat_details=[payload("7")])) == Done()
    activity = history.run().activities[event_id]
    assert (activity.attempt, activity.left_open) == (2, False)
    assert activity.heartbeat_details == [payload("7")]


def test_a_heartbeat_is_answered_with_the_request_to_stop() -> None:
    history, event_id = _left_open()
    assert _ask(history, HeartbeatActivity(activity_id="a")) == ActivityHeartbeatAnswer()
    refused = _ask(history, ReportActivityCanceled(activity_id="a"))
    assert isinstance(refused, Rejected)
    assert refused.code is ErrorCode.FAILED_PRECONDITION
    history.send(SignalWorkflow(signal=SignalInput(signal_name="go")), run_id="run")
    history.complete_task(RequestCancelActivityTask(scheduled_event_id=event_id))
    history.now_ms += 1
    assert _ask(history, HeartbeatActivity(activity_id="a")) == ActivityHeartbeatAnswer(cancel_requested=True)
    assert _ask(history, ReportActivityCanceled(activity_id="a")) == Done()
    assert "ActivityTaskCanceledEvent" in history.kinds()


def test_a_workflow_task_may_ask_for_another_one() -> None:
    history = History()
    history.schedule(options())
    history.send(SignalWorkflow(signal=SignalInput(signal_name="go")), run_id="run")
    history.complete_task(force_new_task=True)
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "WorkflowTaskScheduled"]
    assert history.run().workflow_task is not None
