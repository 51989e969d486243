"""Timers, run timeouts, and the one armed wake-up of a run."""

from __future__ import annotations

import pytest

from perdure_history.core.effects import ArmWakeUp, DropWakeUp, Effect
from perdure_history.core.react import react_to_wake_up
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import (
    ActivityTaskFailed,
    CancelTimer,
    CompleteWorkflowExecution,
    DeadlineReached,
    Failure,
    FailureKind,
    RetryPolicy,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, START_MS, History, options, start


def timer(timer_id: str, timeout_ms: int) -> StartTimer:
    return StartTimer(timer_id=timer_id, start_to_fire_timeout_ms=timeout_ms)


def waiting(*timers: StartTimer) -> History:
    history = History()
    history.send(start())
    history.complete_task(*timers)
    return history


def wake(history: History, *, late_ms: int = 0) -> list[str]:
    run = history.run()
    history.now_ms = max(history.now_ms, run.wake_up_due_ms + late_ms)
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    return history.kinds()


def signal(history: History) -> None:
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))


def test_a_timer_fires() -> None:
    history = waiting(timer("t", 5_000))
    (armed,) = history.timers()
    assert (armed.timer_id, armed.due_time_ms) == ("run/t1", START_MS + 5_000)
    assert wake(history) == ["TimerFired", "WorkflowTaskScheduled"]
    assert history.tombstones(NAMES.timers) == ["run/t1"]
    assert history.events()[0].event_time_ms == START_MS + 5_000


def test_one_wake_up_serves_all_timers() -> None:
    history = waiting(timer("late", 9_000), timer("early", 3_000), timer("middle", 6_000))
    assert len(history.timers()) == 1
    assert history.run().wake_up_due_ms == START_MS + 3_000
    assert wake(history, late_ms=3_500) == ["TimerFired", "TimerFired", "WorkflowTaskScheduled"]
    assert [event.attributes.timer_id for event in history.events()[:2]] == ["early", "middle"]  # type: ignore[union-attr]
    assert history.tombstones(NAMES.timers) == ["run/t1"]
    assert [armed.timer_id for armed in history.timers()] == ["run/t2"]


def test_an_earlier_deadline_replaces_the_wake_up_and_a_later_one_does_not() -> None:
    history = waiting(timer("a", 5_000))
    signal(history)
    history.complete_task(timer("later", 9_000))
    assert not history.timers()
    signal(history)
    history.complete_task(timer("earlier", 1_000))
    assert history.tombstones(NAMES.timers) == ["run/t1"]
    assert [(armed.timer_id, armed.due_time_ms) for armed in history.timers()] == [("run/t2", START_MS + 1_000)]


def test_a_cancelled_timer_leaves_the_wake_up_which_then_does_nothing() -> None:
    history = waiting(timer("a", 5_000))
    signal(history)
    history.complete_task(CancelTimer(timer_id="a"))
    assert not history.tombstones(NAMES.timers)
    assert wake(history) == []
    assert history.tombstones(NAMES.timers) == ["run/t1"]
    assert not history.run().wake_up_due_ms


def test_a_wake_up_that_comes_early_is_armed_again() -> None:
    history = waiting(timer("a", 5_000), timer("b", 8_000))
    signal(history)
    history.complete_task(CancelTimer(timer_id="a"))
    assert wake(history) == []
    assert [armed.due_time_ms for armed in history.timers()] == [START_MS + 8_000]
    assert wake(history) == ["TimerFired", "WorkflowTaskScheduled"]


@pytest.mark.parametrize("number", [0, 2])
def test_i6_a_wake_up_that_is_not_armed_does_nothing(number: int) -> None:
    history = waiting(timer("a", 5_000))
    history.now_ms += 60_000
    history.send(DeadlineReached(arm_number=number, due_time_ms=START_MS + 5_000), run_id="run")
    assert not history.sent
    assert history.handler.ignored["wake-up is not armed"] == 1


def test_i6_a_doubled_wake_up_does_nothing() -> None:
    history = waiting(timer("a", 5_000))
    due_ms = history.run().wake_up_due_ms
    wake(history)
    history.send(DeadlineReached(arm_number=1, due_time_ms=due_ms), run_id="run")
    assert not history.sent


def test_the_due_time_counts_where_the_clock_of_the_sender_is_behind() -> None:
    history = waiting(timer("a", 5_000))
    history.send(DeadlineReached(arm_number=1, due_time_ms=START_MS + 5_000), run_id="run")
    assert history.kinds() == ["TimerFired", "WorkflowTaskScheduled"]


