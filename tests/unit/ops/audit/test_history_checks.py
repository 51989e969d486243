"""Each check of the history topic finds a history that is broken in its way, names it, and finds nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_ops.audit import CHECKS
from perdure_schemas import keys, records
from perdure_schemas.records import WorkflowStatus
from perdure_schemas.topics import TopicNames
from tests.unit.ops.audit.builder import START_MS, LogBuilder, options, place_of, where


def signal(command_id: str = "s1") -> records.WorkflowExecutionSignaled:
    return records.WorkflowExecutionSignaled(signal_name="go", command_id=command_id)


def activity_done(attempt: int = 1, scheduled_event_id: int = 4) -> records.ActivityTaskCompletedEvent:
    return records.ActivityTaskCompletedEvent(
        scheduled_event_id=scheduled_event_id, attempt=attempt, started_time_ms=START_MS
    )


def attempt(number: int, due_ms: int = START_MS) -> records.ActivityAttemptRecorded:
    return records.ActivityAttemptRecorded(scheduled_event_id=4, attempt=number, scheduled_time_ms=due_ms)


def timer_started(due_ms: int = START_MS + 500) -> records.TimerStarted:
    return records.TimerStarted(
        timer_id="t", start_to_fire_timeout_ms=500, due_time_ms=due_ms, workflow_task_completed_event_id=3
    )


def test_sound_logs_have_no_breach() -> None:
    log = LogBuilder()
    log.start("one", "wf-1")
    log.close("one", "wf-1")
    log.with_activity()
    log.decide(attempt(2, START_MS + 10), wake_up_number=1, wake_up_due_ms=START_MS + 10)
    log.done("run/a4.1")
    log.timer(1, START_MS + 10)
    log.take_over()
    log.decide(attempt(2))
    log.task("run/a4.2")
    log.append(log.names.timers, keys.fenced_key("run/t1", 0, 0), None)
    log.timer_done(1)
    assert log.audit() == []


def test_every_check_says_what_must_hold_and_what_to_do() -> None:
    for name, (expected, remedy) in CHECKS.items():
        assert expected, name
        assert remedy, name


def test_a_missing_event_is_a_gap() -> None:
    log = LogBuilder()
    log.start()
    broken = log.decide(signal(), first_id=4)
    breach = log.only("event-gap")
    assert (where(breach), breach.workflow_id, breach.run_id) == (place_of(broken), "wf", "run")
    assert "event 4 (WorkflowExecutionSignaled) follows event 2" in breach.message


def test_an_event_id_that_stands_there_twice_is_a_gap() -> None:
    log = LogBuilder()
    log.start()
    log.decide(signal("s1"))
    broken = log.decide(signal("s2"), first_id=3)
    assert where(log.only("event-gap")) == place_of(broken)


def test_a_run_without_its_beginning_is_a_gap_unless_it_was_removed() -> None:
    log = LogBuilder()
    log.start("other", "wf-1")
    broken = log.decide(signal(), first_id=7)
    breach = log.only("event-gap")
    assert where(breach) == place_of(broken)
    assert breach.run_id == "run"
    log.append(log.names.history, keys.fenced_key(keys.history_id("run", 1), 0, log.epoch), None)
    assert log.audit() == []


@pytest.mark.parametrize("late", [signal(), attempt(2)])
def test_nothing_happens_after_the_close(late: Any) -> None:
    log = LogBuilder()
    log.start()
    log.close()
    broken = log.decide(late)
    breach = log.only("after-close")
    assert where(breach) == place_of(broken)
    assert type(late).__name__ in breach.message
    assert "COMPLETED" in breach.message


def test_i1_a_void_record_is_passed_over_as_the_engine_does() -> None:
    log = LogBuilder()
    log.start()
    old = log.epoch
    log.take_over()
    # A deposed owner wakes up and writes on: an event nobody may see, a task, and a tombstone of what is needed.
    log.decide(signal("late"), epoch=old, command_offset=1, first_id=3)
    log.task("run/a9.1", epoch=old)
    log.done("run/w2.1", epoch=old)
    log.decide(signal("right"), command_offset=1, first_id=3)
    assert log.audit() == []


def test_i1_a_record_that_is_not_void_is_not_taken_for_one() -> None:
    log = LogBuilder()
    log.start()
    old = log.epoch
    log.decide(signal(), epoch=old)
    log.take_over()
    broken = log.decide(signal())
    breach = log.only("doubled-id")
    assert where(breach) == place_of(broken)
    assert "'s1'" in breach.message


def test_i1_an_epoch_needs_a_mark() -> None:
    log = LogBuilder()
    log.start()
    broken = log.decide(signal(), epoch=77)
    assert where(log.only("unmarked")) == place_of(broken)


def test_i2_a_command_is_decided_once() -> None:
    log = LogBuilder()
    log.start()
    log.decide(signal("s1"))
    broken = log.decide(signal("s2"), command_offset=1)
    breach = log.only("decided-twice")
    assert where(breach) == place_of(broken)
    assert "command 1 is decided after command 1" in breach.message


def test_i2_the_parts_of_a_decision_stand_together() -> None:
    log = LogBuilder()
    log.start()
    broken = log.decide(signal("s1"), parts=2)
    assert where(log.only("half-decided")) == place_of(broken)  # it is the last record
    log.decide(signal("s2"), first_id=3)
    assert where(log.only("half-decided")) == place_of(broken)


def test_i2_a_decision_that_a_mark_cuts_in_two_is_void() -> None:
    log = LogBuilder()
    log.start()
    log.decide(signal("s1"), parts=2)
    log.take_over()
    log.decide(signal("s1"), first_id=3, command_offset=1)
    assert log.audit() == []


def test_i2_what_compaction_has_removed_of_a_decision_is_not_missing() -> None:
    log = LogBuilder()
    log.start()
    log.decide(signal("s1"), parts=2)
    log.records.remove(log.decide(signal("gone"), first_id=4))  # as if it were the second part
    log.decide(signal("s2"), first_id=4)
    assert log.audit() == []


def test_a_workflow_id_has_one_open_run() -> None:
    log = LogBuilder()
    log.start("first")
    broken = log.start("second")
    breach = log.only("two-open-runs")
    assert where(breach) == place_of(broken)
    assert "first, second" in breach.message


def test_the_next_run_of_a_chain_starts_with_the_end_of_the_last() -> None:
    log = LogBuilder()
    log.start()
    continued = records.WorkflowExecutionContinuedAsNew(
        new_run_id="next", workflow_type="Order", task_queue="q", workflow_task_completed_event_id=3
    )
    broken = log.complete_task(continued)
    log.summary(status=WorkflowStatus.CONTINUED_AS_NEW)
    breach = log.only("missing-run")
    assert where(breach) == place_of(broken)
    assert "next" in breach.message


def test_a_workflow_task_is_completed_once() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task()
    broken = log.complete_task()
    breach = log.only("workflow-task")
    assert where(breach) == place_of(broken)
    assert "workflow task 2, which is not outstanding" in breach.message


def test_a_workflow_task_is_not_scheduled_beside_another() -> None:
    log = LogBuilder()
    log.start()
    log.decide(records.WorkflowTaskScheduled(task_queue="q", start_to_close_timeout_ms=10_000))
    log.only("workflow-task")


def test_an_activity_is_completed_once() -> None:
    log = LogBuilder()
    log.with_activity()
    log.decide(activity_done())
    log.done("run/a4.1")
    broken = log.decide(activity_done())
    breach = log.only("activity")
    assert where(breach) == place_of(broken)
    assert "activity 4" in breach.message


def test_an_old_attempt_does_not_complete_an_activity() -> None:
    log = LogBuilder()
    log.with_activity()
    log.decide(attempt(2))
    log.done("run/a4.1")
    log.task("run/a4.2")
    log.decide(activity_done(attempt=1))
    assert "ends attempt 1 of activity 4, whose attempt is 2" in log.only("activity").message


def test_attempts_do_not_go_back() -> None:
    log = LogBuilder()
    log.with_activity()
    log.decide(attempt(3))
    log.done("run/a4.1")
    log.decide(attempt(2))
    log.only("activity")


def test_an_activity_that_backs_off_is_not_completed() -> None:
    log = LogBuilder()
    log.with_activity()
    log.decide(attempt(2, START_MS + 1_000))
    log.done("run/a4.1")
    log.decide(activity_done(attempt=2))
    assert "no attempt out" in log.only("activity").message


def test_a_timer_fires_once() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task(timer_started())
    fired = records.TimerFired(timer_id="t", started_event_id=4)
    log.decide(fired, time_ms=START_MS + 500)
    broken = log.decide(fired, time_ms=START_MS + 600)
    breach = log.only("timer")
    assert where(breach) == place_of(broken)
    assert "which does not run" in breach.message


def test_a_timer_does_not_fire_early() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task(timer_started())
    broken = log.decide(records.TimerFired(timer_id="t", started_event_id=4), time_ms=START_MS + 499)
    breach = log.only("timer-early")
    assert where(breach) == place_of(broken)
    assert "1 ms before it is due" in breach.message


def test_a_child_ends_once() -> None:
    log = LogBuilder()
    log.start()
    initiated = records.StartChildWorkflowExecutionInitiated(
        options=records.ChildWorkflowOptions(workflow_id="c", workflow_type="Child", task_queue="q"),
        workflow_task_completed_event_id=3,
    )
    log.complete_task(initiated)
    begun = {"initiated_event_id": 4, "workflow_id": "c", "run_id": "c1", "workflow_type": "Child"}
    log.decide(records.ChildWorkflowExecutionStarted(**begun))
    ended = records.ChildWorkflowExecutionCompleted(**begun, started_event_id=5)
    log.decide(ended)
    broken = log.decide(ended)
    assert where(log.only("child")) == place_of(broken)


def test_a_request_to_another_workflow_is_answered_once() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task(
        records.SignalExternalWorkflowExecutionInitiated(
            workflow_id="w", signal_name="go", workflow_task_completed_event_id=3
        )
    )
    answered = records.ExternalWorkflowExecutionSignaled(initiated_event_id=4, workflow_id="w")
    log.decide(answered)
    log.decide(answered)
    log.only("child")


def test_i3_an_update_is_accepted_and_completed_once() -> None:
    accepted = records.WorkflowExecutionUpdateAccepted(
        request=records.UpdateRequest(update_id="u", name="change"), workflow_task_completed_event_id=3
    )
    completed = records.WorkflowExecutionUpdateCompleted(
        update_id="u", accepted_event_id=3, workflow_task_completed_event_id=3
    )
    for happenings in ([accepted, accepted], [accepted, completed, completed], [completed]):
        log = LogBuilder()
        log.start()
        for each in happenings:
            log.decide(each)
        assert "'u'" in log.only("doubled-id").message


def test_the_key_is_that_of_the_value() -> None:
    log = LogBuilder()
    log.start()
    broken = log.decide(signal(), key=keys.fenced_key(keys.history_id("run", 9), 0, log.epoch))
    assert where(log.only("wrong-key")) == place_of(broken)


def test_events_that_compaction_could_lose() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task(
        records.ActivityTaskScheduled(options=options("a"), workflow_task_completed_event_id=3),
        records.ActivityTaskScheduled(options=options("b"), workflow_task_completed_event_id=3),
    )
    log.task("run/a4.1")
    log.task("run/a5.1")
    other = records.ActivityAttemptRecorded(scheduled_event_id=5, attempt=1, scheduled_time_ms=START_MS)
    log.decide(attempt(1), other)
    assert "several events without ids" in log.audit()[0].message


def test_a_workflow_stands_in_its_partition() -> None:
    log = LogBuilder(TopicNames(namespace="audit", partitions=64))
    right = keys.partition_of("wf", 64)
    assert right != 0
    log.start()
    assert {breach.check for breach in log.audit()} == {"misplaced"}
    assert f"belongs to partition {right}" in log.audit()[0].message


def test_a_record_that_cannot_be_read_needs_a_dead_letter() -> None:
    log = LogBuilder()
    log.start()
    broken = log.append(log.names.history, keys.fenced_key("run/0000000003", 0, log.epoch), b"\xc3\x01nothing")
    assert where(log.only("unreadable")) == place_of(broken)
    log.dead_letter(broken)
    assert log.audit() == []


def test_a_key_that_cannot_be_read() -> None:
    for key in (None, b"", b"run/1", b"run@x.y", b"\xff@0.0"):
        log = LogBuilder()
        log.append(log.names.history, key, b"")
        log.append(log.names.tasks, key, b"")
        assert [breach.check for breach in log.audit()] == ["unreadable", "unreadable"], key
