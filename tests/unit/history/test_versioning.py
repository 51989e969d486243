"""Which version of workers a run's tasks are for, and what the runs that come from it take over."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_schemas.records import (
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    DeadlineReached,
    Described,
    DescribeWorkflow,
    ErrorCode,
    ExecutionSummary,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    QueryWorkflow,
    Rejected,
    ResetWorkflow,
    RetryPolicy,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    TaskRecord,
    VersioningBehavior,
    VersioningOverride,
    WorkflowExecutionStarted,
    WorkflowTaskCompletedEvent,
)
from tests.unit.history.family import Family, start_child
from tests.unit.history.harness import NAMES, DictStore, History, options, reply_to, start

PINNED: dict[str, Any] = {
    "deployment_name": "d",
    "build_id": "1",
    "versioning_behavior": VersioningBehavior.PINNED,
}
MOVING: dict[str, Any] = {**PINNED, "versioning_behavior": VersioningBehavior.AUTO_UPGRADE}
ON_2 = VersioningOverride(pinned_version="d.2")
FREE = VersioningOverride()
SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))
RETRY = RetryPolicy(initial_interval_ms=1_000, maximum_attempts=3)


def next_task(history: History, **fields: Any) -> TaskRecord:
    """The run's next workflow task."""
    history.send(SIGNAL, **fields)
    (task,) = history.tasks("workflow")
    return task


def summary(history: History) -> tuple[str, str]:
    """What the visibility feed says after the last command."""
    found = history.values(NAMES.executions, ExecutionSummary)[-1]
    return found.deployment_version, found.versioning_behavior.value


def first_event(history: History, run_id: str) -> WorkflowExecutionStarted:
    attributes = history.history(run_id)[0].attributes
    assert isinstance(attributes, WorkflowExecutionStarted)
    return attributes


def current_run_id(history: History, workflow_id: str = "wf") -> str:
    described = history.ask(DescribeWorkflow(), workflow_id=workflow_id)
    assert isinstance(described, Described)
    return described.summary.run_id


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_first_task_is_for_whatever_version_is_current() -> None:
    history = History()
    history.send(start())
    (task,) = history.tasks("workflow")
    assert (task.version, task.prefers_ramping) == ("", False)


def test_a_pinned_run_stays_with_the_version_of_its_first_task() -> None:
    history = History()
    history.send(start())
    history.complete_task(ScheduleActivityTask(options=options()), **PINNED)
    (activity,) = history.tasks("activity")
    assert activity.version == "d.1"
    assert summary(history) == ("d.1", "PINNED")
    (completed,) = [e.attributes for e in history.events() if isinstance(e.attributes, WorkflowTaskCompletedEvent)]
    assert (completed.deployment_name, completed.build_id, completed.versioning_behavior) == ("d", "1", "PINNED")
    assert next_task(history).version == "d.1"
    query = QueryWorkflow(query_type="q", expires_at_ms=history.now_ms + 10_000)
    history.complete_task(**PINNED)
    history.send(query, reply=reply_to())
    assert [task.version for task in history.tasks("query")] == ["d.1"]


def test_a_run_that_moves_is_bound_to_none() -> None:
    history = History()
    history.send(start())
    history.complete_task(ScheduleActivityTask(options=options()), **MOVING)
    assert [task.version for task in history.tasks("activity")] == [""]
    assert summary(history) == ("d.1", "AUTO_UPGRADE")
    assert next_task(history).version == ""
    history.complete_task(**{**MOVING, "build_id": "2"})
    assert summary(history) == ("d.2", "AUTO_UPGRADE")
    next_task(history)
    history.complete_task(**{**MOVING, "build_id": "2"})
    assert history.values(NAMES.executions, ExecutionSummary) == [], "nothing has changed"


def test_workers_without_a_version_say_nothing_of_it() -> None:
    history = History()
    history.send(start())
    history.complete_task(build_id="loose")
    assert history.values(NAMES.executions, ExecutionSummary) == []
    assert (history.run().deployment_version, next_task(history).version) == ("", "")


def test_an_override_counts_before_what_the_worker_says() -> None:
    history = History()
    history.send(start(versioning_override=ON_2))
    assert [task.version for task in history.tasks("workflow")] == ["d.2"]
    assert summary(history) == ("d.2", "PINNED")
    history.complete_task(**MOVING)
    assert next_task(history).version == "d.2"
    free = History()
    free.send(start(versioning_override=FREE))
    free.complete_task(**PINNED)
    assert summary(free) == ("d.1", "AUTO_UPGRADE")
    assert next_task(free).version == ""


@pytest.mark.parametrize("pinned", ["d", ".1", "d."])
def test_an_override_without_a_version_is_refused(pinned: str) -> None:
    history = History()
    answer = history.ask(start(versioning_override=VersioningOverride(pinned_version=pinned)))
    assert isinstance(answer, Rejected)
    assert (answer.code, "<deployment name>.<build id>" in answer.message) == (ErrorCode.INVALID_ARGUMENT, True)


def test_a_takeover_knows_the_version() -> None:
    first = History()
    first.send(start())
    first.complete_task(**PINNED)
    second = History(store=DictStore(), log=first.log, command_offset=first.offset)
    assert next_task(second).version == "d.1"


