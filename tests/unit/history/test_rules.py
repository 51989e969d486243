"""Retry arithmetic and the lifecycle tables, as pure functions."""

from __future__ import annotations

import typing

import pytest

from perdure_history.core.evolve import _EVOLVE, UNNUMBERED, HistoryGapError, evolve
from perdure_history.core.lifecycle import ACTIVITY, LIFECYCLES, TIMER, WORKFLOW, IllegalTransitionError, mermaid
from perdure_history.core.policy import Policy
from perdure_history.core.retry import is_retryable, retry_interval_ms, workflow_task_backoff_ms
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import Event, Failure, FailureKind, RetryPolicy, TimeoutType, WorkflowStatus


@pytest.mark.parametrize(
    ("policy", "intervals_ms"),
    [
        (RetryPolicy(), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 100_000, 100_000]),
        (RetryPolicy(initial_interval_ms=10, backoff_coefficient=1.0), [10, 10, 10]),
        (RetryPolicy(initial_interval_ms=100, maximum_interval_ms=250), [100, 200, 250, 250]),
        (RetryPolicy(initial_interval_ms=1_000, backoff_coefficient=1.5), [1_000, 1_500, 2_250, 3_375]),
    ],
)
def test_retry_intervals(policy: RetryPolicy, intervals_ms: list[int]) -> None:
    assert [retry_interval_ms(policy, attempt) for attempt in range(1, len(intervals_ms) + 1)] == intervals_ms


def test_an_interval_that_cannot_be_computed_is_the_maximum() -> None:
    assert retry_interval_ms(RetryPolicy(backoff_coefficient=10.0), 1_000_000) == 100_000


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (Failure(kind=FailureKind.APPLICATION, type="Other"), True),
        (Failure(kind=FailureKind.APPLICATION, type="Fatal"), False),
        (Failure(kind=FailureKind.APPLICATION, type="Other", non_retryable=True), False),
        (Failure(kind=FailureKind.SERVER), True),
        (Failure(kind=FailureKind.SERVER, non_retryable=True), False),
        (Failure(kind=FailureKind.CANCELED), False),
        (Failure(kind=FailureKind.TERMINATED), False),
        (Failure(kind=FailureKind.TIMEOUT, timeout_type=TimeoutType.START_TO_CLOSE), True),
        (Failure(kind=FailureKind.TIMEOUT, timeout_type=TimeoutType.HEARTBEAT), True),
        (Failure(kind=FailureKind.TIMEOUT, timeout_type=TimeoutType.SCHEDULE_TO_START), False),
        (Failure(kind=FailureKind.TIMEOUT, timeout_type=TimeoutType.SCHEDULE_TO_CLOSE), False),
    ],
)
def test_what_may_be_retried(failure: Failure, retryable: bool) -> None:
    assert is_retryable(failure, RetryPolicy(non_retryable_error_types=["Fatal"])) is retryable


def test_workflow_task_back_off() -> None:
    waits_ms = [workflow_task_backoff_ms(attempt, Policy()) for attempt in (2, 3, 4, 8, 9, 10_000)]
    assert waits_ms == [0, 1_000, 2_000, 32_000, 60_000, 60_000]


# --- lifecycles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda lifecycle: lifecycle.name)
def test_every_state_of_a_lifecycle_can_be_reached(lifecycle: typing.Any) -> None:
    reached = {lifecycle.initial}
    while True:
        more = {after for (before, _), after in lifecycle.transitions.items() if before in reached} - reached
        if not more:
            break
        reached |= more
    assert {before for before, _ in lifecycle.transitions} <= reached


def test_what_is_closed_stays_closed() -> None:
    assert set(WORKFLOW.final_states()) == set(WorkflowStatus) - {WorkflowStatus.RUNNING}
    assert set(ACTIVITY.final_states()) == {"COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"}
    assert set(TIMER.final_states()) == {"FIRED", "CANCELED"}
    with pytest.raises(IllegalTransitionError, match="COMPLETED"):
        WORKFLOW.next(WorkflowStatus.COMPLETED, "WorkflowExecutionSignaled", "run")


def test_the_diagram_of_a_lifecycle() -> None:
    assert mermaid(TIMER) == (
        "stateDiagram-v2\n"
        "    [*] --> NEW\n"
        "    NEW --> RUNNING: TimerStarted\n"
        "    RUNNING --> FIRED: TimerFired\n"
        "    RUNNING --> CANCELED: TimerCanceled\n"
        "    FIRED --> [*]\n"
        "    CANCELED --> [*]\n"
    )


# --- evolve -----------------------------------------------------------------------------------------------------------


def test_every_event_the_core_can_make_can_be_folded() -> None:
    never_made = {records.WorkflowTaskTimedOut}
    assert set(typing.get_args(records.EventAttributes)) - never_made == set(_EVOLVE)
    assert set(_EVOLVE) >= UNNUMBERED


def event(event_id: int, attributes: typing.Any) -> Event:
    return Event(event_id=event_id, event_time_ms=event_id, attributes=attributes)


STARTED = records.WorkflowExecutionStarted(
    workflow_type="t", task_queue="q", first_execution_run_id="run", start_command_id="c"
)


@pytest.mark.parametrize("event_id", [0, 1, 3])
def test_i2_event_ids_are_gapless(event_id: int) -> None:
    state = RunState(workflow_id="wf", run_id="run")
    evolve(state, event(1, STARTED), 0)
    with pytest.raises(HistoryGapError, match=f"event {event_id} .* follows event 1"):
        evolve(state, event(event_id, records.WorkflowExecutionCancelRequested()), 0)


@pytest.mark.parametrize(
    "attributes",
    [
        STARTED,
        records.TimerFired(timer_id="t", started_event_id=1),
        records.ActivityTaskCompletedEvent(scheduled_event_id=1, attempt=1, started_time_ms=1),
        records.WorkflowTaskCompletedEvent(scheduled_event_id=1, last_event_id=1, started_time_ms=1),
    ],
)
def test_an_event_that_does_not_fit_is_not_taken(attributes: typing.Any) -> None:
    state = RunState(workflow_id="wf", run_id="run")
    evolve(state, event(1, STARTED), 0)
    with pytest.raises(IllegalTransitionError):
        evolve(state, event(2, attributes), 0)
