"""Deletion: the run is gone at once for those who ask, and a little later from the log; decided once, sent again."""

from __future__ import annotations

from perdure_history.config import HistoryConfig
from perdure_history.runs import DELETED_KEPT_MS
from perdure_schemas import keys
from perdure_schemas.records import (
    AwaitResult,
    CompleteWorkflowExecution,
    DeleteWorkflow,
    DescribeWorkflow,
    Done,
    ErrorCode,
    FetchHistory,
    IdReusePolicy,
    Rejected,
    SignalInput,
    SignalWorkflow,
    Started,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, History, options, reply_to, start, state_of


def _delete(history: History, run_id: str = "run", command_id: str = "delete") -> object:
    history.send(DeleteWorkflow(reason="law"), run_id=run_id, reply=reply_to(), command_id=command_id)
    (reply,) = [reply.body for reply in history.replies() if reply.request_id == "r"]
    return reply


def _closed(config: HistoryConfig | None = None) -> History:
    history = History(config)
    (scheduled,) = history.schedule(options())
    history.complete_activity(scheduled)
    history.complete_task(CompleteWorkflowExecution())
    return history


def _tombstones_cover_all(history: History) -> bool:
    """Whether each record of the history has its tombstone behind it."""
    last = {record.key: record.value for record in history.log if not keys.is_mark(record.key)}
    return all(value is None for value in last.values())


def test_a_closed_run_is_not_found_any_more_and_leaves_nothing() -> None:
    history = _closed()
    assert _delete(history) == Done()
    assert history.tombstones(NAMES.executions) == ["run"]
    assert not history.outstanding(NAMES.executions)
    signal = SignalWorkflow(signal=SignalInput(signal_name="s"))
    for body in (DescribeWorkflow(), AwaitResult(), FetchHistory(), signal):
        answer = history.ask(body)
        assert isinstance(answer, Rejected)
        assert answer.code is ErrorCode.NOT_FOUND
    assert history.handler.next_wakeup_ms() is not None
    history.now_ms += DELETED_KEPT_MS
    history.tick()
    assert state_of(history.handler, "run") is None
    assert _tombstones_cover_all(history)
    history.handler.checkpoint()
    assert set(history.store.entries) == {b"p"}


def test_an_open_run_is_terminated_first_and_its_tasks_go() -> None:
    history = History()
    history.schedule(options())
    assert history.outstanding(NAMES.tasks)
    assert _delete(history) == Done()
    assert history.run().status is WorkflowStatus.TERMINATED
    assert not history.outstanding(NAMES.tasks)
    assert not history.outstanding(NAMES.timers)
    history.now_ms += DELETED_KEPT_MS
    history.tick()
    assert _tombstones_cover_all(history)


def test_deleting_twice_is_deleting_once() -> None:
    history = _closed()
    _delete(history)
    assert _delete(history, command_id="again") == Done()
    assert not history.events()
    history.now_ms += DELETED_KEPT_MS
    history.tick()
    gone = _delete(history, command_id="late")
    assert isinstance(gone, Rejected)
    assert gone.code is ErrorCode.NOT_FOUND


def test_a_deletion_names_its_run_and_spares_a_newer_one() -> None:
    history = _closed()
    unnamed = _delete(history, run_id="")
    assert isinstance(unnamed, Rejected)
    assert "name the run" in unnamed.message
    history.send(start("newer"))
    assert _delete(history) == Done()
    assert history.ask(DescribeWorkflow()).summary.run_id == "newer"


def test_the_workflow_id_is_free_again() -> None:
    history = _closed()
    _delete(history)
    strict = start("next", id_reuse_policy=IdReusePolicy.REJECT_DUPLICATE)
    assert history.ask(strict) == Started(run_id="next", first_execution_run_id="next")
    history.now_ms += DELETED_KEPT_MS
    history.tick()
    assert history.ask(DescribeWorkflow()).summary.run_id == "next"


def test_a_new_owner_knows_the_deletion_and_sends_what_follows_again() -> None:
    first = _closed()
    committed = first.offset
    _delete(first)
    second = History(log=first.log, committed=committed, command_offset=first.offset, now_ms=first.now_ms)
    assert second.tombstones(NAMES.executions) != []
    answer = second.ask(DescribeWorkflow())
    assert isinstance(answer, Rejected)
    second.now_ms += DELETED_KEPT_MS
    second.tick()
    assert _tombstones_cover_all(second)
    third = History(log=second.log, committed=second.offset, now_ms=second.now_ms)
    assert state_of(third.handler, "run") is None
    assert third.handler.next_wakeup_ms() is None


def test_a_short_retention_is_not_made_longer() -> None:
    history = _closed(HistoryConfig(retention_ms=1_000))
    _delete(history)
    history.now_ms += 1_000
    history.tick()
    assert state_of(history.handler, "run") is None
    history.handler.checkpoint()
    assert set(history.store.entries) == {b"p"}


def test_a_deleted_run_takes_no_late_result() -> None:
    history = History()
    (scheduled,) = history.schedule(options())
    _delete(history)
    history.complete_activity(scheduled)
    assert not history.events()
