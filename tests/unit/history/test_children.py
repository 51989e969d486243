"""Child workflows in the engine: started, told how they end, closed with their parent; and every message idempotent."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_history.core.state import ChildStatus
from perdure_schemas import codec, keys, records
from perdure_schemas.records import (
    CancelWorkflowExecution,
    ChildWorkflowClosed,
    ChildWorkflowStarted,
    Command,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    IdReusePolicy,
    ParentClosePolicy,
    ParentExecution,
    RetryState,
    StartWorkflow,
    TerminateWorkflow,
    WorkflowStatus,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.family import Family, child_run, start_child
from tests.unit.history.harness import NAMES, History, payload, start, state_of
from tests.unit.history.test_takeover import successor

FAILURE = Failure(kind=FailureKind.APPLICATION, message="no", type="Oops")


def family_with_child(times: int = 1, **fields: Any) -> Family:
    """A parent whose child runs; both wait for their workflow tasks."""
    family = Family(times=times)
    family.history.send(start(run_timeout_ms=60_000), workflow_id="wf")
    family.act("run", start_child(**fields))
    return family


@pytest.mark.parametrize("times", [1, 2])
def test_i3_a_child_is_started_and_its_parent_told_however_often_it_is_said(times: int) -> None:
    family = family_with_child(times)
    history = family.history
    child = history.run(child_run())
    assert (child.workflow_id, child.workflow_type, child.task_queue, child.is_open) == ("child", "Child", "kids", True)
    assert child.parent == ParentExecution(
        workflow_id="wf", run_id="run", initiated_event_id=4, root_workflow_id="wf", root_run_id="run"
    )
    started = family.last("run", records.ChildWorkflowExecutionStarted)
    assert (started.initiated_event_id, started.run_id, started.workflow_id) == (4, child_run(), "child")
    family.act("run")
    family.act(child_run(), CompleteWorkflowExecution(result=[payload("out")]))
    completed = family.last("run", records.ChildWorkflowExecutionCompleted)
    assert completed.result == [payload("out")]
    assert (completed.initiated_event_id, completed.started_event_id) == (4, 5)
    assert family.kinds("run")[3:] == [
        "StartChildWorkflowExecutionInitiated",
        "ChildWorkflowExecutionStarted",
        "WorkflowTaskScheduled",
        "WorkflowTaskCompletedEvent",
        "ChildWorkflowExecutionCompleted",
        "WorkflowTaskScheduled",
    ]
    assert history.run().children == {}


@pytest.mark.parametrize(
    ("closing", "event", "kind"),
    [
        (FailWorkflowExecution(failure=FAILURE), records.ChildWorkflowExecutionFailed, FailureKind.APPLICATION),
        (CancelWorkflowExecution(), records.ChildWorkflowExecutionCanceled, FailureKind.CANCELED),
    ],
)
def test_the_parent_learns_how_a_child_ended_by_its_own_doing(closing: Any, event: Any, kind: FailureKind) -> None:
    family = family_with_child()
    family.act(child_run(), closing)
    told = family.last("run", event)
    assert told.failure.kind is kind
    if event is records.ChildWorkflowExecutionFailed:
        assert (told.failure, told.retry_state) == (FAILURE, RetryState.RETRY_POLICY_NOT_SET)


def test_the_parent_learns_of_a_terminated_child() -> None:
    family = family_with_child()
    family.history.send(TerminateWorkflow(reason="enough"), workflow_id="child")
    family.pump()
    told = family.last("run", records.ChildWorkflowExecutionTerminated)
    assert (told.failure.kind, told.failure.message) == (FailureKind.TERMINATED, "enough")


def test_the_parent_learns_of_a_child_that_timed_out() -> None:
    family = family_with_child(run_timeout_ms=1_000)
    history = family.history
    child = history.run(child_run())
    body = records.DeadlineReached(arm_number=child.wake_up_number, due_time_ms=child.wake_up_due_ms)
    history.send(body, workflow_id="child", run_id=child_run())
    family.pump()
    told = family.last("run", records.ChildWorkflowExecutionTimedOut)
    assert told.failure.kind is FailureKind.TIMEOUT


def test_a_grandchild_knows_the_top_of_the_tree() -> None:
    family = family_with_child()
    family.act(child_run(), start_child("grandchild"))
    parent = family.history.run(family.current("grandchild")).parent
    assert parent is not None
    assert (parent.workflow_id, parent.root_workflow_id, parent.root_run_id) == ("child", "wf", "run")


def test_a_taken_workflow_id_fails_the_start() -> None:
    family = Family()
    family.history.send(start("other"), workflow_id="child")
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child())
    failed = family.last("run", records.StartChildWorkflowExecutionFailed)
    assert (failed.cause, failed.existing_run_id, failed.initiated_event_id) == ("WORKFLOW_ALREADY_EXISTS", "other", 4)
    assert family.history.run().children == {}
    assert state_of(family.history.handler, child_run()) is None


def test_the_id_reuse_policy_of_a_child_counts() -> None:
    family = Family()
    family.history.send(start("other"), workflow_id="child")
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child(id_reuse_policy=IdReusePolicy.TERMINATE_IF_RUNNING))
    assert family.history.run("other").status is WorkflowStatus.TERMINATED
    assert family.current("child") == child_run()
    family.act(child_run(), CompleteWorkflowExecution())
    family.act("run", start_child(id_reuse_policy=IdReusePolicy.REJECT_DUPLICATE))
    assert family.last("run", records.StartChildWorkflowExecutionFailed).cause == "WORKFLOW_ALREADY_EXISTS"


# --- when the parent closes -------------------------------------------------------------------------------------------


def close_parent(family: Family, how: str) -> None:
    history = family.history
    if how == "complete":
        family.act("run", CompleteWorkflowExecution())
    elif how == "fail":
        family.act("run", FailWorkflowExecution(failure=FAILURE))
    elif how == "cancel":
        family.act("run", CancelWorkflowExecution())
    elif how == "continue":
        family.act("run", ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders"))
    elif how == "terminate":
        history.send(TerminateWorkflow(), workflow_id="wf")
    else:
        run = history.run()
        body = records.DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms)
        history.send(body, workflow_id="wf", run_id="run")
    family.pump()
    assert not history.run().is_open


@pytest.mark.parametrize("how", ["complete", "fail", "cancel", "continue", "terminate", "time out"])
@pytest.mark.parametrize("times", [1, 2])
def test_i3_an_open_child_meets_what_its_parent_close_policy_says(how: str, times: int) -> None:
    for policy in ParentClosePolicy:
        family = family_with_child(times, parent_close_policy=policy)
        close_parent(family, how)
        child = family.history.run(child_run())
        if policy is ParentClosePolicy.TERMINATE:
            assert child.status is WorkflowStatus.TERMINATED
            assert family.last(child_run(), records.WorkflowExecutionTerminated).reason == "by parent close policy"
        else:
            assert child.is_open
            assert child.cancel_requested is (policy is ParentClosePolicy.REQUEST_CANCEL)
        assert family.history.run().children == {}


def test_a_child_whose_start_is_on_the_way_is_closed_with_its_parent() -> None:
    family = Family()
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child(), CompleteWorkflowExecution())
    assert family.history.run(child_run()).status is WorkflowStatus.TERMINATED


def test_a_child_that_is_closed_already_is_left_alone_and_so_is_its_successor() -> None:
    family = family_with_child()
    family.ask(child_run(), CompleteWorkflowExecution())
    family.drop()
    family.history.send(start("successor"), workflow_id="child")
    close_parent(family, "complete")
    assert family.history.run("successor").is_open
    assert family.history.run(child_run()).status is WorkflowStatus.COMPLETED


def test_messages_for_a_parent_that_is_closed_change_nothing() -> None:
    family = family_with_child(parent_close_policy=ParentClosePolicy.ABANDON)
    close_parent(family, "complete")
    family.history.send(start("next"), workflow_id="wf")
    before = family.history.run("next").last_event_id
    family.act(child_run(), CompleteWorkflowExecution())
    assert family.history.run("next").last_event_id == before
    assert family.history.handler.ignored["run is closed"] == 1


# --- chains of runs ---------------------------------------------------------------------------------------------------


def test_a_child_that_continues_as_new_tells_its_parent_at_the_end_only() -> None:
    family = family_with_child()
    family.act(child_run(), ContinueAsNewWorkflowExecution(workflow_type="Child", task_queue="kids"))
    second = family.current("child")
    assert second != child_run()
    assert family.history.run(second).parent == family.history.run(child_run()).parent
    assert list(family.history.run().children) == [4]
    family.act(second, CompleteWorkflowExecution(result=[payload("end")]))
    completed = family.last("run", records.ChildWorkflowExecutionCompleted)
    assert (completed.run_id, completed.result) == (second, [payload("end")])
    assert family.kinds("run").count("ChildWorkflowExecutionStarted") == 1


def test_the_parent_close_policy_reaches_the_run_that_a_child_goes_on_as() -> None:
    family = family_with_child()
    family.act(child_run(), ContinueAsNewWorkflowExecution(workflow_type="Child", task_queue="kids"))
    second = family.current("child")
    close_parent(family, "terminate")
    assert family.history.run(second).status is WorkflowStatus.TERMINATED


# --- messages that are late, doubled or lost --------------------------------------------------------------------------


def test_i3_the_end_of_a_child_says_that_it_had_started() -> None:
    family = Family()
    family.history.send(start(), workflow_id="wf")
    family.ask("run", start_child())
    (command,) = family.drop()
    closed = ChildWorkflowClosed(
        initiated_event_id=4, child_run_id=child_run(), status=WorkflowStatus.COMPLETED, result=[payload("x")]
    )
    family.history.send(closed, workflow_id="wf", run_id="run")
    assert family.history.kinds()[:2] == ["ChildWorkflowExecutionStarted", "ChildWorkflowExecutionCompleted"]
    late = ChildWorkflowStarted(initiated_event_id=4, child_run_id=child_run())
    family.history.send(late, workflow_id="wf", run_id="run")
    family.history.send(closed, workflow_id="wf", run_id="run")
    assert family.history.handler.ignored["child workflow is not pending"] == 2
    assert isinstance(command.body, StartWorkflow)


def test_i3_commands_between_workflows_have_ids_of_their_events() -> None:
    family = Family()
    family.history.send(start(), workflow_id="wf")
    family.ask("run", start_child())
    (command,) = family.pending()
    assert command.command_id == keys.workflow_message_id("run", 4, "start")
    assert isinstance(command.body, StartWorkflow)
    assert command.body.run_id == keys.child_run_id("run", 4) != keys.child_run_id("run", 5)


def test_i4_a_new_owner_sends_the_start_again_and_nothing_happens_twice() -> None:
    first = family_with_child()
    second = Family(successor(first.history, committed=0))
    again = second.pump()
    assert [type(command.body).__name__ for command in again] == ["StartWorkflow", "ChildWorkflowStarted"]
    assert second.history.run() == first.history.run()
    assert second.history.run(child_run()) == first.history.run(child_run())


def test_i4_a_new_owner_tells_the_parent_again_how_its_child_ended() -> None:
    first = family_with_child()
    first.ask(child_run(), CompleteWorkflowExecution())
    assert [type(command.body).__name__ for command in first.drop()] == ["ChildWorkflowClosed"]
    second = Family(successor(first.history, committed=first.history.offset - 1))
    second.pump()
    assert second.kinds("run")[-1] == "ChildWorkflowExecutionCompleted"
    third = Family(successor(second.history, committed=0))
    third.pump()
    assert third.kinds("run") == second.kinds("run")


def test_i4_a_new_owner_closes_the_children_again() -> None:
    first = family_with_child()
    first.ask("run", CompleteWorkflowExecution())
    first.drop()
    second = Family(successor(first.history, committed=first.history.offset - 1))
    second.pump()
    assert second.history.run(child_run()).status is WorkflowStatus.TERMINATED


def lost_answer(*before: StartWorkflow) -> tuple[Family, int]:
    """A child's start was decided, and its answer is lost; returns the offset of the start."""
    family = Family()
    for number, body in enumerate(before):
        family.history.send(body, workflow_id="child", command_id=f"before-{number}")
    family.history.send(start(), workflow_id="wf")
    family.ask("run", start_child())
    offset = family.history.offset
    (record,) = [r for r in family.history.all_sent if r.value and r.key == b"child" and r.topic.endswith("commands")]
    family.deliver(record)
    family.drop()
    # Something behind it is in the history, so the new owner goes on behind both.
    family.history.send(start("later"), workflow_id="later")
    return family, offset


