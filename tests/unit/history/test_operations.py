"""What operators do: pausing, resetting and changing activities, pausing runs, releasing quarantined ones."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_schemas import limits
from perdure_schemas.records import (
    ActivityTask,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    ActivityTaskStarted,
    DeadlineReached,
    Described,
    DescribeWorkflow,
    Done,
    ErrorCode,
    Failure,
    FailureKind,
    PauseActivity,
    PauseWorkflow,
    PendingActivity,
    QueryWorkflow,
    Rejected,
    ReleaseWorkflow,
    ResetActivity,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    UnpauseActivity,
    UnpauseWorkflow,
    UpdateActivityOptions,
)
from tests.unit.history.harness import NAMES, History, body_of, once, options, payload, reply_to, start

FAILURE = Failure(kind=FailureKind.APPLICATION, type="Declined", message="no")
SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))


class Case:
    """A run with one activity "a"."""

    def __init__(self, **fields: Any) -> None:
        self.history = History()
        (self.event_id,) = self.history.schedule(options("a", **fields))

    def say(self, kind: type, **fields: Any) -> None:
        attempt = self.history.run().activities[self.event_id].attempt
        body = kind(
            scheduled_event_id=self.event_id,
            **{"attempt": attempt, "started_time_ms": self.history.now_ms, **fields},
        )
        self.history.send(body, run_id="run")

    def fail(self, type: str = "Declined") -> None:
        self.say(ActivityTaskFailed, failure=Failure(kind=FailureKind.APPLICATION, type=type, message="no"))

    def wake(self) -> None:
        run = self.history.run()
        self.history.now_ms = max(self.history.now_ms, run.wake_up_due_ms)
        self.history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")

    def pending(self) -> PendingActivity:
        described = self.history.ask(DescribeWorkflow())
        assert isinstance(described, Described)
        (pending,) = described.pending_activities
        return pending

    def task(self) -> ActivityTask:
        (task,) = self.history.tasks("activity")
        body = body_of(task)
        assert isinstance(body, ActivityTask)
        return body

    def done(self, body: Any, **fields: Any) -> None:
        """Send a request; what was sent is there afterwards."""
        assert self.history.ask(body, **fields) == Done()

    def survives(self) -> None:
        """A new owner that folds the history comes to the same state."""
        assert History(log=list(self.history.log), now_ms=self.history.now_ms).run() == self.history.run()


def test_a_paused_activity_that_waits_for_a_worker_is_held() -> None:
    case = Case()
    case.done(PauseActivity(activity_id="a", reason="bank is down"))
    (task,) = case.history.tasks("activity")
    assert (task.held, task.paused) == (True, True)
    pending = case.pending()
    assert (pending.paused, pending.pause_reason) == (True, "bank is down")
    case.survives()
    case.done(UnpauseActivity(activity_id="a"))
    (task,) = case.history.tasks("activity")
    assert (task.held, task.paused) == (False, False)
    assert not case.pending().paused
    case.survives()


def test_a_paused_activity_is_retried_when_it_is_unpaused() -> None:
    case = Case()
    case.say(ActivityTaskStarted, worker_id="w")
    case.done(PauseActivity(activity_id="a"))
    case.fail()
    assert not case.history.tasks(), "it backs off"
    case.wake()
    (task,) = case.history.tasks("activity")
    assert task.held, "its time has come, but nobody gets it"
    case.done(UnpauseActivity(activity_id="a"))
    (task,) = case.history.tasks("activity")
    assert (task.held, task.attempt) == (False, 2)
    case.survives()


def test_unpausing_does_not_wait_for_the_rest_of_the_back_off() -> None:
    case = Case()
    case.fail()
    case.done(PauseActivity(activity_id="a"))
    assert not case.history.tasks()
    case.done(UnpauseActivity(activity_id="a", jitter_ms=0))
    (task,) = case.history.tasks("activity")
    assert (task.held, task.attempt) == (False, 2)


def test_unpausing_with_jitter_waits_up_to_it() -> None:
    case = Case()
    case.done(PauseActivity(activity_id="a"))
    case.done(UnpauseActivity(activity_id="a", jitter_ms=60_000))
    assert not case.history.tasks(), "the waiting task is taken away"
    activity = case.history.run().activities[case.event_id]
    assert case.history.now_ms < activity.attempt_scheduled_time_ms <= case.history.now_ms + 60_000
    case.wake()
    assert case.task().attempt - case.task().attempts_before == 1
    case.survives()


def test_details_that_would_make_a_description_too_large_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(heartbeat_timeout_ms=1_000)
    case.say(ActivityTaskStarted, worker_id="w")
    case.say(ActivityTaskHeartbeat, details=[payload("half"), payload("more")])
    assert case.pending().heartbeat_details == [payload("half"), payload("more")]
    monkeypatch.setattr(limits, "DESCRIBED_HEARTBEATS_BYTES_MAX", len(payload("half").data))
    assert case.pending().heartbeat_details == []
    assert case.pending().last_heartbeat_time_ms == case.history.now_ms


def test_an_attempt_that_stops_because_of_the_pause_does_not_count() -> None:
    case = Case(retry_policy=once(), heartbeat_timeout_ms=1_000)
    case.say(ActivityTaskStarted, worker_id="w")
    case.say(ActivityTaskHeartbeat, details=[payload("half")])
    case.done(PauseActivity(activity_id="a"))
    (task,) = case.history.tasks("activity")
    assert task.paused
    case.fail("ActivityPause")
    assert case.pending().attempt == 1
    assert case.pending().heartbeat_details == [payload("half")], "kept for the next attempt"
    case.done(UnpauseActivity(activity_id="a"))
    task_body = case.task()
    assert (task_body.attempt, task_body.attempts_before) == (2, 1)
    assert task_body.heartbeat_details == [payload("half")]
    case.fail()
    assert "ActivityTaskFailedEvent" in case.history.kinds(), "its one attempt is over"


def test_a_late_message_of_an_attempt_before_a_reset_changes_nothing() -> None:
    case = Case()
    case.fail()
    case.wake()
    case.fail()
    assert case.pending().attempt == 3
    case.done(ResetActivity(activity_id="a"))
    assert case.pending().attempt == 1
    for attempt in (1, 2):
        case.say(ActivityTaskFailed, failure=FAILURE, attempt=attempt)
        assert not case.history.kinds()
    case.survives()


def test_a_reset_while_the_activity_runs_counts_from_its_next_attempt() -> None:
    case = Case(retry_policy=once())
    case.say(ActivityTaskStarted, worker_id="w")
    case.say(ActivityTaskHeartbeat, details=[payload("half")])
    case.done(ResetActivity(activity_id="a", reset_heartbeats=True))
    (task,) = case.history.tasks("activity")
    assert (task.reset, task.attempt) == (True, 1), "it runs on, and its worker is told"
    case.done(ResetActivity(activity_id="a"))
    assert not case.history.tasks(), "once"
    case.fail()
    assert case.pending().attempt == 1
    case.wake()
    assert case.task().heartbeat_details == []
    case.survives()


def test_an_attempt_that_stops_because_of_the_reset_begins_again_at_once() -> None:
    case = Case(retry_policy=once(), heartbeat_timeout_ms=1_000)
    case.say(ActivityTaskStarted, worker_id="w")
    case.say(ActivityTaskHeartbeat, details=[payload("half")])
    case.done(ResetActivity(activity_id="a"))
    case.fail("ActivityReset")
    (task,) = case.history.tasks("activity")
    assert not task.reset
    body = case.task()
    assert (body.attempt, body.attempts_before, body.heartbeat_details) == (2, 1, [payload("half")])
    assert case.pending().attempt == 1
    case.survives()
    case.say(ActivityTaskStarted, worker_id="w")
    case.fail("ActivityReset")
    assert "ActivityTaskFailedEvent" in case.history.kinds(), "nobody asked this one to stop"


def test_operations_by_type_mean_all_activities_of_it_and_no_other() -> None:
    history = History()
    history.schedule(options("a"), options("b"), options("c", activity_type="Other"))
    assert history.ask(PauseActivity(activity_type="charge", reason="bank is down")) == Done()
    assert len(history.tasks("activity")) == 2
    paused = {one.options.activity_id: one.paused for one in history.run().activities.values()}
    assert paused == {"a": True, "b": True, "c": False}
    assert history.ask(UpdateActivityOptions(activity_type="charge", retry_maximum_attempts=2)) == Done()
    assert history.ask(ResetActivity(activity_type="charge")) == Done()
    assert history.ask(UnpauseActivity(activity_type="charge")) == Done()
    assert not any(one.paused for one in history.run().activities.values())
    answer = history.ask(PauseActivity(activity_type="Nobody"))
    assert isinstance(answer, Rejected)
    assert "no pending activity of the type 'Nobody'; pending are a, b, c" in answer.message


def test_the_options_of_the_workflow_can_be_restored() -> None:
    case = Case()
    original = case.history.run().activities[case.event_id].options
    case.done(UpdateActivityOptions(activity_id="a", task_queue="other", retry_maximum_attempts=7))
    case.done(UpdateActivityOptions(activity_id="a", restore_original=True, heartbeat_timeout_ms=900))
    restored = case.history.run().activities[case.event_id].options
    assert (restored.task_queue, restored.retry_policy) == (original.task_queue, original.retry_policy)
    assert restored.heartbeat_timeout_ms == 900
    case.done(ResetActivity(activity_id="a", restore_original_options=True))
    assert case.history.run().activities[case.event_id].options == original
    assert case.task().options.input == [payload("in")]
    case.survives()
    case.done(UpdateActivityOptions(activity_id="a", task_queue="other"))
    case.say(ActivityTaskStarted, worker_id="w")
    answer = case.history.ask(ResetActivity(activity_id="a", restore_original_options=True))
    assert isinstance(answer, Rejected)
    assert "while it waits" in answer.message


def test_a_reset_unpauses_unless_told_otherwise() -> None:
    case = Case()
    case.done(PauseActivity(activity_id="a"))
    case.done(ResetActivity(activity_id="a", keep_paused=True))
    assert case.pending().paused
    case.done(ResetActivity(activity_id="a"))
    assert not case.pending().paused


def test_changed_options_go_out_with_the_input_of_the_schedule() -> None:
    case = Case()
    case.done(UpdateActivityOptions(activity_id="a", task_queue="other", retry_maximum_attempts=7))
    (task,) = case.history.tasks("activity")
    body = case.task()
    assert task.task_queue == "other"
    assert (body.options.retry_policy.maximum_attempts, body.options.input) == (7, [payload("in")])
    assert len(case.history.tombstones(NAMES.tasks)) == 1, "the one in the old queue is taken away"
    case.survives()


def test_options_that_make_no_sense_are_refused() -> None:
    case = Case()
    answer = case.history.ask(UpdateActivityOptions(activity_id="a", heartbeat_timeout_ms=-1))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    case.say(ActivityTaskStarted, worker_id="w")
    answer = case.history.ask(UpdateActivityOptions(activity_id="a", task_queue="other"))
    assert isinstance(answer, Rejected)
    assert "while it waits" in answer.message


@pytest.mark.parametrize("kind", [PauseActivity, UnpauseActivity, ResetActivity, UpdateActivityOptions])
def test_an_activity_that_is_not_pending_is_not_found(kind: Any) -> None:
    answer = Case().history.ask(kind(activity_id="b"))
    assert isinstance(answer, Rejected)
    assert (answer.code, "'b'; pending are a" in answer.message) == (ErrorCode.NOT_FOUND, True)


def test_no_schedule_to_start_timeout_while_paused() -> None:
    case = Case(schedule_to_start_timeout_ms=1_000)
    case.done(PauseActivity(activity_id="a"))
    case.wake()
    assert not case.history.kinds()
    case.done(UnpauseActivity(activity_id="a"))
    case.wake()
    assert "ActivityTaskTimedOut" in case.history.kinds()


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_paused_run_is_woken_when_it_is_unpaused() -> None:
    history = History()
    history.send(start())
    history.complete_task(StartTimer(timer_id="t", start_to_fire_timeout_ms=1_000))
    assert history.ask(PauseWorkflow(reason="night")) == Done()
    history.send(SIGNAL)
    run = history.run()
    history.now_ms = run.wake_up_due_ms
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    assert history.kinds() == ["TimerFired"]
    described = history.ask(DescribeWorkflow())
    assert (described.summary.paused, described.pause_reason) == (True, "night")
    history = History(log=history.log, now_ms=history.now_ms, command_offset=history.offset)
    assert history.run().paused, "it survives a takeover"
    history.send(UnpauseWorkflow())
    assert history.kinds() == ["WorkflowExecutionUnpaused", "WorkflowTaskScheduled"]
    (task,) = history.tasks("workflow")
    assert not task.held


def test_what_is_with_matching_is_held_and_let_go() -> None:
    case = Case()
    case.history.send(SIGNAL)
    case.history.send(PauseWorkflow())
    assert {task.kind: (task.held, task.paused) for task in case.history.tasks()} == {
        "workflow": (True, False),
        "activity": (True, False),
    }
    case.fail()
    case.wake()
    assert [task.held for task in case.history.tasks()] == [True], "another attempt is held, too"
    case.history.send(UnpauseWorkflow())
    assert [task.held for task in case.history.tasks()] == [False, False]
    case.survives()


def test_pausing_twice_is_pausing_once_and_a_late_repetition_counts_not() -> None:
    history = History()
    history.send(start())
    history.send(PauseWorkflow(), command_id="p")
    history.send(PauseWorkflow(), command_id="q")
    assert not history.kinds()
    history.send(UnpauseWorkflow())
    history.send(PauseWorkflow(), command_id="p")
    assert not history.run().paused
    history.send(UnpauseWorkflow())
    assert not history.kinds()


def test_a_paused_run_can_be_queried() -> None:
    history = History()
    history.send(start())
    history.complete_task()
    history.send(SIGNAL)
    history.send(PauseWorkflow())
    history.send(
        QueryWorkflow(query_type="q", expires_at_ms=history.now_ms + 1_000),
        reply=reply_to(),
    )
    assert [task.kind for task in history.tasks()] == ["query"]


# --- quarantine -------------------------------------------------------------------------------------------------------


def test_a_released_run_goes_on() -> None:
    case = Case()
    case.fail()
    case.history.quarantine(case.history.record(SIGNAL, run_id="run"), "ValueError: boom")
    case.history.now_ms = case.history.run().wake_up_due_ms
    case.done(ReleaseWorkflow())
    assert case.history.run().quarantine_reason == ""
    assert case.history.timers(), "the wake-up may have come meanwhile: it is armed anew"
    case.wake()
    assert case.history.tasks("activity"), "the activity is tried again"
    assert case.history.ask(SIGNAL) == Done()
    case.survives()


def test_only_a_quarantined_run_can_be_released() -> None:
    answer = Case().history.ask(ReleaseWorkflow())
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.FAILED_PRECONDITION
