"""Workflow tasks: what is wrong with an answer, retries of failing code, signals that race with the end."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_history.core.state import WorkflowTaskStatus
from perdure_schemas import codec, records
from perdure_schemas.records import (
    CancelTimer,
    CancelWorkflowExecution,
    CompleteWorkflowExecution,
    DeadlineReached,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    HistoryRecord,
    RecordMarker,
    RequestCancelActivityTask,
    RetryPolicy,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    WorkflowStatus,
    WorkflowTaskFailed,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.harness import NAMES, History, body_of, options, payload, start

SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))
COMPLETE = CompleteWorkflowExecution()
LARGE = [payload("x" * (2 * 1024 * 1024 + 1))]


def started(**fields: Any) -> History:
    history = History(**fields)
    history.send(start())
    return history


def schedule(**fields: Any) -> ScheduleActivityTask:
    return ScheduleActivityTask(options=options(**fields))


def retry(**fields: Any) -> ScheduleActivityTask:
    return schedule(retry_policy=RetryPolicy(**fields))


def timer(timer_id: str = "t", timeout_ms: int = 1_000) -> StartTimer:
    return StartTimer(timer_id=timer_id, start_to_fire_timeout_ms=timeout_ms)


BAD_ACTIVITY = "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES"


@pytest.mark.parametrize(
    ("commands", "cause"),
    [
        ([schedule(start_to_close_timeout_ms=None)], BAD_ACTIVITY),
        ([schedule(activity_id="")], BAD_ACTIVITY),
        ([schedule(activity_type="")], BAD_ACTIVITY),
        ([schedule(task_queue="")], BAD_ACTIVITY),
        ([schedule(heartbeat_timeout_ms=0)], BAD_ACTIVITY),
        ([schedule(start_to_close_timeout_ms=-1)], BAD_ACTIVITY),
        ([schedule(schedule_to_start_timeout_ms=-1)], BAD_ACTIVITY),
        ([schedule(input=LARGE)], BAD_ACTIVITY),
        ([retry(initial_interval_ms=0)], BAD_ACTIVITY),
        ([retry(backoff_coefficient=0.5)], BAD_ACTIVITY),
        ([retry(backoff_coefficient=float("nan"))], BAD_ACTIVITY),
        ([retry(maximum_interval_ms=10)], BAD_ACTIVITY),
        ([retry(maximum_attempts=-1)], BAD_ACTIVITY),
        ([schedule(), schedule()], "SCHEDULE_ACTIVITY_DUPLICATE_ID"),
        ([schedule(activity_id=str(number)) for number in range(4)], "PENDING_ACTIVITIES_LIMIT_EXCEEDED"),
        ([RequestCancelActivityTask(scheduled_event_id=99)], "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES"),
        ([timer("")], "BAD_START_TIMER_ATTRIBUTES"),
        ([timer(timeout_ms=-1)], "BAD_START_TIMER_ATTRIBUTES"),
        ([timer(), timer()], "START_TIMER_DUPLICATE_ID"),
        ([timer(str(number)) for number in range(4)], "PENDING_TIMERS_LIMIT_EXCEEDED"),
        ([CancelTimer(timer_id="")], "BAD_CANCEL_TIMER_ATTRIBUTES"),
        ([RecordMarker(marker_name="")], "BAD_RECORD_MARKER_ATTRIBUTES"),
        ([RecordMarker(marker_name="m", details={"d": LARGE})], "BAD_RECORD_MARKER_ATTRIBUTES"),
        ([CompleteWorkflowExecution(result=LARGE)], "BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES"),
        (
            [FailWorkflowExecution(failure=Failure(kind=FailureKind.APPLICATION, details=LARGE))],
            "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES",
        ),
        ([CancelWorkflowExecution(details=LARGE)], "BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES"),
        ([COMPLETE, timer()], "BAD_COMMAND_AFTER_CLOSE"),
        ([COMPLETE, COMPLETE], "BAD_COMMAND_AFTER_CLOSE"),
    ],
)
def test_a_bad_command_fails_the_task_and_changes_nothing_else(commands: list[Any], cause: str) -> None:
    policy = Policy(pending_activities_max=3, pending_timers_max=3)
    history = started(config=HistoryConfig(policy=policy))
    history.complete_task(timer("before"), *commands)
    (event,) = history.events()
    assert isinstance(event.attributes, WorkflowTaskFailedEvent)
    assert event.attributes.cause == cause
    assert event.attributes.failure.message
    run = history.run()
    assert run.is_open
    assert not run.timers
    assert not run.activities
    assert run.workflow_task is not None
    assert run.workflow_task.attempt == 2
    (task,) = history.tasks("workflow")
    assert task.attempt == 2


@pytest.mark.parametrize("last_event_id", [0, 1, 3])
def test_an_answer_must_have_seen_its_task_and_nothing_unheard_of(last_event_id: int) -> None:
    history = started()
    history.complete_task(last_event_id=last_event_id)
    (event,) = history.events()
    assert isinstance(event.attributes, WorkflowTaskFailedEvent)
    assert event.attributes.cause == "BAD_LAST_EVENT_ID"


def test_each_command_is_one_event_in_order() -> None:
    history = started()
    history.complete_task(
        schedule(), timer("t"), CancelTimer(timer_id="t"), RecordMarker(marker_name="m"), COMPLETE, sdk_flags=[1, 2]
    )
    assert history.kinds() == [
        "WorkflowTaskCompletedEvent",
        "ActivityTaskScheduled",
        "TimerStarted",
        "TimerCanceled",
        "MarkerRecorded",
        "WorkflowExecutionCompleted",
    ]
    assert not history.outstanding(NAMES.tasks)
    assert not history.outstanding(NAMES.timers)


def test_cancelling_what_is_over_is_no_event() -> None:
    history = started()
    history.complete_task(CancelTimer(timer_id="never"), RequestCancelActivityTask(scheduled_event_id=1))
    assert history.kinds() == ["WorkflowTaskCompletedEvent"]


def test_a_close_that_has_not_seen_a_signal_is_not_taken() -> None:
    history = started()
    history.send(SIGNAL)
    history.complete_task(COMPLETE, last_event_id=2, sticky_worker_id="w")
    (event,) = history.events()
    assert isinstance(event.attributes, WorkflowTaskFailedEvent)
    assert event.attributes.cause == "UNHANDLED_COMMAND"
    (task,) = history.tasks("workflow")
    body = body_of(task)
    assert (task.attempt, task.sticky_worker_id) == (2, "")
    seen = [event.event_id for value in body.history for event in codec.decode_as(value, HistoryRecord).events]  # type: ignore[union-attr]
    assert seen == [1, 2, 3, 4]
    history.send(SIGNAL)
    history.complete_task(COMPLETE, last_event_id=4)
    assert history.kinds() == ["WorkflowTaskAttemptRecorded"]
    assert history.run().workflow_task.status is WorkflowTaskStatus.DISPATCHED  # type: ignore[union-attr]
    history.complete_task(COMPLETE)
    assert history.run().status is WorkflowStatus.COMPLETED


def test_without_a_close_unseen_events_bring_another_task() -> None:
    history = started()
    history.send(SIGNAL)
    history.complete_task(timer(), last_event_id=2)
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "TimerStarted", "WorkflowTaskScheduled"]


def test_a_task_that_needs_nothing_brings_no_other() -> None:
    history = started()
    history.complete_task()
    assert history.kinds() == ["WorkflowTaskCompletedEvent"]
    assert history.run().workflow_task is None


@pytest.mark.parametrize("changes", [{"attempt": 2}, {"scheduled_event_id": 1}])
def test_i3_an_answer_to_another_task_is_ignored(changes: dict[str, int]) -> None:
    history = started()
    history.complete_task(COMPLETE, **changes)
    assert not history.sent
    assert history.handler.ignored["workflow task is not outstanding"] == 1


def test_i3_a_doubled_answer_is_ignored() -> None:
    history = started()
    history.complete_task(timer())
    doubled = history.command_log[-1]._replace(offset=history.offset)
    assert history.deliver(doubled) == []


def fail(history: History, attempt: int, cause: str = "WORKFLOW_WORKER_UNHANDLED_FAILURE") -> None:
    failure = Failure(kind=FailureKind.APPLICATION, message=f"bug {attempt}")
    history.send(WorkflowTaskFailed(scheduled_event_id=2, attempt=attempt, cause=cause, failure=failure), run_id="run")


def test_failing_code_is_retried_later_and_later() -> None:
    history = started()
    fail(history, 1)
    assert history.kinds() == ["WorkflowTaskFailedEvent"]
    assert history.tombstones(NAMES.tasks) == ["run/w2.1"]
    assert [task.task_id for task in history.tasks()] == ["run/w2.2"]
    waits_ms = []
    for attempt in range(2, 11):
        fail(history, attempt)
        assert history.kinds() == ["WorkflowTaskAttemptRecorded"]
        assert history.tombstones(NAMES.tasks) == [f"run/w2.{attempt}"]
        assert not history.tasks()
        (armed,) = history.timers()
        waits_ms.append(armed.due_time_ms - history.now_ms)
        history.now_ms = armed.due_time_ms
        history.send(DeadlineReached(arm_number=armed.arm_number, due_time_ms=armed.due_time_ms), run_id="run")
        assert [task.task_id for task in history.tasks()] == [f"run/w2.{attempt + 1}"]
        assert not history.run().wake_up_due_ms
    assert waits_ms == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert [event.event_id for event in history.history()] == [1, 2, 3]
    history.complete_task(COMPLETE)
    assert history.run().status is WorkflowStatus.COMPLETED


def test_an_answer_while_backing_off_is_ignored() -> None:
    history = started()
    fail(history, 1)
    fail(history, 2)
    fail(history, 3)
    assert not history.sent


def test_a_failure_ends_stickiness() -> None:
    history = started()
    history.complete_task(sticky_worker_id="w")
    history.send(SIGNAL)
    (task,) = history.tasks()
    assert task.sticky_worker_id == "w"
    failure = Failure(kind=FailureKind.SERVER)
    task_id = history.run().workflow_task.scheduled_event_id  # type: ignore[union-attr]
    history.send(WorkflowTaskFailed(scheduled_event_id=task_id, attempt=1, cause="c", failure=failure), run_id="run")
    (task,) = history.tasks()
    assert (task.sticky_worker_id, body_of(task).first_event_id) == ("", 1)  # type: ignore[union-attr]


def test_the_lease_of_a_task_is_its_timeout() -> None:
    history = History()
    history.send(start(task_timeout_ms=7_000))
    (task,) = history.tasks()
    assert task.lease_ms_max == 7_000
    assert body_of(task).start_to_close_timeout_ms == 7_000  # type: ignore[union-attr]


def test_a_history_that_is_too_large_for_a_task_is_cut() -> None:
    history = History(HistoryConfig(task_history_bytes_max=2_000))
    history.send(start())
    history.complete_task()
    for number in range(20):
        history.send(
            SignalWorkflow(signal=SignalInput(signal_name="s", input=[payload("x" * 300)])), command_id=f"s{number}"
        )
    failure = Failure(kind=FailureKind.SERVER)
    task_id = history.run().workflow_task.scheduled_event_id  # type: ignore[union-attr]
    history.send(WorkflowTaskFailed(scheduled_event_id=task_id, attempt=1, cause="c", failure=failure), run_id="run")
    body = body_of(history.tasks()[0])
    values = body.history  # type: ignore[union-attr]
    assert 0 < sum(map(len, values)) <= 2_000
    seen = [event.event_id for value in values for event in codec.decode_as(value, HistoryRecord).events]
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    ("policy", "says"),
    [(Policy(history_events_max=6), "6 events"), (Policy(history_bytes_max=400), "400 bytes")],
)
def test_a_history_that_grows_too_large_ends_the_run(policy: Policy, says: str) -> None:
    history = started(config=HistoryConfig(policy=policy))
    for number in range(10):
        history.send(SIGNAL, command_id=f"s{number}")
        if not history.run().is_open:
            break
    assert history.run().status is WorkflowStatus.TERMINATED
    terminated = history.history()[-1].attributes
    assert isinstance(terminated, records.WorkflowExecutionTerminated)
    assert says in terminated.reason
    assert not history.outstanding(NAMES.tasks)
