"""Starting: the policies for a workflow id that has a run already, repeated starts, signals with a start."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_schemas.records import (
    CancelWorkflowExecution,
    CompleteWorkflowExecution,
    ErrorCode,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    HistoryRecord,
    IdConflictPolicy,
    IdReusePolicy,
    Rejected,
    SignalInput,
    Started,
    TerminateWorkflow,
    WorkflowClosed,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, History, payload, reply_to, start

COMPLETE = CompleteWorkflowExecution()
FAIL = FailWorkflowExecution(failure=Failure(kind=FailureKind.APPLICATION))
CANCEL = CancelWorkflowExecution()


def closed_with(closing: Any) -> History:
    history = History()
    history.send(start("old"))
    history.complete_task(closing, run_id="old")
    return history


@pytest.mark.parametrize(
    ("policy", "closing", "accepted"),
    [
        (IdReusePolicy.ALLOW_DUPLICATE, COMPLETE, True),
        (IdReusePolicy.ALLOW_DUPLICATE, FAIL, True),
        (IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, COMPLETE, False),
        (IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, FAIL, True),
        (IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, CANCEL, True),
        (IdReusePolicy.REJECT_DUPLICATE, COMPLETE, False),
        (IdReusePolicy.REJECT_DUPLICATE, FAIL, False),
        (IdReusePolicy.TERMINATE_IF_RUNNING, COMPLETE, True),
    ],
)
def test_reuse_policy_decides_over_a_closed_run(policy: IdReusePolicy, closing: Any, accepted: bool) -> None:
    history = closed_with(closing)
    answer = history.ask(start("new", id_reuse_policy=policy))
    if accepted:
        assert answer == Started(run_id="new", first_execution_run_id="new")
    else:
        assert isinstance(answer, Rejected)
        assert (answer.code, answer.run_id) == (ErrorCode.ALREADY_EXISTS, "old")
        assert not history.events()


@pytest.mark.parametrize("policy", [IdConflictPolicy.UNSPECIFIED, IdConflictPolicy.FAIL])
def test_a_running_run_refuses_another_start(policy: IdConflictPolicy) -> None:
    history = History()
    history.send(start("old"))
    answer = history.ask(start("new", id_conflict_policy=policy))
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.run_id, answer.status) == (ErrorCode.ALREADY_EXISTS, "old", WorkflowStatus.RUNNING)


def test_use_existing_answers_with_the_running_run() -> None:
    history = History()
    history.send(start("old"))
    answer = history.ask(start("new", id_conflict_policy=IdConflictPolicy.USE_EXISTING, await_result=True))
    assert answer == Started(run_id="old", first_execution_run_id="old", created=False)
    assert not history.events()
    history.complete_task(COMPLETE, run_id="old")
    (closed,) = history.replies()
    assert isinstance(closed.body, WorkflowClosed)


@pytest.mark.parametrize(
    "fields",
    [
        {"id_conflict_policy": IdConflictPolicy.TERMINATE_EXISTING},
        {"id_reuse_policy": IdReusePolicy.TERMINATE_IF_RUNNING},
    ],
)
def test_terminate_existing_is_one_decision_in_two_parts(fields: dict[str, Any]) -> None:
    history = History()
    history.send(start("old", await_result=True), reply=reply_to("waits"))
    old_task = history.tasks()[0].task_id
    history.send(start("new", **fields), reply=reply_to("starts"))
    first, second = history.values(NAMES.history, HistoryRecord)
    assert (first.run_id, first.part, first.parts) == ("old", 1, 2)
    assert (second.run_id, second.part, second.parts) == ("new", 2, 2)
    assert first.command_offset == second.command_offset
    assert history.run("old").status is WorkflowStatus.TERMINATED
    assert history.run("new").is_open
    assert history.tombstones(NAMES.tasks) == [old_task]
    assert {reply.request_id for reply in history.replies()} == {"waits", "starts"}
    assert history.ask(start("third")).run_id == "new"


def test_i3_a_repeated_start_has_the_first_answer() -> None:
    history = History()
    first = history.ask(start("run", signal=SignalInput(signal_name="s")), command_id="id")
    again = history.ask(start("run", signal=SignalInput(signal_name="s")), command_id="id")
    same_run = history.ask(start("run"), command_id="other")
    same_command = history.ask(start("other"), command_id="id")
    assert first == again == same_run == same_command
    assert len(history.history()) == 3


def test_i3_a_repeated_start_of_a_closed_run_has_the_result_too() -> None:
    history = History()
    history.send(start(await_result=True), reply=reply_to("1"))
    history.complete_task(CompleteWorkflowExecution(result=[payload("x")]))
    history.send(start(await_result=True), reply=reply_to("2"))
    started, closed = history.replies()
    assert isinstance(started.body, Started)
    assert started.body.created
    assert closed.body == WorkflowClosed(run_id="run", status=WorkflowStatus.COMPLETED, result=[payload("x")])


def test_i3_a_repeated_start_finds_its_run_behind_a_newer_one() -> None:
    history = closed_with(COMPLETE)
    history.send(start("new"))
    assert history.ask(start("old")) == Started(run_id="old", first_execution_run_id="old")
    assert not history.events()


def test_a_signal_comes_before_the_first_workflow_task() -> None:
    history = History()
    history.send(start(signal=SignalInput(signal_name="s")))
    assert history.kinds() == ["WorkflowExecutionStarted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled"]


def test_a_start_with_a_signal_signals_the_running_run() -> None:
    history = History()
    history.send(start("old"))
    history.complete_task(run_id="old")
    for _ in range(2):
        answer = history.ask(start("new", signal=SignalInput(signal_name="s")), command_id="same")
        assert answer == Started(run_id="old", first_execution_run_id="old", created=False)
    kinds = [type(event.attributes).__name__ for event in history.history("old")]
    assert kinds.count("WorkflowExecutionSignaled") == 1
    assert kinds[-1] == "WorkflowTaskScheduled"


@pytest.mark.parametrize(
    ("workflow_id", "fields", "says"),
    [
        ("", {}, "workflow id"),
        ("x" * 1_001, {}, "1000 characters"),
        ("wf", {"workflow_type": ""}, "workflow type"),
        ("wf", {"task_queue": ""}, "task queue"),
        ("wf", {"run_id": "a/b"}, "run id"),
        ("wf", {"run_id": ""}, "run id"),
        ("wf", {"run_timeout_ms": 0}, "run timeout"),
        ("wf", {"execution_timeout_ms": -1}, "execution timeout"),
        ("wf", {"task_timeout_ms": 0}, "task timeout"),
        ("wf", {"signal": SignalInput(signal_name="")}, "signal"),
        ("wf", {"signal": SignalInput(signal_name="s"), "id_conflict_policy": IdConflictPolicy.FAIL}, "FAIL"),
        (
            "wf",
            {
                "id_reuse_policy": IdReusePolicy.TERMINATE_IF_RUNNING,
                "id_conflict_policy": IdConflictPolicy.USE_EXISTING,
            },
            "TERMINATE_IF_RUNNING",
        ),
        ("wf", {"input": [payload("x" * (2 * 1024 * 1024 + 1))]}, "2097152 bytes"),
        ("wf", {"memo": {"m": payload("x" * (2 * 1024 * 1024 + 1))}}, "1048576 are allowed"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(workflow_id: str, fields: dict[str, Any], says: str) -> None:
    history = History()
    answer = history.ask(start(**fields), workflow_id=workflow_id)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert says in answer.message
    assert not history.events()


def test_a_run_id_belongs_to_one_workflow() -> None:
    history = History()
    history.send(start("run"), workflow_id="a")
    answer = history.ask(start("run"), workflow_id="b")
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT


def test_a_new_run_may_follow_a_terminated_one() -> None:
    history = History()
    history.send(start("old"))
    history.send(TerminateWorkflow())
    assert history.ask(start("new")).run_id == "new"
    assert history.run("old").status is WorkflowStatus.TERMINATED
