"""What a standby of HISTORY keeps, what it may write, and what it sends again when it takes over."""

from __future__ import annotations

import msgspec

from perdure_history.partition import HistoryPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, ScheduleActivityTask, TerminateWorkflow, WorkflowStatus
from tests.support.fakes import DictStore, ListOutbox
from tests.unit.history.harness import NAMES, START_MS, History, options, runs_of, start


def standby(history: History, *, committed: int | None = None, store: DictStore | None = None) -> HistoryPartition:
    """A handler that has folded everything so far, from its store's position on."""
    handler = history.role.open(0, store if store is not None else DictStore(), committed)
    follow(handler, history, handler.restore_offset() or 0)
    return handler


def follow(handler: HistoryPartition, history: History, start_offset: int) -> int:
    """Fold what stands in the log from an offset on. Returns the offset of the next record."""
    for record in history.log[start_offset:]:
        handler.fold(record)
    return len(history.log)


def take_over(handler: HistoryPartition, history: History, position: int, committed: int | None) -> list[str]:
    """Take over; returns the ids of the tasks that are sent again."""
    epoch = history.append_mark()
    follow(handler, history, position)
    outbox = ListOutbox()
    handler.take_over(epoch, committed, history.now_ms, outbox)
    parsed = [(r.value, keys.parse_fenced_key(r.key or b"")) for r in outbox.records if r.topic == NAMES.tasks]
    return [key.id for value, key in parsed if value is not None]


def test_i4_effects_are_forgotten_when_they_are_committed_and_sent_again_when_not() -> None:
    owner = History()
    owner.send(start())
    handler = standby(owner, committed=0)
    position = len(owner.log)
    owner.complete_task(ScheduleActivityTask(options=options()))
    position = follow(handler, owner, position)
    handler.fold_committed(1)
    assert take_over(handler, owner, position, 1) == ["run/a4.1"], "the start was committed, the activity was not"


def test_i4_a_checkpoint_names_the_commit_it_waits_for() -> None:
    owner = History()
    handler = standby(owner)
    assert handler.fold_checkpoint(0) == 0
    position = len(owner.log)
    owner.send(start())
    follow(handler, owner, position)
    assert handler.fold_checkpoint(0) == 1, "the first command, at offset 0, is done below 1"


def test_state_of_a_standby_is_gone_on_with_behind_it() -> None:
    owner = History()
    owner.send(start())
    store = DictStore()
    handler = standby(owner, store=store)
    handler.fold_checkpoint(START_MS)
    folded = len(owner.log)
    owner.complete_task(ScheduleActivityTask(options=options()))
    owner.send(TerminateWorkflow())
    again = owner.role.open(0, DictStore(store.snapshot()), owner.offset)
    assert again.restore_offset() == folded
    position = follow(again, owner, folded)
    assert take_over(again, owner, position, owner.offset) == []
    run = runs_of(again).get("run")
    assert run is not None
    assert run.state.status is WorkflowStatus.TERMINATED


def test_i2_of_a_decision_in_parts_none_is_counted_as_folded_before_all_are() -> None:
    owner = History()
    owner.send(start())
    (record,) = [r for r in owner.log if not keys.is_mark(r.key)]
    half = msgspec.structs.replace(codec.decode_as(record.value, HistoryRecord), parts=2)
    first = record._replace(value=codec.encode(half))
    store = DictStore()
    handler = owner.role.open(0, store, None)
    handler.fold(owner.log[0])
    handler.fold(first)
    handler.fold_checkpoint(START_MS)
    again = owner.role.open(0, DictStore(store.snapshot()), None)
    assert again.restore_offset() == first.offset, "the part is read again"


def test_state_is_as_old_as_the_last_time_it_was_complete() -> None:
    """Tombstones that stood behind the position may be compacted away while nobody reads them."""
    owner = History()
    owner.send(start())
    store = DictStore()
    handler = standby(owner, store=store)
    handler.fold_checkpoint(0)
    assert owner.role.open(0, DictStore(store.snapshot()), None).restore_offset() is None, "never complete"
    handler.fold_checkpoint(START_MS)
    assert owner.role.open(0, DictStore(store.snapshot()), None).restore_offset() == len(owner.log)
