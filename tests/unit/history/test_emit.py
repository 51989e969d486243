"""Emitted records in the history, and what a relay makes of it: each once, whatever is reset, void or decided twice."""

from __future__ import annotations

from itertools import pairwise

import pytest

from perdure_runtime.log import LogRecord
from perdure_runtime.relay.carrier import Position
from perdure_runtime.relay.following import Emit, Follower
from perdure_schemas import codec, keys, limits
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    EmitRecord,
    ForkWorkflow,
    HistoryRecord,
    ResetWorkflow,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.harness import NAMES, History, start

TOPIC = "shipments"
BEGINNING = Position(0, -1)


def emit(content: str, **fields: object) -> EmitRecord:
    return EmitRecord(**{"topic": TOPIC, "key": b"k", "value": content.encode(), **fields})


def followed(log: list[LogRecord], since: Position = BEGINNING) -> list[Emit]:
    follower = Follower(0, since)
    return [found for record in log if record.offset >= since.offset for found in follower.take(record)]


def values(emits: list[Emit]) -> list[str]:
    return [(emit.event.value or b"").decode() for emit in emits]


def _started() -> History:
    history = History()
    history.send(start())
    return history


def test_records_are_emitted_in_the_order_of_the_commands_with_ids_of_their_own() -> None:
    history = _started()
    history.complete_task(
        emit("a"), StartTimer(timer_id="t", start_to_fire_timeout_ms=1), emit("b", headers={"h": b"1"})
    )
    emits = followed(history.log)
    assert values(emits) == ["a", "b"]
    assert [found.id for found in emits] == ["run/4", "run/6"]
    record = emits[1].record()
    assert (record.topic, record.key, record.value, record.timestamp_ms) == (TOPIC, b"k", b"b", history.now_ms)
    assert dict(record.headers) == {
        "h": b"1", "perdure-workflow-id": b"wf", "perdure-run-id": b"run", "perdure-emit-id": b"run/6",
    }  # fmt: skip


def test_only_what_emits_is_flagged() -> None:
    history = _started()
    history.complete_task(StartTimer(timer_id="t", start_to_fire_timeout_ms=1))
    assert not [record for record in history.log if record.headers]
    history.send(ResetWorkflow(run_id="new"))
    history.complete_task(emit("a"), run_id="new")
    assert [record.headers for record in history.log if record.headers] == [keys.EMITS_HEADERS]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topic": "no topic"}, "no topic name"),
        ({"topic": "x" * (limits.TOPIC_CHARS_MAX + 1)}, str(limits.TOPIC_CHARS_MAX)),
        ({"topic": "perdure.default.commands"}, "a topic of the platform"),
        ({"value": b"x" * (limits.PAYLOAD_BYTES_MAX + 1)}, str(limits.PAYLOAD_BYTES_MAX)),
        ({"headers": {"h": b"x" * (limits.PAYLOAD_BYTES_MAX + 1)}}, str(limits.PAYLOAD_BYTES_MAX)),
    ],
)
def test_what_no_topic_takes_fails_the_workflow_task(fields: dict[str, object], message: str) -> None:
    history = _started()
    history.complete_task(emit("a"), emit("b", **fields))
    failed = history.events()[0].attributes
    assert isinstance(failed, WorkflowTaskFailedEvent)
    assert failed.cause == "BAD_EMIT_RECORD_ATTRIBUTES"
    assert message in failed.failure.message
    assert followed(history.log) == []


def test_a_reset_copies_what_was_emitted_and_emits_it_no_second_time() -> None:
    history = _started()
    history.complete_task(emit("a"), StartTimer(timer_id="t", start_to_fire_timeout_ms=1))
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))
    history.complete_task(emit("b"))
    history.send(ResetWorkflow(run_id="new"))
    copied = [type(event.attributes).__name__ for event in history.history("new")]
    assert copied.count("RecordEmitted") == 1
    history.complete_task(emit("c"), CompleteWorkflowExecution(), run_id="new")
    emits = followed(history.log)
    assert values(emits) == ["a", "b", "c"]
    assert len({found.id for found in emits}) == 3


