"""Tasks and slots: who gets what, in which order, and what a slot's end brings."""

from __future__ import annotations

import pytest

from perdure_schemas import codec
from perdure_schemas.records import ActivityTaskStarted, Dispatch, RunTask
from tests.support.matching import NAMES, START_MS, Matching


def test_a_task_goes_to_a_free_worker_with_its_body_epoch_and_number() -> None:
    matching = Matching()
    matching.beat("w1", inbox_partition=0)
    matching.write_task("r1/w3.1", body=b"payload")
    matching.driver.poll()
    (sent,) = matching.driver.outbox.take()
    assert (sent.topic, sent.partition, sent.key) == (NAMES.work("q"), 0, b"w1")
    dispatch = codec.decode_as(sent.value, Dispatch)
    assert dispatch == Dispatch(
        worker_id="w1",
        source_partition=0,
        epoch=matching.epoch,
        dispatch_number=1,
        time_ms=START_MS,
        body=RunTask(
            task_id="r1/w3.1", kind="workflow", workflow_id="wf", run_id="r1", task=b"payload", eager_activities_max=1
        ),
    )


def test_a_task_without_a_worker_waits_for_one() -> None:
    matching = Matching()
    assert matching.task("r1/w3.1") == []
    assert matching.beat("w1") == [("run", "w1", "r1/w3.1")]


def test_slots_are_never_exceeded_and_a_tombstone_gives_the_next_task_at_once() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=2)
    assert matching.task("r1/a5.1", start_notice_delay_ms=60_000) == [("run", "w1", "r1/a5.1")]
    assert matching.task("r2/a5.1", start_notice_delay_ms=60_000) == [("run", "w1", "r2/a5.1")]
    assert matching.task("r3/a5.1", start_notice_delay_ms=60_000) == []
    assert matching.done("r1/a5.1") == [("run", "w1", "r3/a5.1")]


def test_workflow_and_query_tasks_share_slots_that_activities_do_not_use() -> None:
    matching = Matching()
    matching.beat("w1")
    assert matching.task("r1/w3.1") == [("run", "w1", "r1/w3.1")]
    assert matching.task("r2/q77") == []
    assert matching.task("r2/a5.1", start_notice_delay_ms=60_000) == [("run", "w1", "r2/a5.1")]
    assert matching.done("r1/w3.1") == [("run", "w1", "r2/q77")]


def test_task_queues_do_not_mix() -> None:
    matching = Matching()
    matching.beat("w1", task_queue="other")
    assert matching.task("r1/w3.1") == []
    assert matching.task("r2/w3.1", task_queue="other") == [("run", "w1", "r2/w3.1")]


def test_work_is_spread_over_the_workers() -> None:
    matching = Matching()
    for worker in ("w1", "w2", "w3"):
        matching.beat(worker, workflow_slots=2)
    served = [matching.task(f"r{number}/w3.1")[0][1] for number in range(6)]
    assert sorted(served) == ["w1", "w1", "w2", "w2", "w3", "w3"]
    assert sorted(served[:3]) == ["w1", "w2", "w3"]


def test_backlog_is_served_by_priority_then_fairness_then_arrival() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r0/w3.1")
    for number in range(3):
        matching.task(f"loud{number}/w3.1", fairness_key="loud")
    matching.task("quiet/w3.1", fairness_key="quiet")
    matching.task("urgent/w3.1", priority=1)
    served = []
    current = "r0/w3.1"
    for _ in range(5):
        ((_, _, current),) = matching.done(current)
        served.append(current.partition("/")[0])
    assert served[0] == "urgent"
    assert served.index("quiet") <= 2
    assert [name for name in served if name.startswith("loud")] == ["loud0", "loud1", "loud2"]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e-30])
def test_a_senseless_fairness_weight_is_clamped(weight: float) -> None:
    matching = Matching()
    matching.task("r1/w3.1", fairness_key="a", fairness_weight=weight)
    matching.task("r2/w3.1", fairness_key="b")
    assert len(matching.beat("w1", workflow_slots=2)) == 2


# --- sticky -----------------------------------------------------------------------------------------------------------


def sticky(matching: Matching, worker: str = "w1", wait_ms: int = 5_000) -> dict[str, object]:
    return {"sticky_worker_id": worker, "sticky_until_ms": matching.now_ms + wait_ms}


