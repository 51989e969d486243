"""A command that cannot be processed: one run is put into quarantine, and nothing else suffers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure_history.core.decide import QuarantinedError
from perdure_history.core.failures import bounded
from perdure_history.partition import RecordTooLargeError
from perdure_runtime.log import LogRecord
from perdure_schemas import codec
from perdure_schemas.records import (
    ActivityTaskCompleted,
    AwaitResult,
    CompleteWorkflowExecution,
    DescribeWorkflow,
    Done,
    ErrorCode,
    ExecutionSummary,
    Failure,
    FailureKind,
    FetchHistory,
    HistoryPage,
    IdConflictPolicy,
    QueryWorkflow,
    Rejected,
    ReplyTo,
    SignalInput,
    SignalWorkflow,
    Started,
    TerminateWorkflow,
)
from tests.unit.history.harness import NAMES, History, options, payload, reply_to, start, state_of
from tests.unit.history.test_takeover import successor

SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))


def quarantined() -> History:
    history = History()
    history.schedule(options())
    history.quarantine(history.record(SIGNAL, run_id="run"), "ValueError: boom")
    return history


def garbage(history: History, key: bytes | None = b"wf") -> LogRecord:
    history.offset += 1
    return LogRecord(NAMES.commands, 0, history.offset - 1, key, b"not avro", history.now_ms)


def test_i5_an_unreadable_command_puts_its_workflow_into_quarantine() -> None:
    history = History()
    history.send(start())
    history.send(start("other"), workflow_id="other")
    record = garbage(history)
    with pytest.raises(codec.DecodeError):
        history.deliver(record)
    history.quarantine(record, "DecodeError: what is that?")
    assert history.kinds() == ["WorkflowQuarantined"]
    (summary,) = history.values(NAMES.executions, ExecutionSummary)
    assert summary.quarantine_reason == "DecodeError: what is that?"
    assert history.ask(SIGNAL, workflow_id="other") == Done(), "the partition goes on"


@pytest.mark.parametrize("key", [None, b"nobody", b"\xff"])
def test_i5_an_unreadable_command_for_nobody_harms_nobody(key: bytes | None) -> None:
    history = History()
    history.send(start())
    assert history.quarantine(garbage(history, key)) == []


def test_i5_a_decision_that_fails_halfway_leaves_the_run_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    history.send(start())
    history.complete_task()
    before = msgspec.structs.replace(history.run())

    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    record = history.record(SIGNAL, command_id="same")
    with monkeypatch.context() as patched:
        patched.setattr(history.handler._reactions, "of", fail)
        with pytest.raises(RuntimeError, match="boom"):
            history.deliver(record)
    assert history.run() == before
    assert history.ask(SIGNAL, command_id="same") == Done()
    assert history.kinds() == ["WorkflowExecutionSignaled", "WorkflowTaskScheduled"]


def test_i5_a_start_that_fails_halfway_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()

    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    record = history.record(start(), reply=reply_to())
    with monkeypatch.context() as patched:
        patched.setattr(history.handler._reactions, "of", fail)
        with pytest.raises(RuntimeError, match="boom"):
            history.deliver(record)
    assert state_of(history.handler, "run") is None
    history.quarantine(record)
    (reply,) = history.replies()
    assert isinstance(reply.body, Rejected)
    assert reply.body.code is ErrorCode.INTERNAL
    assert isinstance(history.ask(start()), Started)


def test_i5_a_read_that_fails_does_not_stop_the_run() -> None:
    history = History()
    history.send(start())
    record = history.record(DescribeWorkflow(), reply=reply_to())
    history.quarantine(record)
    assert not history.events()
    assert len(history.replies()) == 1


@pytest.mark.parametrize("body", [SIGNAL, QueryWorkflow(query_type="q", expires_at_ms=2**50)])
def test_a_quarantined_run_refuses_requests_with_the_reason(body: Any) -> None:
    answer = quarantined().ask(body)
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.run_id) == (ErrorCode.QUARANTINED, "run")
    assert "ValueError: boom" in answer.message


def test_messages_for_a_quarantined_run_belong_to_the_dead_letters() -> None:
    history = quarantined()
    body = ActivityTaskCompleted(scheduled_event_id=4, attempt=1, started_time_ms=1)
    record = history.record(body, run_id="run")
    with pytest.raises(QuarantinedError, match="boom"):
        history.deliver(record)
    assert history.quarantine(record) == [], "it is in quarantine already"


def test_a_quarantined_run_can_be_looked_at_and_terminated() -> None:
    history = quarantined()
    assert history.ask(DescribeWorkflow()).summary.quarantine_reason == "ValueError: boom"
    assert isinstance(history.ask(FetchHistory()), HistoryPage)
    history.send(AwaitResult(), reply=reply_to("waits"))
    history.send(TerminateWorkflow(), reply=reply_to("terminates"))
    assert {reply.request_id for reply in history.replies()} == {"waits", "terminates"}
    assert not history.outstanding(NAMES.tasks)


def test_a_start_does_not_join_a_quarantined_run_but_may_replace_it() -> None:
    history = quarantined()
    answer = history.ask(start("new", id_conflict_policy=IdConflictPolicy.USE_EXISTING))
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.QUARANTINED
    answer = history.ask(start("new", id_conflict_policy=IdConflictPolicy.TERMINATE_EXISTING))
    assert answer == Started(run_id="new", first_execution_run_id="new")


def test_quarantine_survives_a_takeover() -> None:
    history = quarantined()
    new = History(log=history.log, committed=history.offset, command_offset=history.offset)
    assert new.run() == history.run()
    assert new.run().quarantine_reason == "ValueError: boom"


def test_i4_the_dead_letter_of_an_earlier_owner_is_written_again_and_nothing_else() -> None:
    old = History()
    old.send(start())
    record = garbage(old)
    with pytest.raises(codec.DecodeError):
        old.deliver(record)
    old.send(SIGNAL)  # its history record arrives, and with it the letter's append does not
    new = successor(old, committed=record.offset)
    with pytest.raises(codec.DecodeError):
        new.deliver(record)
    assert new.quarantine(record) == []
    assert not new.run().quarantine_reason


@pytest.mark.parametrize("partition", [-1, NAMES.partitions])
def test_i5_an_asker_in_no_partition_is_not_answered(partition: int) -> None:
    history = History()
    nowhere = ReplyTo(client_id="c", partition=partition, request_id="r")
    history.send(start(await_result=True), reply=nowhere)
    history.complete_task(CompleteWorkflowExecution())
    history.quarantine(history.record(DescribeWorkflow(), reply=nowhere))
    assert not [record for record in history.all_sent if record.topic == NAMES.replies]
    assert history.handler.ignored["asker has no partition"] == 3
    assert not history.run().is_open


def test_i5_a_record_that_is_too_large_fails_its_decision_only(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    history.send(start())
    history.complete_task()
    monkeypatch.setattr("perdure_history.partition._RECORD_BYTES_MAX", 150)
    record = history.record(SIGNAL)
    with pytest.raises(RecordTooLargeError, match="limit is 150"):
        history.deliver(record)
    assert history.run().last_event_id == 3
    history.quarantine(garbage(history, b"nobody"))
    assert [event.event_id for event in history.history()] == [1, 2, 3]


def chain(length: int, **fields: Any) -> Failure:
    failure = Failure(kind=FailureKind.APPLICATION, message="no", type="T", **fields)
    for _ in range(length - 1):
        failure = Failure(kind=FailureKind.APPLICATION, message="no", type="T", cause=failure)
    return failure


@pytest.mark.parametrize(
    ("failure", "cut"),
    [
        (chain(3), False),
        (chain(60), True),
        (chain(1, stack_trace="x" * 300_000), True),
        (chain(2, details=[payload("x" * 300_000)]), True),
        (chain(1, encoded_attributes=payload("x" * 300_000)), True),
    ],
)
def test_failures_are_cut_where_they_are_too_large(failure: Failure, cut: bool) -> None:
    found = bounded(failure)
    assert (found is not failure) is cut
    assert (found.kind, found.type) == (failure.kind, failure.type)
    assert found.message.startswith("no")
    assert bounded(found) is found
