"""Runs that follow runs: continued as new, tried again, due by cron; delayed starts; what is carried over."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_schemas import codec, keys
from perdure_schemas.records import (
    AwaitResult,
    CancelWorkflow,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    DeadlineReached,
    Described,
    DescribeWorkflow,
    Done,
    ErrorCode,
    ExecutionSummary,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    HistoryRecord,
    ModifyWorkflowProperties,
    PauseWorkflow,
    Rejected,
    RetryPolicy,
    RetryState,
    SignalInput,
    SignalWorkflow,
    Started,
    StartTimer,
    TaskPriority,
    TerminateWorkflow,
    UnpauseWorkflow,
    UpsertWorkflowSearchAttributes,
    WorkflowClosed,
    WorkflowExecutionStarted,
    WorkflowExecutionTimedOut,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, START_MS, History, body_of, payload, reply_to, start, state_of

CONTINUE = ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders", input=[payload("2")])
SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))
RETRY = RetryPolicy(initial_interval_ms=1_000, maximum_attempts=3)


def test_the_run_that_follows_a_paused_one_is_paused() -> None:
    history = History()
    history.send(start())
    history.send(PauseWorkflow(reason="night"), command_id="p")
    history.complete_task(CONTINUE)
    following = started_run(history)
    run = history.run(following)
    assert (run.paused, run.pause_reason) == (True, "night")
    assert run.workflow_task is None
    history.send(UnpauseWorkflow())
    assert history.run(following).workflow_task is not None


def failing(type: str = "Oops", **fields: Any) -> FailWorkflowExecution:
    return FailWorkflowExecution(failure=Failure(kind=FailureKind.APPLICATION, message="no", type=type, **fields))


def current(history: History) -> str:
    """The run id of the workflow's newest run."""
    described = history.ask(DescribeWorkflow())
    assert isinstance(described, Described)
    return described.summary.run_id


def started(history: History, run_id: str) -> WorkflowExecutionStarted:
    attributes = history.history(run_id)[0].attributes
    assert isinstance(attributes, WorkflowExecutionStarted)
    return attributes


def wake_up(history: History, run_id: str) -> None:
    run = history.run(run_id)
    assert run.wake_up_due_ms
    history.now_ms = run.wake_up_due_ms
    body = DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms)
    history.send(body, run_id=run_id, workflow_id=run.workflow_id)


# --- continue as new --------------------------------------------------------------------------------------------------


def test_a_run_continues_as_new_in_one_decision_of_two_parts() -> None:
    history = History()
    history.send(start(header={"h": payload("h")}, memo={"m": payload("m")}, execution_timeout_ms=60_000))
    history.complete_task(ModifyWorkflowProperties(upserted_memo={"n": payload("n")}), StartTimer(
        timer_id="t", start_to_fire_timeout_ms=5_000
    ))  # fmt: skip
    history.send(SIGNAL)
    history.now_ms += 1_000
    history.complete_task(CONTINUE)
    closing, new = history.values(NAMES.history, HistoryRecord)
    assert [(r.part, r.parts, r.command_offset) for r in (closing, new)] == [(1, 2, 3), (2, 2, 3)]
    assert closing.run_id == "run"
    event = closing.events[-1]
    assert event.attributes.new_run_id == new.run_id == keys.next_run_id("run", event.event_id)
    first = started(history, new.run_id)
    assert (first.input, first.header) == ([payload("2")], {"h": payload("h")})
    assert first.memo == {"m": payload("m"), "n": payload("n")}
    assert (first.continued_run_id, first.first_execution_run_id, first.attempt) == ("run", "run", 1)
    assert first.initiator == "CONTINUE_AS_NEW"
    assert history.run(new.run_id).deadline_ms == START_MS + 60_000, "the deadline is the whole chain's"
    assert history.run("run").status is WorkflowStatus.CONTINUED_AS_NEW
    assert list(history.outstanding(NAMES.tasks)) == [keys.workflow_task_id(new.run_id, 2, 1)]
    assert list(history.outstanding(NAMES.timers)) == [keys.timer_id(new.run_id, 1)]


