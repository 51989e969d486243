"""Takeovers: zombies, incomplete decisions, damaged histories, and what a new owner sends again."""

from __future__ import annotations

import logging

import pytest

from perdure_history.config import HistoryConfig
from perdure_runtime.handler import ACKNOWLEDGED_KEY
from perdure_runtime.log import LogRecord
from perdure_schemas import keys, limits
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    DescribeWorkflow,
    IdConflictPolicy,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    StartTimer,
    TerminateWorkflow,
    WorkflowClosed,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, DictStore, History, options, reply_to, start, state_of

SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))


def successor(history: History, *, committed: int | None = None, store: DictStore | None = None) -> History:
    """A new owner of the same partition."""
    return History(
        history.config,
        log=history.log,
        store=store,
        committed=committed,
        command_offset=history.offset,
        now_ms=history.now_ms,
    )


def epochs(history: History, topic: str) -> list[tuple[str, int]]:
    parsed = [keys.parse_fenced_key(record.key or b"") for record in history.sent if record.topic == topic]
    return [(key.id, key.epoch) for key in parsed]


def test_i1_a_zombies_late_record_changes_nothing() -> None:
    zombie = History()
    zombie.send(start())
    new = successor(zombie)
    zombie.send(SIGNAL, command_id="late")
    assert zombie.log is new.log
    late = zombie.log[-1]
    third = successor(new)
    assert third.handler.ignored == {"history record is void": 1}
    assert third.run().last_event_id == 2
    assert keys.parse_fenced_key(late.key or b"").epoch < third.epoch
    third.send(SIGNAL, command_id="late")
    assert [event.event_id for event in third.events()] == [3], "the same command is decided again, validly"


def test_i1_a_zombies_late_tombstone_changes_nothing() -> None:
    zombie = History(HistoryConfig(retention_ms=1_000))
    zombie.run_to_end()
    new = successor(zombie)
    zombie.now_ms += 2_000
    assert zombie.tick()
    third = successor(new)
    assert third.run().status is WorkflowStatus.COMPLETED
    assert third.handler.ignored["history record is void"] == 4


def test_i1_the_same_record_stands_under_another_key() -> None:
    """So compaction never lets a void record replace the valid one."""
    zombie = History()
    zombie.send(start())
    new = successor(zombie)
    zombie.send(SIGNAL)
    new.send(SIGNAL)
    late, valid = zombie.log[-2], zombie.log[-1]
    assert late.key != valid.key
    assert keys.parse_fenced_key(late.key or b"").id == keys.parse_fenced_key(valid.key or b"").id


def test_i1_tombstones_cover_every_epoch_that_may_have_sent_the_thing() -> None:
    first = History()
    first.send(start())
    first.complete_task(ScheduleActivityTask(options=options()), StartTimer(timer_id="t", start_to_fire_timeout_ms=500))
    second = successor(first, committed=0)
    third = successor(second, committed=0)
    third.send(TerminateWorkflow())
    marks = [first.epoch, second.epoch, third.epoch]
    assert epochs(third, NAMES.tasks) == [("run/a4.1", epoch) for epoch in marks]
    assert epochs(third, NAMES.timers) == [("run/t1", epoch) for epoch in marks]
    assert epochs(third, NAMES.executions) == [("run", third.epoch)]


def test_i4_uncommitted_effects_are_sent_again_under_the_new_epoch() -> None:
    first = History()
    first.send(start(await_result=True), reply=reply_to("waits"))
    first.complete_task(ScheduleActivityTask(options=options()))
    second = successor(first, committed=1)
    assert epochs(second, NAMES.tasks) == [
        ("run/w2.1", first.epoch),
        ("run/w2.1", second.epoch),
        ("run/a4.1", second.epoch),
    ]
    assert [task.task_id for task in second.tasks()] == ["run/a4.1"]
    assert second.live_offsets == {NAMES.commands: 1}
    everything = successor(second, committed=None)
    assert {task.task_id for task in everything.tasks()} == {"run/a4.1"}, "the first workflow task is over"
    nothing = successor(everything, committed=2)
    assert not nothing.sent


def test_i4_the_starter_is_answered_again() -> None:
    first = History()
    first.send(start(await_result=True), reply=reply_to("waits"))
    first.complete_task(CompleteWorkflowExecution())
    second = successor(first, committed=0)
    (answer,) = second.replies()
    assert answer.request_id == "waits"
    assert isinstance(answer.body, WorkflowClosed)


@pytest.mark.parametrize(("committed", "expected"), [(None, 0), (0, 0), (7, 7)])
def test_i4_an_empty_partition_begins_where_the_group_stands(committed: int | None, expected: int) -> None:
    assert History(committed=committed).live_offsets == {NAMES.commands: expected}


def test_i4_what_is_not_committed_is_read_again_and_decided_behind_the_last_folded_command() -> None:
    first = History()
    first.send(start())
    first.send(SIGNAL)
    first.send(DescribeWorkflow(), reply=reply_to())
    second = successor(first, committed=1)
    assert second.live_offsets == {NAMES.commands: 1}
    assert second.deliver(first.command_log[1]) == [], "it is in the history"
    assert second.handler.checkpoint() == 2
    assert second.deliver(first.command_log[2])
    assert second.handler.checkpoint() == 3
    assert successor(first, committed=3).live_offsets == {NAMES.commands: 3}


def test_i2_a_command_that_was_handled_is_passed_over() -> None:
    first = History()
    first.send(start())
    record = first.command_log[0]
    assert first.deliver(record) == []
    second = successor(first)
    assert second.deliver(record) == []


def two_part_decision() -> tuple[History, LogRecord, LogRecord]:
    history = History()
    history.send(start("old"))
    history.send(start("new", id_conflict_policy=IdConflictPolicy.TERMINATE_EXISTING))
    second, first = history.log.pop(), history.log.pop()
    return history, first, second


