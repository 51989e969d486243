"""Queries read a run's state, from the cache or from a replay, and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.common import RawValue
from perdure.exceptions import ApplicationError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, payloads, runner, values

LIMIT = timedelta(seconds=5)


@workflow.defn
class Counter:
    def __init__(self) -> None:
        self.number = 0

    @workflow.run
    async def run(self) -> str:
        workflow.set_query_handler("late", lambda: "set at run time")
        self.event = asyncio.Event()
        await self.event.wait()
        return "done"

    @workflow.signal
    def add(self, by: int) -> None:
        self.number += by

    @workflow.signal
    def finish(self) -> None:
        self.event.set()

    @workflow.query
    def value(self) -> int:
        return self.number

    @workflow.query(name="times")
    def multiplied(self, factor: int, plus: int = 0) -> int:
        return self.number * factor + plus

    @workflow.query
    def broken(self) -> None:
        raise ApplicationError("cannot say", type="Shy")

    @workflow.query
    def schedules(self) -> None:
        workflow.start_activity("step", start_to_close_timeout=LIMIT)

    @workflow.query
    def starts_task(self) -> None:
        task = asyncio.ensure_future(asyncio.sleep(1))
        task.cancel()

    @workflow.query
    def wakes(self) -> None:
        self.event.set()

    @workflow.query
    def patches(self) -> None:
        workflow.patched("p")

    @workflow.query
    def sets_handler(self) -> None:
        workflow.set_signal_handler("x", lambda: None)

    @workflow.query
    def knows_it_reads(self) -> bool:
        return workflow.unsafe.is_read_only()


def test_queries_see_the_state_as_of_the_last_task() -> None:
    driver = Driver(Counter)
    driver.history.signal("add", 3)
    driver.commands()
    assert driver.query("value") == 3
    assert driver.query("times", 4) == 12
    assert driver.query("times", 4, 1) == 13
    assert driver.query("late") == "set at run time"
    assert driver.query("knows_it_reads") is True
    driver.history.signal("add", 1)
    assert driver.query("value") == 3
    driver.commands()
    assert driver.query("value") == 4


def test_closed_workflows_answer_queries() -> None:
    driver = Driver(Counter)
    driver.history.signal("add", 2)
    driver.commands()
    driver.history.signal("finish")
    driver.commands()
    assert driver.history.closed
    assert driver.query("value") == 2


def test_an_unknown_query_names_those_there_are() -> None:
    driver = Driver(Counter)
    driver.commands()
    with pytest.raises(ApplicationError, match=r"'nope' expected but not found.*known queries: \[broken .* wakes\]"):
        driver.query("nope")


def test_what_a_query_handler_raises_is_the_failure() -> None:
    driver = Driver(Counter)
    driver.commands()
    with pytest.raises(ApplicationError, match="cannot say") as raised:
        driver.query("broken")
    assert raised.value.type == "Shy"


@pytest.mark.parametrize("name", ["schedules", "starts_task", "wakes", "patches", "sets_handler"])
def test_a_query_handler_must_not_change_anything(name: str) -> None:
    driver = Driver(Counter)
    driver.commands()
    with pytest.raises(ApplicationError) as raised:
        driver.query(name)
    assert raised.value.type == "ReadOnlyContextError"
    driver.history.signal("add", 1)
    assert driver.commands() == []


def test_the_stack_trace_query_shows_where_tasks_wait() -> None:
    driver = Driver(Counter)
    driver.commands()
    task = driver.history.query_task("__stack_trace")
    result, failure = driver.runner.query("wf", driver.history.run_id, task, driver.history.records)
    assert failure is None
    assert "Counter.run" in values(result)[0]
    assert "test_queries.py" in values(result)[0]


@workflow.defn
class AnyQuery:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query(dynamic=True)
    def any(self, name: str, args: Sequence[RawValue]) -> str:
        return f"{name}/{len(args)}"


def test_a_dynamic_handler_answers_every_query() -> None:
    driver = Driver(AnyQuery)
    driver.commands()
    assert driver.query("what", 1, 2) == "what/2"


def test_handlers_can_be_asked_for_and_replaced() -> None:
    found: list[Callable[..., object] | None] = []

    @workflow.defn
    class Replaces:
        @workflow.run
        async def run(self) -> None:
            found.append(workflow.get_query_handler("one"))
            workflow.set_query_handler("one", None)
            found.append(workflow.get_query_handler("one"))
            workflow.set_dynamic_query_handler(self.any)
            found.append(workflow.get_dynamic_query_handler())
            await workflow.wait_condition(lambda: False)

        def any(self, name: str, args: Sequence[RawValue]) -> str:
            return name

        @workflow.query
        def one(self) -> str:
            return "decorated"

    driver = Driver(Replaces, check_replay=False)
    driver.commands()
    assert found[0] is not None
    assert found[0]() == "decorated"
    assert found[1] is None
    assert found[2] is not None
    assert driver.query("one") == "one"


def test_a_run_that_has_not_run_cannot_answer() -> None:
    history = History("Counter")
    history.task()
    result, failure = runner(Counter).query("wf", history.run_id, history.query_task("value"), history.records)
    assert result == []
    assert failure is not None
    assert "has not run yet" in failure.message


def test_a_query_on_code_that_does_not_replay_says_so() -> None:
    driver = Driver(Counter)
    driver.commands()

    @workflow.defn(name="Counter")
    class Changed:
        @workflow.run
        async def run(self) -> None:
            await workflow.sleep(1)

    other = runner(Changed)
    history = driver.history
    result, failure = other.query("wf", history.run_id, history.query_task("value"), history.records)
    assert result == []
    assert failure is not None
    assert failure.type == "NondeterminismError"
    assert other.cached_count == 0


def test_a_query_does_not_run_the_code_on() -> None:
    driver = Driver(Counter)
    driver.commands()
    driver.history.signal("finish")
    task = driver.history.query_task(
        "value",
    )
    result, failure = driver.runner.query("wf", driver.history.run_id, task, driver.history.records)
    assert (result, failure) == (payloads(0), None)
    assert isinstance(driver.commands()[0], r.CompleteWorkflowExecution)