def test_those_who_wait_are_told_the_run_that_follows() -> None:
    history = History()
    history.send(start(await_result=True), reply=reply_to("starter"))
    history.send(AwaitResult(), reply=reply_to("other"))
    history.complete_task(CONTINUE)
    run_id = current_after = started_run(history)
    assert {reply.request_id for reply in history.replies()} == {"starter", "other"}
    for reply in history.replies():
        assert reply.body == WorkflowClosed(
            run_id="run", status=WorkflowStatus.CONTINUED_AS_NEW, new_run_id=current_after
        )
    late = history.ask(AwaitResult(), run_id="run")
    assert late.new_run_id == run_id


def started_run(history: History) -> str:
    """The run that the last decision started."""
    return history.values(NAMES.history, HistoryRecord)[-1].run_id


def test_a_signal_that_the_code_has_not_seen_keeps_the_run_open() -> None:
    history = History()
    history.send(start())
    task = history.run().workflow_task
    assert task is not None
    history.send(SIGNAL)
    history.complete_task(CONTINUE, last_event_id=task.scheduled_event_id)
    assert history.kinds() == ["WorkflowTaskFailedEvent"]
    assert history.events()[0].attributes.cause == "UNHANDLED_COMMAND"
    (task_record,) = history.tasks()
    assert body_of(task_record).last_event_id == history.run().last_event_id


def test_a_repeated_signal_is_taken_once_in_a_chain() -> None:
    history = History()
    history.send(start())
    history.send(SIGNAL, command_id="once")
    history.complete_task(CONTINUE)
    assert history.ask(SIGNAL, command_id="once") == Done()
    assert not history.events()
    history.send(SIGNAL, command_id="again")
    assert history.kinds() == ["WorkflowExecutionSignaled"]


def test_a_repeated_start_is_answered_with_the_first_run() -> None:
    history = History()
    history.send(start(), command_id="start")
    history.complete_task(CONTINUE)
    assert history.ask(start(), command_id="start") == Started(run_id="run", first_execution_run_id="run")
    assert not history.events()


def test_given_options_replace_the_old_ones() -> None:
    history = History()
    history.send(start(memo={"m": payload("m")}, run_timeout_ms=9_000, retry_policy=RETRY))
    other = RetryPolicy(maximum_attempts=7)
    command = ContinueAsNewWorkflowExecution(
        workflow_type="Other", task_queue="elsewhere", run_timeout_ms=5_000, task_timeout_ms=7_000, retry_policy=other,
        replaces_memo=True, search_attributes={"s": payload("s")}, replaces_search_attributes=True,
        backoff_start_interval_ms=2_000,
    )  # fmt: skip
    history.complete_task(command)
    run = history.run(started_run(history))
    assert (run.workflow_type, run.task_queue, run.memo) == ("Other", "elsewhere", {})
    assert (run.run_timeout_ms, run.task_timeout_ms, run.retry_policy) == (5_000, 7_000, other)
    assert run.search_attributes == {"s": payload("s")}
    assert run.workflow_task is None
    assert run.deadline_ms == START_MS + 2_000 + 5_000, "a run's timeout begins behind its back-off"
    wake_up(history, run.run_id)
    assert history.kinds() == ["WorkflowTaskScheduled"]
    assert history.now_ms == START_MS + 2_000


@pytest.mark.parametrize(
    "command",
    [
        ContinueAsNewWorkflowExecution(workflow_type="", task_queue="q"),
        ContinueAsNewWorkflowExecution(workflow_type="W", task_queue="q", backoff_start_interval_ms=-1),
        ContinueAsNewWorkflowExecution(workflow_type="W", task_queue="q", memo={"": payload("m")}),
        ContinueAsNewWorkflowExecution(
            workflow_type="W", task_queue="q", retry_policy=RetryPolicy(initial_interval_ms=0)
        ),
    ],
)
def test_bad_attributes_fail_the_workflow_task(command: ContinueAsNewWorkflowExecution) -> None:
    history = History()
    history.send(start())
    history.complete_task(command)
    assert history.events()[0].attributes.cause == "BAD_CONTINUE_AS_NEW_ATTRIBUTES"