def test_i2_the_parts_of_a_decision_count_together() -> None:
    history, first, second = two_part_decision()
    history.log += [first, second]
    whole = successor(history)
    assert whole.run("old").status is WorkflowStatus.TERMINATED
    assert whole.run("new").is_open


def test_i2_a_decision_without_its_last_part_did_not_happen() -> None:
    history, first, second = two_part_decision()
    history.log.append(first)
    new = successor(history, committed=0)
    assert new.handler.ignored["decision is incomplete"] == 1
    assert new.run("old").is_open
    assert state_of(new.handler, "new") is None
    assert new.live_offsets == {NAMES.commands: 0}
    new.log.append(second._replace(offset=new.log[-1].offset + 1))
    third = successor(new)
    assert third.run("old").is_open, "the zombie's last part came too late"
    assert third.deliver(history.command_log[1]), "the command is decided again"


@pytest.mark.parametrize("committed", [0, 2], ids=["goes on", "committed"])
def test_i2_a_decision_whose_last_part_was_removed_by_compaction_counts(committed: int) -> None:
    history, first, _ = two_part_decision()
    history.log.append(first)
    if not committed:
        history.send(start("later"), workflow_id="another")
    for owner in (successor(history, committed=committed), successor(successor(history, committed=2), committed=2)):
        assert owner.run("old").status is WorkflowStatus.TERMINATED
        assert owner.handler.ignored["decision is incomplete"] == 0


def test_i2_a_gap_puts_the_run_into_quarantine(caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    history.send(start())
    history.send(SIGNAL, command_id="1")
    history.send(SIGNAL, command_id="2")
    del history.log[2]
    with caplog.at_level(logging.ERROR, "perdure.history"):
        new = successor(history)
    assert "history_damaged" in caplog.text
    described = new.ask(DescribeWorkflow())
    assert "event 4" in described.summary.quarantine_reason
    new.send(start("other"), workflow_id="other")
    assert new.run("other").is_open, "the partition goes on"


def test_what_is_left_of_a_removed_run_is_no_damage() -> None:
    history = History()
    history.run_to_end()
    del history.log[1:3]
    new = successor(history)
    assert state_of(new.handler, "run") is None
    assert new.handler.ignored == {"record of a removed run": 2}


def test_i4_a_store_and_what_came_after_its_checkpoint() -> None:
    first = History()
    first.send(start())
    first.handler.checkpoint()
    stored = DictStore()
    stored.entries = dict(first.store.entries)
    stored.put(ACKNOWLEDGED_KEY, (first.log[-1].offset + 1).to_bytes(8, "big"))
    first.complete_task(CompleteWorkflowExecution())
    second = successor(first, store=stored, committed=1)
    assert second.restored_from == second.log[2].offset
    assert second.run() == first.run()


def test_i4_what_the_store_has_is_not_folded_twice() -> None:
    """The acknowledged offset is of the last record we sent ourselves; what was folded before it counts, too."""
    first = History()
    first.send(start())
    second = successor(first)
    second.handler.checkpoint()
    stored = DictStore()
    stored.entries = dict(second.store.entries)
    third = successor(second, store=stored, committed=1)
    assert third.restored_from == second.epoch + 1
    fourth = History(store=DictStore(), log=third.log, committed=1)
    assert fourth.run() == third.run() == first.run()


def test_i4_records_that_the_store_has_are_passed_over() -> None:
    first = History()
    first.send(start())
    first.handler.checkpoint()
    stored = DictStore()
    stored.entries = dict(first.store.entries)
    handler = first.role.open(0, stored, 1)
    for record in first.log:
        handler.fold(record)
    assert state_of(handler, "run") == first.run()


def test_a_store_that_is_too_old_is_made_anew() -> None:
    first = History(HistoryConfig(retention_ms=1_000))
    first.send(start())
    first.handler.checkpoint()
    stored = DictStore()
    stored.entries = dict(first.store.entries)
    del first.log[1:]
    first.now_ms += 1_000 + limits.STATE_AGE_MS_MAX
    fresh = successor(first, store=stored)
    assert state_of(fresh.handler, "run") is not None
    first.now_ms += 1
    old = successor(first, store=stored)
    assert state_of(old.handler, "run") is None
    assert all(key == b"p" for key in stored.entries if not key.startswith(b"\0")) or not stored.entries


def test_a_partition_with_few_runs_in_memory_forgets_nothing() -> None:
    small = History(HistoryConfig(cached_runs_max=2, cached_bytes_max=2_000, task_history_bytes_max=100_000))
    large = History()
    for history in (small, large):
        for number in range(6):
            history.send(start(f"run{number}"), workflow_id=f"wf{number}")
        for round_number in range(4):
            for number in range(6):
                history.send(SIGNAL, workflow_id=f"wf{number}", command_id=f"{round_number}.{number}")
                if history.run(f"run{number}").workflow_task is not None:
                    history.complete_task(run_id=f"run{number}", sticky_worker_id="w" if number % 2 else "")
    assert small.all_sent == large.all_sent


def test_closed_runs_leave_memory_first_and_are_not_forgotten() -> None:
    history = History(HistoryConfig(cached_closed_runs_max=2))
    for number in range(6):
        history.send(start(f"run{number}"), workflow_id=f"wf{number}")
    for number in range(5):
        history.send(TerminateWorkflow(reason="enough"), workflow_id=f"wf{number}", command_id=f"end{number}")
    assert history.handler._runs.cached[0] == 3
    assert all(not history.run(f"run{number}").is_open for number in range(5))
    assert history.run("run5").is_open
    assert history.handler._runs.cached[0] == 3