def test_a_sticky_task_goes_to_its_worker() -> None:
    matching = Matching()
    for worker in ("w1", "w2", "w3"):
        matching.beat(worker)
    assert matching.task("r1/w3.1", **sticky(matching, "w3")) == [("run", "w3", "r1/w3.1")]


def test_a_sticky_task_waits_for_its_worker_although_another_is_free_and_comes_first_there() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1")
    matching.task("r2/w3.1")
    assert matching.task("r3/w3.1", **sticky(matching)) == []
    assert matching.beat("w2") == [("run", "w2", "r2/w3.1")]
    assert matching.done("r1/w3.1") == [("run", "w1", "r3/w3.1")]


def test_a_sticky_task_goes_to_anyone_after_its_deadline_exactly() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.beat("w2")
    matching.task("r1/w3.1", **sticky(matching))
    matching.task("r2/w3.1", **sticky(matching, wait_ms=900))
    assert matching.handler.next_wakeup_ms() == matching.now_ms + 900
    assert matching.advance(899) == []
    assert matching.advance(1) == [("run", "w2", "r2/w3.1")]


@pytest.mark.parametrize("leaves", ["stopped", "draining", "unknown"])
def test_a_sticky_task_does_not_wait_for_a_worker_that_takes_nothing(leaves: str) -> None:
    matching = Matching()
    matching.beat("w1")
    matching.beat("w2")
    matching.task("r0/w3.1", **sticky(matching, "w1"))
    if leaves == "unknown":
        assert matching.task("r1/w3.1", **sticky(matching, "nobody")) == [("run", "w2", "r1/w3.1")]
        return
    assert matching.task("r1/w3.1", **sticky(matching, "w1")) == []
    if leaves == "draining":
        assert matching.beat("w1", draining=True, held=("r0/w3.1",)) == [("run", "w2", "r1/w3.1")]
    else:
        assert matching.stop("w1") == [("run", "w2", "r0/w3.1")]
        assert matching.done("r0/w3.1") == [("run", "w2", "r1/w3.1")]


def test_a_sticky_deadline_in_the_past_means_anyone() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.beat("w2")
    matching.task("r0/w3.1", **sticky(matching, "w1"))
    late = {"sticky_worker_id": "w1", "sticky_until_ms": matching.now_ms}
    assert matching.task("r1/w3.1", **late) == [("run", "w2", "r1/w3.1")]


# --- what the clock does ------------------------------------------------------------------------------------------


def test_history_hears_of_a_start_only_if_the_attempt_is_still_open() -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=2)
    matching.task("r1/a5.1", start_notice_delay_ms=1_000)
    matching.task("r2/a5.1", start_notice_delay_ms=1_000)
    matching.done("r1/a5.1")
    assert matching.advance(999) == []
    assert matching.advance(1) == [("ActivityTaskStarted", "started/r2/a5.1")]
    assert matching.advance(2_000) == []


def test_a_start_notice_without_delay_is_sent_with_the_dispatch() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.write_task("r1/a5.2", start_notice_delay_ms=0, attempt=2)
    matching.driver.poll()
    _, command = matching.driver.outbox.take_values()
    assert command.body == ActivityTaskStarted(
        scheduled_event_id=5, attempt=2, started_time_ms=START_MS, worker_id="w1"
    )


def test_a_lease_that_is_too_old_goes_to_another_worker() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=2)
    matching.task("r1/w3.1", lease_ms_max=3_000)
    matching.beat("w2")
    assert matching.advance(2_999) == []
    assert matching.advance(1) == [("run", "w2", "r1/w3.1")]
    assert matching.beat("w1", workflow_slots=2, held=("r1/w3.1",)) == []
    assert matching.done("r1/w3.1") == []


def test_a_lease_that_is_too_old_goes_to_the_same_worker_if_there_is_no_other() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/w3.1", lease_ms_max=3_000)
    assert matching.advance(3_000) == [("run", "w1", "r1/w3.1")]


