"""What counts of a topic, and what it becomes with another partition count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from perdure_ops.audit import audit
from perdure_ops.migrating.manifest import HEADER, Manifest, difference, manifest_in, undecided
from perdure_ops.migrating.survivors import FencedSurvivors, HistorySurvivors, Kept
from perdure_ops.migrating.translation import MIGRATED_HEADER, Part, Translation
from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    Command,
    DeploymentRouting,
    DeploymentVersionSeen,
    Event,
    ExecutionSummary,
    HistoryRecord,
    OwnerMark,
    SignalWorkflow,
    TaskQueueConfig,
    TaskRecord,
    TimerRecord,
    WorkflowExecutionStarted,
    WorkflowExecutionTerminated,
    WorkflowQuarantined,
    WorkflowStatus,
)
from perdure_schemas.records.commands import SignalInput
from perdure_schemas.topics import TopicNames

NAMES = TopicNames("old", partitions=2)
NEW = TopicNames("new", partitions=5)
FIVE = range(5)


class Topic:
    """One partition, written record by record."""

    def __init__(self, topic: str, partition: int = 0) -> None:
        self.topic = topic
        self.partition = partition
        self.records: list[LogRecord] = []

    def add(self, key: bytes | None, value: Any, *headers: tuple[str, bytes]) -> int:
        offset = len(self.records)
        data = value if value is None or isinstance(value, bytes) else codec.encode(value)
        self.records.append(LogRecord(self.topic, self.partition, offset, key, data, 1_000 + offset, headers))
        return offset

    def mark(self, epoch: int = -1, source: int | None = None) -> int:
        name = f"history/{self.partition if source is None else source}"
        mark = OwnerMark(source=name, epoch=epoch, owner="e", time_ms=1)
        return self.add(keys.mark_key(name, str(len(self.records))), mark)


def started(run_id: str) -> Event:
    attributes = WorkflowExecutionStarted(
        workflow_type="T", task_queue="q", first_execution_run_id=run_id, start_command_id="c"
    )
    return Event(event_id=1, event_time_ms=1_000, attributes=attributes)


def closed(event_id: int) -> Event:
    return Event(event_id=event_id, event_time_ms=1_000, attributes=WorkflowExecutionTerminated())


def decision(
    topic: Topic, epoch: int, command: int, *runs: tuple[str, str, list[Event]], parts: int | None = None
) -> list[int]:
    """A decision on some runs; returns its offsets."""
    offsets = []
    for number, (workflow_id, run_id, events) in enumerate(runs, 1):
        record = HistoryRecord(
            workflow_id=workflow_id,
            run_id=run_id,
            command_offset=command,
            epoch=epoch,
            part=number,
            parts=parts or len(runs),
            events=events,
        )
        first = next((event.event_id for event in events if event.event_id), 0)
        name = keys.history_id(run_id, first) if first else keys.wake_up_id(run_id)
        offsets.append(topic.add(keys.fenced_key(name, topic.partition, epoch), record))
    return offsets


def tombstone(topic: Topic, run_id: str, epoch: int) -> int:
    return topic.add(keys.fenced_key(keys.history_id(run_id, 1), topic.partition, epoch), None)


def survivors(topic: Topic, records: Sequence[LogRecord] | None = None) -> HistorySurvivors:
    found = HistorySurvivors(topic.partition)
    for record in topic.records if records is None else records:
        found.take(record)
    return found


def compacted(records: Sequence[LogRecord]) -> list[LogRecord]:
    """What compaction leaves, tombstones and all."""
    newest = {record.key: record.offset for record in records}
    return [record for record in records if newest[record.key] == record.offset]


@pytest.fixture
def history() -> Topic:
    return Topic(NAMES.history)


# --- what counts ------------------------------------------------------------------------------------------------------


def test_a_deposed_owners_records_and_tombstones_do_not_count(history: Topic) -> None:
    first = history.mark()
    (kept,) = decision(history, first, 0, ("w", "r", [started("r")]))
    second = history.mark()
    decision(history, first, 1, ("w", "r", [closed(2)]))
    tombstone(history, "r", first)
    (close,) = decision(history, second, 1, ("w", "r", [closed(2)]))
    found = survivors(history)
    assert found.kept() == {kept: Kept(kept, False), close: Kept(close, False)}
    assert found.recorded == 1


def test_an_incomplete_decision_does_not_count(history: Topic) -> None:
    epoch = history.mark()
    decision(history, epoch, 7, ("w", "r", [started("r")]), parts=2)
    history.mark()
    assert (survivors(history).kept(), survivors(history).recorded) == ({}, -1)


def test_of_unnumbered_records_the_newest_counts_and_compaction_changes_nothing(history: Topic) -> None:
    epoch = history.mark()
    (begin,) = decision(history, epoch, 0, ("w", "r", [started("r")]))
    for command in (1, 2, 3):
        (newest,) = decision(history, epoch, command, ("w", "r", []))
    later = history.mark()
    (other,) = decision(history, later, 4, ("w", "r", []))
    assert newest not in survivors(history).kept()
    assert list(survivors(history).kept()) == [begin, other]
    assert survivors(history, compacted(history.records)).kept() == survivors(history).kept()


def test_a_removed_run_stays_only_for_the_decision_that_another_run_keeps(history: Topic) -> None:
    epoch = history.mark()
    (gone,) = decision(history, epoch, 0, ("v", "gone", [started("gone")]))
    (first,) = decision(history, epoch, 1, ("w", "r1", [started("r1")]))
    close, follow = decision(history, epoch, 2, ("w", "r1", [closed(2)]), ("w", "r2", [started("r2")]))
    (end,) = decision(history, epoch, 3, ("w", "r2", [closed(2)]))
    tombstone(history, "gone", epoch)
    tombstone(history, "r2", epoch)
    found = survivors(history).kept()
    assert gone not in found
    assert end not in found
    assert found == {first: Kept(first, False), close: Kept(follow, False), follow: Kept(follow, True)}


def test_what_cannot_be_read_is_counted(history: Topic) -> None:
    history.add(b"no epoch", b"nonsense")
    history.add(b"id@0.0", b"nonsense")
    assert (survivors(history).kept(), survivors(history).unreadable) == ({}, 2)


def test_outstanding_tasks_are_those_without_a_tombstone_and_no_queries() -> None:
    tasks = Topic(NAMES.tasks)
    tasks.mark(3, source=1)
    done = tasks.add(keys.fenced_key("r/w2.1", 1, 3), b"x")
    tasks.add(keys.fenced_key("r/a5.1", 1, 3), b"x")
    tasks.add(keys.fenced_key("r/q3.7", 1, 3), b"x")
    tasks.mark(9, source=1)
    tasks.add(keys.fenced_key("r/a5.1", 1, 3), None)  # void
    again = tasks.add(keys.fenced_key("r/a5.1", 1, 9), b"x")
    tasks.add(keys.fenced_key("r/w2.1", 1, 9), None)
    found = FencedSurvivors()
    for record in tasks.records:
        found.take(record)
    assert done not in found.kept()
    assert found.kept() == {again}


# --- what it becomes --------------------------------------------------------------------------------------------------


def translated(topic: Topic, translation: Translation) -> list[NewRecord]:
    """The marks and decisions of one partition."""
    out = [translation.history_mark(number) for number in FIVE]
    kept = survivors(topic).kept()
    parts: list[Part] = []
    for record in topic.records:
        if record.offset in kept:
            parts.append(Part(record, kept[record.offset].removed))
            if kept[record.offset].last == record.offset:
                out += translation.decision(parts)
                parts = []
    return out


def in_log(records: Sequence[NewRecord]) -> list[LogRecord]:
    """These records with offsets."""
    ends: dict[tuple[str, int], int] = {}
    out = []
    for record in records:
        place = (record.topic, record.partition)
        ends[place] = ends.get(place, -1) + 1
        new = (record.topic, record.partition, ends[place], record.key, record.value, record.timestamp_ms)
        out.append(LogRecord(*new, record.headers))
    return out


def test_decisions_are_numbered_anew_under_one_mark(history: Topic) -> None:
    history.mark()
    epoch = history.mark()
    for command, name in ((4, "a"), (9, "b"), (17, "a2"), (18, "c")):
        decision(history, epoch, command, (name, f"r-{name}", [started(f"r-{name}")]))
    translation = Translation(NEW, 5, [0, 0])
    records = in_log(translated(history, translation))
    assert audit(records, NEW, []) == []
    for record in records:
        if keys.is_mark(record.key):
            assert record.offset == 0
            continue
        value = codec.decode_as(record.value, HistoryRecord)
        assert record.partition == keys.partition_of(value.workflow_id, 5)
        assert keys.parse_fenced_key(record.key or b"") == (f"{value.run_id}/0000000001", record.partition, 0)
        assert (value.epoch, value.since_epoch) == (0, -1)
        assert value.command_offset == record.offset - 1
    assert sum(translation.decisions) == 4
    padding = list(translation.padding())
    assert [sum(one.partition == number for one in padding) for number in FIVE] == translation.decisions


def test_a_run_that_is_there_for_another_ones_sake_ends_with_its_decision(history: Topic) -> None:
    epoch = history.mark()
    decision(history, epoch, 1, ("w", "r1", [started("r1")]))
    decision(history, epoch, 2, ("w", "r1", [closed(2)]), ("w", "r2", [started("r2")]))
    tombstone(history, "r2", epoch)
    decision(history, epoch, 3, ("w", "r3", [started("r3")]))
    new = [record for record in translated(history, Translation(NEW, 5, [0, 0])) if not keys.is_mark(record.key)]
    ids = [(keys.parse_fenced_key(record.key or b"").id, record.value is None) for record in new]
    r2 = "r2/0000000001"
    assert ids == [
        ("r1/0000000001", False),
        ("r1/0000000002", False),
        (r2, False),
        (r2, True),
        ("r3/0000000001", False),
    ]
    parts = [codec.decode_as(record.value, HistoryRecord) for record in new if record.value is not None]
    assert [(value.part, value.parts) for value in parts] == [(1, 1), (1, 2), (2, 2), (1, 1)]


def test_what_was_emitted_already_is_not_emitted_again(history: Topic) -> None:
    epoch = history.mark()
    for number in range(2):
        decision(history, epoch, number, (f"w{number}", f"r{number}", [started(f"r{number}")]))
    history.records = [record._replace(headers=(*keys.EMITS_HEADERS, ("x", b"y"))) for record in history.records]
    new = [record for record in translated(history, Translation(NEW, 5, [2, 0])) if not keys.is_mark(record.key)]
    assert [record.headers for record in new] == [(("x", b"y"),), (*keys.EMITS_HEADERS, ("x", b"y"))]


def test_a_quarantine_names_its_command_by_the_new_number(history: Topic) -> None:
    epoch = history.mark()
    event = Event(event_id=0, event_time_ms=1, attributes=WorkflowQuarantined(reason="why", command_offset=8))
    decision(history, epoch, 7, ("w", "r", [started("r")]))
    decision(history, epoch, 8, ("w", "r", [event]))
    (_, value) = [
        codec.decode_as(record.value, HistoryRecord)
        for record in translated(history, Translation(NEW, 5, [0, 0]))
        if not keys.is_mark(record.key)
    ]
    assert (value.command_offset, value.events[0].attributes) == (
        1,
        WorkflowQuarantined(reason="why", command_offset=1),
    )


def test_what_follows_from_history_goes_where_its_owner_looks_for_it(history: Topic) -> None:
    epoch = history.mark()
    decision(history, epoch, 3, ("w", "r", [started("r")]))
    translation = Translation(NEW, 5, [0, 0])
    translated(history, translation)
    home, queue = keys.partition_of("w", 5), keys.partition_of("q", 5)
    task = TaskRecord(
        task_id="r/w2.1", task_queue="q", kind="workflow", workflow_id="w", run_id="r", created_time_ms=1, body=b"b"
    )
    new = translation.task(LogRecord(NAMES.tasks, 0, 4, keys.fenced_key("r/w2.1", 0, 1), codec.encode(task), 7))
    assert new[:6] == (NEW.tasks, queue, keys.fenced_key("r/w2.1", home, 0), codec.encode(task), 7, ())
    spread = replace(task, task_queue="q~3")
    new = translation.task(LogRecord(NAMES.tasks, 0, 4, keys.fenced_key("r/w2.1", 0, 1), codec.encode(spread), 7))
    assert new.partition == keys.queue_partition("q~3", "w", 5)
    timer = TimerRecord(timer_id="r/t1", workflow_id="w", run_id="r", arm_number=1, due_time_ms=5)
    new = translation.timer(LogRecord(NAMES.timers, 0, 4, keys.fenced_key("r/t1", 0, 1), codec.encode(timer), 7))
    assert new[:4] == (NEW.timers, home, keys.fenced_key("r/t1", home, 0), codec.encode(timer))
    summary = ExecutionSummary(
        workflow_id="w", run_id="r", workflow_type="T", task_queue="q", status=WorkflowStatus.RUNNING,
        start_time_ms=1, version=3, first_execution_run_id="r", execution_time_ms=1, history_length=1,
    )  # fmt: skip
    record = LogRecord(NAMES.executions, 0, 4, keys.fenced_key("r", 0, 1), codec.encode(summary), 7, keys.WAITS_HEADERS)
    found = translation.summary(record)
    assert found is not None
    assert found[:3] == (NEW.executions, home, keys.fenced_key("r", home, 0))
    assert (codec.decode_as(found.value, ExecutionSummary), found.headers) == (
        replace(summary, version=0),
        keys.WAITS_HEADERS,
    )
    stranger = replace(summary, run_id="other")
    assert translation.summary(record._replace(value=codec.encode(stranger))) is None


def test_each_partition_of_tasks_knows_all_sources() -> None:
    translation = Translation(NEW, 5, [0, 0])
    marks = [codec.decode_as(record.value, OwnerMark) for record in translation.marks(NEW.tasks)]
    assert len(marks) == 25
    assert {(mark.source, mark.epoch) for mark in marks} == {(f"history/{number}", 0) for number in FIVE}
    assert [record.partition for record in translation.marks(NEW.timers)] == list(FIVE)


def test_a_routing_stands_in_every_partition_with_the_offset_of_its_first_copy() -> None:
    old = Topic(NAMES.deployments)
    old.mark()
    for revision, build in ((-1, "1"), (7, "2"), (5, "3")):
        routing = DeploymentRouting(deployment_name="d", revision=revision, current_build_id=build, time_ms=1)
        old.add(keys.routing_key("d"), routing)
    for name in ("e", "d2"):
        old.add(keys.routing_key(name), DeploymentRouting(deployment_name=name, time_ms=1))
    seen = DeploymentVersionSeen(deployment_name="d", build_id="2", task_queue="q", time_ms=1)
    old.add(keys.version_seen_key("d.2", "q"), seen)
    old.add(keys.version_seen_key("d.1", "q"), seen)
    old.add(keys.version_seen_key("d.1", "q"), None)
    new = in_log(list(Translation(NEW, 5, [0, 0]).deployments(old.records)))
    for name in ("d", "d2", "e"):
        copies = [record for record in new if record.key == keys.routing_key(name)]
        assert sorted(record.partition for record in copies) == list(FIVE)
        first = copies[0]
        assert first.partition == keys.partition_of(name, 5)
        revisions = [codec.decode_as(record.value, DeploymentRouting).revision for record in copies]
        assert revisions == [-1, *[first.offset] * 4]
    newest = next(record for record in new if record.key == keys.routing_key("d"))
    assert codec.decode_as(newest.value, DeploymentRouting).current_build_id == "2"
    versions = [record for record in new if keys.parse_version_seen_key(record.key or b"")]
    assert [(record.key, record.partition) for record in versions] == [
        (keys.version_seen_key("d.2", "q"), keys.partition_of("q", 5))
    ]


def test_settings_of_a_task_queue_stand_in_its_partition() -> None:
    old = Topic(NAMES.deployments)
    for queue in ("q", "gone", "p"):
        config = TaskQueueConfig(task_queue=queue, task_type="activity", queue_rate=2.0, time_ms=1)
        old.add(keys.queue_config_key(queue, "activity"), config)
    old.add(keys.queue_config_key("gone", "activity"), None)
    new = list(Translation(NEW, 5, [0, 0]).deployments(old.records))
    assert {(record.key, record.partition) for record in new} == {
        (keys.queue_config_key(queue, "activity"), keys.partition_of(queue, 5)) for queue in ("q", "p")
    }
    assert all(codec.decode_as(record.value, TaskQueueConfig).queue_rate == 2.0 for record in new)


def test_an_undecided_command_says_where_it_came_from() -> None:
    translation = Translation(NEW, 5, [0, 0])
    command = Command(command_id="c", workflow_id="w", body=SignalWorkflow(signal=SignalInput(signal_name="s")))
    record = LogRecord(NAMES.commands, 1, 8, b"w", codec.encode(command), 7, ((MIGRATED_HEADER, b"x"), ("h", b"y")))
    new = translation.command(record)
    assert (new.partition, new.value, new.timestamp_ms) == (keys.partition_of("w", 5), record.value, 7)
    assert new.headers == (("h", b"y"), (MIGRATED_HEADER, b"perdure.old.commands/1/8"))
    nonsense = translation.command(record._replace(value=b"?", key=None))
    assert (nonsense.value, nonsense.partition) == (b"?", 0)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 5)), max_size=40))
def test_the_order_of_a_workflow_stays(steps: list[tuple[str, int]]) -> None:
    """Whatever is decided in what order: each workflow's records keep theirs, and partitions count without a gap."""
    history = Topic(NAMES.history)
    epoch = history.mark()
    newest: dict[str, int] = {}
    for command, (name, gap) in enumerate(steps):
        event_id = newest[name] = newest.get(name, 0) + 1
        event = (
            started(name)
            if event_id == 1
            else Event(event_id=event_id, event_time_ms=1, attributes=WorkflowQuarantined(reason="", command_offset=-1))
        )
        decision(history, epoch, command * 6 + gap, (name, name, [event]))
    new = [record for record in translated(history, Translation(NEW, 5, [0, 0])) if not keys.is_mark(record.key)]
    for partition in FIVE:
        values = [codec.decode_as(record.value, HistoryRecord) for record in new if record.partition == partition]
        assert [value.command_offset for value in values] == list(range(len(values)))
        for name in newest:
            ids = [value.events[0].event_id for value in values if value.run_id == name]
            assert ids in ([], list(range(1, newest[name] + 1)))
    assert len(new) == len(steps)


