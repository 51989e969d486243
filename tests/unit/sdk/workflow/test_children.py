"""Child workflows in workflow code: starting, results, errors, cancelling, signals, determinism."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from perdure.exceptions import (
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    RetryState,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
)
from perdure.workflow import ChildWorkflowCancellationType, ParentClosePolicy
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, payloads, result_of, values

REQUESTED = r.ExternalWorkflowExecutionCancelRequested
REFUSED = r.RequestCancelExternalWorkflowExecutionFailed


@dataclass
class Order:
    number: int


@workflow.defn
class Child:
    @workflow.run
    async def run(self, order: Order) -> Order:
        return order

    @workflow.signal
    def poke(self, text: str, times: int) -> None:
        pass


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> list[Any]:
        handle = await workflow.start_child_workflow(Child.run, Order(7), id="child")
        facts = [handle.id, handle.first_execution_run_id, handle.done()]
        order = await handle
        return [*facts, type(order).__name__, order.number]


def test_a_child_is_started_and_its_result_has_the_type_of_its_annotation() -> None:
    driver = Driver(Parent)
    (command,) = driver.commands()
    assert isinstance(command, r.StartChildWorkflowExecution)
    options = command.options
    assert (options.workflow_id, options.workflow_type, options.task_queue) == ("child", "Child", "queue")
    assert (options.parent_close_policy, options.task_timeout_ms) == (r.ParentClosePolicy.TERMINATE, 10_000)
    assert values(options.input) == [{"number": 7}]
    driver.history.child_started("child")
    assert driver.commands() == []
    driver.history.complete_child("child", {"number": 8})
    assert result_of(driver.commands()) == ["child", "child-run", False, "Order", 8]


def test_a_start_and_an_end_that_come_together_are_seen_in_one_task() -> None:
    driver = Driver(Parent)
    driver.commands()
    driver.history.child_started("child")
    driver.history.complete_child("child", {"number": 8})
    assert result_of(driver.commands()) == ["child", "child-run", False, "Order", 8]


@workflow.defn
class AllOptions:
    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_child_workflow(
            "Child",
            args=[1, "two"],
            result_type=Order,
            task_queue="elsewhere",
            execution_timeout=timedelta(seconds=4),
            run_timeout=timedelta(seconds=3),
            task_timeout=timedelta(seconds=2),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            retry_policy=RetryPolicy(maximum_attempts=5),
            cron_schedule="* * * * *",
            memo={"k": "v"},
            search_attributes=TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_int("Count"), 3)]),
            static_summary="summary",
            static_details="details",
            priority=Priority(priority_key=1),
        )


def test_every_option_goes_along() -> None:
    driver = Driver(AllOptions)
    (command,) = driver.commands()
    assert isinstance(command, r.StartChildWorkflowExecution)
    options = command.options
    assert len(options.workflow_id) == 36, "a random one"
    assert values(options.input) == [1, "two"]
    assert options.task_queue == "elsewhere"
    assert (options.execution_timeout_ms, options.run_timeout_ms, options.task_timeout_ms) == (4_000, 3_000, 2_000)
    assert options.id_reuse_policy is r.IdReusePolicy.REJECT_DUPLICATE
    assert options.parent_close_policy is r.ParentClosePolicy.REQUEST_CANCEL
    assert options.retry_policy == r.RetryPolicy(maximum_attempts=5)
    assert options.cron_schedule == "* * * * *"
    assert values([options.memo["k"]]) == ["v"]
    assert options.static_summary is not None and values([options.static_summary]) == ["summary"]
    assert options.static_details is not None and values([options.static_details]) == ["details"]
    assert options.priority.priority == 1
    assert options.search_attributes["Count"].data == b"3"


@workflow.defn
class Reports:
    """Says how its child ended."""

    @workflow.run
    async def run(self) -> list[Any]:
        try:
            return [await workflow.execute_child_workflow("Child", id="child")]
        except ChildWorkflowError as error:
            cause = error.cause
            assert cause is not None
            return [
                error.message, error.workflow_id, error.workflow_type, error.run_id, error.namespace,
                error.initiated_event_id, error.started_event_id, None if error.retry_state is None
                else error.retry_state.name, type(cause).__name__, str(cause),
            ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "failure", "retry_state", "message", "cause"),
    [
        (r.ChildWorkflowExecutionFailed, r.Failure(kind=r.FailureKind.APPLICATION, message="no", type="Oops"),
         r.RetryState.MAXIMUM_ATTEMPTS_REACHED, "Child workflow failed", (ApplicationError, "Oops: no")),
        (r.ChildWorkflowExecutionCanceled, r.Failure(kind=r.FailureKind.CANCELED, message="stopped"),
         None, "Child workflow cancelled", (CancelledError, "stopped")),
        (r.ChildWorkflowExecutionTerminated, r.Failure(kind=r.FailureKind.TERMINATED, message="enough"),
         None, "Child workflow terminated", (TerminatedError, "enough")),
        (r.ChildWorkflowExecutionTimedOut, r.Failure(kind=r.FailureKind.TIMEOUT, message="too long"),
         r.RetryState.TIMEOUT, "Child workflow timed out", (TimeoutError, "too long")),
    ],
)  # fmt: skip
def test_a_child_that_does_not_succeed_raises_with_its_cause(
    kind: Any, failure: r.Failure, retry_state: r.RetryState | None, message: str, cause: tuple[type, str]
) -> None:
    driver = Driver(Reports)
    driver.commands()
    driver.history.child_started("child")
    fields = {"retry_state": retry_state} if retry_state is not None else {}
    driver.history.child_closed("child", kind, failure=failure, **fields)
    told = result_of(driver.commands())
    assert told[:7] == [message, "child", "Child", "child-run", "default", 4, 5]
    assert told[7] == (None if retry_state is None else RetryState[retry_state.name].name)
    assert told[8:] == [cause[0].__name__, cause[1]]


@workflow.defn
class Starts:
    @workflow.run
    async def run(self) -> list[Any]:
        try:
            await workflow.start_child_workflow("Child", id="child")
        except WorkflowAlreadyStartedError as error:
            return [error.workflow_id, error.workflow_type, error.run_id]
        return []


def test_a_taken_id_raises_workflow_already_started() -> None:
    driver = Driver(Starts)
    driver.commands()
    driver.history.child_start_failed("child", "WORKFLOW_ALREADY_EXISTS", existing_run_id="its-run")
    assert result_of(driver.commands()) == ["child", "Child", "its-run"]


def test_a_start_that_is_refused_raises_with_the_reason() -> None:
    driver = Driver(Reports)
    driver.commands()
    driver.history.child_start_failed("child", "INVALID_ARGUMENT", "the cron schedule makes no sense")
    told = result_of(driver.commands())
    assert told[0] == "Child workflow could not be started"
    assert told[8:] == ["ApplicationError", "INVALID_ARGUMENT: the cron schedule makes no sense"]


# --- cancelling -------------------------------------------------------------------------------------------------------


@workflow.defn
class Cancels:
    """Starts a child, cancels it, and says how that ended."""

    @workflow.run
    async def run(self, how: str, when: str) -> str:
        kind = ChildWorkflowCancellationType[how]
        task = asyncio.create_task(workflow.execute_child_workflow("Child", id="child", cancellation_type=kind))
        if when == "at once":
            await asyncio.sleep(0)
        else:
            await workflow.wait_condition(lambda: self.go)
        task.cancel()
        try:
            return str(await task)
        except ChildWorkflowError as error:
            return f"{error.message}: {type(error.cause).__name__}"

    def __init__(self) -> None:
        self.go = False

    @workflow.signal
    def now(self) -> None:
        self.go = True


@pytest.mark.parametrize("how", [kind.name for kind in ChildWorkflowCancellationType])
def test_a_child_cancelled_in_the_task_that_asked_for_it_never_reaches_the_engine(how: str) -> None:
    driver = Driver(Cancels, how, "at once")
    commands = driver.commands()
    assert kinds(commands) == ["CompleteWorkflowExecution"]
    assert result_of(commands) == "Child workflow cancelled: CancelledError"


def cancelled_child(how: str, *, started: bool = True) -> tuple[Driver, list[r.WorkflowCommand]]:
    driver = Driver(Cancels, how, "later")
    driver.commands()
    if started:
        driver.history.child_started("child")
    driver.history.signal("now")
    return driver, driver.commands()


CANCEL = r.RequestCancelExternalWorkflowExecution(workflow_id="child", child_initiated_event_id=4)


@pytest.mark.parametrize("started", [True, False])
def test_abandon_takes_it_as_cancelled_and_lets_it_run(started: bool) -> None:
    _, commands = cancelled_child("ABANDON", started=started)
    assert kinds(commands) == ["CompleteWorkflowExecution"]
    assert result_of(commands) == "Child workflow cancelled: CancelledError"


@pytest.mark.parametrize("started", [True, False])
def test_try_cancel_asks_it_to_stop_and_does_not_wait(started: bool) -> None:
    _, commands = cancelled_child("TRY_CANCEL", started=started)
    assert commands[0] == CANCEL
    assert result_of(commands) == "Child workflow cancelled: CancelledError"


def test_wait_cancellation_requested_waits_until_the_child_has_been_asked() -> None:
    driver, commands = cancelled_child("WAIT_CANCELLATION_REQUESTED")
    assert commands == [CANCEL]
    driver.history.answer_request("child", REQUESTED)
    assert result_of(driver.commands()) == "Child workflow cancelled: CancelledError"


def test_wait_cancellation_requested_of_a_child_that_is_over_gives_its_result() -> None:
    driver, _ = cancelled_child("WAIT_CANCELLATION_REQUESTED")
    driver.history.answer_request("child", REFUSED, cause="EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND")
    assert driver.commands() == []
    driver.history.complete_child("child", "done")
    assert result_of(driver.commands()) == "done"


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("ends", ["cancelled", "completed"])
def test_wait_cancellation_completed_waits_for_the_end(started: bool, ends: str) -> None:
    driver, commands = cancelled_child("WAIT_CANCELLATION_COMPLETED", started=started)
    assert commands == [CANCEL]
    if not started:
        driver.history.child_started("child")
    driver.history.answer_request("child", REQUESTED)
    assert driver.commands() == []
    if ends == "cancelled":
        driver.history.child_canceled("child")
        assert result_of(driver.commands()) == "Child workflow cancelled: CancelledError"
    else:
        driver.history.complete_child("child", "cleaned up")
        assert result_of(driver.commands()) == "cleaned up"


def test_a_late_end_of_an_abandoned_child_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    @workflow.defn(name="Late")
    class Late(Cancels):
        @workflow.run
        async def run(self, how: str, when: str) -> str:
            said = await super().run(how, when)
            await workflow.wait_condition(lambda: False, timeout=10)
            return said

    driver = Driver(Late, "TRY_CANCEL", "later")
    driver.commands()
    driver.history.signal("now")
    driver.commands()
    driver.history.child_started("child")
    driver.history.answer_request("child", REQUESTED)
    assert driver.commands() == []
    driver.history.child_canceled("child")
    assert driver.commands() == []
    driver.runner.evict_all()
    assert "never retrieved" not in caplog.text


@workflow.defn
class CancelledParent:
    @workflow.run
    async def run(self) -> None:
        handle = await workflow.start_child_workflow("Child", id="child")
        await handle


def test_a_cancelled_parent_cancels_its_child_and_ends_as_cancelled() -> None:
    driver = Driver(CancelledParent)
    driver.commands()
    driver.history.child_started("child")
    driver.commands()
    driver.history.cancel("enough")
    (command,) = driver.commands()
    assert isinstance(command, r.RequestCancelExternalWorkflowExecution)
    assert (command.child_initiated_event_id, command.reason) == (4, "enough")
    driver.history.child_canceled("child")
    assert driver.commands() == [r.CancelWorkflowExecution()]


# --- signals ----------------------------------------------------------------------------------------------------------


@workflow.defn
class Signals:
    @workflow.run
    async def run(self) -> str:
        handle = await workflow.start_child_workflow(Child.run, Order(1), id="child")
        try:
            await handle.signal(Child.poke, args=["hey", 2])
        except ApplicationError as error:
            return f"{error.type}: {error.message}"
        return "signalled"


def test_a_child_is_signalled_once_it_runs() -> None:
    driver = Driver(Signals)
    driver.commands()
    driver.history.child_started("child")
    assert driver.commands() == [
        r.SignalExternalWorkflowExecution(
            workflow_id="child", child_initiated_event_id=4, signal_name="poke", input=payloads("hey", 2)
        )
    ]
    driver.history.answer_request("child", r.ExternalWorkflowExecutionSignaled)
    assert result_of(driver.commands()) == "signalled"


def test_a_child_that_is_closed_takes_no_signal() -> None:
    driver = Driver(Signals)
    driver.commands()
    driver.history.child_started("child")
    driver.commands()
    driver.history.answer_request(
        "child", r.SignalExternalWorkflowExecutionFailed, cause="EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND", message="gone"
    )
    assert result_of(driver.commands()) == (
        "ExternalWorkflowExecutionNotFound: Unable to signal workflow 'child' because it was not found: gone"
    )


# --- facts, order, refusals -------------------------------------------------------------------------------------------


@workflow.defn
class Facts:
    @workflow.run
    async def run(self) -> list[Any]:
        info = workflow.info()
        parent, root = info.parent, info.root
        if parent is None or root is None:
            return [parent, root]
        return [parent.namespace, parent.workflow_id, parent.run_id, root.workflow_id, root.run_id]


def test_a_child_knows_its_parent_and_root() -> None:
    parent = r.ParentExecution(
        workflow_id="p", run_id="p-run", initiated_event_id=4, root_workflow_id="top", root_run_id="top-run"
    )
    assert result_of(Driver(Facts, parent=parent).commands()) == ["default", "p", "p-run", "top", "top-run"]
    assert result_of(Driver(Facts).commands()) == [None, None]


@workflow.defn
class Many:
    @workflow.run
    async def run(self) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(workflow.execute_child_workflow("Child", i, id=f"c{i}")) for i in range(4)]
        return [task.result() for task in tasks]


def test_children_may_start_and_end_in_any_order() -> None:
    driver = Driver(Many)
    assert kinds(driver.commands()) == ["StartChildWorkflowExecution"] * 4
    for i in (2, 0, 3, 1):
        driver.history.child_started(f"c{i}")
    driver.commands()
    for i in (3, 1):
        driver.history.complete_child(f"c{i}", i * 10)
    assert driver.commands() == []
    for i in (0, 2):
        driver.history.complete_child(f"c{i}", i * 10)
    assert result_of(driver.commands()) == [0, 10, 20, 30]


@workflow.defn
class Wrong:
    @workflow.run
    async def run(self, what: str) -> None:
        if what == "id":
            await workflow.execute_child_workflow("Child", id="")
        elif what == "workflow":
            await workflow.execute_child_workflow(print)  # type: ignore[call-overload]
        elif what == "option":
            await workflow.execute_child_workflow("Child", colour="red")  # type: ignore[call-overload]
        elif what == "unsupported":
            await workflow.execute_child_workflow("Child", versioning_intent=1)
        else:
            await workflow.execute_child_workflow("Child", run_timeout=3)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("id", "the workflow id is empty"),
        ("workflow", "is not the run method of a workflow"),
        ("option", "no option colour"),
        ("unsupported", "does not support versioning_intent yet"),
        ("timeout", "run_timeout must be a datetime.timedelta"),
    ],
)
def test_an_argument_that_makes_no_sense_fails_the_workflow_task(what: str, words: str) -> None:
    failed = Driver(Wrong, what).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert words in failed.failure.message


# --- determinism ------------------------------------------------------------------------------------------------------


def replayed_as(other: type) -> str:
    """What is said when the history of :class:`Signals` is replayed by other code."""
    driver = Driver(Signals, check_replay=False)
    driver.commands()
    driver.history.child_started("child")
    driver.commands()
    driver.history.answer_request("child", r.ExternalWorkflowExecutionSignaled)
    driver.workflow = other
    driver.runner = driver.new_runner(0)
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "NON_DETERMINISTIC_ERROR"
    return failed.failure.message


def test_a_mismatch_names_the_child_on_both_sides() -> None:
    @workflow.defn(name="Signals")
    class OtherChild:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_child_workflow("Other", id="other-id")

    message = replayed_as(OtherChild)
    assert "StartChildWorkflowExecutionInitiated(workflow_type='Child', workflow_id='child')" in message
    assert "StartChildWorkflowExecution(workflow_type='Other', workflow_id='other-id')" in message


def test_a_mismatch_names_the_signal() -> None:
    @workflow.defn(name="Signals")
    class OtherSignal:
        @workflow.run
        async def run(self) -> None:
            handle = await workflow.start_child_workflow(Child.run, Order(1), id="child")
            await handle.signal("prod")

    message = replayed_as(OtherSignal)
    assert "SignalExternalWorkflowExecutionInitiated(signal_name='poke', workflow_id='child')" in message
    assert "SignalExternalWorkflowExecution(signal_name='prod', workflow_id='child')" in message


def test_an_event_about_a_child_that_was_never_started_is_a_mismatch() -> None:
    driver = Driver(Facts, check_replay=False)
    driver.history.children["ghost"] = 4
    driver.history.child_started("ghost")
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "the workflow code has no such child open" in failed.failure.message
