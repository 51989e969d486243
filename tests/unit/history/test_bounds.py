"""The engine's bounds: below, at and above each, with the platform's own numbers."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.failures import bounded
from perdure_history.core.policy import Policy
from perdure_history.cron import next_cron_ms
from perdure_schemas import limits
from perdure_schemas.records import (
    ActivityTaskHeartbeat,
    AwaitResult,
    CancelWorkflow,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    DeadlineReached,
    Done,
    ErrorCode,
    Failure,
    FailureKind,
    ModifyWorkflowProperties,
    PauseWorkflow,
    Payload,
    QueryWorkflow,
    RecordMarker,
    Rejected,
    ResetWorkflow,
    ScheduleActivityTask,
    SignalExternalWorkflowExecution,
    SignalInput,
    SignalWorkflow,
    StartChildWorkflowExecution,
    Started,
    StartTimer,
    TerminateWorkflow,
    UpsertWorkflowSearchAttributes,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.family import child_options
from tests.unit.history.harness import History, options, reply_to, start

around = pytest.mark.parametrize("surplus", [-1, 0, 1], ids=["below", "at", "above"])


def data(size_bytes: int) -> Payload:
    return Payload(data=b"x" * size_bytes)


def _answers(body: Any, surplus: int, says: str, *, started: bool = True) -> None:
    """A request that is taken up to the bound, and refused above it with its number."""
    history = History()
    if started:
        history.send(start())
    answer = history.ask(body)
    if surplus <= 0:
        assert isinstance(answer, Done | Started)
    else:
        assert isinstance(answer, Rejected)
        assert answer.code is ErrorCode.INVALID_ARGUMENT
        assert says in answer.message


def _task(commands: list[Any], surplus: int, cause: str, says: str) -> History:
    """A workflow task that is taken up to the bound, and fails above it with its number."""
    history = History()
    history.send(start())
    history.complete_task(*commands)
    failed = [e.attributes for e in history.events() if isinstance(e.attributes, WorkflowTaskFailedEvent)]
    if surplus <= 0:
        assert not failed
    else:
        assert [event.cause for event in failed] == [cause]
        assert failed[0].failure is not None
        assert says in failed[0].failure.message
    return history


@around
@pytest.mark.parametrize("place", ["input", "header", "signal", "signal header"])
def test_bound_of_the_payloads_of_a_call(surplus: int, place: str) -> None:
    size = limits.PAYLOAD_BYTES_MAX + surplus
    says = f"{limits.PAYLOAD_BYTES_MAX} bytes for one call"
    if place == "input":
        _answers(start(input=[data(size - 10), data(10)]), surplus, says, started=False)
    elif place == "header":
        _answers(start(input=[data(size - 10)], header={"h": data(10)}), surplus, says, started=False)
    else:
        header = {"h": data(10)} if place == "signal header" else {}
        signal = SignalInput(signal_name="s", input=[data(size - 10 if header else size)], header=header)
        _answers(SignalWorkflow(signal=signal), surplus, says)


@around
def test_bound_of_names(surplus: int) -> None:
    name = "n" * (limits.NAME_CHARS_MAX + surplus)
    says = f"1 to {limits.NAME_CHARS_MAX} characters"
    _answers(start(workflow_type=name), surplus, says, started=False)
    _answers(start(task_queue=name), surplus, says, started=False)
    _answers(start(memo={name: data(1)}), surplus, says, started=False)
    _answers(SignalWorkflow(signal=SignalInput(signal_name=name)), surplus, says)
    _answers(start(signal=SignalInput(signal_name=name)), surplus, says, started=False)
    _task([StartTimer(timer_id=name, start_to_fire_timeout_ms=1)], surplus, "BAD_START_TIMER_ATTRIBUTES", says)
    _task([RecordMarker(marker_name=name)], surplus, "BAD_RECORD_MARKER_ATTRIBUTES", says)
    activity = ScheduleActivityTask(options=options(name))
    _task([activity], surplus, "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", says)


@around
def test_bound_of_workflow_ids(surplus: int) -> None:
    history = History()
    answer = history.ask(start(), workflow_id="w" * (limits.WORKFLOW_ID_CHARS_MAX + surplus))
    assert isinstance(answer, Started if surplus <= 0 else Rejected)
    if isinstance(answer, Rejected):
        assert f"1 to {limits.WORKFLOW_ID_CHARS_MAX} characters" in answer.message


@around
@pytest.mark.parametrize("kind", [CancelWorkflow, TerminateWorkflow, PauseWorkflow])
def test_bound_of_reasons(surplus: int, kind: Any) -> None:
    reason = "r" * (limits.REASON_CHARS_MAX + surplus)
    _answers(kind(reason=reason), surplus, f"{limits.REASON_CHARS_MAX} are allowed")


@around
def test_bound_of_memos(surplus: int) -> None:
    says = f"{limits.MEMO_BYTES_MAX} are allowed"
    _answers(start(memo={"m": data(limits.MEMO_BYTES_MAX - 1 + surplus)}), surplus, says, started=False)
    half = limits.MEMO_BYTES_MAX // 2
    two = [
        ModifyWorkflowProperties(upserted_memo={"a": data(half - 1)}),
        ModifyWorkflowProperties(upserted_memo={"b": data(half - 1 + surplus)}),
    ]
    _task(two, surplus, "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES", says)


def test_what_is_removed_from_a_memo_does_not_count() -> None:
    large = data(limits.MEMO_BYTES_MAX - 100)
    instead = ModifyWorkflowProperties(upserted_memo={"b": large}, removed_memo=["a"])
    _task([ModifyWorkflowProperties(upserted_memo={"a": large}), instead], 0, "", "")


@around
def test_bounds_of_search_attributes(surplus: int) -> None:
    many = {f"{number:04}": data(1) for number in range(limits.SEARCH_ATTRIBUTES_MAX + surplus)}
    one = {"a": data(limits.SEARCH_ATTRIBUTE_BYTES_MAX + surplus)}
    each = limits.SEARCH_ATTRIBUTES_BYTES_MAX // 40
    all_together = {f"{number:04}": data(each - 4 + (surplus if number == 0 else 0)) for number in range(40)}
    for attributes, says in (
        (many, f"{limits.SEARCH_ATTRIBUTES_MAX} are allowed"),
        (one, f"{limits.SEARCH_ATTRIBUTE_BYTES_MAX} are allowed"),
        (all_together, f"{limits.SEARCH_ATTRIBUTES_BYTES_MAX} are allowed"),
    ):
        _answers(start(search_attributes=attributes), surplus, says, started=False)
        upsert = UpsertWorkflowSearchAttributes(search_attributes=attributes)
        _task([upsert], surplus, "BAD_SEARCH_ATTRIBUTES", says)


@around
def test_bound_of_static_texts(surplus: int) -> None:
    text = data(limits.STATIC_TEXT_BYTES_MAX + surplus)
    for field in ("static_summary", "static_details"):
        _answers(start(**{field: text}), surplus, f"{limits.STATIC_TEXT_BYTES_MAX} are allowed", started=False)


@around
def test_bound_of_what_a_cron_run_hands_on(surplus: int) -> None:
    history = History(HistoryConfig(policy=Policy(next_cron_ms=next_cron_ms)))
    given, size = 1024 * 1024, limits.CARRIED_BYTES_MAX - 1024 * 1024 + surplus
    history.send(start(cron_schedule="@hourly", input=[data(given)]))
    history.now_ms = history.run().wake_up_due_ms
    run = history.run()
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    history.complete_task(CompleteWorkflowExecution(result=[data(size)]))
    assert ("WorkflowExecutionCompleted" in history.kinds()) is (surplus <= 0)
    if surplus > 0:
        failed = history.events()[0].attributes
        assert isinstance(failed, WorkflowTaskFailedEvent)
        assert failed.failure is not None
        assert f"{limits.CARRIED_BYTES_MAX} are allowed" in failed.failure.message


def test_the_largest_run_that_may_continue_fits_into_its_records() -> None:
    """All bounds at once, so that none of them ends in a quarantine."""
    history = History()
    attributes = {f"{number:04}": data(limits.SEARCH_ATTRIBUTES_BYTES_MAX // 40 - 4) for number in range(40)}
    text = data(limits.STATIC_TEXT_BYTES_MAX)
    history.send(
        start(
            input=[data(10)],
            memo={"m": data(limits.MEMO_BYTES_MAX - 1)},
            search_attributes=attributes,
            static_summary=text,
            static_details=text,
        )
    )
    following = ContinueAsNewWorkflowExecution(
        workflow_type="Order", task_queue="orders", input=[data(limits.PAYLOAD_BYTES_MAX)]
    )
    history.complete_task(following)
    assert "WorkflowExecutionContinuedAsNew" in history.kinds()
    assert "WorkflowExecutionStarted" in history.kinds()


@around
@pytest.mark.parametrize(
    ("bound", "make", "cause"),
    [
        (
            limits.PENDING_ACTIVITIES_MAX,
            lambda number: ScheduleActivityTask(options=options(f"a{number}")),
            "PENDING_ACTIVITIES_LIMIT_EXCEEDED",
        ),
        (
            limits.PENDING_TIMERS_MAX,
            lambda number: StartTimer(timer_id=f"t{number}", start_to_fire_timeout_ms=1_000_000),
            "PENDING_TIMERS_LIMIT_EXCEEDED",
        ),
        (
            limits.PENDING_CHILDREN_MAX,
            lambda number: StartChildWorkflowExecution(options=child_options(f"c{number}")),
            "PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED",
        ),
        (
            limits.PENDING_EXTERNAL_REQUESTS_MAX,
            lambda number: SignalExternalWorkflowExecution(workflow_id=f"w{number}", signal_name="s"),
            "PENDING_EXTERNAL_REQUESTS_LIMIT_EXCEEDED",
        ),
    ],
    ids=["activities", "timers", "children", "external"],
)
def test_bounds_of_what_is_pending(surplus: int, bound: int, make: Any, cause: str) -> None:
    _task([make(number) for number in range(bound + surplus)], surplus, cause, str(bound))


@around
def test_bound_of_heartbeat_details(surplus: int) -> None:
    history = History()
    (scheduled,) = history.schedule(options(heartbeat_timeout_ms=5_000))
    size = limits.HEARTBEAT_BYTES_MAX + surplus
    beat = ActivityTaskHeartbeat(
        scheduled_event_id=scheduled, attempt=1, started_time_ms=history.now_ms, details=[data(size)]
    )
    history.send(beat, run_id="run")
    kept = history.run().activities[scheduled].heartbeat_details
    assert kept == ([data(size)] if surplus <= 0 else [])


@around
def test_bound_of_queries_at_once(surplus: int) -> None:
    history = History()
    history.send(start())
    refused = 0
    for number in range(limits.QUERIES_HELD_MAX + surplus):
        query = QueryWorkflow(query_type="q", expires_at_ms=history.now_ms + 10**6)
        history.send(query, reply=reply_to(f"r{number}"))
        refused += len(history.replies())
    assert refused == max(0, surplus)


@around
def test_bound_of_waiters(surplus: int) -> None:
    history = History()
    history.send(start())
    refused = 0
    for number in range(limits.WAITERS_MAX + surplus):
        history.send(AwaitResult(), reply=reply_to(f"r{number}"))
        refused += len(history.replies())
    assert refused == max(0, surplus)


@around
def test_bound_of_causes_and_bytes_of_a_failure(surplus: int) -> None:
    failure = Failure(kind=FailureKind.APPLICATION, message="root")
    for _ in range(limits.FAILURE_CHAIN_MAX + surplus):
        failure = Failure(kind=FailureKind.ACTIVITY, cause=failure)
    assert (bounded(failure) is failure) is (surplus <= 0)
    details = [data(limits.FAILURE_BYTES_MAX + surplus)]
    large = Failure(kind=FailureKind.APPLICATION, details=details)
    assert (bounded(large) is large) is (surplus <= 0)
    if surplus > 0:
        assert "cut: the failure was too large" in bounded(large).message


@around
def test_bound_of_the_history_that_is_reset(surplus: int) -> None:
    history = History()
    history.send(start())
    history.complete_task()
    history.run().history_bytes = limits.RESET_BYTES_MAX + surplus
    answer = history.ask(ResetWorkflow(run_id="new"))
    assert isinstance(answer, Started if surplus <= 0 else Rejected)


@around
def test_bound_of_events(surplus: int) -> None:
    """At the bound the run is terminated with a reason; a flood of signals cannot grow it further."""
    history = History()
    history.send(start())
    missing = limits.HISTORY_EVENTS_MAX - history.run().last_event_id + surplus
    # The state as it is after so many events; the events themselves are not what counts.
    history.run().last_event_id += missing - 1
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")), run_id="run")
    closed = "WorkflowExecutionTerminated" in history.kinds()
    assert closed is (surplus >= 0)
    if closed:
        reason = history.events()[-1].attributes.reason  # type: ignore[union-attr]
        assert f"the limits are {limits.HISTORY_EVENTS_MAX} events and {limits.HISTORY_BYTES_MAX} bytes" in reason
        answer = history.ask(SignalWorkflow(signal=SignalInput(signal_name="s")))
        assert isinstance(answer, Rejected)