@pytest.mark.parametrize("worker", [True, False])
def test_a_query_nobody_answers_is_reported_once_and_not_dispatched_any_more(worker: bool) -> None:
    matching = Matching()
    if worker:
        matching.beat("w1", workflow_slots=1)
    matching.task("r1/qabc", expires_at_ms=matching.now_ms + 1_000)
    matching.sent()
    assert matching.advance(999) == []
    assert matching.advance(1) == [("QueryTaskExpired", "expired/r1/qabc")]
    assert matching.beat("w2") == []
    assert matching.done("r1/qabc") == []
    assert matching.advance(1_000) == []


# --- cancellation -------------------------------------------------------------------------------------------------


def test_a_cancel_request_reaches_the_holder_once() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/a5.1")
    assert matching.task("r1/a5.1", cancel_requested=True) == [("cancel", "w1", "r1/a5.1")]
    assert matching.task("r1/a5.1", cancel_requested=True) == []
    assert matching.task("r1/a5.1") == []


def test_an_activity_cancelled_before_anybody_had_it_is_cancelled_by_matching() -> None:
    matching = Matching()
    matching.task("r1/a5.1")
    assert matching.task("r1/a5.1", cancel_requested=True) == [("ActivityTaskCanceled", "canceled/r1/a5.1")]
    assert matching.beat("w1") == []
    assert matching.task("r2/a5.1", cancel_requested=True) == [("ActivityTaskCanceled", "canceled/r2/a5.1")]


@pytest.mark.parametrize(("age_ms", "told"), [(500, False), (1_500, True)])
def test_the_holder_of_a_long_running_activity_is_told_that_nobody_needs_it(age_ms: int, told: bool) -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.advance(age_ms)
    assert matching.done("r1/a5.1") == ([("gone", "w1", "r1/a5.1")] if told else [])


def test_the_holder_is_not_told_of_what_it_has_finished() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task("r1/a5.1", start_notice_delay_ms=60_000)
    matching.advance(1_500)
    matching.answer("w1", number=1)
    assert matching.done("r1/a5.1") == []


# --- one task by its id (I3) --------------------------------------------------------------------------------------


def test_i3_a_task_sent_again_under_a_later_epoch_is_the_same_task() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=5)
    assert matching.task("r1/w3.1", epoch=1) == [("run", "w1", "r1/w3.1")]
    matching.log.mark(NAMES.tasks, "history/0", 2, matching.now_ms)
    assert matching.task("r1/w3.1", epoch=2) == []
    assert matching.done("r1/w3.1", epoch=2) == []
    assert matching.state.tasks == {}


def test_i1_records_of_a_deposed_history_owner_are_void_behind_the_next_mark() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=5)
    matching.task("r1/w3.1", epoch=1)
    matching.log.mark(NAMES.tasks, "history/0", 2, matching.now_ms)
    assert matching.task("zombie/w3.1", epoch=1) == []
    matching.done("r1/w3.1", epoch=1)
    assert list(matching.state.tasks) == ["r1/w3.1"]


# --- bad records (I5) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"r1/w3.1@0.0", b"garbage", "not an Avro single-object record"),
        (None, b"garbage", "has no key"),
        (b"no fence", b"garbage", "does not end in @<partition>.<epoch>"),
    ],
)
def test_i5_a_poisoned_task_record_is_refused_and_the_partition_goes_on(
    key: bytes | None, value: bytes, reason: str
) -> None:
    matching = Matching()
    matching.beat("w1")
    matching.log.append(NAMES.tasks, key, value, matching.now_ms)
    assert matching.task("r2/w3.1") == [("run", "w1", "r2/w3.1")]
    ((_, message),) = matching.driver.failures
    assert reason in message


def test_i5_a_worker_of_another_topic_layout_is_refused_with_the_reason() -> None:
    matching = Matching()
    matching.beat("w1", inbox_partition=9)
    ((_, message),) = matching.driver.failures
    assert "inbox partition 9" in message
    assert "restart it" in message


def test_i5_a_key_that_names_another_task_is_refused() -> None:
    matching = Matching()
    matching.write_task("r1/w3.1")
    record = matching.log.topics[NAMES.tasks].pop()
    matching.log.append(NAMES.tasks, b"r2/w3.1@0.0", record.value, matching.now_ms)
    matching.poll()
    assert "'r2/w3.1'" in matching.driver.failures[0][1]
    assert matching.state.tasks == {}
