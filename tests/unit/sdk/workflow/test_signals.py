"""Signals: order, handlers that wait, signals without a handler, and what a closing workflow leaves behind."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Sequence
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.common import RawValue
from perdure.exceptions import ApplicationError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, result_of

LIMIT = timedelta(seconds=5)


@workflow.defn
class Mailbox:
    @workflow.init
    def __init__(self, count: int) -> None:
        self.count = count
        self.seen: list[str] = [f"init {count}"]

    @workflow.run
    async def run(self, count: int) -> list[str]:
        self.seen.append("run")
        await workflow.wait_condition(lambda: len(self.seen) >= self.count)
        return self.seen

    @workflow.signal
    def plain(self, text: str) -> None:
        self.seen.append(f"plain {text}")

    @workflow.signal(name="slow")
    async def waits(self, text: str, times: int = 1) -> None:
        self.seen.append(f"slow {text} {times}")
        await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        self.seen.append(f"slow {text} done")


def test_signals_run_in_order_after_init_and_before_the_run_method() -> None:
    driver = Driver(Mailbox, 5)
    driver.history.signal("plain", "a")
    driver.history.signal("slow", "b", 2)
    driver.history.signal("plain", "c")
    with pytest.warns(workflow.UnfinishedSignalHandlersWarning, match="slow"):
        assert result_of(driver.commands()) == ["init 5", "plain a", "slow b 2", "plain c", "run"]


def test_signals_come_before_results_of_the_same_task() -> None:
    driver = Driver(Mailbox, 7)
    driver.history.signal("slow", "x")
    driver.commands()
    driver.history.complete_activity("1")
    driver.history.signal("plain", "late")
    driver.history.signal("plain", "later")
    driver.history.signal("plain", "last")
    assert result_of(driver.commands()) == [
        "init 7", "slow x 1", "run", "plain late", "plain later", "plain last", "slow x done",
    ]  # fmt: skip


def test_a_signal_that_arrives_while_a_task_is_out_belongs_to_the_next_one() -> None:
    driver = Driver(Mailbox, 3)
    first = driver.attempt()
    assert isinstance(first, r.WorkflowTaskCompleted)
    driver.history.signal("plain", "meanwhile")  # stands before the completion, which has not seen it
    driver.history.apply(first)
    assert first.commands == []
    assert result_of(driver.commands()) == ["init 3", "run", "plain meanwhile"]


@workflow.defn
class LateHandlers:
    def __init__(self) -> None:
        self.seen: list[object] = []

    @workflow.run
    async def run(self) -> list[object]:
        await asyncio.sleep(1)
        workflow.set_signal_handler("later", self.take)
        await asyncio.sleep(1)
        workflow.set_dynamic_signal_handler(self.take_any)
        await asyncio.sleep(1)
        workflow.set_signal_handler("later", None)
        assert workflow.get_signal_handler("later") is None
        assert workflow.get_dynamic_signal_handler() == self.take_any
        await asyncio.sleep(1)
        return self.seen

    def take(self, number: int) -> None:
        self.seen.append(number)

    async def take_any(self, name: str, args: Sequence[RawValue]) -> None:
        self.seen.append([name, *(workflow.payload_converter().from_payload(arg.payload) for arg in args)])


def test_signals_without_a_handler_are_kept_until_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver(LateHandlers)
    driver.history.signal("other", "x", 1)
    driver.history.signal("later", 1)
    driver.history.signal("later", 2)
    driver.commands()
    assert "no handler for signal 'later'" in caplog.text
    for timer in ("1", "2", "3"):
        driver.history.fire_timer(timer)
        if timer == "3":
            driver.history.signal("later", 3)
        driver.commands()
    driver.history.fire_timer("4")
    driver.history.signal("later", 4)
    assert result_of(driver.commands()) == [1, 2, ["other", "x", 1], 3, ["later", 4]]


@workflow.defn
class OldDynamicForm:
    def __init__(self) -> None:
        self.seen: list[object] = []

    @workflow.run
    async def run(self) -> list[object]:
        await workflow.wait_condition(lambda: bool(self.seen))
        return self.seen

    @workflow.signal(dynamic=True)
    def any(self, name: str, *args: object) -> None:
        self.seen.append([name, *args])


def test_a_dynamic_handler_may_take_its_arguments_one_by_one() -> None:
    driver = Driver(OldDynamicForm)
    driver.history.signal("whatever", 1, "two")
    assert result_of(driver.commands()) == [["whatever", 1, "two"]]


def test_a_signal_that_cannot_be_decoded_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver(Mailbox, 3)
    driver.history.signal("plain", {"not": "text"})
    driver.history.signal("plain", "ok")
    with caplog.at_level(logging.ERROR):
        assert result_of(driver.commands()) == ["init 3", "plain ok", "run"]
    assert "dropped" in caplog.text


# --- failures of handlers ---------------------------------------------------------------------------------------------


@workflow.defn
class Fragile:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def fail(self, kind: str) -> None:
        raise ApplicationError("no good", type="Bad") if kind == "failure" else RuntimeError("bug")

    @workflow.signal
    async def fail_async(self, kind: str) -> None:
        await asyncio.sleep(0)
        self.fail(kind)


@pytest.mark.parametrize("name", ["fail", "fail_async"])
def test_a_failure_in_a_handler_fails_the_workflow_and_a_bug_fails_the_task(name: str) -> None:
    driver = Driver(Fragile)
    driver.commands()
    driver.history.signal(name, "bug")
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert (failed.cause, failed.failure.message) == ("WORKFLOW_WORKER_UNHANDLED_FAILURE", "bug")

    driver = Driver(Fragile)
    driver.commands()
    driver.history.signal(name, "failure")
    (command,) = driver.commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert (command.failure.message, command.failure.type) == ("no good", "Bad")


# --- finishing --------------------------------------------------------------------------------------------------------


@workflow.defn
class Finishes:
    def __init__(self) -> None:
        self.stop = False
        self.done = 0

    @workflow.run
    async def run(self, wait: bool) -> list[object]:
        await workflow.wait_condition(lambda: self.stop)
        before = workflow.all_handlers_finished()
        if wait:
            await workflow.wait_condition(workflow.all_handlers_finished)
        return [before, workflow.all_handlers_finished(), self.done]

    @workflow.signal
    async def work(self) -> None:
        await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        self.done += 1

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def abandon(self) -> None:
        await workflow.execute_activity("step", start_to_close_timeout=LIMIT)

    @workflow.signal
    def finish(self) -> None:
        self.stop = True


def test_a_workflow_can_wait_for_its_handlers() -> None:
    driver = Driver(Finishes, True)
    driver.history.signal("work")
    driver.history.signal("work")
    driver.history.signal("finish")
    assert kinds(driver.commands()) == ["ScheduleActivityTask", "ScheduleActivityTask"]
    driver.history.complete_activity("2")
    assert driver.commands() == []
    driver.history.complete_activity("1")
    assert result_of(driver.commands()) == [False, True, 2]


def test_unfinished_handlers_are_warned_of_when_a_workflow_ends() -> None:
    driver = Driver(Finishes, False, check_replay=False)
    driver.history.signal("work")
    driver.history.signal("abandon")
    driver.history.signal("finish")
    with pytest.warns(workflow.UnfinishedSignalHandlersWarning, match="work"):
        driver.commands()


def test_a_handler_that_may_be_abandoned_is_not_warned_of() -> None:
    driver = Driver(Finishes, False)
    driver.history.signal("abandon")
    driver.history.signal("finish")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver.commands()


def test_a_handler_finishes_in_the_task_in_which_the_workflow_ends() -> None:
    @workflow.defn
    class Both:
        def __init__(self) -> None:
            self.stop = False

        @workflow.run
        async def run(self) -> str:
            await workflow.wait_condition(lambda: self.stop)
            return "done"

        @workflow.signal
        async def finish(self) -> None:
            self.stop = True
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    driver = Driver(Both)
    driver.history.signal("finish")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert result_of(driver.commands()) == "done"


def test_commands_asked_for_after_the_end_are_dropped_and_the_end_comes_last() -> None:
    @workflow.defn
    class Leftover:
        @workflow.run
        async def run(self) -> str:
            workflow.start_activity("before", start_to_close_timeout=LIMIT)
            self.task = asyncio.create_task(self.late())
            return "done"

        async def late(self) -> None:
            await workflow.execute_activity("after", start_to_close_timeout=LIMIT)

    assert kinds(Driver(Leftover).commands()) == ["ScheduleActivityTask", "CompleteWorkflowExecution"]