@pytest.mark.parametrize("taken", [False, True])
def test_i4_a_new_owner_answers_a_start_that_was_decided_before(taken: bool) -> None:
    first, offset = lost_answer(*([start("other")] if taken else []))
    second = Family(successor(first.history, committed=offset))
    second.delivered = len(second._sent())
    assert second.history.live_offsets == {NAMES.commands: offset}
    for record in first.history.command_log[offset:]:
        second.history.deliver(record)
    second.pump()
    expected = "StartChildWorkflowExecutionFailed" if taken else "ChildWorkflowExecutionStarted"
    assert second.kinds("run")[4] == expected
    assert second.kinds("later") == ["WorkflowExecutionStarted", "WorkflowTaskScheduled"]


def test_i2_folding_gives_the_state_that_deciding_gave() -> None:
    family = family_with_child()
    family.act("run", start_child("second"), start_child("third"))
    family.act(child_run(), CompleteWorkflowExecution())
    folded = successor(family.history, committed=family.history.offset)
    for run_id in ("run", child_run(), family.current("second")):
        assert folded.run(run_id) == family.history.run(run_id)
    assert [child.status for child in folded.run().children.values()] == [ChildStatus.STARTED] * 2


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "cause", "words"),
    [
        ({"workflow_id": ""}, "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "workflow id must have 1 to"),
        ({"workflow_type": ""}, "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "workflow type must have 1 to"),
        ({"run_timeout_ms": 0}, "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "run timeout is 0 ms"),
        ({"input": [payload("x" * 200)]}, "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "larger than the limit of 100"),
    ],
)
def test_a_child_that_makes_no_sense_fails_the_workflow_task(fields: dict[str, Any], cause: str, words: str) -> None:
    family = Family(History(HistoryConfig(policy=Policy(payload_bytes_max=100))))
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child(**fields))
    failed = family.last("run", WorkflowTaskFailedEvent)
    assert failed.cause == cause
    assert words in failed.failure.message
    assert "command 1 (StartChildWorkflowExecution)" in failed.failure.message
    assert not family.pending()


def test_a_run_has_so_many_open_children_and_no_more() -> None:
    family = Family(History(HistoryConfig(policy=Policy(pending_children_max=3))))
    family.history.send(start(), workflow_id="wf")
    family.act("run", start_child("1"), start_child("2"))
    family.act("run", start_child("3"), start_child("4"))
    failed = family.last("run", WorkflowTaskFailedEvent)
    assert failed.cause == "PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED"
    assert "3 open child workflows" in failed.failure.message
    family.act(family.current("1"), CompleteWorkflowExecution())
    family.act("run", start_child("3"), start_child("4"))
    assert family.last("run", WorkflowTaskFailedEvent) == failed
    assert [child.workflow_id for child in family.history.run().children.values()] == ["2", "3", "4"]


def test_the_parent_is_no_client() -> None:
    """Nothing goes to the topic of replies for it."""
    family = family_with_child()
    assert not any(record.topic.endswith("replies") for record in family.history.all_sent)
    sent = [codec.decode_as(r.value, Command) for r in family.history.all_sent if r.topic.endswith("commands")]
    assert [command.workflow_id for command in sent] == ["child", "wf"]
