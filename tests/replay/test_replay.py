"""Replay from the first event gives what the cache would have given, and a cache that does not fit is given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import workflow
from perdure._runtime.errors import HistoryIncompleteError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, kinds, result_of, run, runner, without_traces

LIMIT = timedelta(seconds=5)


@workflow.defn
class Busy:
    """Something of everything, in an order that depends on what happens when."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.stop = False

    @workflow.run
    async def run(self) -> list[Any]:
        ticker = asyncio.create_task(self.tick())
        while not self.stop:
            try:
                await workflow.wait_condition(lambda: self.stop or len(self.log) % 3 == 2, timeout=30)
            except TimeoutError:
                self.log.append("too late")
            self.log.append(["main", str(workflow.uuid4()), workflow.now().isoformat()])
        ticker.cancel()
        await workflow.wait([ticker])
        return self.log

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(1 + workflow.random().random())
            self.log.append(["tick", workflow.time()])

    @workflow.signal
    async def work(self, name: str) -> None:
        result = await workflow.execute_activity(name, result_type=str, start_to_close_timeout=LIMIT)
        self.log.append([name, result])

    @workflow.signal
    def finish(self) -> None:
        self.stop = True

    @workflow.query
    def seen(self) -> list[Any]:
        return self.log


def test_a_replay_from_scratch_equals_the_cache_at_every_step() -> None:
    driver = Driver(Busy)  # compares each task with a replay
    history = driver.history
    driver.commands()
    for round_number in range(12):
        history.pass_time(400)
        history.signal("work", f"step-{round_number}")
        if round_number % 2:
            history.fire_timer(history.open_timers[0])
        if round_number % 3 == 2:
            for activity_id in reversed(history.open_activities):
                history.complete_activity(activity_id, f"done {round_number}")
        driver.commands()
        driver.query("seen")
    for activity_id in history.open_activities:
        history.complete_activity(activity_id, "last")
    driver.commands()
    history.signal("finish")
    result = result_of(driver.commands())
    assert len(result) > 12
    assert driver.query("seen") == result


def _started(workflow_class: type = Busy) -> Driver:
    return Driver(workflow_class, check_replay=False)


def test_a_gap_is_an_error_that_says_where_to_fetch_from() -> None:
    driver = _started()
    driver.commands()
    driver.history.signal("work", "a")
    driver.commands()
    task = driver.history.task()
    fresh = runner(Busy)
    with pytest.raises(HistoryIncompleteError) as raised:
        fresh.run_task("wf", driver.history.run_id, task, driver.history.records[2:], 0)
    assert raised.value.first_event_id == 1
    assert fresh.cached_count == 0
    with pytest.raises(HistoryIncompleteError) as raised:
        driver.runner.run_task("wf", driver.history.run_id, task, [], 0)
    assert raised.value.first_event_id == driver.runner.next_event_id(driver.history.run_id)
    with pytest.raises(HistoryIncompleteError, match="gap"):
        fresh.run_task("wf", driver.history.run_id, task, [driver.history.records[0], driver.history.records[-1]], 0)
    assert isinstance(run(driver.runner, driver.history, task), r.WorkflowTaskCompleted)


def test_known_events_and_unnumbered_ones_are_skipped() -> None:
    driver = _started()
    driver.commands()
    history = driver.history
    history.signal("work", "a")
    unnumbered = r.Event(
        event_id=0,
        event_time_ms=0,
        attributes=r.WorkflowTaskAttemptRecorded(scheduled_event_id=2, attempt=2, scheduled_time_ms=0),
    )
    history.records.append(
        r.HistoryRecord(workflow_id="wf", run_id=history.run_id, command_offset=9, epoch=0, events=[unnumbered])
    )
    task = history.task()
    completed = driver.runner.run_task("wf", history.run_id, task, history.records, history.clock_ms)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands) == ["ScheduleActivityTask"]


def test_events_behind_the_task_are_left_for_the_next_one() -> None:
    driver = _started()
    driver.commands()
    history = driver.history
    task = history.task()
    history.signal("finish")
    completed = run(driver.runner, history, task)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert completed.last_event_id == task.last_event_id
    assert completed.commands == []
    history.apply(completed)
    assert kinds(driver.commands())[-1] == "CompleteWorkflowExecution"


def test_a_task_that_comes_again_gets_the_same_answer_without_running_twice() -> None:
    driver = _started()
    task = driver.history.task()
    first = run(driver.runner, driver.history, task)
    driver.history.attempt = 2
    driver.history.pass_time(500)
    second = run(driver.runner, driver.history, driver.history.task())
    assert isinstance(first, r.WorkflowTaskCompleted)
    assert isinstance(second, r.WorkflowTaskCompleted)
    assert second.attempt == 2
    assert (second.commands, second.started_time_ms) == (first.commands, first.started_time_ms)
    driver.history.apply(second)
    driver.history.signal("work", "a")
    assert kinds(driver.commands()) == ["ScheduleActivityTask"]


def test_a_completion_that_got_lost_is_forgotten_when_the_task_comes_with_more_events() -> None:
    driver = _started()
    run(driver.runner, driver.history, driver.history.task())  # never reaches the engine
    driver.history.signal("work", "a")
    driver.history.attempt = 2
    task = driver.history.task()
    with pytest.raises(HistoryIncompleteError) as raised:
        run(driver.runner, driver.history, task)  # only what is new for the cache
    assert raised.value.first_event_id == 1
    completed = driver.runner.run_task("wf", driver.history.run_id, task, driver.history.records, 0)
    fresh = run(runner(Busy), driver.history, task)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert isinstance(fresh, r.WorkflowTaskCompleted)
    assert without_traces(completed.commands) == without_traces(fresh.commands)


