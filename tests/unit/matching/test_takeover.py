"""A new owner: what it knows from the store and the log, what it asks the workers, and what a zombie can do."""

from __future__ import annotations

from perdure_matching.core.model import MatchingConfig, Phase
from perdure_schemas import limits
from tests.support.fakes import DictStore
from tests.support.matching import NAMES, Matching

STORE_AT_ONCE = MatchingConfig(store_after_ms=0)


def successor(first: Matching, *, after_ms: int = 100, store: DictStore | None = None) -> Matching:
    """Another owner on the same log, with the given store (default: none)."""
    return Matching(first.log, store, first.now_ms + after_ms, STORE_AT_ONCE, owner="second")


def test_an_empty_partition_dispatches_at_once_after_a_takeover() -> None:
    matching = successor(Matching())
    matching.beat("w1")
    assert matching.task("r1/w3.1") == [("run", "w1", "r1/w3.1")]


def test_old_tasks_wait_until_a_worker_has_told_what_it_holds() -> None:
    first = Matching()
    first.beat("w1", workflow_slots=2)
    first.task("r1/w3.1")
    first.task("r2/w3.1")
    second = successor(first)
    assert second.poll() == [("probe", "w1")]
    sent = second.answer("w1", workflow_slots=2, held=("r1/w3.1",))
    assert sent == [("run", "w1", "r2/w3.1")]
    assert second.state.tasks["r1/w3.1"].worker_id == "w1"


def test_an_answer_to_an_earlier_owner_is_no_answer() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/w3.1")
    second = successor(first)
    second.poll()
    assert second.beat("w1", last_dispatch_epoch=first.epoch, last_dispatch_number=7) == []
    assert second.answer("w1") == [("run", "w1", "r1/w3.1")]


def test_all_known_workers_are_waited_for_up_to_one_lapse() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.beat("w1")
    first.beat("w2")
    first.handler.checkpoint()
    first.task("r1/w3.1")
    second = successor(first, store=first.store)
    assert second.poll() == [("probe", "w1"), ("probe", "w2")]
    assert second.answer("w1") == []
    assert second.advance(1_000) == []
    second.answer("w1")
    assert second.advance(3_999) == []
    assert second.advance(1) == [("run", "w1", "r1/w3.1")]
    assert "w2" not in second.state.queues["q"].workers


def test_a_worker_that_beats_without_answering_counts_when_the_time_is_over() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/w3.1")
    second = successor(first)
    second.poll()
    second.advance(3_000)
    second.beat("w1")
    assert second.advance(1_999) == []
    assert second.advance(1) == [("run", "w1", "r1/w3.1")]


def test_new_tasks_do_not_wait_for_the_answers_of_others() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.beat("w1")
    first.handler.checkpoint()
    first.task("old/w3.1")
    second = successor(first, store=first.store)
    second.poll()
    assert second.beat("w2") == [("probe", "w2")]
    assert second.answer("w2") == []
    assert second.task("new/w3.1") == [("run", "w2", "new/w3.1")]


def test_what_a_worker_just_finished_is_not_done_again() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/a5.1")
    second = successor(first)
    second.poll()
    assert second.answer("w1", finished=["r1/a5.1"]) == []
    assert second.beat("w2") == []
    assert second.done("r1/a5.1") == []


def test_activities_of_a_worker_that_died_with_the_owner_are_lost_not_repeated() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.beat("w1")
    first.task("r1/a5.1", start_notice_delay_ms=60_000)
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    assert second.poll() == [("probe", "w1")]
    second.beat("w2")
    assert second.answer("w2") == []
    second.advance(4_000)
    second.answer("w2")
    assert second.advance(1_000) == [("ActivityLeaseLost", "lost/r1/a5.1")]


def test_a_dead_workers_last_heartbeat_shows_what_it_had() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/a5.1", start_notice_delay_ms=60_000)
    first.beat("w1", held=("r1/a5.1",))
    second = successor(first)
    second.poll()
    assert second.advance(5_000) == [("ActivityLeaseLost", "lost/r1/a5.1")]


def test_a_lease_from_the_store_is_kept_while_its_worker_lives() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.beat("w1")
    first.task("r1/w3.1")
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    second.poll()
    assert second.answer("w1", held=("r1/w3.1",)) == []
    assert second.task("r2/w3.1") == []
    assert second.done("r1/w3.1") == [("run", "w1", "r2/w3.1")]


def test_a_worker_that_holds_a_lease_kept_for_another_gets_it() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.beat("w1")
    first.task("r1/w3.1")
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    second.poll()
    second.answer("w2", held=("r1/w3.1",))
    assert second.state.tasks["r1/w3.1"].worker_id == "w2"
    assert second.answer("w1") == []
    assert second.state.tasks["r1/w3.1"].worker_id == "w2"


def test_old_tasks_keep_their_order() -> None:
    first = Matching(config=STORE_AT_ONCE)
    for number in (3, 1, 2):
        first.task(f"r{number}/w3.1")
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    second.beat("w1", workflow_slots=3)
    sent = second.answer("w1", workflow_slots=3)
    assert [task for _, _, task in sent] == ["r3/w3.1", "r1/w3.1", "r2/w3.1"]


def test_cancellation_asked_for_before_the_takeover_reaches_the_holder() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/a5.1")
    first.write_task("r1/a5.1", cancel_requested=True)
    second = successor(first)
    second.poll()
    assert ("cancel", "w1", "r1/a5.1") in second.answer("w1", held=("r1/a5.1",))


def test_a_query_that_expired_meanwhile_is_reported() -> None:
    first = Matching()
    first.task("r1/qabc", expires_at_ms=first.now_ms + 1_000)
    second = successor(first, after_ms=2_000)
    assert second.advance(0) == [("QueryTaskExpired", "expired/r1/qabc")]


