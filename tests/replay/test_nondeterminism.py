"""Code that does not do what the history says is found out, and the message names both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, run, runner

LIMIT = timedelta(seconds=5)
Body = Callable[[], Awaitable[Any]]


def made_of(body: Body, failure_types: tuple[type[BaseException], ...] = ()) -> type:
    @workflow.defn(name="Changing", failure_exception_types=failure_types)
    class Changing:
        @workflow.run
        async def run(self) -> Any:
            return await body()

    return Changing


def step(name: str = "reserve", activity_id: str | None = None) -> Awaitable[Any]:
    return workflow.execute_activity(name, activity_id=activity_id, start_to_close_timeout=LIMIT)


async def two_steps() -> None:
    await step("reserve")
    await step("transfer")


def history_of(body: Body, activities: int = 1) -> History:
    """A history written by this code, with the first activities completed."""
    driver = Driver(made_of(body))
    driver.commands()
    for number in range(1, activities + 1):
        driver.history.complete_activity(str(number))
        if number < activities:
            driver.commands()
    return driver.history


def failed_replay(history: History, body: Body) -> r.Failure:
    one = runner(made_of(body))
    failed = run(one, history, history.task())
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "NON_DETERMINISTIC_ERROR"
    assert failed.failure.type == "NondeterminismError"
    assert one.cached_count == 0
    return failed.failure


async def _other_type() -> None:
    await step("refund")


async def _other_id() -> None:
    await step("reserve", activity_id="mine")


async def _timer() -> None:
    await asyncio.sleep(10)


async def _nothing() -> None:
    await workflow.wait_condition(lambda: False)


async def _ends() -> None:
    return


async def _more() -> None:
    await asyncio.gather(step("reserve"), step("extra"))


@pytest.mark.parametrize(
    ("changed", "event", "command"),
    [
        (
            _other_type,
            "event 4 ActivityTaskScheduled(activity_type='reserve', activity_id='1')",
            "activity_type='refund'",
        ),
        (_other_id, "event 4 ActivityTaskScheduled(activity_type='reserve', activity_id='1')", "activity_id='mine'"),
        (_timer, "event 4 ActivityTaskScheduled(", "StartTimer(timer_id='1', start_to_fire_timeout_ms=10000)"),
        (_nothing, "event 4 ActivityTaskScheduled(", "wants nothing more"),
        (_ends, "event 4 ActivityTaskScheduled(", "CompleteWorkflowExecution()"),
        (_more, "no further step for the workflow task completed at event 3", "activity_type='extra', activity_id='2'"),
    ],
)
def test_a_step_that_differs_is_named_on_both_sides(changed: Body, event: str, command: str) -> None:
    message = failed_replay(history_of(two_steps), changed).message
    assert event in message
    assert command in message
    assert "workflow.patched()" in message


def test_a_later_step_that_differs_is_found_too() -> None:
    async def changed() -> None:
        await step("reserve")
        await asyncio.sleep(1)

    history = history_of(two_steps, activities=2)
    message = failed_replay(history, changed).message
    assert "event 8 ActivityTaskScheduled(activity_type='transfer', activity_id='2')" in message
    assert "StartTimer" in message


def test_the_way_a_run_ended_is_compared() -> None:
    async def returns() -> str:
        return "done"

    async def waits() -> None:
        await workflow.wait_condition(lambda: False)

    driver = Driver(made_of(returns))
    driver.commands()
    history = driver.history
    changed = runner(made_of(waits))
    _, failure = changed.query("wf", history.run_id, history.query_task("__stack_trace"), history.records)
    assert failure is not None
    assert "event 4 WorkflowExecutionCompleted()" in failure.message


def test_changed_arguments_timeouts_and_results_are_no_difference() -> None:
    async def before() -> None:
        await workflow.execute_activity("reserve", 1, start_to_close_timeout=LIMIT)
        await asyncio.sleep(1)

    async def after() -> None:
        await workflow.execute_activity("reserve", "other", schedule_to_close_timeout=3 * LIMIT)
        await asyncio.sleep(7)

    history = history_of(before)
    completed = run(runner(made_of(after)), history, history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)


def test_a_result_for_an_activity_the_code_does_not_have_is_found() -> None:
    history = history_of(two_steps)
    history.add(
        r.ActivityTaskCompletedEvent(scheduled_event_id=99, attempt=1, started_time_ms=0),
    )
    message = failed_replay(history, two_steps).message
    assert "ends the activity of event 99" in message


def test_non_determinism_can_be_listed_as_a_failure_of_the_workflow() -> None:
    history = history_of(two_steps)
    one = runner(made_of(_timer, (workflow.NondeterminismError,)))
    completed = run(one, history, history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    (command,) = completed.commands
    assert isinstance(command, r.FailWorkflowExecution)
    assert command.failure.type == "NondeterminismError"


def test_code_that_is_random_is_found_on_replay() -> None:
    names = iter(["first", "second"])

    async def random_step() -> None:
        await step(next(names))

    driver = Driver(made_of(random_step), check_replay=False)
    driver.commands()
    driver.history.complete_activity("1")
    assert "activity_type='second'" in failed_replay(driver.history, random_step).message


# --- cancellations that raced -----------------------------------------------------------------------------------------


def test_a_cancellation_that_came_too_late_has_no_event_and_still_replays() -> None:
    """The activity and the timer ended while the task that cancels them was out: the engine ignores it."""

    async def cancels() -> list[str]:
        handle = workflow.start_activity("step", start_to_close_timeout=LIMIT)
        sleep = asyncio.ensure_future(asyncio.sleep(9))
        await asyncio.sleep(1)
        handle.cancel()
        sleep.cancel()
        await workflow.wait([handle, sleep])
        await asyncio.sleep(2)
        return ["cancelled"]

    driver = Driver(made_of(cancels))
    driver.commands()
    driver.history.fire_timer("1")
    completed = driver.attempt()
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert [type(c).__name__ for c in completed.commands] == [
        "RequestCancelActivityTask",
        "CancelTimer",
        "StartTimer",
    ]
    driver.history.complete_activity("1")
    driver.history.fire_timer("2")
    driver.history.apply(completed)
    kinds_after = [type(event.attributes).__name__ for event in driver.history.records[-1].events]
    assert kinds_after == ["WorkflowTaskCompletedEvent", "TimerStarted"]
    driver.history.fire_timer("3")
    assert len(driver.commands()) == 1  # compared with a replay by the driver
