"""Updates in workflow code: order, validators, failures, handlers set at run time, speculative tasks, and replays."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from perdure import workflow
from perdure.common import RawValue
from perdure.exceptions import ApplicationError
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, payloads, run, values


@workflow.defn
class Desk:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.open = True
        self.go = False

    @workflow.run
    async def run(self) -> list[str]:
        self.seen.append("run")
        await workflow.wait_condition(lambda: not self.open)
        self.seen.append("end")
        return self.seen

    @workflow.signal
    def mark(self, text: str) -> None:
        self.seen.append(text)

    @workflow.update
    def put(self, text: str) -> int:
        self.seen.append(text)
        return len(self.seen)

    @put.validator
    def check(self, text: str) -> None:
        if text in self.seen:
            raise ApplicationError(f"{text} is there already", type="Duplicate")

    @workflow.update
    async def slowly(self, text: str) -> str:
        await workflow.wait_condition(lambda: self.go)
        await asyncio.sleep(1)
        info = workflow.current_update_info()
        assert info is not None
        return f"{text} {info.id} {info.name}"

    @workflow.update(name="broken")
    async def bug(self) -> None:
        raise KeyError("a bug")

    @workflow.update
    async def refuse(self) -> None:
        raise ApplicationError("no", type="Refused")

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def forever(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    def close(self) -> None:
        assert workflow.current_update_info() is not None
        self.open = False

    @workflow.update
    def unclean(self) -> None:
        return None

    @unclean.validator
    def changes_things(self) -> None:
        asyncio.get_running_loop().call_soon(self.seen.append, "changed")

    @workflow.signal
    def proceed(self) -> None:
        self.go = True


def outcome(commands: Sequence[r.WorkflowCommand], update_id: str = "u") -> Any:
    for command in commands:
        if isinstance(command, r.CompleteUpdate) and command.update_id == update_id:
            return command.failure or values(command.result)[0]
    return None


def rejection(commands: Sequence[r.WorkflowCommand]) -> r.Failure:
    (rejected,) = (command for command in commands if isinstance(command, r.RejectUpdate))
    return rejected.failure


def test_updates_come_after_signals_and_before_the_run_method() -> None:
    driver = Driver(Desk)
    driver.history.signal("mark", "signal")
    driver.history.update("put", "first")
    commands = driver.commands()
    assert kinds(commands) == ["AcceptUpdate", "CompleteUpdate"]
    assert outcome(commands) == 2
    driver.history.update("close", id="c")
    assert kinds(driver.commands()) == ["AcceptUpdate", "CompleteUpdate", "CompleteWorkflowExecution"]
    (closing,) = (e.attributes for e in driver.history.events() if type(e.attributes) is r.WorkflowExecutionCompleted)
    assert values(closing.result)[0] == ["signal", "first", "run", "end"]


def test_a_validator_sees_what_earlier_updates_did_and_rejects() -> None:
    driver = Driver(Desk)
    driver.history.update("put", "x", id="1")
    driver.history.update("put", "x", id="2")
    driver.history.update("put", "y", id="3")
    commands = driver.commands()
    assert kinds(commands) == ["AcceptUpdate", "CompleteUpdate", "RejectUpdate", "AcceptUpdate", "CompleteUpdate"]
    assert (rejection(commands).message, rejection(commands).type) == ("x is there already", "Duplicate")
    assert driver.commands() == [], "the history replays without the rejected one"


def test_an_async_handler_runs_over_several_tasks() -> None:
    driver = Driver(Desk)
    driver.history.update("slowly", "a", id="s")
    assert kinds(driver.commands()) == ["AcceptUpdate"]
    driver.history.signal("proceed")
    assert kinds(driver.commands()) == ["StartTimer"]
    driver.history.fire_timer("1")
    assert outcome(driver.commands(), "s") == "a s slowly"


def test_what_a_handler_raises() -> None:
    driver = Driver(Desk)
    driver.history.update("refuse")
    failure = outcome(driver.commands())
    assert (failure.message, failure.type) == ("no", "Refused")
    driver.history.update("broken", id="b")
    failed = driver.attempt()
    assert isinstance(failed, r.WorkflowTaskFailed), "a bug fails the task, which is retried"
    assert "a bug" in failed.failure.message


def test_what_cannot_be_taken_is_rejected() -> None:
    driver = Driver(Desk)
    driver.history.update("nothing")
    assert "Update handler for 'nothing' expected but not found" in rejection(driver.commands()).message
    driver.history.update("put", 1, id="number")
    assert rejection(driver.commands()).message
    driver.history.update("unclean", id="unclean")
    assert "must not" in rejection(driver.commands()).message


def test_unfinished_handlers_are_warned_of_when_a_workflow_ends() -> None:
    driver = Driver(Desk, check_replay=False)
    driver.history.update("slowly", "a", id="s")
    driver.history.update("forever", id="f")
    driver.step()
    driver.history.update("close", id="c")
    with pytest.warns(workflow.UnfinishedUpdateHandlersWarning, match=r"update handlers .* slowly \(id s\)\."):
        driver.step()


def test_an_update_that_was_accepted_is_not_started_again() -> None:
    driver = Driver(Desk)
    driver.history.update("put", "x")
    driver.step()
    driver.history.update("put", "x")
    assert driver.commands() == []


def test_a_handler_that_is_gone_is_nondeterminism() -> None:
    driver = Driver(Desk)
    driver.history.update("put", "x")
    driver.step()

    @workflow.defn(name="Desk")
    class Changed:
        @workflow.run
        async def run(self) -> None:
            await workflow.wait_condition(lambda: False)

    driver.workflow = Changed
    failed = run(driver.new_runner(), driver.history, driver.history.task())
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "NON_DETERMINISTIC_ERROR"
    assert "update 'put'" in failed.failure.message


def speculative(driver: Driver, *requests: r.UpdateRequest, number: str = "0.9") -> r.WorkflowTaskCompleted:
    """A task that stands in no history yet."""
    history = driver.history
    task = r.WorkflowTask(
        workflow_type=history.workflow_type,
        scheduled_event_id=history.last_event_id + 1,
        attempt=1,
        first_event_id=1,
        last_event_id=history.last_event_id + 1,
        updates=list(requests),
        speculative_id=number,
    )
    completed = run(driver.runner, history, task)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert completed.speculative_id == number
    return completed


def request(text: str, update_id: str = "u") -> r.UpdateRequest:
    return r.UpdateRequest(update_id=update_id, name="put", input=payloads(text))


def test_a_speculative_task_that_is_taken() -> None:
    driver = Driver(Desk)
    driver.step()
    completed = speculative(driver, request("x"))
    assert kinds(completed.commands) == ["AcceptUpdate", "CompleteUpdate"]
    driver.history.task()
    driver.history.apply(completed)
    assert driver.commands() == [], "the cached run and a replay agree on what came of it"
    driver.history.update("close", id="c")
    assert kinds(driver.commands())[-1] == "CompleteWorkflowExecution"


def test_a_speculative_task_whose_updates_are_rejected_never_was() -> None:
    driver = Driver(Desk)
    driver.history.update("put", "x")
    driver.step()
    completed = speculative(driver, request("x", "again"))
    assert kinds(completed.commands) == ["RejectUpdate"]
    assert driver.runner.next_event_id(driver.history.run_id) == driver.history.last_event_id + 1
    completed = speculative(driver, request("y", "y"), number="0.10")
    driver.history.task()
    driver.history.apply(completed)
    assert driver.commands() == []


def test_a_speculative_task_that_was_void_leaves_no_trace() -> None:
    driver = Driver(Desk)
    driver.step()
    speculative(driver, request("x"))
    driver.history.signal("mark", "meanwhile")
    driver.history.update("put", "x")
    # The cached run is given up: it must be replayed from the first event.
    task = driver.history.task()
    completed = driver.runner.run_task("wf", driver.history.run_id, task, driver.history.records, 0)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert outcome(completed.commands) == 3
    driver.history.apply(completed)
    late = speculative(driver, request("z", "z"))
    driver.history.task()
    driver.history.apply(late)
    assert driver.commands() == []


# --- definitions ------------------------------------------------------------------------------------------------------


def test_handlers_set_at_run_time() -> None:
    @workflow.defn
    class Sets:
        @workflow.run
        async def run(self) -> None:
            def check(text: str) -> None:
                if not text:
                    raise ValueError("empty")

            async def upper(text: str) -> str:
                return text.upper()

            def anything(name: str, args: Sequence[RawValue]) -> str:
                return f"{name} {len(args)}"

            workflow.set_update_handler("upper", upper, validator=check)
            workflow.set_dynamic_update_handler(anything)
            assert workflow.get_update_handler("upper") is upper
            assert workflow.get_dynamic_update_handler() is anything
            assert workflow.current_update_info() is None
            with pytest.raises(TypeError, match="without a handler"):
                workflow.set_update_handler("x", None, validator=check)
            with pytest.raises(TypeError, match="same parameters"):
                workflow.set_update_handler("x", anything, validator=check)
            await workflow.wait_condition(lambda: False)

    driver = Driver(Sets)
    driver.step()
    driver.history.update("upper", "a")
    assert outcome(driver.commands()) == "A"
    driver.history.update("upper", "", id="e")
    assert rejection(driver.commands()).message == "empty"
    driver.history.update("other", 1, 2, id="o")
    assert outcome(driver.commands(), "o") == "other 2"


def test_all_handlers_finished_counts_updates() -> None:
    @workflow.defn
    class Waits:
        def __init__(self) -> None:
            self.go = False

        @workflow.run
        async def run(self) -> str:
            await workflow.wait_condition(lambda: self.go)
            await workflow.wait_condition(workflow.all_handlers_finished)
            return "all done"

        @workflow.update
        async def slow(self) -> str:
            self.go = True
            await asyncio.sleep(5)
            return "slept"

    driver = Driver(Waits)
    driver.history.update("slow")
    assert kinds(driver.commands()) == ["AcceptUpdate", "StartTimer"]
    driver.history.fire_timer("1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kinds(driver.commands()) == ["CompleteUpdate", "CompleteWorkflowExecution"]


def test_what_cannot_be_a_handler() -> None:
    with pytest.raises(ValueError, match="has no name of its own"):

        @workflow.update(name="x", dynamic=True)  # type: ignore[call-overload]
        def both(self: Any, name: str, args: Sequence[RawValue]) -> None: ...

    with pytest.raises(TypeError, match="async"):

        @workflow.update
        def handler(self: Any) -> None: ...

        @handler.validator
        async def wrong(self: Any) -> None: ...

    with pytest.raises(ValueError, match="two update handlers named 'same'"):

        @workflow.defn
        class Twice:
            @workflow.run
            async def run(self) -> None: ...

            @workflow.update(name="same")
            def one(self) -> None: ...

            @workflow.update(name="same")
            def two(self) -> None: ...
