"""Which exceptions end a workflow, and which only fail the workflow task so that fixed code can go on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.exceptions import ApplicationError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, result_of, run, runner

LIMIT = timedelta(seconds=5)


class OurError(Exception):
    pass


@workflow.defn(failure_exception_types=[OurError])
class Raises:
    @workflow.run
    async def run(self, what: str) -> None:
        if what == "application":
            try:
                raise ValueError("the root")
            except ValueError as error:
                raise ApplicationError("bad order", 1, "two", type="BadOrder", non_retryable=True) from error
        if what == "timeout":
            await workflow.wait_condition(lambda: False, timeout=0)
        if what == "listed":
            raise OurError("ours")
        if what == "worker":
            raise KeyError("theirs")
        if what == "group":
            raise ExceptionGroup("several", [ApplicationError("one"), OurError("two")])
        if what == "mixed group":
            raise ExceptionGroup("several", [ApplicationError("one"), RuntimeError("two")])
        if what == "result":
            return object()  # type: ignore[return-value]
        assert workflow.is_failure_exception(OurError())
        assert not workflow.is_failure_exception(RuntimeError())
        raise RuntimeError("a bug")


def test_an_application_error_fails_the_workflow_with_details_trace_and_causes() -> None:
    (command,) = Driver(Raises, "application").commands()
    assert isinstance(command, r.FailWorkflowExecution)
    failure = command.failure
    assert (failure.kind, failure.message, failure.type) == (r.FailureKind.APPLICATION, "bad order", "BadOrder")
    assert failure.non_retryable
    assert len(failure.details) == 2
    assert "test_failures.py" in failure.stack_trace
    assert failure.cause is not None
    assert (failure.cause.type, failure.cause.message) == ("ValueError", "the root")


@pytest.mark.parametrize(("what", "type_name"), [("timeout", "TimeoutError"), ("listed", "OurError")])
def test_time_limits_and_listed_exceptions_fail_the_workflow(what: str, type_name: str) -> None:
    (command,) = Driver(Raises, what).commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert command.failure.type == type_name


def test_the_worker_can_list_exceptions_too() -> None:
    assert isinstance(Driver(Raises, "worker").attempt(), r.WorkflowTaskFailed)
    (command,) = Driver(Raises, "worker", failure_types=(KeyError,)).commands()
    assert isinstance(command, r.FailWorkflowExecution)


def test_a_group_of_failures_is_a_failure_and_one_with_a_bug_is_not() -> None:
    (command,) = Driver(Raises, "group").commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert command.failure.cause is not None
    assert command.failure.cause.message == "one"
    assert isinstance(Driver(Raises, "mixed group").attempt(), r.WorkflowTaskFailed)


@pytest.mark.parametrize("what", ["bug", "result"])
def test_other_exceptions_fail_the_task(what: str) -> None:
    driver = Driver(Raises, what)
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "WORKFLOW_WORKER_UNHANDLED_FAILURE"
    assert (failed.scheduled_event_id, failed.attempt) == (2, 1)
    assert driver.runner.cached_count == 0


def test_fixed_code_goes_on_where_the_bug_was() -> None:
    def make(broken: bool) -> type:
        @workflow.defn(name="Fixable")
        class Fixable:
            @workflow.run
            async def run(self) -> str:
                await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
                if broken:
                    raise RuntimeError("a bug")
                return "fixed"

        return Fixable

    driver = Driver(make(broken=True))
    driver.commands()
    driver.history.complete_activity("1")
    first = driver.attempt()
    assert isinstance(first, r.WorkflowTaskFailed)
    driver.history.add(
        r.WorkflowTaskFailedEvent(scheduled_event_id=first.scheduled_event_id, cause=first.cause, failure=first.failure)
    )
    driver.history.attempt = 2
    driver.runner = runner(make(broken=False))
    driver.workflow = make(broken=False)
    completed = driver.step()
    assert completed.attempt == 2
    assert result_of(completed.commands) == "fixed"


def test_an_unknown_workflow_type_names_those_there_are() -> None:
    history = History("Unknown")
    failed = run(runner(Raises), history, history.task())
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "WORKFLOW_TYPE_NOT_FOUND"
    assert "'Unknown'" in failed.failure.message
    assert "Raises" in failed.failure.message


def test_arguments_that_do_not_fit_fail_the_task() -> None:
    failed = Driver(Raises, {"not": "text"}).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "expected str" in failed.failure.message


def test_a_result_of_an_activity_that_does_not_fit_fails_the_task() -> None:
    @workflow.defn
    class WantsText:
        @workflow.run
        async def run(self) -> Any:
            return await workflow.execute_activity("step", result_type=str, start_to_close_timeout=LIMIT)

    driver = Driver(WantsText)
    driver.commands()
    driver.history.complete_activity("1", 5)
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "expected str" in failed.failure.message


def test_a_failure_in_init_fails_the_workflow_and_a_bug_fails_the_task() -> None:
    @workflow.defn
    class BadInit:
        @workflow.init
        def __init__(self, kind: str) -> None:
            raise ApplicationError("no") if kind == "failure" else RuntimeError("bug")

        @workflow.run
        async def run(self, kind: str) -> None: ...

    (command,) = Driver(BadInit, "failure").commands()
    assert isinstance(command, r.FailWorkflowExecution)
    assert isinstance(Driver(BadInit, "bug").attempt(), r.WorkflowTaskFailed)


def test_an_exception_nobody_waits_for_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    @workflow.defn
    class Careless:
        @workflow.run
        async def run(self) -> str:
            asyncio.get_running_loop().call_soon(self.explode)
            await asyncio.sleep(0)
            return "done"

        def explode(self) -> None:
            raise RuntimeError("in a callback")

    assert result_of(Driver(Careless).commands()) == "done"
    assert "in a callback" in caplog.text