def test_a_crash_between_the_parts_voids_the_first_one() -> None:
    history = History()
    history.send(start())
    history.complete_task(CONTINUE)
    new_run_id = started_run(history)
    history.log.pop()  # the second part never reached the log
    following = History(log=history.log, committed=1, command_offset=history.offset, now_ms=history.now_ms)
    assert following.run().status is WorkflowStatus.RUNNING
    assert following.handler.ignored == {"decision is incomplete": 1}
    assert state_of(following.handler, new_run_id) is None
    following.deliver(history.command_log[-1])
    assert following.run().status is WorkflowStatus.CONTINUED_AS_NEW
    assert started_run(following) == new_run_id, "the decision is taken again with the same ids"
    third = History(log=following.log, committed=2, command_offset=following.offset)
    assert third.run() == following.run()
    assert third.run(new_run_id) == following.run(new_run_id)


def test_a_crash_behind_both_parts_sends_the_new_runs_task_again() -> None:
    history = History()
    history.send(start())
    history.complete_task(CONTINUE)
    new_run_id = started_run(history)
    following = History(log=history.log, committed=1, command_offset=history.offset)
    tasks = [task.task_id for task in following.tasks()]
    assert tasks == [keys.workflow_task_id(new_run_id, 2, 1)]


def test_cancel_and_terminate_of_a_chain_reach_its_current_run_only() -> None:
    history = History()
    history.send(start())
    history.complete_task(CONTINUE)
    new_run_id = started_run(history)
    refused = history.ask(CancelWorkflow(first_execution_run_id="another"))
    assert isinstance(refused, Rejected)
    assert refused.code is ErrorCode.NOT_FOUND
    assert history.ask(CancelWorkflow(first_execution_run_id="run")) == Done()
    assert history.run(new_run_id).cancel_requested
    assert history.ask(TerminateWorkflow(first_execution_run_id="run")) == Done()
    assert history.run(new_run_id).status is WorkflowStatus.TERMINATED


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_tried_again_until_its_attempts_are_used_up() -> None:
    history = History()
    history.send(start(retry_policy=RETRY, input=[payload("in")]))
    run_id = "run"
    for attempt, wait_ms in ((1, 1_000), (2, 2_000)):
        history.complete_task(failing(), run_id=run_id)
        closing = history.events()[1].attributes
        assert closing.retry_state is RetryState.IN_PROGRESS
        assert closing.new_run_id == started_run(history)
        failed_ms, run_id = history.now_ms, closing.new_run_id
        first = started(history, run_id)
        assert (first.attempt, first.initiator, first.first_task_backoff_ms) == (attempt + 1, "RETRY", wait_ms)
        assert (first.input, first.first_execution_run_id) == ([payload("in")], "run")
        assert first.last_failure is not None
        assert history.run(run_id).workflow_task is None
        wake_up(history, run_id)
        assert history.now_ms == failed_ms + wait_ms
    history.complete_task(failing(), run_id=run_id)
    assert history.events()[-1].attributes.retry_state is RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert current(history) == run_id


@pytest.mark.parametrize(
    ("fields", "command", "retry_state"),
    [
        ({}, failing(), RetryState.RETRY_POLICY_NOT_SET),
        ({"retry_policy": RETRY}, failing(non_retryable=True), RetryState.NON_RETRYABLE_FAILURE),
        (
            {"retry_policy": RetryPolicy(non_retryable_error_types=["Bad"])},
            failing("Bad"),
            RetryState.NON_RETRYABLE_FAILURE,
        ),
        ({"retry_policy": RETRY, "execution_timeout_ms": 900}, failing(), RetryState.TIMEOUT),
    ],
)
def test_a_run_is_not_tried_again(fields: Any, command: FailWorkflowExecution, retry_state: RetryState) -> None:
    history = History()
    history.send(start(**fields))
    history.complete_task(command)
    closing = history.events()[-1].attributes
    assert (closing.retry_state, closing.new_run_id) == (retry_state, "")


