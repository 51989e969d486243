"""A wait for a record in the history: it begins, ends once, is bounded, and stands in the run's summary meanwhile."""

from __future__ import annotations

import pytest

from perdure_schemas import codec, keys, limits
from perdure_schemas.records import (
    CancelRecordWait,
    CompleteWorkflowExecution,
    DeliverRecord,
    ExecutionSummary,
    ResetWorkflow,
    WaitForRecord,
    WorkflowTaskFailedEvent,
)
from tests.unit.history.harness import NAMES, History, start

FOUND = DeliverRecord(wait_id="1", topic="payments", partition=2, offset=9, timestamp_ms=5, key=b"k", value=b"{}")


def wait(wait_id: str = "1", **fields: object) -> WaitForRecord:
    return WaitForRecord(**{"wait_id": wait_id, "topic": "payments", "key": b"k", **fields})


def _waiting(*waits: WaitForRecord) -> History:
    history = History()
    history.send(start())
    history.complete_task(*(waits or (wait(),)))
    return history


def open_waits(history: History, run_id: str = "run") -> list[str]:
    """What the newest summary of a run says; it is flagged exactly while there are waits."""
    newest = [
        record
        for record in history.all_sent
        if record.topic == NAMES.executions and record.key and keys.parse_fenced_key(record.key).id == run_id
    ][-1]
    waits = [one.wait_id for one in codec.decode_as(newest.value, ExecutionSummary).record_waits]
    assert newest.headers == (keys.WAITS_HEADERS if waits else ())
    return waits


def test_a_record_ends_the_wait_once_and_wakes_the_workflow() -> None:
    history = _waiting(wait(look_back_ms=500))
    assert history.run().record_waits["1"].since_ms == history.now_ms - 500
    assert open_waits(history) == ["1"]
    history.send(FOUND, run_id="run")
    assert history.kinds() == ["RecordArrived", "WorkflowTaskScheduled"]
    assert open_waits(history) == []
    history.send(FOUND, run_id="run")
    assert history.kinds() == []
    assert history.handler.ignored["record wait is over"] == 1


def test_a_later_owner_folds_the_same_waits() -> None:
    history = _waiting(wait("1"), wait("2"))
    history.send(FOUND, run_id="run")
    new = History(history.config, log=history.log, command_offset=history.offset, now_ms=history.now_ms)
    assert new.run() == history.run()
    assert list(new.run().record_waits) == ["2"]


def test_a_wait_is_given_up_and_its_record_changes_nothing() -> None:
    history = _waiting(wait("1"), wait("2"))
    history.send(FOUND, run_id="run")
    history.complete_task(CancelRecordWait(wait_id="1"), CancelRecordWait(wait_id="2"))
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "RecordWaitCanceled"]
    assert open_waits(history) == []


def test_a_closed_run_waits_for_nothing() -> None:
    history = _waiting(wait("1"), wait("2"))
    history.send(FOUND, run_id="run")
    history.complete_task(CompleteWorkflowExecution())
    assert open_waits(history) == []
    history.send(FOUND, run_id="run")
    assert history.kinds() == []


def test_a_reset_run_waits_from_when_the_wait_began() -> None:
    history = _waiting()
    history.send(FOUND, run_id="run")
    began_ms = history.now_ms
    history.now_ms += 1_000
    history.complete_task()
    history.send(ResetWorkflow(run_id="new"))
    assert open_waits(history, "new") == []  # the record was there before the point
    history.send(ResetWorkflow(run_id="newer", point="FirstWorkflowTask"))
    history.complete_task(wait(), run_id="newer")
    assert history.run("newer").record_waits["1"].since_ms == history.now_ms > began_ms


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topic": "no topic"}, "no topic name"),
        ({"wait_id": ""}, "has no id"),
        ({"key": b"x" * (limits.NAME_CHARS_MAX + 1)}, str(limits.NAME_CHARS_MAX)),
        ({"where": "x" * (limits.RECORD_WHERE_CHARS_MAX + 1)}, str(limits.RECORD_WHERE_CHARS_MAX)),
        ({"look_back_ms": -1}, "below zero"),
    ],
)
def test_what_cannot_be_waited_for_fails_the_workflow_task(fields: dict[str, object], message: str) -> None:
    history = _waiting(wait(**{"wait_id": "7", **fields}))
    failed = history.events()[0].attributes
    assert isinstance(failed, WorkflowTaskFailedEvent)
    assert failed.cause == "BAD_WAIT_FOR_RECORD_ATTRIBUTES"
    assert message in failed.failure.message


def test_a_run_has_so_many_waits_and_none_twice() -> None:
    history = _waiting(*(wait(str(number)) for number in range(limits.PENDING_RECORD_WAITS_MAX + 1)))
    assert str(limits.PENDING_RECORD_WAITS_MAX) in history.events()[0].attributes.failure.message
    history = _waiting(wait("1"), wait("1"))
    assert "is open already" in history.events()[0].attributes.failure.message
