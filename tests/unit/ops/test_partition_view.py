"""Groups, owners and open runs as they stand on a log, on an embedded log in memory without an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from perdure_ops import group_lag, opening, partition_view
from perdure_ops.group_lag import groups_of, lags_of
from perdure_ops.output import OutputFormat
from perdure_ops.partition_view import Owner, fold_open_runs, newest_mark
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogRecord, NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import ExecutionSummary, OwnerMark, WorkflowStatus
from perdure_schemas.topics import TopicNames

NAMES = TopicNames(namespace="prod", partitions=2)
HISTORY_0 = TopicPartition(NAMES.history, 0)


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(None)
    create_platform_topics(opened, NAMES)
    yield opened
    opened.close()


def append(log: EmbeddedLog, place: TopicPartition, *records: tuple[bytes, bytes | None], time_ms: int = 0) -> None:
    producer = log.producer("test")
    assert producer.append([NewRecord(*place, key, value, time_ms) for key, value in records]).wait(30)
    producer.close()


def mark(source: str, owner: str, epoch: int = -1, time_ms: int = 7) -> tuple[bytes, bytes]:
    record = OwnerMark(source=source, owner=owner, epoch=epoch, time_ms=time_ms)
    return keys.mark_key(source, owner), codec.encode(record)


def summary(run_id: str, status: WorkflowStatus, epoch: int) -> tuple[bytes, bytes]:
    record = ExecutionSummary(
        workflow_id=f"of-{run_id}",
        run_id=run_id,
        first_execution_run_id=run_id,
        workflow_type="Order",
        task_queue="orders",
        status=status,
        start_time_ms=1,
        execution_time_ms=1,
        history_length=3,
        version=1,
    )
    return keys.fenced_key(run_id, 0, epoch), codec.encode(record)


# --- owner marks --------------------------------------------------------------------------------------------------


def test_the_newest_mark_of_a_source_is_found_from_the_end(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_view, "_WINDOW_OFFSETS", 2)
    append(log, HISTORY_0, mark("history/0", "old"), mark("history/0", "new"), mark("history/1", "other"))
    append(log, HISTORY_0, *[(b"key", b"value")] * 40)
    assert newest_mark(log, HISTORY_0, "history/0") == Owner("new", 1, 7)
    assert newest_mark(log, HISTORY_0, "history/0", below=1) == Owner("old", 0, 7)
    assert newest_mark(log, HISTORY_0, "timers/0") is None
    assert newest_mark(log, TopicPartition(NAMES.history, 1), "history/1") is None


def test_a_mark_that_cannot_be_read_is_passed_over(log: EmbeddedLog) -> None:
    append(log, HISTORY_0, mark("history/0", "good"), (keys.mark_key("history/0", "bad"), b"garbage"))
    assert newest_mark(log, HISTORY_0, "history/0") == Owner("good", 0, 7)


# --- open runs ----------------------------------------------------------------------------------------------------


def test_open_runs_are_those_whose_newest_valid_summary_is_running() -> None:
    running, closed = WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED
    written: list[tuple[bytes, bytes | None]] = [
        mark("history/0", "one", 5),
        summary("open", running, 5),
        summary("closed", running, 5),
        summary("closed", closed, 5),
        summary("gone", running, 5),
        (keys.fenced_key("gone", 0, 5), None),
        mark("history/0", "two", 9),
        summary("late", running, 5),
        (keys.fenced_key("open", 0, 5), None),
        (b"no epoch", b"garbage"),
        (keys.fenced_key("garbage", 0, 9), b"garbage"),
    ]
    records = [LogRecord(NAMES.executions, 0, n, key, value, 0) for n, (key, value) in enumerate(written)]
    assert {number: list(runs) for number, runs in fold_open_runs(records, 2).items()} == {0: ["open"], 1: []}


# --- lag ----------------------------------------------------------------------------------------------------------


def test_lag_counts_from_what_is_committed_and_dates_the_oldest_record(log: EmbeddedLog) -> None:
    place = TopicPartition(NAMES.tasks, 1)
    for time_ms in (1_000, 2_000, 3_000):
        append(log, place, (b"key", b"value"), time_ms=time_ms)
    group = next(group for group in groups_of(NAMES) if group.role == "matching")
    membership = log.join(group.name, group.topic, "one", lambda _: None, lambda _, __: None)
    membership.poll()
    assert membership.commit({1: 1}).wait(30)

    found = {(row.group.role, row.partition): row for row in lags_of(log, NAMES)}
    assert len(found) == len(groups_of(NAMES)) * NAMES.partitions
    behind = found["matching", 1]
    assert (behind.member, behind.committed, behind.end, behind.lag) == ("one", 1, 3, 2)
    assert (behind.oldest_ms, behind.age_s(5_000)) == (2_000, 3.0)
    nobody = found["history", 0]
    assert (nobody.member, nobody.committed, nobody.lag, nobody.oldest_ms) == ("", None, None, None)
    assert nobody.age_s(5_000) == 0.0

    assert membership.commit({1: 3}).wait(30)
    done = next(row for row in lags_of(log, NAMES) if (row.group.role, row.partition) == ("matching", 1))
    assert (done.lag, done.oldest_ms) == (0, None)


def test_what_was_never_committed_is_dated_from_the_first_record(log: EmbeddedLog) -> None:
    append(log, TopicPartition(NAMES.timers, 0), (b"key", b"value"), time_ms=1_500)
    (row,) = [row for row in lags_of(log, NAMES) if row.oldest_ms is not None]
    assert (row.group.role, row.partition, row.lag, row.oldest_ms) == ("timers", 0, None, 1_500)
    assert all(row.oldest_ms is None for row in lags_of(log, NAMES, ages=False))


def test_ages_do_not_wait_for_what_compaction_has_dropped(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that never gets there (as on a topic whose end is compacted away) ends after a while."""
    monkeypatch.setattr(group_lag, "_QUIET_S", 0.01)
    monkeypatch.setattr(log, "watermarks", lambda _: (0, 5))
    assert all(row.end == 5 and row.oldest_ms is None for row in lags_of(log, NAMES))


