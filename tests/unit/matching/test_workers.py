"""Workers: registering, silence, leaving, draining, and what they say they hold."""

from __future__ import annotations

import pytest

from perdure_matching.core.model import MatchingConfig
from tests.support.matching import NAMES, Matching


def test_a_lost_workers_workflow_tasks_go_to_others_and_its_activities_back_to_history() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1")
    matching.task("r2/a5.1", start_notice_delay_ms=60_000)
    matching.advance(1_000)
    matching.beat("w2")
    assert matching.advance(3_999) == []
    assert matching.advance(1) == [("ActivityLeaseLost", "lost/r2/a5.1"), ("run", "w2", "r1/w3.1")]


def test_heartbeats_keep_a_worker_alive() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1")
    for _ in range(10):
        assert matching.advance(1_000) == []
        matching.beat("w1", held=("r1/w3.1",))
    assert matching.handler.next_wakeup_ms() == matching.now_ms + 5_000


def test_silence_during_our_own_standstill_is_no_silence() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1")
    matching.now_ms += 30_000
    matching.driver.tick()
    assert matching.sent() == []
    matching.beat("w1", held=("r1/w3.1",))
    assert matching.advance(1_000) == []
    assert "w1" in matching.state.queues["q"].workers


def test_after_a_standstill_a_dead_worker_is_still_lost() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.now_ms += 30_000
    matching.driver.tick()
    assert matching.advance(1_000) == [("ActivityLeaseLost", "lost/r1/a5.1")]


def test_a_lost_activity_is_not_dispatched_again_until_history_says_so() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.advance(6_000)
    assert matching.beat("w2") == []
    assert matching.done("r1/a5.1") == []
    assert matching.task("r1/a5.2", start_notice_delay_ms=60_000) == [("run", "w2", "r1/a5.2")]


def test_a_worker_that_stops_gives_back_at_once_what_it_never_began() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=2)
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.task("r2/a5.1", start_notice_delay_ms=60_000)
    matching.beat("w2", activity_slots=2)
    sent = matching.stop("w1", last_dispatch_epoch=matching.epoch, last_dispatch_number=1)
    assert sent == [("ActivityLeaseLost", "lost/r1/a5.1"), ("run", "w2", "r2/a5.1")]


def test_what_a_worker_had_finished_before_it_left_is_not_done_again() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=2, workflow_slots=2)
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.task("r1/w3.1")
    matching.answer("w1", number=2)
    matching.beat("w2")
    assert matching.stop("w1") == []
    assert matching.done("r1/a5.1") == []
    assert matching.done("r1/w3.1") == []


def test_a_finished_workflow_task_that_history_never_confirms_is_dispatched_again() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1", lease_ms_max=3_000)
    matching.answer("w1", number=1)
    matching.beat("w2")
    assert matching.stop("w1") == []
    assert matching.advance(3_000) == [("run", "w2", "r1/w3.1")]


def test_a_draining_worker_gets_nothing_and_keeps_what_it_has() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=2)
    matching.task("r1/w3.1")
    matching.beat("w1", workflow_slots=2, draining=True, held=("r1/w3.1",))
    assert matching.task("r2/w3.1") == []
    assert matching.done("r1/w3.1") == []
    assert matching.beat("w2") == [("run", "w2", "r2/w3.1")]


def test_more_slots_take_more_tasks_and_fewer_slots_take_no_new_ones() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=1)
    for number in range(4):
        matching.task(f"r{number}/w3.1")
    assert len(matching.beat("w1", workflow_slots=3)) == 2
    matching.beat("w1", workflow_slots=1)
    assert matching.done("r0/w3.1") == []
    assert matching.done("r1/w3.1") == []
    assert matching.done("r2/w3.1") == [("run", "w1", "r3/w3.1")]


def test_a_worker_declared_lost_by_mistake_gets_its_workflow_task_back() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1")
    matching.advance(6_000)
    assert matching.beat("w1", held=("r1/w3.1",)) == []
    assert matching.state.tasks["r1/w3.1"].worker_id == "w1"
    assert matching.beat("w2") == []


