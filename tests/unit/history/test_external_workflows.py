"""Signals and requests to cancel from one workflow to another, in the engine."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_schemas import records
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    ExternalWorkflowAnswered,
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
    TerminateWorkflow,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.family import Family, child_run, start_child
from tests.unit.history.harness import History, payload, start
from tests.unit.history.test_takeover import successor

NOT_FOUND = "EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"


def signal(workflow_id: str = "other", **fields: Any) -> SignalExternalWorkflowExecution:
    return SignalExternalWorkflowExecution(
        **{"workflow_id": workflow_id, "signal_name": "s", "input": [payload("1")], **fields}
    )


def cancel(workflow_id: str = "other", **fields: Any) -> RequestCancelExternalWorkflowExecution:
    return RequestCancelExternalWorkflowExecution(workflow_id=workflow_id, **{"reason": "why", **fields})


def two(times: int = 1) -> Family:
    """A workflow, and another one."""
    family = Family(times=times)
    family.history.send(start("other-run"), workflow_id="other")
    family.history.send(start(), workflow_id="wf")
    return family


@pytest.mark.parametrize("times", [1, 2])
def test_i3_another_workflow_is_signalled_once_however_often_it_is_said(times: int) -> None:
    family = two(times)
    family.act("run", signal())
    assert family.kinds("other-run").count("WorkflowExecutionSignaled") == 1
    signaled = family.last("other-run", records.WorkflowExecutionSignaled)
    assert (signaled.signal_name, signaled.input, signaled.identity) == ("s", [payload("1")], "workflow wf")
    assert family.kinds("run")[3:] == [
        "SignalExternalWorkflowExecutionInitiated",
        "ExternalWorkflowExecutionSignaled",
        "WorkflowTaskScheduled",
    ]
    assert family.last("run", records.ExternalWorkflowExecutionSignaled).initiated_event_id == 4
    assert family.history.run().external_requests == {}


@pytest.mark.parametrize("times", [1, 2])
def test_i3_another_workflow_is_asked_to_stop(times: int) -> None:
    family = two(times)
    family.act("run", cancel(run_id="other-run"))
    assert family.last("other-run", records.WorkflowExecutionCancelRequested).reason == "why"
    assert family.kinds("other-run").count("WorkflowExecutionCancelRequested") == 1
    answered = family.last("run", records.ExternalWorkflowExecutionCancelRequested)
    assert (answered.workflow_id, answered.run_id) == ("other", "other-run")


@pytest.mark.parametrize("how", ["missing", "closed", "another run"])
def test_a_workflow_that_is_not_there_is_told(how: str) -> None:
    family = two()
    fields = {"run_id": "no-such-run"} if how == "another run" else {}
    workflow_id = "nobody" if how == "missing" else "other"
    if how == "closed":
        family.history.send(TerminateWorkflow(), workflow_id="other")
    family.act("run", signal(workflow_id, **fields), cancel(workflow_id, **fields))
    signal_failed = family.last("run", records.SignalExternalWorkflowExecutionFailed)
    cancel_failed = family.last("run", records.RequestCancelExternalWorkflowExecutionFailed)
    assert (signal_failed.cause, signal_failed.workflow_id, signal_failed.initiated_event_id) == (
        NOT_FOUND,
        workflow_id,
        4,
    )
    assert (cancel_failed.cause, cancel_failed.initiated_event_id) == (NOT_FOUND, 5)
    assert signal_failed.message


def test_a_workflow_may_signal_itself() -> None:
    family = two()
    family.act("run", signal("wf"))
    assert family.kinds("run")[4:] == [
        "WorkflowExecutionSignaled",
        "WorkflowTaskScheduled",
        "ExternalWorkflowExecutionSignaled",
    ]


def test_a_child_is_meant_by_its_first_run_and_not_by_its_id_alone() -> None:
    family = Family()
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child())
    family.act(child_run(), ContinueAsNewWorkflowExecution(workflow_type="Child", task_queue="kids"))
    second = family.current("child")
    family.act("run", signal("child", child_initiated_event_id=4))
    assert "WorkflowExecutionSignaled" in family.kinds(second)
    family.act(second, CompleteWorkflowExecution(), last_event_id=family.history.run(second).last_event_id)
    family.history.send(start("stranger"), workflow_id="child")
    family.act("run", signal("child", child_initiated_event_id=4), cancel("child", child_initiated_event_id=4))
    assert family.last("run", records.SignalExternalWorkflowExecutionFailed).cause == NOT_FOUND
    assert family.last("run", records.RequestCancelExternalWorkflowExecutionFailed).cause == NOT_FOUND
    assert family.kinds("stranger") == ["WorkflowExecutionStarted", "WorkflowTaskScheduled"]


def test_i3_an_answer_to_nothing_changes_nothing() -> None:
    family = two()
    family.act("run", signal())
    family.history.send(ExternalWorkflowAnswered(initiated_event_id=4), workflow_id="wf", run_id="run")
    assert not family.history.events()
    assert family.history.handler.ignored["request to another workflow is not pending"] == 1


def test_i4_a_new_owner_sends_again_and_nothing_happens_twice() -> None:
    first = two()
    first.act("run", signal(), cancel())
    second = Family(successor(first.history, committed=0))
    names = [type(command.body).__name__ for command in second.pump()]
    assert names == ["SignalWorkflow", "CancelWorkflow", "ExternalWorkflowAnswered", "ExternalWorkflowAnswered"]
    assert second.history.run() == first.history.run()
    assert second.history.run("other-run") == first.history.run("other-run")


@pytest.mark.parametrize("request_of", [signal, cancel])
@pytest.mark.parametrize("workflow_id", ["other", "nobody"])
def test_i4_a_new_owner_answers_what_was_decided_before(request_of: Any, workflow_id: str) -> None:
    first = two()
    first.ask("run", request_of(workflow_id))
    offset = first.history.offset
    (record,) = first._sent()
    first.deliver(record)
    first.drop()
    first.history.send(start("later"), workflow_id="later")
    second = Family(successor(first.history, committed=offset))
    second.drop()
    second.history.deliver(first.history.command_log[offset])
    second.pump()
    assert second.history.run().external_requests == {}
    assert ("Failed" in second.kinds("run")[4]) is (workflow_id == "nobody")
    wanted = 1 if workflow_id == "other" and request_of is signal else 0
    assert second.kinds("other-run").count("WorkflowExecutionSignaled") == wanted


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (signal(""), "other workflow's id must have 1 to"),
        (signal(signal_name=""), "signal name must have 1 to"),
        (cancel(""), "other workflow's id must have 1 to"),
        (signal(input=[payload("x" * 200)]), "larger than the limit of 100"),
    ],
)
def test_a_request_that_makes_no_sense_fails_the_workflow_task(command: Any, words: str) -> None:
    family = Family(History(HistoryConfig(policy=Policy(payload_bytes_max=100))))
    family.history.send(start(), workflow_id="wf")
    family.act("run", command)
    failed = family.last("run", WorkflowTaskFailedEvent)
    assert failed.cause.startswith("BAD_")
    assert words in failed.failure.message


def test_a_run_has_so_many_requests_on_their_way_and_no_more() -> None:
    family = Family(History(HistoryConfig(policy=Policy(pending_external_requests_max=2))))
    family.history.send(start(), workflow_id="wf")
    family.act("run", signal(), cancel(), signal())
    assert family.last("run", WorkflowTaskFailedEvent).cause == "PENDING_EXTERNAL_REQUESTS_LIMIT_EXCEEDED"
