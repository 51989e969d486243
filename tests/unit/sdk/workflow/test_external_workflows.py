"""Handles of other workflows in workflow code: signal, cancel, and what happens when they are not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import workflow
from perdure.exceptions import ApplicationError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, payloads, result_of


@workflow.defn
class Other:
    @workflow.run
    async def run(self) -> None:
        pass

    @workflow.signal(name="prod")
    def poke(self, number: int) -> None:
        pass


@workflow.defn
class Talks:
    @workflow.run
    async def run(self, how: str) -> Any:
        handle = workflow.get_external_workflow_handle_for(Other.run, "other", run_id="its-run")
        try:
            if how == "signal":
                await handle.signal(Other.poke, 3)
            elif how == "cancel":
                await handle.cancel(reason="enough")
            else:
                await workflow.get_external_workflow_handle("other").signal("prod")
        except ApplicationError as error:
            return [error.type, error.message]
        return [handle.id, handle.run_id]


def test_a_signal_is_awaited_until_it_was_taken() -> None:
    driver = Driver(Talks, "signal")
    assert driver.commands() == [
        r.SignalExternalWorkflowExecution(workflow_id="other", run_id="its-run", signal_name="prod", input=payloads(3))
    ]
    driver.history.answer_request("other", r.ExternalWorkflowExecutionSignaled)
    assert result_of(driver.commands()) == ["other", "its-run"]


def test_a_request_to_cancel_is_awaited_until_it_was_taken() -> None:
    driver = Driver(Talks, "cancel")
    assert driver.commands() == [
        r.RequestCancelExternalWorkflowExecution(workflow_id="other", run_id="its-run", reason="enough")
    ]
    driver.history.answer_request("other", r.ExternalWorkflowExecutionCancelRequested)
    assert result_of(driver.commands()) == ["other", "its-run"]


@pytest.mark.parametrize(
    ("how", "kind", "verb"),
    [
        ("signal", r.SignalExternalWorkflowExecutionFailed, "signal"),
        ("cancel", r.RequestCancelExternalWorkflowExecutionFailed, "cancel"),
        ("by name", r.SignalExternalWorkflowExecutionFailed, "signal"),
    ],
)
def test_a_workflow_that_is_not_there_raises(how: str, kind: Any, verb: str) -> None:
    driver = Driver(Talks, how)
    driver.commands()
    driver.history.answer_request(
        "other", kind, cause="EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND", message="workflow 'other' not found"
    )
    assert result_of(driver.commands()) == [
        "ExternalWorkflowExecutionNotFound",
        f"Unable to {verb} workflow 'other' because it was not found: workflow 'other' not found",
    ]


def test_another_refusal_keeps_its_cause() -> None:
    driver = Driver(Talks, "signal")
    driver.commands()
    driver.history.answer_request(
        "other", r.SignalExternalWorkflowExecutionFailed, cause="QUARANTINED", message="the run is quarantined"
    )
    assert result_of(driver.commands()) == [
        "QUARANTINED",
        "Unable to signal workflow 'other': the run is quarantined",
    ]


@workflow.defn
class Impatient:
    @workflow.run
    async def run(self, at_once: bool) -> str:
        task = asyncio.create_task(workflow.get_external_workflow_handle("other").signal("prod"))
        if at_once:
            await asyncio.sleep(0)
        else:
            await workflow.sleep(1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            await workflow.wait_condition(lambda: False, timeout=5)
        return "taken"


def test_a_signal_cancelled_in_the_task_that_sent_it_is_not_sent() -> None:
    assert kinds(Driver(Impatient, True).commands()) == ["StartTimer"]


def test_a_signal_on_the_way_is_not_taken_back_and_its_answer_is_no_news() -> None:
    driver = Driver(Impatient, False)
    assert sorted(kinds(driver.commands())) == ["SignalExternalWorkflowExecution", "StartTimer"]
    driver.history.fire_timer("1")
    assert kinds(driver.commands()) == ["StartTimer"]
    driver.history.answer_request("other", r.ExternalWorkflowExecutionSignaled)
    assert driver.commands() == []


def test_handles_are_for_workflow_code() -> None:
    with pytest.raises(workflow.NotInWorkflowError):
        workflow.get_external_workflow_handle("other")
