"""From the topic to the index: what is void, unreadable, ahead or too old; and the service over a log in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_readside.folding import AGE_MS_MAX, Folder
from perdure_readside.index import ExecutionIndex
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord
from perdure_schemas import codec
from perdure_schemas.keys import fenced_key, mark_key
from perdure_schemas.records import ExecutionSummary, OwnerMark, WorkflowStatus
from perdure_schemas.topics import EXECUTIONS
from tests.unit.readside.runs import TOPIC, attribute, listed, run

DEADLINE_S = 30.0


class Feed:
    """An ``executions`` topic of two partitions, and an index that follows it."""

    def __init__(self, path: Path | None = None) -> None:
        self.log = EmbeddedLog(None)
        self.log.create_topics({TOPIC: EXECUTIONS}, 2)
        self.index = ExecutionIndex(path, TOPIC)
        self.now_ms = 1_000_000
        self.folder = self.make_folder()

    def make_folder(self, log: EmbeddedLog | None = None) -> Folder:
        return Folder(log or self.log, TOPIC, 2, self.index, lambda: self.now_ms)

    def write(self, key: bytes | None, value: bytes | None, partition: int = 0) -> None:
        assert self.log.producer("p").append([NewRecord(TOPIC, partition, key, value)]).wait(DEADLINE_S)

    def summary(self, summary: ExecutionSummary, epoch: int = 5, partition: int = 0) -> None:
        self.write(fenced_key(summary.run_id, 0, epoch), codec.encode(summary), partition)

    def mark(self, epoch: int) -> None:
        mark = OwnerMark(source="history/0", epoch=epoch, owner="o", time_ms=0)
        self.write(mark_key("history/0", str(epoch)), codec.encode(mark))

    def runs(self) -> list[str]:
        assert self.folder.catch_up(DEADLINE_S)
        return listed(self.index, "ORDER BY RunId")


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.folder.close()
    feed.log.close()


def test_i1_what_a_deposed_owner_wrote_late_is_left_out(feed: Feed) -> None:
    feed.summary(run("a", version=1), epoch=1)
    feed.summary(run("gone"), epoch=1)
    feed.mark(5)
    feed.summary(run("a", version=2, status=WorkflowStatus.COMPLETED), epoch=5)
    feed.summary(run("a", version=3, status=WorkflowStatus.FAILED), epoch=1)
    feed.write(fenced_key("gone", 0, 5), None)
    feed.summary(run("b"), partition=1)
    assert feed.runs() == ["a", "b"]
    assert listed(feed.index, "ExecutionStatus = 'Completed'") == ["a"]


def test_i5_what_cannot_be_read_stops_nothing(feed: Feed) -> None:
    feed.write(b"no fence", b"value")
    feed.write(b"~mark/history/0/x", b"no mark")
    feed.summary(run("a"))
    assert feed.runs() == ["a"]
    assert feed.folder.behind() == 0


def test_a_restart_goes_on_where_the_index_stands_with_its_fence(feed: Feed) -> None:
    feed.mark(5)
    feed.summary(run("a"))
    assert feed.runs() == ["a"]
    feed.folder.close()
    feed.summary(run("late"), epoch=1)
    feed.summary(run("b"))
    feed.folder = feed.make_folder()
    assert feed.folder.behind() == 2
    assert feed.runs() == ["a", "b"]


def test_an_index_of_topics_that_were_made_anew_is_built_again(feed: Feed) -> None:
    feed.summary(run("a"))
    feed.summary(run("b"))
    assert feed.runs() == ["a", "b"]
    other = Feed()
    other.summary(run("c"))
    with_old_index = feed.make_folder(other.log)
    assert with_old_index.catch_up(DEADLINE_S)
    assert listed(feed.index, "") == ["c"]
    with_old_index.close()
    other.log.close()


def test_an_index_that_may_have_missed_tombstones_is_built_again(feed: Feed) -> None:
    feed.summary(run("a"))
    assert feed.runs() == ["a"]
    feed.folder.close()
    feed.now_ms += AGE_MS_MAX + 1
    feed.folder = feed.make_folder()
    assert listed(feed.index, "") == []
    assert feed.runs() == ["a"]


def test_rebuilding_from_the_start_gives_the_same_index(feed: Feed) -> None:
    feed.mark(5)
    for number in range(50):
        feed.summary(run(f"{number % 20:02}", version=number, history_length=number), partition=number % 2)
        if number % 7 == 0:
            feed.write(fenced_key(f"{number % 20:02}", 0, 5), None, number % 2)
        if number % 5 == 0:
            feed.folder.fold_some()
    assert feed.folder.catch_up(DEADLINE_S)
    live = feed.index.page("", 1_000)
    feed.index = ExecutionIndex(None, TOPIC)
    again = feed.make_folder()
    assert again.catch_up(DEADLINE_S)
    assert feed.index.page("", 1_000) == live
    assert len(live.summaries) > 5
    again.close()


def test_killed_at_any_moment_it_goes_on_without_losing_or_repeating_a_row(tmp_path: Path) -> None:
    """What the disk holds while the index is written, as a kill would leave it, many times within each transaction."""
    feed = Feed(tmp_path / "live.sqlite3")
    feed.mark(5)
    for number in range(60):
        region = attribute("Keyword", f"r{number % 4}")
        feed.summary(
            run(f"{number % 25:02}", version=number, history_length=number, search_attributes={"Region": region}),
            partition=number % 2,
        )
        if number % 9 == 0:
            feed.write(fenced_key(f"{number % 25:02}", 0, 5), None, number % 2)
    copies: list[Path] = []

    def copy() -> int:
        to = tmp_path / f"copy-{len(copies)}.sqlite3"
        for suffix in ("", "-wal"):
            source = tmp_path / f"live.sqlite3{suffix}"
            if source.exists():
                shutil.copyfile(source, to.with_name(to.name + suffix))
        copies.append(to)
        return 0

    feed.index._database.set_progress_handler(copy, 150)
    assert feed.folder.catch_up(DEADLINE_S)
    feed.index._database.set_progress_handler(None, 0)
    live, counted = feed.index.page("", 1_000), feed.index.count("Region = 'r1'")
    assert len(copies) > 10
    for path in copies:
        feed.index = ExecutionIndex(path, TOPIC)
        again = feed.make_folder()
        assert again.catch_up(DEADLINE_S)
        assert feed.index.page("", 1_000) == live
        assert feed.index.count("Region = 'r1'") == counted
        again.close()
        feed.index.close()
    feed.folder.close()
    feed.log.close()
