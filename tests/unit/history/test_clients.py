"""What clients do to runs: signal, cancel, terminate, describe, await, fetch, query."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_schemas import codec, records
from perdure_schemas.records import (
    AwaitResult,
    CancelWorkflow,
    CompleteWorkflowExecution,
    DescribeWorkflow,
    Done,
    ErrorCode,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    FetchHistory,
    HistoryPage,
    HistoryRecord,
    QueryAnswer,
    QueryTask,
    QueryTaskCompleted,
    QueryTaskExpired,
    QueryWorkflow,
    Rejected,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    TerminateWorkflow,
    WorkflowClosed,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, History, options, payload, reply_to, start

SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s", input=[payload("1")]))
COMPLETE = CompleteWorkflowExecution(result=[payload("done")])


def started() -> History:
    history = History()
    history.send(start())
    return history


def idle() -> History:
    """A run whose code waits, without an outstanding workflow task."""
    history = started()
    history.complete_task(sticky_worker_id="w1")
    return history


def closed() -> History:
    history = started()
    history.complete_task(COMPLETE)
    return history


def query(history: History, **fields: Any) -> QueryWorkflow:
    return QueryWorkflow(**{"query_type": "q", "expires_at_ms": history.now_ms + 5_000, **fields})


# --- signals, cancellation, termination ---------------------------------------------------------------------------


def test_a_signal_wakes_the_code() -> None:
    history = idle()
    assert history.ask(SIGNAL) == Done()
    assert history.kinds() == ["WorkflowExecutionSignaled", "WorkflowTaskScheduled"]


def test_a_signal_during_a_workflow_task_waits_for_the_next_one() -> None:
    history = started()
    history.send(SIGNAL)
    assert history.kinds() == ["WorkflowExecutionSignaled"]
    assert not history.tasks()
    history.complete_task(last_event_id=2)
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "WorkflowTaskScheduled"]


def test_i3_a_signal_with_the_same_command_id_is_taken_once() -> None:
    history = idle()
    assert history.ask(SIGNAL, command_id="same") == Done()
    assert history.ask(SIGNAL, command_id="same") == Done()
    assert not history.events()
    assert history.ask(SIGNAL, command_id="other") == Done()
    assert history.kinds() == ["WorkflowExecutionSignaled"]


@pytest.mark.parametrize("name", ["", "x" * 1_001])
def test_a_signal_needs_a_name(name: str) -> None:
    history = idle()
    answer = history.ask(SignalWorkflow(signal=SignalInput(signal_name=name)))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT


def test_asking_twice_to_cancel_is_asking_once() -> None:
    history = idle()
    assert history.ask(CancelWorkflow(reason="r")) == Done()
    assert history.kinds() == ["WorkflowExecutionCancelRequested", "WorkflowTaskScheduled"]
    assert history.ask(CancelWorkflow()) == Done()
    assert not history.events()


def test_terminating_closes_the_run_and_takes_back_everything() -> None:
    history = started()
    history.complete_task(
        records.ScheduleActivityTask(options=options(schedule_to_close_timeout_ms=9_000)),
        StartTimer(timer_id="t", start_to_fire_timeout_ms=5_000),
    )
    history.send(SIGNAL)
    history.send(AwaitResult(), reply=reply_to("waits"))
    history.send(TerminateWorkflow(reason="enough", details=[payload("d")]), reply=reply_to("terminates"))
    assert history.kinds() == ["WorkflowExecutionTerminated"]
    assert not history.outstanding(NAMES.tasks)
    assert not history.outstanding(NAMES.timers)
    answers = {reply.request_id: reply.body for reply in history.replies()}
    assert answers["terminates"] == Done()
    waited = answers["waits"]
    assert isinstance(waited, WorkflowClosed)
    assert waited.status is WorkflowStatus.TERMINATED
    assert waited.failure is not None
    assert (waited.failure.kind, waited.failure.message) == (FailureKind.TERMINATED, "enough")


def test_i3_a_repeated_termination_succeeds_again() -> None:
    history = started()
    assert history.ask(TerminateWorkflow(), command_id="id") == Done()
    assert history.ask(TerminateWorkflow(), command_id="id") == Done()
    answer = history.ask(TerminateWorkflow(), command_id="other")
    assert isinstance(answer, Rejected)


@pytest.mark.parametrize("body", [SIGNAL, CancelWorkflow(), TerminateWorkflow()])
def test_a_closed_run_takes_nothing(body: Any) -> None:
    history = closed()
    answer = history.ask(body)
    assert answer == Rejected(
        code=ErrorCode.NOT_FOUND,
        message="workflow execution already completed",
        run_id="run",
        status=WorkflowStatus.COMPLETED,
    )
    assert not history.events()


@pytest.mark.parametrize("body", [SIGNAL, CancelWorkflow(), DescribeWorkflow(), AwaitResult(), FetchHistory()])
@pytest.mark.parametrize("run_id", ["", "no-such-run"])
def test_what_does_not_exist_is_not_found(body: Any, run_id: str) -> None:
    history = started()
    answer = history.ask(body, workflow_id="nobody" if not run_id else "wf", run_id=run_id)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.NOT_FOUND
    assert "nobody" in answer.message or run_id in answer.message


def test_a_run_of_another_workflow_is_not_found() -> None:
    history = started()
    assert isinstance(history.ask(DescribeWorkflow(), workflow_id="other", run_id="run"), Rejected)


# --- describe, await, fetch -----------------------------------------------------------------------------------------


def test_describe_shows_what_the_run_waits_for() -> None:
    history = History()
    (scheduled,) = history.schedule(
        options(heartbeat_timeout_ms=5_000, retry_policy=records.RetryPolicy(maximum_attempts=7))
    )
    beat = records.ActivityTaskHeartbeat(scheduled_event_id=scheduled, attempt=1, started_time_ms=history.now_ms)
    history.send(beat)
    described = history.ask(DescribeWorkflow())
    assert described.summary.status is WorkflowStatus.RUNNING
    assert described.summary.history_length == scheduled
    assert described.pending_workflow_task is None
    (activity,) = described.pending_activities
    assert (activity.activity_id, activity.attempt, activity.maximum_attempts) == ("a", 1, 7)
    assert activity.last_heartbeat_time_ms == history.now_ms
    assert activity.next_attempt_time_ms is None


@pytest.mark.parametrize(
    ("closing", "status", "kind"),
    [
        (COMPLETE, WorkflowStatus.COMPLETED, None),
        (
            FailWorkflowExecution(failure=Failure(kind=FailureKind.APPLICATION, message="no")),
            WorkflowStatus.FAILED,
            FailureKind.APPLICATION,
        ),
        (records.CancelWorkflowExecution(), WorkflowStatus.CANCELED, FailureKind.CANCELED),
    ],
)
def test_the_result_is_the_same_before_and_after(
    closing: Any, status: WorkflowStatus, kind: FailureKind | None
) -> None:
    history = started()
    history.send(AwaitResult(), reply=reply_to("early"))
    history.send(AwaitResult(), reply=reply_to("early"))
    assert not history.replies()
    history.complete_task(closing)
    (early,) = history.replies()
    late = history.ask(AwaitResult())
    assert early.body == late
    assert late.status is status
    assert (late.failure and late.failure.kind) == kind


def test_too_many_waiters_are_refused() -> None:
    history = History(HistoryConfig(waiters_max=1))
    history.send(start())
    history.send(AwaitResult(), reply=reply_to("1"))
    assert not history.replies()
    answer = history.ask(AwaitResult())
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.RESOURCE_EXHAUSTED


def test_history_comes_in_pages() -> None:
    history = History()
    history.run_to_end()
    seen: list[int] = []
    first, pages = 1, 0
    while first:
        page = history.ask(FetchHistory(first_event_id=first, page_bytes_max=1), workflow_id="wf-run")
        assert isinstance(page, HistoryPage)
        assert page.closed
        seen += [event.event_id for value in page.records for event in codec.decode_as(value, HistoryRecord).events]
        first, pages = page.next_event_id, pages + 1
    assert seen == list(range(1, 9))
    assert pages == 4


def test_a_page_may_begin_inside_a_record() -> None:
    history = History()
    history.run_to_end()
    history.handler.checkpoint()
    restarted = History(store=history.store, log=history.log, command_offset=history.offset, committed=history.offset)
    for first in range(1, 9):
        page = restarted.ask(FetchHistory(first_event_id=first), workflow_id="wf-run")
        events = [event.event_id for value in page.records for event in codec.decode_as(value, HistoryRecord).events]
        assert events[0] <= first
        assert first in events
        assert events == list(range(events[0], 9))
        assert len(page.records) == (9 - events[0]) // 2


# --- queries --------------------------------------------------------------------------------------------------------


def test_a_query_goes_to_a_worker_and_back() -> None:
    history = idle()
    history.send(query(history), reply=reply_to("asks"))
    assert not history.replies()
    (task,) = history.tasks("query")
    assert task.sticky_worker_id == "w1"
    body = codec.decode_as(task.body, QueryTask)
    answer = QueryTaskCompleted(query_id=body.query_id, reply=body.reply, result=[payload("42")])
    history.send(answer, run_id="run")
    (reply,) = history.replies()
    assert (reply.request_id, reply.body) == ("asks", QueryAnswer(result=[payload("42")]))
    assert history.tombstones(NAMES.tasks) == [task.task_id]
    assert not history.events()


def test_a_query_waits_until_the_code_has_seen_what_was_before_it() -> None:
    history = started()
    history.send(query(history), reply=reply_to("asks"))
    assert not history.tasks()
    history.send(SIGNAL)
    history.send(query(history), reply=reply_to("asks later"))
    history.complete_task(last_event_id=2)
    (task,) = history.tasks("query")
    assert codec.decode_as(task.body, QueryTask).reply.request_id == "asks"
    history.complete_task()
    (task,) = history.tasks("query")
    assert codec.decode_as(task.body, QueryTask).reply.request_id == "asks later"


def test_a_query_of_a_closed_run_is_asked_of_a_worker() -> None:
    history = closed()
    history.send(query(history), reply=reply_to())
    assert len(history.tasks("query")) == 1


def test_queries_that_wait_are_asked_when_the_run_closes() -> None:
    history = started()
    history.send(query(history), reply=reply_to())
    history.send(TerminateWorkflow())
    assert len(history.tasks("query")) == 1


@pytest.mark.parametrize(
    ("condition", "rejected"), [("NONE", False), ("NOT_OPEN", True), ("NOT_COMPLETED_CLEANLY", False)]
)
def test_a_query_may_be_refused_for_the_status(condition: str, rejected: bool) -> None:
    history = closed()
    history.send(query(history, reject_condition=condition), reply=reply_to())
    answers = [reply.body for reply in history.replies()]
    assert answers == ([QueryAnswer(rejected_status=WorkflowStatus.COMPLETED)] if rejected else [])


def test_a_terminated_run_did_not_complete_cleanly() -> None:
    history = started()
    history.send(TerminateWorkflow())
    answer = history.ask(query(history, reject_condition="NOT_COMPLETED_CLEANLY"))
    assert answer == QueryAnswer(rejected_status=WorkflowStatus.TERMINATED)
    assert isinstance(history.ask(query(history, reject_condition="SOMETIMES")), Rejected)


def test_a_query_of_failing_code_is_refused_with_the_reason() -> None:
    history = started()
    history.send(query(history), reply=reply_to("waits"))
    for attempt in (1, 2):
        failed = records.WorkflowTaskFailed(
            scheduled_event_id=2,
            attempt=attempt,
            cause="NON_DETERMINISTIC_ERROR",
            failure=Failure(kind=FailureKind.SERVER),
        )
        history.send(failed, run_id="run")
    (waited,) = history.replies()
    answer = history.ask(query(history))
    assert isinstance(waited.body, Rejected)
    assert answer.message == waited.body.message
    assert answer.code is ErrorCode.FAILED_PRECONDITION
    assert "NON_DETERMINISTIC_ERROR" in answer.message


def test_expired_queries_vanish() -> None:
    history = idle()
    history.send(query(history, expires_at_ms=history.now_ms), reply=reply_to())
    assert not history.sent
    history.send(query(history), reply=reply_to())
    (task,) = history.tasks("query")
    query_id = codec.decode_as(task.body, QueryTask).query_id
    history.send(QueryTaskExpired(query_id=query_id), run_id="run")
    assert history.tombstones(NAMES.tasks) == [task.task_id]
    history.send(QueryTaskExpired(query_id="not ours"), run_id="run")
    assert history.handler.ignored["query id is not ours"] == 1


def test_too_many_waiting_queries_are_refused() -> None:
    history = History(HistoryConfig(queries_max=1))
    history.send(start())
    history.send(query(history), reply=reply_to("1"))
    history.send(query(history), reply=reply_to("1"))
    answer = history.ask(query(history))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.RESOURCE_EXHAUSTED