def test_a_task_completed_by_another_worker_gives_the_cache_up() -> None:
    driver = _started()
    mine = run(driver.runner, driver.history, driver.history.task())
    driver.history.pass_time(5_000)
    other = run(runner(Busy), driver.history, driver.history.task())
    assert isinstance(mine, r.WorkflowTaskCompleted)
    assert isinstance(other, r.WorkflowTaskCompleted)
    assert mine.started_time_ms != other.started_time_ms
    driver.history.apply(other)
    driver.history.signal("work", "a")
    task = driver.history.task()
    completed = driver.runner.run_task("wf", driver.history.run_id, task, driver.history.records, 0)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands) == ["ScheduleActivityTask"]


def test_tasks_completed_by_another_worker_meanwhile_are_replayed_on_the_cached_run() -> None:
    driver = _started()
    driver.commands()
    other = runner(Busy)
    for name in ("a", "b"):
        driver.history.signal("work", name)
        completed = run(other, driver.history, driver.history.task())
        assert isinstance(completed, r.WorkflowTaskCompleted)
        driver.history.apply(completed)
    driver.history.complete_activity("2", "B")
    needed = driver.runner.next_event_id(driver.history.run_id)
    assert needed > 1
    completed = run(driver.runner, driver.history, driver.history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert driver.runner.cached_count == 1


@pytest.mark.filterwarnings("ignore::perdure.workflow.UnfinishedSignalHandlersWarning")
def test_a_stale_task_does_not_confuse_the_cache() -> None:
    driver = _started()
    stale = driver.history.task()
    driver.commands()
    driver.history.signal("work", "a")
    driver.commands()
    driver.history.signal("work", "b")
    driver.commands()
    answer = driver.runner.run_task("wf", driver.history.run_id, stale, driver.history.records, 0)
    assert isinstance(answer, r.WorkflowTaskCompleted)
    assert answer.last_event_id == stale.last_event_id
    driver.history.signal("finish")
    task = driver.history.task()
    completed = driver.runner.run_task("wf", driver.history.run_id, task, driver.history.records, 0)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands)[-1] == "CompleteWorkflowExecution"


def test_a_history_of_a_newer_version_is_refused() -> None:
    driver = _started()
    completed = run(driver.runner, driver.history, driver.history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert completed.sdk_flags == [1]
    newer = r.WorkflowTaskCompleted(
        **{
            **{name: getattr(completed, name) for name in completed.__struct_fields__},
            "sdk_flags": [1, 99],
        }
    )
    driver.history.apply(newer)
    failed = run(runner(Busy), driver.history, driver.history.task())
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "logic flags [99]" in failed.failure.message
    assert "upgrade" in failed.failure.message


def test_a_cancellation_event_between_command_events_is_no_command() -> None:
    """The engine closes an activity that no worker has yet as soon as its cancellation is asked for."""

    @workflow.defn
    class Cancels:
        @workflow.run
        async def run(self) -> None:
            handle = workflow.start_activity(
                "step",
                start_to_close_timeout=LIMIT,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
            await asyncio.sleep(1)
            handle.cancel()
            sleep = asyncio.ensure_future(asyncio.sleep(5))
            await workflow.wait([handle])
            await sleep

    driver = _started(Cancels)
    driver.commands()
    driver.history.fire_timer("1")
    completed = driver.attempt()
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands) == ["RequestCancelActivityTask", "StartTimer"]
    history = driver.history
    history.scheduled_task = None
    base = history.last_event_id + 1
    history.add(
        r.WorkflowTaskCompletedEvent(
            scheduled_event_id=completed.scheduled_event_id,
            last_event_id=completed.last_event_id,
            started_time_ms=completed.started_time_ms,
        ),
        r.ActivityTaskCancelRequested(scheduled_event_id=4, workflow_task_completed_event_id=base),
        r.ActivityTaskCanceledEvent(scheduled_event_id=4),
        r.TimerStarted(
            timer_id="2", start_to_fire_timeout_ms=5_000, due_time_ms=0, workflow_task_completed_event_id=base
        ),
    )
    task = history.task()
    for one in (driver.runner, runner(Cancels)):
        answer = run(one, history, task)
        assert isinstance(answer, r.WorkflowTaskCompleted), answer.failure
        assert answer.commands == []


def test_a_run_of_a_history_that_is_not_its_own_is_refused() -> None:
    history = History("Busy")
    with pytest.raises(HistoryIncompleteError):
        runner(Busy).run_task("wf", "other", history.task(), [], 0)


@pytest.mark.filterwarnings("ignore::perdure.workflow.UnfinishedSignalHandlersWarning")
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["signal", "timer", "complete", "fail", "time", "step", "cancel"]), st.integers(0, 9)
        ),
        max_size=25,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_a_replay_equals_the_cache(actions: list[tuple[str, int]]) -> None:
    driver = Driver(Busy)  # compares each task with a replay
    history = driver.history
    driver.commands()
    for action, number in [*actions, ("step", 0)]:
        timers, activities = history.open_timers, history.open_activities
        if history.closed:
            break
        if action == "signal":
            history.signal("work", f"step-{number}")
        elif action == "timer" and timers:
            history.fire_timer(timers[number % len(timers)])
        elif action == "complete" and activities:
            history.complete_activity(activities[number % len(activities)], "done")
        elif action == "fail" and activities and number == 0:
            history.fail_activity(activities[0])
        elif action == "time":
            history.pass_time(number * 100)
        elif action == "cancel" and number == 0:
            history.cancel()
        elif action == "step":
            driver.commands()
