"""Cancellation: it is delivered once, activities and timers follow it, and clean-up may still do what it must."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.exceptions import ActivityError, CancelledError, is_cancelled_exception
from perdure.workflow import ActivityCancellationType
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, payloads, result_of, values

LIMIT = timedelta(seconds=5)


def cancelled(*details: object) -> r.WorkflowCommand:
    return r.CancelWorkflowExecution(details=payloads(*details))


@workflow.defn
class Waits:
    @workflow.run
    async def run(self, way: str) -> None:
        if way == "sleep":
            await asyncio.sleep(10)
        elif way == "condition":
            await workflow.wait_condition(lambda: False, timeout=10)
        elif way == "activity":
            await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        elif way == "handle":
            await workflow.start_activity("step", start_to_close_timeout=LIMIT)
        elif way == "gather":
            await asyncio.gather(
                workflow.execute_activity("step", start_to_close_timeout=LIMIT),
                workflow.execute_activity("step", start_to_close_timeout=LIMIT),
            )
        elif way == "group":
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(workflow.execute_activity("step", start_to_close_timeout=LIMIT))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("sleep", [r.CancelTimer(timer_id="1"), r.CancelWorkflowExecution()]),
        ("condition", [r.CancelTimer(timer_id="1"), r.CancelWorkflowExecution()]),
        ("activity", [r.RequestCancelActivityTask(scheduled_event_id=4), r.CancelWorkflowExecution()]),
        ("handle", [r.RequestCancelActivityTask(scheduled_event_id=4), r.CancelWorkflowExecution()]),
        (
            "gather",
            [
                r.RequestCancelActivityTask(scheduled_event_id=4),
                r.RequestCancelActivityTask(scheduled_event_id=5),
                r.CancelWorkflowExecution(),
            ],
        ),
    ],
)
def test_a_cancel_request_cancels_what_the_run_method_waits_for(way: str, expected: list[r.WorkflowCommand]) -> None:
    driver = Driver(Waits, way)
    driver.commands()
    driver.history.cancel("enough")
    assert driver.commands() == expected


def test_a_task_group_cancels_its_tasks_in_the_same_order_on_every_replay() -> None:
    driver = Driver(Waits, "group")
    assert len(driver.commands()) == 3
    driver.history.cancel()
    # The group wraps the ActivityErrors of its tasks; since all of them are cancellations, so is the whole.
    assert kinds(driver.commands()) == ["RequestCancelActivityTask"] * 3 + ["CancelWorkflowExecution"]


def test_a_run_cancelled_before_its_first_step_makes_that_step() -> None:
    driver = Driver(Waits, "activity")
    driver.history.cancel()
    # What was scheduled in this very task is taken back: the engine never hears of it.
    assert driver.commands() == [r.CancelWorkflowExecution()]


@workflow.defn
class CleansUp:
    @workflow.run
    async def run(self, way: str) -> str:
        try:
            await workflow.execute_activity("work", start_to_close_timeout=LIMIT)
        except ActivityError as error:
            assert is_cancelled_exception(error)
            assert workflow.cancellation_reason() == "stop it"
            await workflow.execute_activity("undo 1", start_to_close_timeout=LIMIT)
            await asyncio.shield(workflow.execute_activity("undo 2", start_to_close_timeout=LIMIT))
            if way == "raise":
                raise
            return "cleaned up"
        finally:
            await asyncio.sleep(1)
        return "not cancelled"


@pytest.mark.parametrize("way", ["raise", "return"])
def test_cancellation_is_delivered_once_so_clean_up_runs(way: str) -> None:
    driver = Driver(CleansUp, way)
    driver.commands()
    driver.history.cancel("stop it")
    driver.history.cancel("again")
    assert kinds(driver.commands()) == ["RequestCancelActivityTask", "ScheduleActivityTask"]
    driver.history.activity_canceled("1")  # comes late: the code has gone on
    driver.history.cancel("and again")
    driver.history.complete_activity("2")
    assert kinds(driver.commands()) == ["ScheduleActivityTask"]
    driver.history.complete_activity("3")
    assert kinds(driver.commands()) == ["StartTimer"]
    driver.history.fire_timer("1")
    commands = driver.commands()
    if way == "raise":
        assert commands == [r.CancelWorkflowExecution()]
    else:
        assert result_of(commands) == "cleaned up"


@workflow.defn
class CancelsActivity:
    @workflow.run
    async def run(self, kind: int, when: str) -> list[object]:
        handle = workflow.start_activity(
            "step",
            start_to_close_timeout=LIMIT,
            cancellation_type=ActivityCancellationType(kind),
            result_type=str,
        )
        if when == "later":
            await asyncio.sleep(1)
        assert handle.cancel() is True
        handle.cancel()
        try:
            return ["result", await handle]
        except ActivityError as error:
            assert isinstance(error.cause, CancelledError)
            assert handle.done()
            assert not handle.cancel()
            return ["cancelled", *error.cause.details]


def test_try_cancel_asks_once_and_does_not_wait() -> None:
    driver = Driver(CancelsActivity, int(ActivityCancellationType.TRY_CANCEL), "later")
    driver.commands()
    driver.history.fire_timer("1")
    commands = driver.commands()
    assert commands[0] == r.RequestCancelActivityTask(scheduled_event_id=4)
    assert result_of(commands) == ["cancelled"]


def test_abandon_does_not_even_ask() -> None:
    driver = Driver(CancelsActivity, int(ActivityCancellationType.ABANDON), "later")
    driver.commands()
    driver.history.fire_timer("1")
    commands = driver.commands()
    assert kinds(commands) == ["CompleteWorkflowExecution"]
    assert result_of(commands) == ["cancelled"]


@pytest.mark.parametrize("ending", ["cancelled", "result"])
def test_wait_cancellation_completed_takes_what_comes(ending: str) -> None:
    driver = Driver(CancelsActivity, int(ActivityCancellationType.WAIT_CANCELLATION_COMPLETED), "later")
    driver.commands()
    driver.history.fire_timer("1")
    assert driver.commands() == [r.RequestCancelActivityTask(scheduled_event_id=4)]
    if ending == "cancelled":
        driver.history.activity_canceled("1", "half done")
        assert result_of(driver.commands()) == ["cancelled", "half done"]
    else:
        driver.history.complete_activity("1", "all done")
        assert result_of(driver.commands()) == ["result", "all done"]


@pytest.mark.parametrize("kind", list(ActivityCancellationType))
def test_an_activity_cancelled_where_it_was_started_is_never_scheduled(kind: ActivityCancellationType) -> None:
    commands = Driver(CancelsActivity, int(kind), "at once").commands()
    assert kinds(commands) == ["CompleteWorkflowExecution"]
    assert result_of(commands) == ["cancelled"]


def test_shield_keeps_an_activity_from_cancellation() -> None:
    @workflow.defn
    class Shields:
        @workflow.run
        async def run(self) -> str:
            step = asyncio.ensure_future(
                workflow.execute_activity("step", result_type=str, start_to_close_timeout=LIMIT)
            )
            try:
                return await asyncio.shield(step)
            except asyncio.CancelledError:
                return f"{await step} anyway"

    driver = Driver(Shields)
    driver.commands()
    driver.history.cancel()
    assert driver.commands() == []
    driver.history.complete_activity("1", "done")
    assert result_of(driver.commands()) == "done anyway"


def test_a_workflow_may_ignore_cancellation() -> None:
    @workflow.defn
    class Ignores:
        @workflow.run
        async def run(self) -> str:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return "still here"
            return "slept"

    driver = Driver(Ignores)
    driver.commands()
    driver.history.cancel()
    commands = driver.commands()
    assert commands[0] == r.CancelTimer(timer_id="1")
    assert result_of(commands) == "still here"


def test_a_failure_of_clean_up_is_a_failure_not_a_cancellation() -> None:
    @workflow.defn
    class BadCleanUp:
        @workflow.run
        async def run(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await workflow.execute_activity("undo", start_to_close_timeout=LIMIT)

    driver = Driver(BadCleanUp)
    driver.commands()
    driver.history.cancel()
    driver.commands()
    driver.history.fail_activity("1", "cannot undo")
    (command,) = driver.commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert command.failure.cause is not None
    assert command.failure.cause.message == "cannot undo"


def test_a_cancelled_activity_fails_a_workflow_that_was_not_cancelled() -> None:
    @workflow.defn
    class CancelsItself:
        @workflow.run
        async def run(self) -> None:
            handle = workflow.start_activity("step", start_to_close_timeout=LIMIT)
            assert workflow.cancellation_reason() is None
            handle.cancel()
            await handle

    (command,) = Driver(CancelsItself).commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert command.failure.kind is r.FailureKind.ACTIVITY
    assert command.failure.cause is not None
    assert command.failure.cause.kind is r.FailureKind.CANCELED
    assert values(command.failure.cause.details) == []


def test_an_asyncio_cancellation_without_a_request_fails_the_task_only() -> None:
    @workflow.defn
    class RaisesCancelled:
        @workflow.run
        async def run(self) -> None:
            raise asyncio.CancelledError

    failed = Driver(RaisesCancelled).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "WORKFLOW_WORKER_UNHANDLED_FAILURE"