def test_a_fork_emits_nothing_of_its_source() -> None:
    history = _started()
    history.complete_task(emit("a"), StartTimer(timer_id="t", start_to_fire_timeout_ms=1))
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))
    history.complete_task(CompleteWorkflowExecution())
    brought = [record.value for record in history.log if record.value and not keys.is_mark(record.key)]
    point = [e.event_id for e in history.history() if type(e.attributes).__name__ == "WorkflowTaskCompletedEvent"][1]
    fork = ForkWorkflow(run_id="forked", source_workflow_id="wf", source_run_id="run", records=brought, event_id=point)
    history.send(fork, workflow_id="other")
    assert "RecordEmitted" in [type(event.attributes).__name__ for event in history.history("forked")]
    assert values(followed(history.log)) == ["a"]


def test_what_is_emitted_with_the_next_run_counts_when_both_parts_are_there() -> None:
    history = _started()
    history.complete_task(emit("a"), ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders"))
    parts = [record for record in history.log if record.headers]
    assert len(parts) == 2
    follower = Follower(0, BEGINNING)
    for record in history.log[: parts[1].offset]:
        assert follower.take(record) == []
    # Whoever goes on from here has to see the first part again.
    assert follower.position.offset == parts[0].offset
    assert values(follower.take(parts[1])) == ["a"]
    assert follower.position.offset == parts[1].offset + 1


def test_a_half_decision_before_a_mark_is_void_and_taken_again() -> None:
    history = _started()
    history.complete_task(emit("a"), ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders"))
    second = next(record for record in history.log if record.headers and record.offset == history.log[-1].offset)
    torn = [record for record in history.log if record is not second]
    again = History(history.config, log=torn, command_offset=history.offset - 1, now_ms=history.now_ms)
    again.deliver(history.command_log[-1])
    assert values(followed(again.log)) == ["a"]


def test_records_of_a_deposed_owner_behind_the_mark_are_void() -> None:
    history = _started()
    before = list(history.log)
    history.complete_task(emit("late"))
    late = history.log[-1]
    newer = History(history.config, log=list(before), command_offset=history.offset, now_ms=history.now_ms)
    newer.log.append(late._replace(offset=newer.log[-1].offset + 1))
    newer.complete_task(emit("valid"))
    assert values(followed(newer.log)) == ["valid"]
    # Also for who begins behind the mark.
    mark = newer.epoch
    assert values(followed(newer.log, Position(mark + 1, mark))) == ["valid"]


def test_every_position_leads_to_the_same_emits() -> None:
    history = _started()
    for number in range(4):
        history.complete_task(emit(f"{number}"), StartTimer(timer_id=f"{number}", start_to_fire_timeout_ms=1))
        history = History(history.config, log=history.log, command_offset=history.offset, now_ms=history.now_ms)
        history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))
    expected = followed(history.log)
    assert len(expected) == 4
    follower = Follower(0, BEGINNING)
    told = []
    positions = [follower.position]
    for record in history.log:
        told += follower.take(record)
        positions.append(follower.position)
        assert told + followed(history.log, follower.position) == expected
    assert all(one.offset <= other.offset for one, other in pairwise(positions))


def test_damaged_records_are_told_and_passed_over() -> None:
    history = _started()
    history.complete_task(emit("a"))
    record = history.log[-1]
    follower = Follower(0, BEGINNING)
    with pytest.raises(codec.DecodeError):
        follower.take(record._replace(value=b"nonsense"))
    with pytest.raises(ValueError, match="no key"):
        follower.take(record._replace(key=None))
    assert values(follower.take(record._replace(offset=record.offset + 1))) == ["a"]


def test_the_history_holds_the_record_in_full() -> None:
    history = _started()
    history.complete_task(emit("a", key=None, headers={"h": b"\xff"}))
    (value,) = history.values(NAMES.history, HistoryRecord)
    emitted = value.events[1].attributes
    assert (emitted.topic, emitted.key, emitted.value, emitted.headers) == (TOPIC, None, b"a", {"h": b"\xff"})