# --- zombies ------------------------------------------------------------------------------------------------------


def test_i1_an_owner_that_reads_the_mark_of_the_next_one_falls_silent() -> None:
    first = Matching()
    first.beat("w1", workflow_slots=5)
    second = successor(first)
    assert first.task("r1/w3.1") == []
    assert first.advance(10_000) == []
    assert first.handler.next_wakeup_ms() is None
    assert first.handler.checkpoint() is None
    second.beat("w1", workflow_slots=5)
    assert second.state.tasks["r1/w3.1"].phase is Phase.LEASED


def test_i1_the_epoch_of_dispatches_grows_with_each_owner() -> None:
    first = Matching()
    second = successor(first)
    third = successor(second)
    assert first.epoch < second.epoch < third.epoch


def test_i1_a_zombies_task_record_is_void_for_the_next_owner_of_matching_too() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.log.mark(NAMES.tasks, "history/0", 5, first.now_ms)
    first.task("r1/w3.1", epoch=5)
    first.handler.checkpoint()
    first.write_task("zombie/w3.1", epoch=4)
    first.write_tombstone("r1/w3.1", epoch=4)
    second = successor(first, store=first.store)
    assert list(second.state.tasks) == ["r1/w3.1"]
    third = successor(second)
    assert list(third.state.tasks) == ["r1/w3.1"]


def test_i1_a_record_in_front_of_a_mark_stays_valid_when_the_fold_resumes_there() -> None:
    first = Matching(config=MatchingConfig(store_after_ms=60_000))
    first.task("r1/w3.1", epoch=1)
    first.log.mark(NAMES.tasks, "history/0", 5, first.now_ms)
    first.poll()
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    assert list(second.state.tasks) == ["r1/w3.1"]


# --- what the store holds -----------------------------------------------------------------------------------------


def test_tasks_that_come_and_go_never_touch_the_store() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=100)
    for number in range(200):
        matching.task(f"r{number}/w3.1")
        if number % 10 == 9:
            matching.handler.checkpoint()
        if number >= 50:
            matching.done(f"r{number - 50}/w3.1")
    matching.handler.checkpoint()
    assert not [key for key in matching.store.written_keys if key.startswith((b"t/", b"b/"))]
    assert matching.store.deletes == 0


def test_only_what_changed_is_written() -> None:
    matching = Matching(config=STORE_AT_ONCE)
    for number in range(100):
        matching.task(f"r{number}/w3.1")
    matching.handler.checkpoint()
    matching.store.written_keys.clear()
    matching.beat("w1")
    matching.handler.checkpoint()
    written = sorted(matching.store.written_keys)
    assert written == [b"m", b"t/r0/w3.1", b"w/q\x00w1"]


def test_a_store_without_outstanding_tasks_is_empty_but_for_positions() -> None:
    matching = Matching(config=STORE_AT_ONCE)
    matching.beat("w1")
    for number in range(5):
        matching.task(f"r{number}/w3.1")
        matching.handler.checkpoint()
    for number in range(5):
        matching.done(f"r{number}/w3.1")
    matching.stop("w1")
    matching.handler.checkpoint()
    assert list(matching.store.entries) == [b"m"]


def test_the_checkpoint_says_from_where_to_read_again() -> None:
    matching = Matching()
    matching.task("r1/w3.1")
    matching.task("r2/w3.1")
    first_offset = matching.state.tasks["r1/w3.1"].sequence
    assert matching.handler.checkpoint() == first_offset
    matching.done("r1/w3.1")
    assert matching.handler.checkpoint() == first_offset + 1
    matching.done("r2/w3.1")
    assert matching.handler.checkpoint() == matching.log.end(NAMES.tasks)


def test_bodies_of_a_deep_backlog_are_in_the_store_and_come_back() -> None:
    matching = Matching(config=MatchingConfig(task_bodies_bytes_max=100))
    for number in range(20):
        matching.task(f"r{number}/w3.1", body=bytes([number]) * 50)
    assert sum(key.startswith(b"b/") for key in matching.store.entries) == 18
    matching.write_heartbeat("w1", workflow_slots=20)
    matching.driver.poll()
    bodies = [value.body.task for value in matching.driver.outbox.take_values()]
    assert bodies == [bytes([number]) * 50 for number in range(20)]
    for number in range(20):
        matching.done(f"r{number}/w3.1")
    assert not [key for key in matching.store.entries if key.startswith(b"b/")]


def test_a_store_older_than_tombstones_live_is_rebuilt_from_the_log() -> None:
    first = Matching(config=STORE_AT_ONCE)
    first.task("gone/w3.1")
    first.task("kept/w3.1")
    first.handler.checkpoint()
    # Compaction removed the first task and its tombstone while the store was away.
    del first.log.topics[NAMES.tasks][1]
    second = successor(first, after_ms=limits.STATE_AGE_MS_MAX + 1, store=first.store)
    assert list(second.state.tasks) == ["kept/w3.1"]
    assert second.driver.handler.restore_offset() is None


def test_a_request_to_stop_that_came_in_between_reaches_the_worker() -> None:
    first = Matching()
    first.beat("w1")
    first.task("r1/a5.1", start_notice_delay_ms=60_000)
    first.advance(2_000)  # old enough to be stored
    first.handler.checkpoint()
    first.write_task("r1/a5.1", start_notice_delay_ms=60_000, cancel_requested=True)
    second = Matching(first.log, first.store, first.now_ms, owner="second")
    assert ("cancel", "w1", "r1/a5.1") in second.sent() + second.answer("w1", held=("r1/a5.1",))