def test_the_failure_may_say_when_to_try_again() -> None:
    history = History()
    history.send(start(retry_policy=RETRY))
    history.complete_task(failing(next_retry_delay_ms=77))
    assert started(history, started_run(history)).first_task_backoff_ms == 77


def test_a_run_that_took_too_long_is_tried_again_within_the_execution_timeout() -> None:
    history = History()
    history.send(start(retry_policy=RetryPolicy(initial_interval_ms=100), run_timeout_ms=1_000,
                       execution_timeout_ms=1_500))  # fmt: skip
    wake_up(history, "run")
    closing = history.events()[0].attributes
    assert isinstance(closing, WorkflowExecutionTimedOut)
    assert closing.retry_state is RetryState.IN_PROGRESS
    run_id = closing.new_run_id
    wake_up(history, run_id)
    assert history.kinds() == ["WorkflowTaskScheduled"]
    wake_up(history, run_id)
    assert history.now_ms == START_MS + 1_500
    assert history.events()[0].attributes == WorkflowExecutionTimedOut(retry_state=RetryState.TIMEOUT)


def test_a_run_that_was_asked_to_stop_is_not_tried_again() -> None:
    history = History()
    history.send(start(retry_policy=RETRY))
    history.send(CancelWorkflow())
    history.complete_task(failing())
    assert history.events()[-1].attributes.retry_state is RetryState.CANCEL_REQUESTED


# --- cron -------------------------------------------------------------------------------------------------------------


def test_a_cron_schedule_starts_run_after_run_and_hands_results_on() -> None:
    history = History()
    history.send(start(cron_schedule="*/10 * * * *"))
    assert history.kinds() == ["WorkflowExecutionStarted"]
    period_ms = 600_000
    wake_up(history, "run")
    assert history.now_ms % period_ms == 0
    history.now_ms += 1_000
    history.complete_task(CompleteWorkflowExecution(result=[payload("one")]))
    second = started_run(history)
    assert history.events()[1].attributes.new_run_id == second
    first = started(history, second)
    assert (first.initiator, first.last_completion_result, first.last_failure) == ("CRON", [payload("one")], None)
    wake_up(history, second)
    assert history.now_ms % period_ms == 0
    history.complete_task(failing(), run_id=second)
    third = started_run(history)
    after_failure = started(history, third)
    assert after_failure.last_completion_result == [payload("one")]
    assert after_failure.last_failure is not None
    assert (after_failure.attempt, after_failure.first_execution_run_id) == (1, "run")


def test_a_failed_cron_run_is_tried_again_before_the_schedule_goes_on() -> None:
    history = History()
    retry = RetryPolicy(initial_interval_ms=1_000, maximum_attempts=2)
    history.send(start(cron_schedule="@hourly", retry_policy=retry))
    wake_up(history, "run")
    history.complete_task(failing())
    second = started_run(history)
    assert started(history, second).initiator == "RETRY"
    wake_up(history, second)
    history.complete_task(failing(), run_id=second)
    third = started(history, started_run(history))
    assert (third.initiator, third.attempt) == ("CRON", 1)


def test_signals_do_not_wake_a_cron_run_and_a_cancellation_ends_it() -> None:
    history = History()
    history.send(start(cron_schedule="@hourly"))
    history.send(SIGNAL)
    assert history.kinds() == ["WorkflowExecutionSignaled"]
    history.send(CancelWorkflow())
    assert history.kinds() == ["WorkflowExecutionCancelRequested", "WorkflowExecutionCanceled"]
    assert not history.outstanding(NAMES.timers)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cron_schedule": "every day"}, "five fields"),
        ({"cron_schedule": "61 * * * *"}, "cannot be read"),
        ({"cron_schedule": "* * * * *", "start_delay_ms": 5}, "cannot be combined"),
        ({"start_delay_ms": -5}, "cannot be negative"),
        ({"retry_policy": RetryPolicy(maximum_attempts=-1)}, "maximum attempts"),
        ({"search_attributes": {"": payload("1")}}, "search attributes"),
    ],
)
def test_a_bad_start_is_refused(fields: Any, message: str) -> None:
    answer = History().ask(start(**fields))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert message in answer.message


