"""A workflow task that fails again and again: later and later, shown with its failure, and over when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_schemas.limits import STUCK_ATTEMPT_MIN, STUCK_FAILURE_CHARS_MAX
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    DeadlineReached,
    DescribeWorkflow,
    ExecutionSummary,
    Failure,
    FailureKind,
    WorkflowTaskFailed,
)
from tests.unit.history.harness import NAMES, History, start


def fail(history: History, message: str = "boom", cause: str = "WORKFLOW_WORKER_UNHANDLED_FAILURE") -> None:
    """Fail the outstanding workflow task; waits for its turn first."""
    task = history.run().workflow_task
    assert task is not None
    if task.scheduled_time_ms > history.now_ms:
        history.now_ms = task.scheduled_time_ms
        run = history.run()
        history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id=run.run_id)
    failure = Failure(kind=FailureKind.APPLICATION, message=message)
    body = WorkflowTaskFailed(
        scheduled_event_id=task.scheduled_event_id, attempt=task.attempt, cause=cause, failure=failure
    )
    history.send(body, run_id="run")


def summaries(history: History) -> list[ExecutionSummary]:
    return history.values(NAMES.executions, ExecutionSummary)


@pytest.mark.parametrize("failures", [STUCK_ATTEMPT_MIN - 2, STUCK_ATTEMPT_MIN - 1, STUCK_ATTEMPT_MIN])
def test_bound_of_the_attempts_before_a_run_is_stuck(failures: int) -> None:
    history = History()
    history.send(start())
    for _ in range(failures):
        fail(history)
    stuck = failures + 1 >= STUCK_ATTEMPT_MIN
    assert [summary.stuck_attempt for summary in summaries(history)] == ([failures + 1] if stuck else [])
    described = history.ask(DescribeWorkflow())
    assert described.summary.stuck_reason == ("WORKFLOW_WORKER_UNHANDLED_FAILURE: boom" if stuck else "")
    assert described.pending_workflow_task.last_failure.message == "boom"


def test_attempts_come_later_and_later_up_to_a_bound() -> None:
    policy = Policy(task_retry_initial_ms=1_000, task_retry_interval_ms_max=5_000)
    history = History(HistoryConfig(policy=policy))
    history.send(start())
    waits_ms = []
    for _ in range(7):
        fail(history)
        task = history.run().workflow_task
        assert task is not None
        waits_ms.append(task.scheduled_time_ms - history.now_ms)
    assert waits_ms == [0, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]
    # The history does not grow with them.
    assert len(history.history()) == 3


def test_a_run_whose_code_is_mended_is_not_stuck_any_more() -> None:
    history = History()
    history.send(start())
    for _ in range(4):
        fail(history)
    run = history.run()
    history.now_ms = run.wake_up_due_ms
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    assert not summaries(history), "nothing has changed for those who look at lists"
    history.complete_task()
    assert [(s.stuck_attempt, s.stuck_reason) for s in summaries(history)] == [(0, "")]


@pytest.mark.parametrize("surplus", [-1, 0, 1])
def test_bound_of_a_failure_in_lists(surplus: int) -> None:
    history = History()
    history.send(start())
    for _ in range(STUCK_ATTEMPT_MIN):
        fail(history, "x" * (STUCK_FAILURE_CHARS_MAX - len("C: ") + surplus), "C")
    (summary,) = summaries(history)
    assert len(summary.stuck_reason) == STUCK_FAILURE_CHARS_MAX + min(surplus, 0)
    assert summary.stuck_reason.startswith("C: xxx")


def test_a_later_owner_says_the_same() -> None:
    history = History()
    history.send(start())
    for _ in range(4):
        fail(history)
    before: Any = history.ask(DescribeWorkflow())
    later = History(log=history.log, committed=history.offset, command_offset=history.offset, now_ms=history.now_ms)
    after = later.ask(DescribeWorkflow())
    assert after.summary.stuck_reason == before.summary.stuck_reason != ""
    assert after.summary.stuck_attempt == 5
    assert not before.pending_activities


def test_code_that_only_has_to_see_what_has_arrived_is_not_stuck() -> None:
    history = History()
    history.send(start())
    for _ in range(5):
        fail(history, cause="UNHANDLED_COMMAND")
    assert not summaries(history)
    assert history.ask(DescribeWorkflow()).summary.stuck_reason == ""
    history.complete_task(CompleteWorkflowExecution())
    assert [s.stuck_attempt for s in summaries(history)] == [0] * len(summaries(history))