def test_a_reset_run_keeps_the_version_of_what_it_keeps() -> None:
    history = History()
    history.send(start())
    history.complete_task(**PINNED)
    next_task(history)
    history.complete_task(**PINNED)
    history.send(ResetWorkflow(run_id="anew", point="LastWorkflowTask"))
    assert [task.version for task in history.tasks("workflow")] == ["d.1"]


# --- children ---------------------------------------------------------------------------------------------------------


def child_task(parent: dict[str, Any], task_queue: str = "orders", **fields: Any) -> TaskRecord:
    """The first workflow task of a child, whose parent's task was completed like that."""
    family = Family()
    history = family.history
    history.send(start(**fields.pop("of_parent", {})))
    history.complete_task(start_child(task_queue=task_queue, **fields), **parent)
    family.pump()
    tasks = history.values(NAMES.tasks, TaskRecord, history.all_sent)
    return next(task for task in tasks if task.workflow_id == "child")


def test_a_child_inherits_the_version_of_a_pinned_parent_on_its_task_queue() -> None:
    assert child_task(PINNED).version == "d.1"
    assert child_task(PINNED, "elsewhere").version == ""
    assert child_task(MOVING).version == ""


def test_a_child_inherits_a_pinned_override_but_has_its_own_if_it_is_given() -> None:
    assert child_task(PINNED, of_parent={"versioning_override": ON_2}).version == "d.2"
    assert child_task(PINNED, "elsewhere", of_parent={"versioning_override": ON_2}).version == ""
    assert child_task(MOVING, of_parent={"versioning_override": FREE}).version == ""
    assert child_task(PINNED, versioning_override=VersioningOverride(pinned_version="d.3")).version == "d.3"
    assert child_task(PINNED, versioning_override=FREE).version == ""


# --- the runs that follow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_queue", "initial", "version", "ramping"),
    [
        ("orders", "", "d.1", False),
        ("elsewhere", "", "", False),
        ("orders", "AUTO_UPGRADE", "", False),
        ("orders", "USE_RAMPING_VERSION", "", True),
    ],
)
def test_a_run_continued_as_new_inherits(task_queue: str, initial: str, version: str, ramping: bool) -> None:
    history = History()
    history.send(start())
    command = ContinueAsNewWorkflowExecution(
        workflow_type="Order", task_queue=task_queue, initial_versioning_behavior=initial
    )
    history.complete_task(command, **PINNED)
    (task,) = history.tasks("workflow")
    assert (task.version, task.prefers_ramping) == (version, ramping)
    run_id = current_run_id(history)
    history.complete_task(run_id=run_id, **{**MOVING, "build_id": "2"})
    after = next_task(history)
    assert (after.version, after.prefers_ramping) == ("", False), "its own code says how it goes on"


def test_a_run_that_moves_bequeaths_nothing() -> None:
    history = History()
    history.send(start())
    history.complete_task(ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders"), **MOVING)
    assert [task.version for task in history.tasks("workflow")] == [""]


@pytest.mark.parametrize(("task_queue", "version"), [("orders", "d.2"), ("elsewhere", "")])
def test_a_pinned_override_goes_on_with_the_chain(task_queue: str, version: str) -> None:
    history = History()
    history.send(start(versioning_override=ON_2))
    command = ContinueAsNewWorkflowExecution(
        workflow_type="Order", task_queue=task_queue, initial_versioning_behavior="AUTO_UPGRADE"
    )
    history.complete_task(command, **PINNED)
    assert [task.version for task in history.tasks("workflow")] == [version]


def _fail_and_wait(history: History, run_id: str, workflow_id: str) -> TaskRecord:
    failure = Failure(kind=FailureKind.APPLICATION, message="no", type="Oops")
    history.complete_task(FailWorkflowExecution(failure=failure), run_id=run_id, **PINNED)
    run = history.run(current_run_id(history, workflow_id))
    history.now_ms = run.wake_up_due_ms
    body = DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms)
    history.send(body, run_id=run.run_id, workflow_id=workflow_id)
    (task,) = history.tasks("workflow")
    return task


def test_a_retry_begins_anew_unless_the_version_was_inherited() -> None:
    history = History()
    history.send(start(retry_policy=RETRY))
    assert _fail_and_wait(history, "run", "wf").version == ""
    child = Family()
    child.history.send(start())
    child.history.complete_task(start_child(task_queue="orders", retry_policy=RETRY), **PINNED)
    child.pump()
    first_run = current_run_id(child.history, "child")
    assert first_event(child.history, first_run).inherited_version == "d.1"
    assert _fail_and_wait(child.history, first_run, "child").version == "d.1"


def test_a_cron_schedules_next_run_inherits_nothing_but_an_override() -> None:
    history = History()
    history.send(start(cron_schedule="* * * * *", inherited_version="d.1"))
    run = history.run()
    history.now_ms = run.wake_up_due_ms
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    assert [task.version for task in history.tasks("workflow")] == ["d.1"]
    history.complete_task(CompleteWorkflowExecution(), **PINNED)
    assert first_event(history, current_run_id(history)).inherited_version == ""
