"""What the doctor finds, and what is none of its business."""

from __future__ import annotations

from dataclasses import replace

from perdure_ops import doctor
from perdure_ops.audit import Breach
from perdure_ops.dead_letters import Action, Letter, Plan
from perdure_ops.group_lag import PartitionLag, groups_of
from perdure_runtime.log import LogRecord, TopicDescription
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    DeadLetter,
    ExecutionSummary,
    OwnerMark,
    Record,
    TaskRecord,
    TimerRecord,
    WorkerHeartbeat,
    WorkerStopped,
    WorkflowStatus,
)
from perdure_schemas.topics import HISTORY, TOPICS, TopicNames

NAMES = TopicNames(namespace="prod", partitions=2)
NOW_MS = 1_000_000
AGE_S = 60.0
GROUPS = {group.role: group for group in groups_of(NAMES)}


def topics(**changes: object) -> dict[str, TopicDescription]:
    found = {NAMES.of(spec): TopicDescription(NAMES.of(spec), 2, 3, spec.config(), in_sync=3) for spec in TOPICS}
    found[NAMES.history] = found[NAMES.history]._replace(**changes)  # type: ignore[arg-type]
    return found


def lag(role: str, partition: int, member: str = "one", oldest_ms: int | None = None) -> PartitionLag:
    return PartitionLag(GROUPS[role], partition, member, 5, 9, oldest_ms)


# --- topics and groups --------------------------------------------------------------------------------------------


def test_topics_as_they_must_be_give_no_finding() -> None:
    assert doctor.topic_findings(NAMES, topics()) == []


def test_a_missing_and_a_wrong_topic_are_found_with_what_to_do() -> None:
    found = topics(config=HISTORY.config() | {"cleanup.policy": "delete"})
    del found[NAMES.tasks]
    by_topic = {finding.subject: finding for finding in doctor.topic_findings(NAMES, found)}
    assert set(by_topic) == {NAMES.history, NAMES.tasks}
    assert by_topic[NAMES.tasks].finding.startswith("topic is missing")
    assert all("perdure topics apply" in finding.fix for finding in by_topic.values())


def test_another_partition_count_is_not_for_apply() -> None:
    (finding,) = doctor.topic_findings(NAMES, topics(partitions=4))
    assert finding.finding == "partitions is 4, not 2"
    assert "topics apply" not in finding.fix


def test_replicas_that_lag_are_found_and_whether_writing_is_blocked() -> None:
    config = HISTORY.config() | {"min.insync.replicas": "2"}
    (slow,) = doctor.topic_findings(NAMES, topics(config=config, in_sync=2))
    assert (slow.check, slow.subject) == ("replicas", NAMES.history)
    assert "nothing can be written" not in slow.cause
    (blocked,) = doctor.topic_findings(NAMES, topics(config=config, in_sync=1))
    assert "nothing can be written" in blocked.cause
    assert doctor.topic_findings(NAMES, topics(in_sync=-1)) == []


def test_partitions_without_an_owner_are_found() -> None:
    lags = [lag("history", 0), lag("history", 1, ""), lag("timers", 0, ""), lag("timers", 1, ""), lag("matching", 0)]
    some, nobody = doctor.group_findings(lags, NOW_MS, AGE_S)
    assert (some.subject, some.finding) == (GROUPS["history"].name, "nobody owns partitions 1")
    assert (nobody.subject, nobody.finding) == (GROUPS["timers"].name, "the group has no members")
    assert "perdure server" in nobody.fix


def test_only_queues_can_be_late_not_open_tasks_and_timers() -> None:
    old_ms = NOW_MS - 61_000
    lags = [lag(role, number, oldest_ms=old_ms) for role in GROUPS for number in (0, 1)]
    findings = doctor.group_findings(lags, NOW_MS, AGE_S)
    assert [(finding.check, finding.subject) for finding in findings] == [
        ("lag", GROUPS["history"].name),
        ("lag", GROUPS["read-side"].name),
        ("lag", GROUPS["relay"].name),
    ]
    assert findings[0].finding == "partition 0 is 4 records and 61 s behind (2 of 2 partitions are behind)"
    assert doctor.group_findings([replace(found, oldest_ms=NOW_MS) for found in lags], NOW_MS, AGE_S) == []


# --- runs and dead letters ----------------------------------------------------------------------------------------


def run(number: int, *, stuck: str = "", quarantined: str = "") -> ExecutionSummary:
    return ExecutionSummary(
        workflow_id=f"order-{number}",
        run_id=f"run-{number}",
        first_execution_run_id=f"run-{number}",
        workflow_type="Order",
        task_queue="orders",
        status=WorkflowStatus.RUNNING,
        start_time_ms=1,
        execution_time_ms=1,
        history_length=3,
        version=1,
        stuck_attempt=4 if stuck else 0,
        stuck_reason=stuck,
        quarantine_reason=quarantined,
    )


def test_runs_that_do_not_go_on_are_found() -> None:
    findings = doctor.run_findings([run(1), run(2, stuck="KeyError"), run(3, quarantined="garbage")])
    assert [(finding.check, finding.subject) for finding in findings] == [
        ("quarantined", "order-3 run-3"),
        ("stuck", "order-2 run-2"),
    ]
    assert "workflow release -w order-3" in findings[0].fix


def test_of_many_stuck_runs_some_are_named_and_all_are_counted() -> None:
    findings = doctor.run_findings(run(number, stuck="KeyError") for number in range(12))
    assert len(findings) == 6
    assert findings[-1].finding == "7 more runs are stuck"


