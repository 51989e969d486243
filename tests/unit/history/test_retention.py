"""Closed runs are removed after their retention, from the topics and from the store."""

from __future__ import annotations

from perdure_history.config import HistoryConfig
from perdure_schemas import keys
from perdure_schemas.records import (
    ActivityTaskFailed,
    CompleteWorkflowExecution,
    DescribeWorkflow,
    ErrorCode,
    Failure,
    FailureKind,
    Rejected,
    SignalInput,
    SignalWorkflow,
    Started,
)
from tests.unit.history.harness import NAMES, START_MS, History, options, start, state_of

CONFIG = HistoryConfig(retention_ms=60_000)


def closed(config: HistoryConfig = CONFIG) -> History:
    history = History(config)
    (scheduled,) = history.schedule(options())
    failure = Failure(kind=FailureKind.APPLICATION, next_retry_delay_ms=0)
    body = ActivityTaskFailed(scheduled_event_id=scheduled, attempt=1, started_time_ms=START_MS, failure=failure)
    history.send(body, run_id="run")
    history.complete_activity(scheduled, attempt=2)
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")))
    history.complete_task(CompleteWorkflowExecution())
    return history


def test_a_run_is_kept_until_its_retention_is_over() -> None:
    history = closed()
    assert history.handler.next_wakeup_ms() == START_MS + 60_000
    history.now_ms += 59_999
    assert history.tick() == []
    assert history.handler.next_wakeup_ms() == START_MS + 60_000


def test_a_removed_run_leaves_nothing() -> None:
    history = closed()
    history.handler.checkpoint()
    history.now_ms += 60_000
    history.tick()
    values = {record.key for record in history.log if record.value is not None and not keys.is_mark(record.key)}
    tombstones = [record.key for record in history.sent if record.topic == NAMES.history]
    assert set(tombstones) == values
    assert tombstones[-1] == keys.fenced_key(keys.history_id("run", 1), 0, history.epoch), "it stands for the run"
    assert history.tombstones(NAMES.executions) == ["run"]
    assert not history.outstanding(NAMES.executions)
    assert history.handler.next_wakeup_ms() is None
    history.handler.checkpoint()
    assert set(history.store.entries) == {b"p"}
    answer = history.ask(DescribeWorkflow())
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.NOT_FOUND
    assert isinstance(history.ask(start("again")), Started)


def test_a_newer_run_stays() -> None:
    history = closed()
    history.send(start("newer"))
    history.now_ms += 60_000
    history.tick()
    assert state_of(history.handler, "run") is None
    assert history.ask(DescribeWorkflow()).summary.run_id == "newer"


def test_a_new_owner_removes_what_is_due_and_folds_what_was_removed() -> None:
    first = closed()
    second = History(CONFIG, log=first.log, committed=first.offset, now_ms=first.now_ms)
    assert second.handler.next_wakeup_ms() == START_MS + 60_000
    second.now_ms += 60_000
    second.tick()
    tombstones = [keys.parse_fenced_key(record.key or b"") for record in second.sent if record.topic == NAMES.history]
    assert {key.epoch for key in tombstones} == {first.epoch, second.epoch}
    assert (tombstones[-1].id, tombstones[-1].epoch) == (keys.history_id("run", 1), second.epoch)
    third = History(CONFIG, log=second.log, committed=first.offset, now_ms=second.now_ms)
    assert state_of(third.handler, "run") is None
    assert third.handler.next_wakeup_ms() is None


def test_one_tick_removes_a_bounded_number_of_runs() -> None:
    history = History(HistoryConfig(retention_ms=60_000, runs_removed_per_tick_max=2))
    for number in range(5):
        history.run_to_end(f"run{number}")
    history.now_ms += 60_000
    left = []
    while history.handler.next_wakeup_ms() is not None:
        history.tick()
        left.append(sum(state_of(history.handler, f"run{number}") is not None for number in range(5)))
    assert left == [3, 1, 0]


def test_a_changed_retention_counts_for_runs_that_close_from_then_on() -> None:
    first = closed()
    first.handler.checkpoint()
    longer = HistoryConfig(retention_ms=120_000)
    second = History(longer, store=first.store, log=first.log, committed=first.offset, now_ms=first.now_ms)
    assert second.handler.next_wakeup_ms() == START_MS + 60_000
    second.now_ms += 60_000
    second.tick()
    assert state_of(second.handler, "run") is None
    assert second.handler.next_wakeup_ms() is None
