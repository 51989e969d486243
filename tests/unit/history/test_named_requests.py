"""Requests that their askers have named change something once, whatever became of the run they were for (I3)."""

from __future__ import annotations

from perdure_schemas.keys import request_command_id, requested_run_id
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    Done,
    ErrorCode,
    Rejected,
    SignalInput,
    SignalWorkflow,
    Started,
)
from tests.unit.history.harness import History, start

NAMED = request_command_id("orders/0/7")
SIGNAL_INPUT = SignalInput(signal_name="s")
SIGNAL = SignalWorkflow(signal=SIGNAL_INPUT)
COMPLETE = CompleteWorkflowExecution(result=[])


def signals(history: History, run_id: str) -> int:
    return [type(event.attributes).__name__ for event in history.history(run_id)].count("WorkflowExecutionSignaled")


def closed_after_signal() -> History:
    history = History()
    history.send(start("r1"))
    assert history.ask(SIGNAL, command_id=NAMED) == Done()
    history.complete_task(COMPLETE, run_id="r1")
    return history


def test_a_repeated_signal_is_known_by_a_closed_run() -> None:
    history = closed_after_signal()
    assert history.ask(SIGNAL, command_id=NAMED) == Done()
    assert signals(history, "r1") == 1


def test_a_new_signal_is_refused_by_a_closed_run() -> None:
    answer = closed_after_signal().ask(SIGNAL, command_id=request_command_id("orders/0/8"))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.NOT_FOUND


def test_a_repeated_signal_is_known_though_another_run_has_the_workflow_id_now() -> None:
    history = closed_after_signal()
    history.send(start("r2"))
    assert history.ask(SIGNAL, command_id=NAMED) == Done()
    assert signals(history, "r2") == 0


def test_a_repeated_start_with_signal_makes_no_run_after_the_one_it_signalled_has_closed() -> None:
    history = History()
    history.send(start("r1"))
    with_signal = start("r-of-7", signal=SIGNAL_INPUT)
    history.send(with_signal, command_id=NAMED)
    history.complete_task(COMPLETE, run_id="r1")
    answer = history.ask(with_signal, command_id=NAMED)
    assert isinstance(answer, Started)
    assert answer.run_id == "r1"
    assert signals(history, "r1") == 1
    assert not history.history("r-of-7")


def test_a_repeated_start_makes_no_run_though_its_run_has_closed_and_another_came() -> None:
    history = History()
    first, second = requested_run_id("w", "orders/0/7"), requested_run_id("w", "orders/0/8")
    history.send(start(first), command_id=NAMED)
    history.complete_task(COMPLETE, run_id=first)
    history.send(start(second), command_id=request_command_id("orders/0/8"))
    answer = history.ask(start(first), command_id=NAMED)
    assert isinstance(answer, Started)
    assert answer.run_id == first
    assert len(history.history(first)) == len({event.event_id for event in history.history(first)})
    assert history.run(second).is_open


def test_what_a_run_has_taken_is_forgotten_with_it() -> None:
    history = closed_after_signal()
    history.now_ms += 400 * 24 * 3_600_000
    history.tick()
    history.send(start("r2"))
    assert history.ask(SIGNAL, command_id=NAMED) == Done()
    assert signals(history, "r2") == 1
