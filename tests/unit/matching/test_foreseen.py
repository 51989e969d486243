"""Tasks that history announces before the log shows them: out at once, kept by nobody until the log confirms them."""

from __future__ import annotations

from typing import Any

from perdure_matching.core.model import MatchingConfig
from perdure_runtime.log import NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import TaskRecord
from tests.support.matching import NAMES, Matching, kind_of

ACTIVITY = "r1/a5.1"
LONG_MS = 60_000


def record_of(matching: Matching, task_id: str, *, epoch: int = 0, **fields: Any) -> NewRecord:
    """The record that history is about to write."""
    value = TaskRecord(
        task_id=task_id,
        task_queue="q",
        kind=kind_of(task_id),
        workflow_id="wf",
        run_id=task_id.partition("/")[0],
        created_time_ms=matching.now_ms,
        start_notice_delay_ms=LONG_MS,
        body=b"body",
        **fields,
    )
    return NewRecord(NAMES.tasks, 0, keys.fenced_key(task_id, 0, epoch), codec.encode(value), matching.now_ms)


def announce(matching: Matching, record: NewRecord) -> list[tuple[Any, ...]]:
    matching.handler.foresee(record, matching.driver.outbox)
    matching.state.check()
    return matching.sent()


def show(matching: Matching, record: NewRecord) -> list[tuple[Any, ...]]:
    """The log shows a record."""
    matching.log.append(record.topic, record.key, record.value, matching.now_ms)
    return matching.poll()


def test_an_announced_task_goes_out_once() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=2)
    record = record_of(matching, ACTIVITY)
    assert announce(matching, record) == [("run", "w1", ACTIVITY)]
    assert announce(matching, record) == []
    assert show(matching, record) == []
    assert not matching.state.foreseen
    assert matching.done(ACTIVITY) == []
    assert not matching.state.tasks


def test_a_record_that_says_more_than_the_announcement_counts() -> None:
    matching = Matching()
    matching.beat("w1")
    announce(matching, record_of(matching, ACTIVITY))
    assert show(matching, record_of(matching, ACTIVITY, cancel_requested=True)) == [("cancel", "w1", ACTIVITY)]


def test_nothing_of_an_announced_task_is_kept_before_the_log_shows_it() -> None:
    matching = Matching(config=MatchingConfig(store_after_ms=0))
    matching.beat("w1")
    record = record_of(matching, ACTIVITY)
    announce(matching, record)
    matching.handler.checkpoint()
    assert not [key for key, _ in matching.store.scan(b"") if ACTIVITY.encode() in key]
    show(matching, record)
    matching.handler.checkpoint()
    assert [key for key, _ in matching.store.scan(b"") if ACTIVITY.encode() in key]


def test_a_new_owner_asks_the_worker_and_does_not_send_it_again() -> None:
    matching = Matching()
    matching.beat("w1")
    record = record_of(matching, ACTIVITY)
    announce(matching, record)
    matching.handler.checkpoint()
    matching.log.append(record.topic, record.key, record.value, matching.now_ms)
    new = Matching(matching.log, matching.store, matching.now_ms, owner="second")
    assert ("run", "w1", ACTIVITY) not in new.beat("w1", held=(ACTIVITY,))
    assert new.state.tasks[ACTIVITY].worker_id == "w1"


def test_an_announcement_of_a_deposed_owner_is_not_taken() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.log.mark(NAMES.tasks, "history/0", 7, matching.now_ms)
    matching.poll()
    assert announce(matching, record_of(matching, ACTIVITY, epoch=3)) == []
    assert not matching.state.tasks


def test_what_the_log_never_shows_is_forgotten_and_its_worker_is_told() -> None:
    matching = Matching(config=MatchingConfig(unconfirmed_ms_max=20_000))
    matching.beat("w1")
    announce(matching, record_of(matching, ACTIVITY))
    sent: list[tuple[Any, ...]] = []
    for _ in range(25):
        matching.now_ms += 1_000
        sent += matching.beat("w1", held=(ACTIVITY,))
    assert ("gone", "w1", ACTIVITY) in sent
    assert not matching.state.tasks
    assert not matching.state.foreseen


def test_announcements_that_make_no_sense_change_nothing() -> None:
    matching = Matching()
    matching.beat("w1")
    record = record_of(matching, ACTIVITY)
    for wrong in ({"value": b"nonsense"}, {"key": b"no key of ours"}, {"key": None}):
        assert announce(matching, record._replace(**wrong)) == []
    assert not matching.state.tasks


def test_a_task_without_a_worker_waits_and_is_confirmed_where_it_waits() -> None:
    matching = Matching()
    record = record_of(matching, ACTIVITY)
    assert announce(matching, record) == []
    assert show(matching, record) == []
    assert matching.beat("w1") == [("run", "w1", ACTIVITY)]
