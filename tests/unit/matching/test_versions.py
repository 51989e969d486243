"""Versions of workers: who gets which task as the routing of their deployment changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_matching.core.idle import WorkLeft, work_left
from perdure_matching.core.model import MatchingConfig
from perdure_matching.core.ramping import ramps
from tests.support.fakes import DictStore
from tests.support.matching import NAMES, Matching

V1: dict[str, Any] = {"deployment_name": "d", "build_id": "1"}
V2: dict[str, Any] = {"deployment_name": "d", "build_id": "2"}


def with_workers(**fields: Any) -> Matching:
    """A worker of each version and one without, which are all known."""
    matching = Matching()
    assert matching.beat("w1", **V1, **fields) == [("seen", "d", "1", "q")]
    assert matching.beat("w2", **V2, **fields) == [("seen", "d", "2", "q")]
    assert matching.beat("w0", **fields) == []
    copy_seen(matching)
    return matching


def copy_seen(matching: Matching) -> None:
    """A version that was sent to the topic is read from there, too: that changes nothing."""
    assert matching.poll() == []


def test_without_a_routing_only_workers_without_a_version_get_tasks() -> None:
    matching = with_workers()
    assert matching.task("r1/w3.1") == [("run", "w0", "r1/w3.1")]
    assert matching.task("r2/w3.1") == []
    assert matching.task("r3/a5.1") == [("run", "w0", "r3/a5.1")]


def test_new_work_goes_to_the_current_version() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    assert matching.task("r1/w3.1") == [("run", "w1", "r1/w3.1")]
    assert matching.task("r1/a5.1") == [("run", "w1", "r1/a5.1")]
    matching.route(current_build_id="2")
    assert matching.task("r2/w3.1") == [("run", "w2", "r2/w3.1")]
    matching.route(current_build_id="")
    assert matching.task("r3/w3.1") == [("run", "w0", "r3/w3.1")]


def test_a_pinned_task_goes_to_its_version_only() -> None:
    matching = with_workers()
    matching.route(current_build_id="2")
    assert matching.task("r1/w3.1", version="d.1") == [("run", "w1", "r1/w3.1")]
    assert matching.task("r2/w3.1", version="d.1") == [], "its one slot is taken, and nobody else may have it"
    assert matching.done("r1/w3.1") == [("run", "w1", "r2/w3.1")]
    assert matching.task("r3/q9", kind="query", version="d.3") == [], "nobody has that version"
    assert matching.beat("w3", deployment_name="d", build_id="3") == [("seen", "d", "3", "q"), ("run", "w3", "r3/q9")]


def test_a_pinned_activity_of_a_task_queue_without_that_version_is_routed() -> None:
    matching = with_workers()
    matching.route(current_build_id="2")
    assert matching.task("r1/a5.1", version="d.elsewhere") == [("run", "w2", "r1/a5.1")]
    assert matching.task("r1/a6.1", version="d.1") == [("run", "w1", "r1/a6.1")]


def test_a_pinned_activity_that_waits_is_routed_when_its_version_is_deleted() -> None:
    matching = with_workers()
    matching.route(current_build_id="2")
    matching.stop("w1", **V1)
    assert matching.task("r1/a5.1", version="d.1") == [], "its version serves the task queue, so it may come back"
    assert matching.forget("d.1") == [("run", "w2", "r1/a5.1")]


def test_what_waits_moves_with_the_routing_in_its_order() -> None:
    matching = Matching()
    matching.route(current_build_id="1")
    matching.beat("w1", **V1, workflow_slots=1)
    matching.task("r0/w3.1")
    for number in (1, 2, 3):
        assert matching.task(f"r{number}/w3.1") == []
    assert matching.task("r4/w3.1", version="d.1") == []
    matching.beat("w2", **V2, workflow_slots=9)
    assert matching.route(current_build_id="2") == [("run", "w2", f"r{number}/w3.1") for number in (1, 2, 3)]
    assert matching.done("r0/w3.1") == [("run", "w1", "r4/w3.1")], "the pinned one has stayed"


def test_a_task_leaves_its_sticky_worker_when_that_is_of_another_version() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    sticky: dict[str, Any] = {"sticky_worker_id": "w1", "sticky_until_ms": matching.now_ms + 10_000}
    assert matching.task("r1/w3.1") == [("run", "w1", "r1/w3.1")]
    assert matching.task("r2/w5.1", **sticky) == [], "it waits for the worker that has its run"
    assert matching.route(current_build_id="2") == [("run", "w2", "r2/w5.1")]
    matching.done("r2/w5.1")
    assert matching.task("r3/w5.1", **sticky) == [("run", "w2", "r3/w5.1")]


def test_a_lease_is_not_touched_by_a_new_routing() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    matching.task("r1/w3.1")
    assert matching.route(current_build_id="2") == []
    assert matching.state.tasks["r1/w3.1"].worker_id == "w1"
    assert matching.stop("w1", **V1) == [("run", "w2", "r1/w3.1")], "begun anew it goes where it belongs now"


@pytest.mark.parametrize(("percentage", "worker"), [(0.0, "w1"), (100.0, "w2")])
def test_a_ramp_of_nothing_and_of_all(percentage: float, worker: str) -> None:
    matching = with_workers(workflow_slots=20)
    matching.route(current_build_id="1", ramping_build_id="2", ramping_percentage=percentage)
    for number in range(10):
        task_id = f"r{number}/w3.1"
        assert matching.task(task_id, workflow_id=f"wf-{number}") == [("run", worker, task_id)]


def test_a_ramp_is_decided_by_the_workflow_id() -> None:
    matching = with_workers(workflow_slots=200, activity_slots=200)
    matching.route(current_build_id="1", ramping_build_id="2", ramping_percentage=50)
    for number in range(100):
        workflow_id = f"wf-{number}"
        worker = "w2" if ramps(workflow_id, 50) else "w1"
        for task_id in (f"r{number}/w3.1", f"r{number}/a5.1"):
            assert matching.task(task_id, workflow_id=workflow_id) == [("run", worker, task_id)]


def test_workers_without_a_version_may_be_ramping() -> None:
    matching = with_workers()
    matching.route(current_build_id="1", ramping_build_id="", ramping_percentage=100)
    assert matching.task("r1/w3.1") == [("run", "w0", "r1/w3.1")]


def test_a_run_may_ask_for_the_ramping_version() -> None:
    matching = with_workers()
    matching.route(current_build_id="1", ramping_build_id="2", ramping_percentage=0)
    assert matching.task("r1/w3.1", prefers_ramping=True) == [("run", "w2", "r1/w3.1")]
    matching.route(current_build_id="1")
    assert matching.task("r2/w3.1", prefers_ramping=True) == [("run", "w1", "r2/w3.1")]


def test_an_older_revision_changes_nothing() -> None:
    matching = with_workers()
    matching.route(current_build_id="2", revision=10)
    matching.route(current_build_id="1", revision=9)
    assert matching.task("r1/w3.1") == [("run", "w2", "r1/w3.1")]


def test_the_deployment_that_was_changed_last_has_the_task_queue() -> None:
    matching = with_workers()
    assert matching.beat("x1", deployment_name="e", build_id="1") == [("seen", "e", "1", "q")]
    matching.route(deployment_name="e", current_build_id="1", time_ms=5)
    matching.route(current_build_id="1", time_ms=6)
    assert matching.task("r1/w3.1") == [("run", "w1", "r1/w3.1")]
    matching.route(current_build_id="", time_ms=7)
    assert matching.task("r2/w3.1") == [("run", "x1", "r2/w3.1")], "d wants nothing any more"


def test_a_version_that_does_not_serve_the_task_queue_routes_nothing_there() -> None:
    matching = with_workers()
    assert matching.beat("x2", task_queue="other", **V2, workflow_slots=5) == [("seen", "d", "2", "other")]
    matching.route(current_build_id="1")
    assert matching.task("r1/w3.1", task_queue="other") == []
    assert matching.route(current_build_id="2") == [("run", "x2", "r1/w3.1")]


def test_a_deleted_version_is_known_again_with_the_next_heartbeat() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    matching.forget("d.1")
    assert matching.task("r1/w3.1") == [("run", "w0", "r1/w3.1")]
    assert matching.beat("w1", **V1) == [("seen", "d", "1", "q")]
    assert matching.task("r2/w3.1") == [("run", "w1", "r2/w3.1")]


def test_a_new_owner_reads_the_routing_before_it_places_anything() -> None:
    first = with_workers()
    first.route(current_build_id="2")
    first.task("r1/w3.1")  # w2 has it
    assert first.task("r2/w3.1") == []
    second = Matching(first.log, None, first.now_ms + 100, MatchingConfig(store_after_ms=0), owner="second")
    assert set(second.poll()) == {("probe", "w0"), ("probe", "w1"), ("probe", "w2")}, "all versions are known"
    assert second.answer("w0") == second.answer("w1", **V1) == []
    assert second.answer("w2", **V2, held=("r1/w3.1",), workflow_slots=2) == [("run", "w2", "r2/w3.1")]


def test_nothing_is_placed_before_the_owners_own_mark_is_read() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    matching.state.routed = False
    matching.state.epoch += 1
    assert matching.task("r1/w3.1") == []
    matching.log.mark(NAMES.deployments, "matching/0", matching.state.epoch - 1, matching.now_ms)
    assert matching.poll() == [], "that is the mark of the owner before"
    matching.log.mark(NAMES.deployments, "matching/0", matching.state.epoch, matching.now_ms)
    assert matching.poll() == [("run", "w1", "r1/w3.1")]


def test_versions_survive_in_a_checkpoint() -> None:
    config = MatchingConfig(store_after_ms=0)
    first = Matching(config=config)
    first.beat("w1", **V1)
    first.route(current_build_id="1")
    first.task("r1/w3.1")
    first.task("r2/w3.1", version="d.2")
    first.handler.checkpoint()
    second = Matching(first.log, DictStore(first.store.snapshot()), first.now_ms + 100, config, owner="second")
    assert ("probe", "w1") in second.poll()
    assert second.answer("w1", **V1, held=("r1/w3.1",)) == []
    assert second.state.tasks["r1/w3.1"].worker_id == "w1"
    assert second.state.tasks["r2/w3.1"].version == "d.2"


def test_work_without_a_worker_of_its_version_is_seen_as_that() -> None:
    matching = with_workers()
    matching.route(current_build_id="1")
    matching.task("r1/w3.1", version="d.gone")
    assert work_left(matching.state) == WorkLeft(in_hand=0, without_worker=1)
    matching.task("r2/w3.1")
    assert work_left(matching.state) == WorkLeft(in_hand=1, without_worker=1)


@pytest.mark.parametrize("build_id", ["", "a/b", "a\0b"])
def test_a_version_with_a_bad_name_is_refused(build_id: str) -> None:
    matching = Matching()
    assert matching.beat("w1", deployment_name="d", build_id=build_id) == []
    ((_, reason),) = matching.driver.failures
    assert "build id" in reason
    assert matching.state.queues == {}


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_percentage_only_adds_workflows(workflow_id: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert ramps(workflow_id, larger) or not ramps(workflow_id, smaller)
    assert ramps(workflow_id, 100)
    assert not ramps(workflow_id, 0)


def test_a_ramp_takes_about_its_share() -> None:
    share = sum(ramps(f"order-{number}", 20) for number in range(10_000)) / 10_000
    assert 0.18 < share < 0.22
