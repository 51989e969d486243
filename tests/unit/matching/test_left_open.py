"""Activities that left their worker to be completed by a client, and those that something else than it has ended."""

from __future__ import annotations

from perdure_matching.core.tasks import remove
from tests.support.matching import Matching


def test_an_open_activity_frees_its_slot_and_is_given_to_nobody() -> None:
    matching = Matching()
    matching.beat("one")
    assert matching.task("run/a5.1") == [("run", "one", "run/a5.1")]
    assert matching.task("run/a6.1") == []
    assert matching.task("run/a5.1", left_open=True) == [("run", "one", "run/a6.1")]
    sent = matching.stop("one")
    assert sent == [("ActivityLeaseLost", "lost/run/a6.1")]
    assert matching.beat("two") == []


def test_a_new_owner_does_not_dispatch_it() -> None:
    first = Matching()
    first.beat("one")
    first.task("run/a5.1")
    first.task("run/a5.1", left_open=True)
    second = Matching(log=first.log, now_ms=first.now_ms, owner="second")
    second.poll()
    second.beat("two", last_dispatch_epoch=second.epoch)
    assert ("run", "two", "run/a5.1") not in second.advance(10_000)


def test_a_cancelled_open_activity_is_left_to_its_client() -> None:
    matching = Matching()
    matching.beat("one")
    matching.task("run/a5.1")
    matching.task("run/a5.1", left_open=True)
    assert matching.task("run/a5.1", left_open=True, cancel_requested=True) == []


def test_a_worker_is_told_at_once_when_something_else_ended_its_activity() -> None:
    matching = Matching()
    matching.beat("one")
    matching.task("run/a5.1")
    remove(matching.state, "run/a5.1", matching.now_ms, interrupted=True)
    matching.driver.tick()
    assert matching.sent() == [("gone", "one", "run/a5.1")]