def letter(offset: int) -> Letter:
    content = DeadLetter(
        topic=NAMES.commands, partition=0, offset=offset, key=b"k", value=b"v", reason=f"r{offset}", time_ms=offset
    )
    return Letter(f"{NAMES.commands}/0/{offset}", content)


def test_dead_letters_count_until_they_are_put_back() -> None:
    done, ready, refused = (
        Plan(letter(number), action, "")
        for number, action in enumerate((Action.DONE, Action.REPLAY, Action.REFUSED), start=1)
    )
    assert doctor.letter_findings([done]) == []
    (finding,) = doctor.letter_findings([done, ready, refused])
    assert finding.finding == "2 dead letters; 1 of them can be put back"
    assert finding.cause.endswith("r3")


def test_breaches_of_one_kind_are_one_finding() -> None:
    breaches = [Breach("task-lost", f"m{n}", NAMES.history, 0, n) for n in range(3)]
    breaches.append(Breach("timer-left", "other", NAMES.timers, 1, 8))
    findings = doctor.audit_findings(breaches)
    assert [finding.check for finding in findings] == ["audit:task-lost", "audit:timer-left"]
    assert findings[0].finding == "m0 (and 2 more)"
    assert findings[1].subject == f"{NAMES.timers}/1/8"


# --- tasks, timers, workers ---------------------------------------------------------------------------------------


class Topics:
    """Records one after the other, as they stand in partition 0 of their topics."""

    def __init__(self) -> None:
        self.outstanding = doctor.Outstanding(NAMES)
        self._offset = 0

    def write(self, topic: str, key: bytes, value: Record | None) -> None:
        encoded = None if value is None else codec.encode(value)
        self.outstanding.take(LogRecord(topic, 0, self._offset, key, encoded, 0))
        self._offset += 1

    def task(self, task_id: str, epoch: int = 3, created_ms: int = 1) -> None:
        task = TaskRecord(
            task_id=task_id,
            task_queue="orders",
            kind="workflow",
            workflow_id="order",
            run_id="run",
            created_time_ms=created_ms,
            body=b"",
        )
        self.write(NAMES.tasks, keys.fenced_key(task_id, 0, epoch), task)

    def mark(self, topic: str, epoch: int) -> None:
        mark = OwnerMark(source="history/0", epoch=epoch, owner="one", time_ms=1)
        self.write(topic, keys.mark_key("history/0", str(epoch)), mark)

    def timer(self, timer_id: str, due_ms: int) -> None:
        timer = TimerRecord(timer_id=timer_id, workflow_id="order", run_id="run", arm_number=1, due_time_ms=due_ms)
        self.write(NAMES.timers, keys.fenced_key(timer_id, 0, 3), timer)

    def heartbeat(self, time_ms: int = NOW_MS, *, draining: bool = False) -> None:
        beat = WorkerHeartbeat(
            worker_id="w",
            task_queue="orders",
            inbox_partition=0,
            workflow_slots=1,
            activity_slots=1,
            time_ms=time_ms,
            draining=draining,
        )
        self.write(NAMES.workers, b"w", beat)

    def found(self) -> list[str]:
        return [finding.check for finding in self.outstanding.findings(NOW_MS, AGE_S)]


def test_tasks_without_a_worker_are_found_once_they_are_old() -> None:
    topics = Topics()
    topics.task("young", created_ms=NOW_MS - 1_000)
    assert topics.found() == []
    topics.task("old")
    assert topics.found() == ["no-worker"]
    topics.heartbeat()
    assert topics.found() == []
    topics.heartbeat(draining=True)
    assert topics.found() == ["no-worker"]
    topics.heartbeat(NOW_MS - doctor.WORKER_SILENCE_MS)
    assert topics.found() == ["no-worker"]
    topics.heartbeat()
    topics.write(NAMES.workers, b"w", WorkerStopped(worker_id="w", task_queue="orders", time_ms=NOW_MS))
    assert topics.found() == ["no-worker"]
    topics.write(NAMES.tasks, keys.fenced_key("old", 0, 3), None)
    assert topics.found() == []


def test_what_a_deposed_owner_wrote_does_not_count() -> None:
    topics = Topics()
    topics.mark(NAMES.tasks, 7)
    topics.task("void", epoch=3)
    assert topics.found() == []
    topics.task("valid", epoch=7)
    topics.write(NAMES.tasks, keys.fenced_key("valid", 0, 3), None)
    assert topics.found() == ["no-worker"]


def test_timers_that_are_long_due_are_found_and_long_timers_are_not() -> None:
    topics = Topics()
    topics.timer("long", NOW_MS + 10**9)
    topics.timer("just", NOW_MS - 1_000)
    assert topics.found() == []
    topics.timer("late", NOW_MS - 90_000)
    (finding,) = topics.outstanding.findings(NOW_MS, AGE_S)
    assert (finding.check, finding.finding) == (
        "late-timers",
        "1 timers are due and have not fired, the oldest for 90 s",
    )


def test_what_cannot_be_read_is_the_audits_business() -> None:
    outstanding = doctor.Outstanding(NAMES)
    for topic in (NAMES.tasks, NAMES.timers, NAMES.workers):
        outstanding.take(LogRecord(topic, 0, 0, b"x", b"garbage", 0))
        outstanding.take(LogRecord(topic, 0, 1, keys.fenced_key("a", 0, 1), b"garbage", 0))
    assert outstanding.findings(NOW_MS, AGE_S) == []