# --- the manifest -----------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        source="old", source_partitions=2, target_partitions=5, time_ms=1, ends={"history": [3, 4]},
        decided_below=[5, 6], commands_to=[7, 6], emitted_below=[3, 4],
    )  # fmt: skip


def test_a_manifest_is_found_in_its_record(manifest: Manifest) -> None:
    record = LogRecord(NEW.history, 0, 0, b"k", b"v", 1, (("other", b""), (HEADER, manifest.encode())))
    assert manifest_in(record) == manifest
    assert manifest_in(record._replace(headers=())) is None
    assert manifest_in(record._replace(headers=((HEADER, b"{}"),))) is None
    assert undecided(manifest) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"commands_to": [9, 9], "time_ms": 2}, ""),
        ({"source": "other"}, "from namespace 'old'"),
        ({"target_partitions": 7}, "begun with 5 partitions"),
        ({"decided_below": [5, 7]}, "an engine has decided"),
        ({"ends": {"history": [3, 5]}}, "written to 'history'"),
        ({"emitted_below": [4, 4]}, "the relay"),
    ],
)
def test_a_copy_goes_on_only_from_where_it_was_begun(manifest: Manifest, changes: dict[str, Any], reason: str) -> None:
    found = difference(manifest, replace(manifest, **changes))
    assert reason in found
    assert bool(found) == bool(reason)
