"""Tasks with a hold on them: who has one keeps it, nobody else gets it, until history lets it go."""

from __future__ import annotations

from tests.support.matching import Matching


def test_a_held_task_is_given_to_nobody_until_it_is_let_go() -> None:
    matching = Matching()
    assert matching.task("run/a5.1", held=True) == []
    assert matching.beat("one") == []
    assert matching.task("run/a5.1", held=False) == [("run", "one", "run/a5.1")]


def test_a_task_that_waits_is_held_and_makes_room_for_the_next() -> None:
    matching = Matching()
    matching.task("run/a5.1")
    matching.task("run/a6.1")
    matching.task("run/a5.1", held=True)
    assert matching.beat("one") == [("run", "one", "run/a6.1")]
    matching.task("run/a5.1", held=False)
    assert matching.done("run/a6.1") == [("run", "one", "run/a5.1")]


def test_a_worker_is_told_of_the_pause_of_its_activity_and_keeps_it() -> None:
    matching = Matching()
    matching.beat("one")
    matching.task("run/a5.1")
    assert matching.task("run/a5.1", held=True, paused=True) == [("pause", "one", "run/a5.1")]
    assert matching.task("run/a5.1", held=False, paused=False) == []


def test_a_worker_is_told_once_of_the_reset_of_its_activity_and_keeps_it() -> None:
    matching = Matching()
    matching.beat("one")
    matching.task("run/a5.1")
    assert matching.task("run/a5.1", reset=True) == [("reset", "one", "run/a5.1")]
    assert matching.task("run/a5.1", reset=True) == []
    assert matching.done("run/a5.1") == []


def test_a_held_workflow_task_is_not_given_to_another_worker_when_its_own_is_gone() -> None:
    matching = Matching()
    matching.beat("one")
    matching.task("run/w2.1")
    matching.task("run/w2.1", held=True)
    matching.stop("one")
    assert matching.beat("two") == []
    assert matching.task("run/w2.1", held=False) == [("run", "two", "run/w2.1")]


def test_a_held_activity_that_is_asked_to_stop_has_stopped() -> None:
    matching = Matching()
    matching.task("run/a5.1", held=True, paused=True)
    sent = matching.task("run/a5.1", held=True, paused=True, cancel_requested=True)
    assert [name for name, *_ in sent] == ["ActivityTaskCanceled"]


def test_a_new_owner_holds_it_too() -> None:
    first = Matching()
    first.beat("one")
    first.task("run/a5.1", held=True)
    second = Matching(log=first.log, now_ms=first.now_ms, owner="second")
    second.poll()
    second.beat("two", last_dispatch_epoch=second.epoch)
    assert ("run", "two", "run/a5.1") not in second.advance(10_000)
    assert ("run", "two", "run/a5.1") in second.task("run/a5.1", held=False) + second.beat("two")
