"""Each check of tasks, timers and summaries finds a log that is broken in its way, names it, and finds nothing else."""

from __future__ import annotations

from perdure_ops.audit import Audit
from perdure_schemas import codec, keys, records
from perdure_schemas.records import Command, DeadlineReached, WorkflowStatus
from perdure_schemas.topics import EXECUTIONS, HISTORY
from tests.unit.ops.audit.builder import START_MS, LogBuilder, options, place_of, where


def test_a_task_that_its_run_waits_for_is_there() -> None:
    log = LogBuilder()
    log.start()
    broken = log.complete_task(records.ActivityTaskScheduled(options=options(), workflow_task_completed_event_id=3))
    breach = log.only("task-lost")
    assert (where(breach), breach.workflow_id, breach.run_id) == (place_of(broken), "wf", "run")
    assert "'run/a4.1'" in breach.message
    assert log.audit((HISTORY, EXECUTIONS)) == []  # without `tasks` nobody can say


def test_a_tombstone_too_early_loses_a_task() -> None:
    log = LogBuilder()
    log.with_activity()
    log.done("run/a4.1")
    log.only("task-lost")


def test_a_task_of_a_closed_run_is_left() -> None:
    log = LogBuilder()
    log.start()
    log.close()
    broken = log.task("run/a4.1")
    breach = log.only("task-left")
    assert (where(breach), breach.workflow_id, breach.run_id) == (place_of(broken), "wf", "run")
    assert "of no open run" in breach.message


def test_a_task_that_its_run_does_not_wait_for_is_left() -> None:
    log = LogBuilder()
    log.with_activity()
    broken = log.task("run/a4.2")
    breach = log.only("task-left")
    assert where(breach) == place_of(broken)
    assert "does not wait for" in breach.message


def test_i1_what_a_later_owner_sent_again_is_over_when_all_its_keys_are() -> None:
    log = LogBuilder()
    log.start()
    first = log.epoch
    log.take_over()
    log.task("run/w2.1", kind="workflow")
    log.complete_task()
    breach = log.only("key-left")
    assert breach.offset == 1  # the first owner's record
    assert "compaction brings it back" in breach.message
    log.done("run/w2.1", epoch=first)  # void for readers, but compaction goes by it
    assert log.audit() == []


def test_i3_a_task_that_was_done_does_not_come_back() -> None:
    log = LogBuilder()
    log.start()
    log.complete_task()
    broken = log.task("run/w2.1", kind="workflow")
    log.done("run/w2.1")
    breach = log.only("task-revived")
    assert (where(breach), breach.run_id) == (place_of(broken), "run")


def test_i4_a_task_of_a_decision_that_was_lost_may_come_back_with_the_next_owner() -> None:
    log = LogBuilder()
    log.start()
    first = log.epoch
    log.done("run/w2.1")  # of a decision whose history record never reached the log
    log.take_over()
    log.task("run/w2.1", kind="workflow")
    log.complete_task()
    log.done("run/w2.1", epoch=first)
    assert log.audit() == []


def test_tasks_of_queries_are_no_part_of_the_history() -> None:
    log = LogBuilder()
    log.start()
    log.task("run/q0.1", kind="query")
    assert log.audit() == []


def test_tasks_are_conserved_and_counted() -> None:
    log = LogBuilder()
    log.with_activity()
    dead = log.task("run/a4.1")
    log.dead_letter(dead)
    check = Audit(log.names)
    for record in log.records:
        check.take(record)
    assert check.finish() == []
    counts = check.counts()
    assert (counts.tasks_scheduled, counts.tasks_done, counts.tasks_outstanding, counts.tasks_dead) == (2, 1, 0, 1)
    assert (counts.runs_open, counts.runs_closed, counts.dead_letters, counts.records) == (1, 0, 1, len(log.records))


def test_a_task_that_cannot_be_read_needs_a_dead_letter() -> None:
    log = LogBuilder()
    log.start()
    broken = log.append(log.names.tasks, keys.fenced_key("run/a9.1", 0, log.epoch), b"nothing")
    assert where(log.only("unreadable")) == place_of(broken)
    log.dead_letter(broken)
    assert log.audit() == []


def test_the_armed_wake_up_is_there() -> None:
    log = LogBuilder()
    broken = log.start(wake_up_number=1, wake_up_due_ms=START_MS + 500)
    breach = log.only("timer-lost")
    assert (where(breach), breach.run_id) == (place_of(broken), "run")
    log.timer(1, START_MS + 400)
    assert "is due at" in log.only("timer-lost").message
    log.timer(1, START_MS + 500)
    assert log.audit() == []


def test_a_timer_that_nobody_armed_is_left() -> None:
    log = LogBuilder()
    log.start(wake_up_number=2, wake_up_due_ms=START_MS + 500)
    log.timer(2, START_MS + 500)
    broken = log.timer(1, START_MS + 400)
    assert where(log.only("timer-left")) == place_of(broken)
    log.timer_done(1)
    assert log.audit() == []


def test_a_wake_up_does_not_come_early() -> None:
    log = LogBuilder()
    log.start()
    body = DeadlineReached(arm_number=1, due_time_ms=START_MS + 10)
    value = codec.encode(Command(command_id="due/run/t1", workflow_id="wf", run_id="run", body=body))
    broken = log.append(log.names.commands, b"wf", value, time_ms=START_MS + 9)
    log.append(log.names.commands, b"wf", value, time_ms=START_MS + 10)
    breach = log.only("timer-early")
    assert where(breach) == place_of(broken)
    assert "1 ms before" in breach.message


def test_the_summary_says_what_the_history_says() -> None:
    log = LogBuilder()
    log.start()
    log.close()
    broken = log.summary(status=WorkflowStatus.FAILED)
    breach = log.only("summary")
    assert where(breach) == place_of(broken)
    assert "it says FAILED, but the run is COMPLETED" in breach.message
    log.summary(status=WorkflowStatus.COMPLETED)
    assert log.audit() == []


def test_a_run_has_a_summary_and_a_summary_a_run() -> None:
    log = LogBuilder()
    log.start()
    gone = keys.fenced_key("run", 0, log.epoch)
    log.append(log.names.executions, gone, None)
    assert "no summary" in log.only("summary").message
    log.summary(status=WorkflowStatus.COMPLETED)
    assert "the run is open" in log.only("summary").message
    log.summary()
    log.summary("nobody", "wf-2")
    assert "there is no such run" in log.only("summary").message


def test_i1_an_epoch_needs_a_mark_in_each_partition() -> None:
    log = LogBuilder()
    log.start()
    epoch = log.mark(log.names.history, -1)
    broken = log.append(
        log.names.tasks,
        keys.fenced_key("run/q1.1", 0, epoch),
        codec.encode(
            records.TaskRecord(
                task_id="run/q1.1", task_queue="q", kind="query", workflow_id="wf", run_id="run",
                created_time_ms=0, body=b"",
            )
        ),
    )  # fmt: skip
    assert where(log.only("unmarked")) == place_of(broken)


def test_an_epoch_that_no_owner_had() -> None:
    log = LogBuilder()
    log.start()
    log.mark(log.names.tasks, 55)
    broken = log.task("run/w2.1", kind="workflow", epoch=55)
    breach = log.only("unmarked")
    assert where(breach) == place_of(broken)
    assert "not the offset of a mark" in breach.message


def test_the_key_is_that_of_the_task() -> None:
    log = LogBuilder()
    log.start()
    broken = log.task("run/a7.1", key=keys.fenced_key("run/w2.1", 0, log.epoch))
    assert where(log.only("wrong-key")) == place_of(broken)