def test_watching_prints_again_until_interrupted(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "open_log", lambda _: log)
    monkeypatch.setattr(log, "close", lambda: None)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partition_view.lag("here", "prod", 3.0, OutputFormat.JSONL, sleep)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    monkeypatch.undo()
    assert pauses == [3.0, 3.0]
    assert len(rows) == 2 * len(groups_of(NAMES)) * NAMES.partitions
    assert all(row["time"].endswith("Z") for row in rows)


# --- partitions ---------------------------------------------------------------------------------------------------


def test_partitions_say_who_owns_them_and_who_should(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = next(group for group in groups_of(NAMES) if group.role == "history")
    log.join(group.name, group.topic, "one", lambda _: None, lambda _, __: None).poll()
    append(log, HISTORY_0, mark("history/0", "one"))
    append(log, TopicPartition(NAMES.history, 1), mark("history/1", "before"))
    append(log, TopicPartition(NAMES.executions, 0), summary("a", WorkflowStatus.RUNNING, 0))
    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_log", lambda _: log)
        patch.setattr(log, "close", lambda: None)
        partition_view.partitions("here", "prod", count=True, output=OutputFormat.JSON)
    found = json.loads(capsys.readouterr().out)
    rows = {(row["role"], row["partition"]): row for row in found["partitions"]}
    assert (rows["history", 0]["state"], rows["history", 0]["owner"]) == ("owned", "one")
    assert (rows["history", 1]["state"], rows["history", 1]["owner"]) == ("being taken over", "before")
    assert (rows["timers", 0]["state"], rows["timers", 0]["owner"]) == ("no owner", None)
    assert (rows["history", 0]["open_workflows"], rows["history", 1]["open_workflows"]) == (1, 0)
    assert found["skew"]["history"] == {"open_workflows": 2.0}