# --- delayed starts ---------------------------------------------------------------------------------------------------


def test_a_delayed_start_waits() -> None:
    history = History()
    history.send(start(start_delay_ms=5_000, execution_timeout_ms=10_000))
    assert not history.tasks()
    assert history.run().deadline_ms == START_MS + 15_000
    (summary,) = history.values(NAMES.executions, ExecutionSummary)
    assert summary.execution_time_ms == START_MS + 5_000
    wake_up(history, "run")
    assert history.now_ms == START_MS + 5_000
    assert len(history.tasks("workflow")) == 1


def test_a_signal_ends_the_delay_but_the_one_that_came_with_the_start_does_not() -> None:
    history = History()
    history.send(start(start_delay_ms=5_000, signal=SignalInput(signal_name="first")))
    assert history.kinds() == ["WorkflowExecutionStarted", "WorkflowExecutionSignaled"]
    history.send(SIGNAL)
    assert history.kinds() == ["WorkflowExecutionSignaled", "WorkflowTaskScheduled"]
    wake_up(history, "run")
    assert not history.events()
    assert not history.outstanding(NAMES.timers)


# --- what a run carries -----------------------------------------------------------------------------------------------


def test_memo_and_search_attributes_are_set_and_removed() -> None:
    history = History()
    history.send(start(memo={"a": payload("1"), "b": payload("2")}, search_attributes={"x": payload("1")}))
    history.complete_task(
        ModifyWorkflowProperties(upserted_memo={"c": payload("3")}, removed_memo=["a", "unknown"]),
        UpsertWorkflowSearchAttributes(search_attributes={"y": payload("2")}, removed=["x"]),
    )
    summary = history.values(NAMES.executions, ExecutionSummary)[-1]
    assert summary.memo == {"b": payload("2"), "c": payload("3")}
    assert summary.search_attributes == {"y": payload("2")}
    assert history.history()[0].attributes.memo == {"a": payload("1"), "b": payload("2")}, "events do not change"


def test_a_memo_may_not_grow_without_bound() -> None:
    history = History()
    history.send(start(memo={"a": payload("x" * 600_000)}))
    history.complete_task(ModifyWorkflowProperties(upserted_memo={"b": payload("x" * 600_000)}))
    assert history.events()[0].attributes.cause == "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES"


def test_the_priority_stands_in_the_workflow_tasks() -> None:
    history = History()
    history.send(start(priority=TaskPriority(priority=1, fairness_key="k", fairness_weight=2.0)))
    (task,) = history.tasks("workflow")
    assert (task.priority, task.fairness_key, task.fairness_weight) == (1, "k", 2.0)


def test_a_description_shows_what_the_start_said() -> None:
    history = History()
    history.send(start(static_summary=payload("s"), static_details=payload("d"), cron_schedule="@hourly"))
    described = history.ask(DescribeWorkflow())
    assert (described.static_summary, described.static_details) == (payload("s"), payload("d"))
    assert (described.attempt, described.cron_schedule) == (1, "@hourly")


def test_a_workflow_task_says_how_large_the_history_is() -> None:
    history = History()
    history.send(start())
    written = [record for record in history.sent if record.topic == NAMES.history]
    history.complete_task(CompleteWorkflowExecution(), last_event_id=2)
    history.send(start("second"), workflow_id="wf2")
    history.send(SIGNAL, workflow_id="wf2")
    history.complete_task(run_id="second", last_event_id=2)
    event = history.events()[-1].attributes
    assert len(codec.encode(codec.decode(written[0].value or b""))) < event.history_bytes
