"""Activities: retries, the four timeouts, heartbeats, cancellation, lost workers."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.core.commands.activity_options import effective_options
from perdure_history.core.state import ActivityStatus
from perdure_schemas import records
from perdure_schemas.records import (
    ActivityLeaseLost,
    ActivityOptions,
    ActivityTask,
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    ActivityTaskStarted,
    DeadlineReached,
    Failure,
    FailureKind,
    RequestCancelActivityTask,
    RetryPolicy,
    RetryState,
    SignalInput,
    SignalWorkflow,
    TimeoutType,
)
from tests.unit.history.harness import NAMES, START_MS, History, body_of, once, options, payload

FAILURE = Failure(kind=FailureKind.APPLICATION, type="Declined", message="no")


class Activity:
    """One activity of one workflow, and what its worker says."""

    def __init__(self, **fields: Any) -> None:
        self.history = History()
        (self.event_id,) = self.history.schedule(options(**fields))
        self.attempt = 1

    def say(self, kind: type, **fields: Any) -> list[str]:
        body = kind(
            scheduled_event_id=self.event_id,
            **{"attempt": self.attempt, "started_time_ms": self.history.now_ms, **fields},
        )
        self.history.send(body, run_id="run")
        return self.history.kinds()

    def fail(self, failure: Failure = FAILURE, **fields: Any) -> list[str]:
        return self.say(ActivityTaskFailed, failure=failure, **fields)

    def start(self) -> list[str]:
        return self.say(ActivityTaskStarted, worker_id="w1")

    def wake(self) -> list[str]:
        """Let the armed wake-up come."""
        run = self.history.run()
        self.history.now_ms = max(self.history.now_ms, run.wake_up_due_ms)
        self.history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
        return self.history.kinds()

    def ask_to_stop(self) -> list[str]:
        self.history.send(SignalWorkflow(signal=SignalInput(signal_name="stop")))
        self.history.complete_task(RequestCancelActivityTask(scheduled_event_id=self.event_id))
        return self.history.kinds()

    @property
    def state(self) -> Any:
        return self.history.run().activities[self.event_id]

    def closing(self, kind: type) -> Any:
        """The attributes of the event that closed the activity."""
        (event,) = [event for event in self.history.events() if isinstance(event.attributes, kind)]
        assert self.event_id not in self.history.run().activities
        assert self.history.run().workflow_task is not None
        return event.attributes


# --- failures and retries ---------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_repeated_after_its_interval() -> None:
    activity = Activity(retry_policy=RetryPolicy(initial_interval_ms=1_000))
    assert activity.fail() == ["ActivityAttemptRecorded"]
    history = activity.history
    assert history.tombstones(NAMES.tasks) == [f"run/a{activity.event_id}.1"]
    assert not history.tasks()
    (armed,) = history.timers()
    assert armed.due_time_ms == START_MS + 1_000
    assert activity.wake() == ["ActivityAttemptRecorded"]
    (task,) = history.tasks("activity")
    body = body_of(task)
    assert isinstance(body, ActivityTask)
    assert (task.task_id, body.attempt) == (f"run/a{activity.event_id}.2", 2)
    assert body.options.input == [payload("in")], "the input comes from the history"
    assert (body.scheduled_time_ms, body.attempt_scheduled_time_ms) == (START_MS, START_MS + 1_000)
    activity.attempt = 2
    assert "ActivityTaskCompletedEvent" in activity.say(ActivityTaskCompleted)
    assert not history.outstanding(NAMES.tasks).keys() & {task.task_id}


def test_a_wished_delay_replaces_the_interval() -> None:
    activity = Activity(retry_policy=RetryPolicy(initial_interval_ms=1_000, maximum_interval_ms=1_000))
    activity.fail(Failure(kind=FailureKind.APPLICATION, next_retry_delay_ms=60_000))
    assert activity.state.attempt_scheduled_time_ms == START_MS + 60_000


def test_a_delay_of_zero_dispatches_at_once() -> None:
    activity = Activity()
    activity.fail(Failure(kind=FailureKind.APPLICATION, next_retry_delay_ms=0))
    assert activity.state.status is ActivityStatus.SCHEDULED
    assert [task.attempt for task in activity.history.tasks()] == [2]


@pytest.mark.parametrize(
    ("fields", "failure", "retry_state"),
    [
        ({"retry_policy": once()}, FAILURE, RetryState.MAXIMUM_ATTEMPTS_REACHED),
        (
            {"retry_policy": RetryPolicy(non_retryable_error_types=["Declined"])},
            FAILURE,
            RetryState.NON_RETRYABLE_FAILURE,
        ),
        ({}, Failure(kind=FailureKind.APPLICATION, non_retryable=True), RetryState.NON_RETRYABLE_FAILURE),
        ({}, Failure(kind=FailureKind.CANCELED), RetryState.NON_RETRYABLE_FAILURE),
        ({}, Failure(kind=FailureKind.TERMINATED), RetryState.NON_RETRYABLE_FAILURE),
        ({"schedule_to_close_timeout_ms": 500}, FAILURE, RetryState.TIMEOUT),
    ],
)
def test_a_failure_that_is_not_repeated_says_why(
    fields: dict[str, Any], failure: Failure, retry_state: RetryState
) -> None:
    activity = Activity(**fields)
    assert activity.fail(failure) == ["ActivityTaskFailedEvent", "WorkflowTaskScheduled"]
    failed = activity.closing(records.ActivityTaskFailedEvent)
    assert (failed.failure, failed.retry_state, failed.attempt) == (failure, retry_state, 1)


@pytest.mark.parametrize("attempt", [0, 2])
@pytest.mark.parametrize("kind", [ActivityTaskCompleted, ActivityTaskCanceled, ActivityTaskHeartbeat])
def test_i3_another_attempts_message_changes_nothing(kind: type, attempt: int) -> None:
    activity = Activity()
    assert activity.say(kind, attempt=attempt) == []
    assert not activity.history.sent
    assert activity.history.handler.ignored["activity attempt is not current"] == 1


def test_i3_a_doubled_completion_changes_nothing() -> None:
    activity = Activity()
    assert activity.say(ActivityTaskCompleted)
    assert activity.say(ActivityTaskCompleted) == []
    assert activity.fail() == []


def test_i3_a_late_completion_of_a_failed_attempt_changes_nothing() -> None:
    activity = Activity()
    activity.fail()
    assert activity.say(ActivityTaskCompleted) == []
    activity.attempt = 2
    assert activity.say(ActivityTaskCompleted) == [], "the second attempt is not out yet"


def test_a_result_that_is_too_large_is_a_failure_for_good() -> None:
    activity = Activity()
    activity.say(ActivityTaskCompleted, result=[payload("x" * (2 * 1024 * 1024 + 1))])
    failed = activity.closing(records.ActivityTaskFailedEvent)
    assert failed.failure.type == "PayloadTooLarge"
    assert failed.retry_state is RetryState.NON_RETRYABLE_FAILURE


# --- timeouts ---------------------------------------------------------------------------------------------------------


def test_start_to_close_runs_from_the_known_start() -> None:
    activity = Activity(start_to_close_timeout_ms=30_000, retry_policy=once())
    assert not activity.history.timers()
    activity.history.now_ms += 5_000
    activity.start()
    (armed,) = activity.history.timers()
    assert armed.due_time_ms == START_MS + 35_000
    activity.wake()
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.START_TO_CLOSE
    assert timed_out.retry_state is RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert activity.history.tombstones(NAMES.tasks) == [f"run/a{activity.event_id}.1"]


def test_start_to_close_is_retried() -> None:
    activity = Activity(start_to_close_timeout_ms=30_000)
    activity.start()
    assert activity.wake() == ["ActivityAttemptRecorded"]
    assert (activity.state.attempt, activity.state.last_failure.timeout_type) == (2, TimeoutType.START_TO_CLOSE)


def test_heartbeat_timeout_counts_from_the_last_sign_of_life() -> None:
    activity = Activity(heartbeat_timeout_ms=10_000, retry_policy=once())
    activity.fail(Failure(kind=FailureKind.APPLICATION), attempt=9)
    activity.start()
    activity.history.now_ms += 8_000
    activity.say(ActivityTaskHeartbeat, started_time_ms=START_MS, details=[payload("half")])
    assert activity.wake() == [], "the wake-up that was armed for the start comes early"
    assert activity.history.run().wake_up_due_ms == START_MS + 18_000
    activity.wake()
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.HEARTBEAT
    assert timed_out.failure.last_heartbeat_details == [payload("half")]


def test_heartbeat_details_reach_the_next_attempt() -> None:
    activity = Activity(heartbeat_timeout_ms=10_000, retry_policy=RetryPolicy(initial_interval_ms=100))
    activity.say(ActivityTaskHeartbeat, details=[payload("half")])
    activity.fail()
    activity.wake()
    (task,) = activity.history.tasks("activity")
    assert body_of(task).heartbeat_details == [payload("half")]  # type: ignore[union-attr]


def test_schedule_to_start_is_never_retried() -> None:
    activity = Activity(schedule_to_start_timeout_ms=5_000)
    assert [armed.due_time_ms for armed in activity.history.timers()] == [START_MS + 5_000]
    activity.wake()
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.SCHEDULE_TO_START
    assert timed_out.retry_state is RetryState.NON_RETRYABLE_FAILURE


def test_schedule_to_start_is_void_once_it_started() -> None:
    activity = Activity(schedule_to_start_timeout_ms=5_000)
    activity.start()
    assert activity.wake() == []
    assert activity.state.status is ActivityStatus.STARTED


@pytest.mark.parametrize("waiting", [True, False])
def test_schedule_to_close_ends_all_attempts(waiting: bool) -> None:
    activity = Activity(
        start_to_close_timeout_ms=None,
        schedule_to_close_timeout_ms=10_000,
        retry_policy=RetryPolicy(initial_interval_ms=8_000, backoff_coefficient=1.0),
    )
    activity.fail()
    activity.wake()
    activity.attempt = 2
    if not waiting:
        activity.start()
    activity.wake()
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.SCHEDULE_TO_CLOSE
    assert timed_out.failure.cause == FAILURE
    assert timed_out.retry_state is RetryState.TIMEOUT
    assert activity.history.events()[0].event_time_ms == START_MS + 10_000


def test_no_time_for_another_attempt_is_a_schedule_to_close_timeout() -> None:
    activity = Activity(
        start_to_close_timeout_ms=5_000,
        schedule_to_close_timeout_ms=6_000,
        retry_policy=RetryPolicy(initial_interval_ms=3_000),
    )
    activity.start()
    activity.wake()
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.SCHEDULE_TO_CLOSE
    assert timed_out.retry_state is RetryState.TIMEOUT


def test_i6_a_completion_before_the_wake_up_has_won() -> None:
    activity = Activity(schedule_to_start_timeout_ms=5_000)
    run = activity.history.run()
    number, due_ms = run.wake_up_number, run.wake_up_due_ms
    activity.history.now_ms = due_ms + 1_000
    activity.say(ActivityTaskCompleted)
    activity.history.send(DeadlineReached(arm_number=number, due_time_ms=due_ms), run_id="run")
    assert activity.history.kinds() == []


@pytest.mark.parametrize(
    ("fields", "delay_ms"),
    [
        ({}, 1_000),
        ({"start_to_close_timeout_ms": 5_000}, 0),
        ({"heartbeat_timeout_ms": 60_000}, 0),
        ({"schedule_to_start_timeout_ms": 60_000}, 0),
    ],
)
def test_how_soon_history_wants_to_know_of_the_start(fields: dict[str, Any], delay_ms: int) -> None:
    history = History()
    history.schedule(options(**fields))
    (task,) = history.tasks("activity")
    assert task.start_notice_delay_ms == delay_ms


@pytest.mark.parametrize(
    ("given", "run_timeout_ms", "effective"),
    [
        ({"start_to_close_timeout_ms": 5}, None, (None, None, 5, None)),
        ({"schedule_to_close_timeout_ms": 9}, None, (9, None, 9, None)),
        ({"schedule_to_close_timeout_ms": 9, "start_to_close_timeout_ms": 20}, None, (9, None, 9, None)),
        ({"start_to_close_timeout_ms": 5, "heartbeat_timeout_ms": 7}, None, (None, None, 5, 5)),
        ({"start_to_close_timeout_ms": 5}, 100, (100, None, 5, None)),
        ({"schedule_to_close_timeout_ms": 500, "schedule_to_start_timeout_ms": 300}, 100, (100, 100, 100, None)),
    ],
)
def test_effective_timeouts(
    given: dict[str, int], run_timeout_ms: int | None, effective: tuple[int | None, ...]
) -> None:
    asked = ActivityOptions(activity_id="a", activity_type="t", task_queue="q", **given)
    found = effective_options(asked, run_timeout_ms, 0, START_MS)
    assert effective == (
        found.schedule_to_close_timeout_ms,
        found.schedule_to_start_timeout_ms,
        found.start_to_close_timeout_ms,
        found.heartbeat_timeout_ms,
    )


def test_no_activity_outlives_its_run() -> None:
    asked = ActivityOptions(activity_id="a", activity_type="t", task_queue="q", start_to_close_timeout_ms=60_000)
    found = effective_options(asked, 60_000, START_MS + 60_000, START_MS + 50_000)
    assert found.start_to_close_timeout_ms == found.schedule_to_close_timeout_ms == 10_000


# --- lost workers -----------------------------------------------------------------------------------------------------


def test_a_lost_worker_is_a_retry_at_once_by_policy() -> None:
    activity = Activity()
    assert activity.say(ActivityLeaseLost, worker_id="w1") == ["ActivityAttemptRecorded"]
    assert (activity.state.attempt, activity.state.status) == (2, ActivityStatus.BACKING_OFF)
    assert "w1" in activity.state.last_failure.message


def test_a_lost_worker_without_retries_is_a_heartbeat_timeout() -> None:
    activity = Activity(retry_policy=once())
    activity.say(ActivityLeaseLost, worker_id="w1")
    timed_out = activity.closing(records.ActivityTaskTimedOut)
    assert timed_out.failure.timeout_type is TimeoutType.HEARTBEAT
    assert timed_out.retry_state is RetryState.MAXIMUM_ATTEMPTS_REACHED


def test_the_last_failure_is_the_cause_of_a_timeout() -> None:
    activity = Activity(retry_policy=RetryPolicy(maximum_attempts=2, initial_interval_ms=100))
    activity.fail()
    activity.wake()
    activity.attempt = 2
    activity.say(ActivityLeaseLost, worker_id="w1")
    assert activity.closing(records.ActivityTaskTimedOut).failure.cause == FAILURE


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_an_activity_that_waits_for_its_retry_is_cancelled_at_once() -> None:
    activity = Activity()
    activity.fail()
    assert activity.ask_to_stop() == [
        "WorkflowTaskCompletedEvent",
        "ActivityTaskCancelRequested",
        "ActivityTaskCanceledEvent",
        "WorkflowTaskScheduled",
    ]
    assert not activity.history.run().activities


def test_a_running_activity_is_asked_under_the_same_task_id() -> None:
    activity = Activity()
    (first,) = activity.history.tasks("activity")
    assert activity.ask_to_stop() == ["WorkflowTaskCompletedEvent", "ActivityTaskCancelRequested"]
    (asked,) = activity.history.tasks("activity")
    assert (asked.task_id, asked.cancel_requested, first.cancel_requested) == (first.task_id, True, False)
    assert asked.body == first.body
    assert activity.say(ActivityTaskCanceled, details=[payload("d")]) == [
        "ActivityTaskCanceledEvent",
        "WorkflowTaskScheduled",
    ]
    assert activity.closing(records.ActivityTaskCanceledEvent).details == [payload("d")]


def test_asking_twice_to_stop_is_asking_once() -> None:
    activity = Activity()
    activity.ask_to_stop()
    activity.history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))
    activity.history.complete_task(RequestCancelActivityTask(scheduled_event_id=activity.event_id))
    assert activity.history.kinds() == ["WorkflowTaskCompletedEvent"]


def test_a_completion_counts_although_it_was_asked_to_stop() -> None:
    activity = Activity()
    activity.ask_to_stop()
    assert activity.say(ActivityTaskCompleted)[0] == "ActivityTaskCompletedEvent"


def test_a_failure_after_the_request_to_stop_is_not_retried() -> None:
    activity = Activity()
    activity.ask_to_stop()
    activity.fail()
    assert activity.closing(records.ActivityTaskFailedEvent).retry_state is RetryState.CANCEL_REQUESTED


def test_stopping_unasked_is_a_failure_to_be_repeated() -> None:
    activity = Activity()
    assert activity.say(ActivityTaskCanceled) == ["ActivityAttemptRecorded"]
    assert activity.state.last_failure.type == "CancelledError"


def test_a_start_that_is_known_is_not_recorded_again() -> None:
    activity = Activity()
    assert activity.start() == ["ActivityAttemptRecorded"]
    assert activity.start() == []
    assert (activity.state.status, activity.state.worker_id) == (ActivityStatus.STARTED, "w1")
    assert activity.say(ActivityTaskHeartbeat) == ["ActivityAttemptRecorded"]
    assert activity.say(ActivityTaskHeartbeat) == []
    assert activity.say(ActivityTaskHeartbeat, details=[payload("x" * (2 * 1024 * 1024 + 1))]) == []