def test_an_activity_that_runs_on_unneeded_takes_a_slot_until_it_ends() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=1)
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.done("r1/a5.1")
    held = {"activity_slots": 1, "held": ("r1/a5.1",), "held_since_ms": matching.now_ms - 60_000}
    # Once may be the moment between its end and the heartbeat; twice is not.
    assert matching.beat("w1", **held) == []
    assert matching.beat("w1", **held) == [("gone", "w1", "r1/a5.1")]
    assert matching.beat("w1", **held) == []
    assert matching.task("r2/a5.1", start_notice_delay_ms=60_000) == []
    assert matching.beat("w1", activity_slots=1) == [("run", "w1", "r2/a5.1")]


def test_an_old_heartbeat_does_not_make_a_worker() -> None:
    matching = Matching()
    matching.write_heartbeat("w1")
    matching.now_ms += 60_001
    assert matching.poll() == []
    assert matching.task("r1/w3.1") == []
    assert "w1" not in matching.state.queues["q"].workers


def test_the_state_of_a_task_queue_goes_with_its_last_task_and_worker() -> None:
    matching = Matching()
    matching.task("r1/w3.1", task_queue="short")
    matching.beat("w1", task_queue="short")
    matching.done("r1/w3.1")
    matching.advance(6_000)
    assert matching.state.queues == {}


def test_i5_a_poisoned_worker_record_is_refused_and_the_partition_goes_on() -> None:
    matching = Matching()
    matching.log.append(NAMES.workers, b"w1", b"\x00garbage", matching.now_ms)
    matching.beat("w2")
    assert matching.task("r1/w3.1") == [("run", "w2", "r1/w3.1")]
    assert "not an Avro single-object record" in matching.driver.failures[0][1]


def test_a_lapse_shorter_than_the_interval_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"must be larger than heartbeat_interval_ms"):
        MatchingConfig(heartbeat_lapse_ms=500)


def test_a_worker_that_comes_back_is_not_believed_to_have_finished_what_it_never_saw() -> None:
    matching = Matching()
    for number in range(1, 6):
        matching.answer("w1", number=number - 1)
        assert matching.task(f"r{number}/a5.1") == [("run", "w1", f"r{number}/a5.1")]
        matching.done(f"r{number}/a5.1")
    matching.advance(6_000)  # silence: it is forgotten
    assert "q" not in matching.state.queues
    matching.answer("w1", number=5)  # and was only slow
    assert matching.task("r9/a5.1", start_notice_delay_ms=60_000) == [("run", "w1", "r9/a5.1")]
    matching.answer("w1", number=5)
    # It dies without having seen that one. The number of its newest dispatch says nothing about another life.
    assert matching.advance(6_000) == [("ActivityLeaseLost", "lost/r9/a5.1")]


def test_an_activity_whose_record_may_be_on_its_way_is_not_taken_from_its_worker() -> None:
    matching = Matching()
    matching.beat("w2")
    for _ in range(5):
        assert matching.beat("w1", held=("r1/a5.1",)) == []
        matching.advance(500)
    assert matching.task("r1/a5.1", start_notice_delay_ms=60_000) == [], "w1 has it"
    assert matching.state.tasks["r1/a5.1"].worker_id == "w1"
    assert matching.beat("w1", held=("r1/a5.1",)) == []
    assert matching.done("r1/a5.1") == []
    assert matching.state.queues["q"].workers["w1"].free(1) == 1


def test_whom_nobody_holds_any_more_is_dispatched_as_ever() -> None:
    for gone in (True, False):
        matching = Matching()
        matching.beat("w2")
        matching.beat("w1", held=("r1/a5.1", "r2/a5.1"))
        if gone:
            matching.stop("w1")
        else:
            matching.beat("w1", held=("r2/a5.1",), activity_slots=0)
        assert matching.task("r1/a5.1", start_notice_delay_ms=60_000) == [("run", "w2", "r1/a5.1")]
        assert matching.state.strangers.keys() == (set() if gone else {"r2/a5.1"})


def test_an_adopted_activity_that_its_worker_does_not_hold_any_more_is_lost() -> None:
    first = Matching()
    first.task("r1/a5.1", start_notice_delay_ms=60_000)
    second = Matching(first.log, first.store, first.now_ms, owner="second")
    second.answer("w1", held=("r1/a5.1",))
    assert second.state.tasks["r1/a5.1"].worker_id == "w1"
    for _ in range(3):
        assert second.answer("w1", held=("r1/a5.1",)) == []
    # It may just have ended: then history hears of that before it hears of the loss.
    assert second.answer("w1") == []
    assert second.answer("w1") == [("ActivityLeaseLost", "lost/r1/a5.1")]
    assert second.answer("w1") == []