def test_time_does_not_go_backwards_within_a_run() -> None:
    history = waiting()
    history.now_ms -= 10_000
    signal(history)
    assert [event.event_time_ms for event in history.events()] == [START_MS, START_MS]


@pytest.mark.parametrize(
    "fields", [{"run_timeout_ms": 7_000}, {"execution_timeout_ms": 7_000, "run_timeout_ms": 9_000}]
)
def test_a_run_times_out(fields: dict[str, int]) -> None:
    history = History()
    history.send(start(**fields))
    assert [armed.due_time_ms for armed in history.timers()] == [START_MS + 7_000]
    history.complete_task(timer("t", 60_000), ScheduleActivityTask(options=options()))
    assert wake(history) == ["WorkflowExecutionTimedOut"]
    assert history.run().status is WorkflowStatus.TIMED_OUT
    assert not history.outstanding(NAMES.tasks)
    assert not history.outstanding(NAMES.timers)


def test_a_run_that_ends_takes_its_wake_up_back() -> None:
    history = waiting(timer("t", 5_000))
    signal(history)
    history.complete_task(CompleteWorkflowExecution())
    assert history.tombstones(NAMES.timers) == ["run/t1"]
    assert not history.run().wake_up_due_ms


def test_retries_that_are_due_together_go_out_one_by_one() -> None:
    """Each has a history record with a key of its own; the wake-ups between them are due at once."""
    history = History()
    retry = RetryPolicy(initial_interval_ms=1_000)
    scheduled = history.schedule(*(options(str(number), retry_policy=retry) for number in range(3)))
    for event_id in scheduled:
        failure = Failure(kind=FailureKind.APPLICATION)
        body = ActivityTaskFailed(scheduled_event_id=event_id, attempt=1, started_time_ms=START_MS, failure=failure)
        history.send(body, run_id="run")
    dispatched = []
    for _ in range(3):
        assert wake(history) == ["ActivityAttemptRecorded"]
        dispatched += [task.scheduled_event_id for task in history.tasks("activity")]
    assert dispatched == scheduled
    assert history.now_ms == START_MS + 1_000
    assert not history.run().wake_up_due_ms


def test_retries_ride_along_with_events() -> None:
    history = History()
    (scheduled,) = history.schedule(options(retry_policy=RetryPolicy(initial_interval_ms=1_000)))
    failure = Failure(kind=FailureKind.APPLICATION)
    body = ActivityTaskFailed(scheduled_event_id=scheduled, attempt=1, started_time_ms=START_MS, failure=failure)
    history.send(body, run_id="run")
    signal(history)
    history.complete_task(timer("t", 1_000))
    assert wake(history) == ["ActivityAttemptRecorded", "TimerFired", "WorkflowTaskScheduled"]
    (record,) = history.values(NAMES.history, records.HistoryRecord)
    assert [event.event_id for event in record.events] == [0, 9, 10]


def test_a_fold_that_does_not_see_a_wake_up_drops_it_all_the_same() -> None:
    """The record that armed number 2 was compacted away: the one that is there says only that 2 was the newest."""
    state = RunState(workflow_id="wf", run_id="run", wake_up_number=1, wake_up_due_ms=5, wake_up_epoch=7)
    effects: list[Effect] = []
    react_to_wake_up(state, 2, 0, effects)
    assert effects == [DropWakeUp(1, 7), DropWakeUp(2, 7)]
    effects = []
    react_to_wake_up(state, 4, 9, effects)
    assert effects == [DropWakeUp(1, 7), DropWakeUp(2, 7), DropWakeUp(3, 7), ArmWakeUp(4, 9)]


def test_a_wake_up_follows_the_one_before() -> None:
    armed = RunState(workflow_id="wf", run_id="run", wake_up_number=3, wake_up_due_ms=5, wake_up_epoch=7)
    idle = RunState(workflow_id="wf", run_id="run", wake_up_number=3, wake_up_epoch=7)
    for state, number, due_ms, wanted in (
        (armed, 3, 5, []),
        (armed, 4, 6, [DropWakeUp(3, 7), ArmWakeUp(4, 6)]),
        (armed, 3, 0, [DropWakeUp(3, 7)]),
        (idle, 4, 6, [ArmWakeUp(4, 6)]),
        (idle, 3, 0, []),
    ):
        effects: list[Effect] = []
        react_to_wake_up(state, number, due_ms, effects)
        assert effects == wanted
