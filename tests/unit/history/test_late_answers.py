"""The answer that a run has started, to somebody who waits for its end: given late, or not at all."""

from __future__ import annotations

from perdure_history.late_answers import LateAnswer, LateAnswers
from perdure_schemas.records import CompleteWorkflowExecution, Started, WorkflowClosed, WorkflowStatus
from tests.unit.history.harness import History, payload, reply_to, start

STARTED = Started(run_id="run", first_execution_run_id="run")


def late(run_id: str) -> LateAnswer:
    return LateAnswer(reply_to("1"), "order", Started(run_id=run_id, first_execution_run_id=run_id))


def tick(history: History, now_ms: int) -> None:
    history.now_ms = now_ms
    history.tick()


def test_a_run_that_ends_before_is_answered_once() -> None:
    history = History()
    history.send(start(await_result=True, start_answer_delay_ms=1_000), reply=reply_to("1"))
    assert not history.replies()
    history.complete_task(CompleteWorkflowExecution(result=[payload("x")]))
    (closed,) = history.replies()
    assert closed.body == WorkflowClosed(run_id="run", status=WorkflowStatus.COMPLETED, result=[payload("x")])
    tick(history, history.now_ms + 1_000)
    assert not history.replies()


def test_a_run_that_goes_on_is_answered_when_the_delay_is_over() -> None:
    history = History()
    history.send(start(await_result=True, start_answer_delay_ms=400), reply=reply_to("1"))
    due_ms = history.handler.next_wakeup_ms()
    assert due_ms == history.now_ms + 400
    tick(history, due_ms - 1)
    assert not history.replies()
    tick(history, due_ms)
    (started,) = history.replies()
    assert (started.body, started.request_id) == (STARTED, "1")
    assert history.handler.next_wakeup_ms() is None


def test_no_answer_waits_longer_than_the_engine_allows() -> None:
    history = History()
    history.send(start(await_result=True, start_answer_delay_ms=3_600_000), reply=reply_to("1"))
    assert history.handler.next_wakeup_ms() == history.now_ms + history.config.answer_delay_ms_max


def test_whoever_does_not_wait_for_the_end_is_answered_at_once() -> None:
    assert History().ask(start(start_answer_delay_ms=1_000)) == STARTED


def test_a_start_that_is_repeated_is_answered_at_once() -> None:
    history = History()
    asked = start(await_result=True, start_answer_delay_ms=1_000)
    history.send(asked, reply=reply_to("1"), command_id="id")
    history.send(asked, reply=reply_to("1"), command_id="id")
    (started,) = history.replies()
    assert started.body == STARTED


def test_answers_come_in_the_order_of_their_times() -> None:
    answers = LateAnswers()
    for run_id, due_ms in (("c", 30), ("a", 10), ("b", 20)):
        answers.keep(run_id, due_ms, late(run_id))
    answers.drop("a")
    answers.drop("unknown")
    assert answers.due_ms() == 20
    assert list(answers.take(19)) == []
    assert list(answers.take(30)) == [late("b"), late("c")]
    assert answers.due_ms() is None
