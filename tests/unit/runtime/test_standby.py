"""Hot standbys, stepped by hand on the embedded log: what they fold, what they write, and what a takeover finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.folding import STAGE_INTERVAL_S
from perdure_runtime.log import LogError, LogRecord, NewRecord, TopicPartition
from perdure_runtime.owned import Phase
from perdure_runtime.standby import COMMITTED_INTERVAL_S, IDLE_POLL_S, RETRY_S
from perdure_runtime.stats import PartitionStatus
from perdure_schemas import keys
from perdure_schemas.topics import TOPICS
from tests.unit.runtime.test_processor import NAMES, Echo, Shell, _values

#: More than every interval of a standby.
A_WHILE_MS = int(1000 * max(STAGE_INTERVAL_S, COMMITTED_INTERVAL_S, IDLE_POLL_S)) + 1


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


class Pair:
    """Two engines of one role: ``first`` owns both partitions until ``second`` is let into the group's sharing."""

    def __init__(self, log: EmbeddedLog, folder: Path) -> None:
        self.log = log
        self.first = Shell(log, folder / "first", "one", standbys=True)
        self.first.steps()
        self.second = Shell(log, folder / "second", "two", standbys=True)
        for _ in range(10):
            self.first.steps(2)
            self.second.steps(2)
        (self.owned,) = self.first.processor.partitions
        assert list(self.second.processor.partitions) == [1 - self.owned]

    def pass_time(self, times: int = 3) -> None:
        """Let time pass and both work, so that what is done is committed, folded and staged."""
        for _ in range(times):
            for shell in (self.first, self.second):
                shell.time_ms += A_WHILE_MS
            for _ in range(4):
                self.first.steps(2)
                self.second.steps(2)

    def decide(self, value: bytes) -> None:
        """A command for the partition that ``first`` owns."""
        self.first.command(value, self.owned)
        for _ in range(4):
            self.first.steps(2)

    @property
    def standby(self) -> Echo:
        """The handler by which ``second`` follows."""
        return self.second.role.handlers[self.owned]


@pytest.fixture
def pair(log: EmbeddedLog, tmp_path: Path) -> Pair:
    return Pair(log, tmp_path)


def test_a_standby_folds_what_its_owner_decides_and_appends_nothing(pair: Pair) -> None:
    pair.pass_time()
    before = {topic: pair.log.watermarks(TopicPartition(topic, pair.owned)) for topic in (NAMES.history, NAMES.tasks)}
    for value in (b"a", b"b"):
        pair.decide(value)
    pair.pass_time()
    assert pair.standby.folded == [b"0", b"1"]
    assert pair.standby.epoch == -1, "it is nobody's owner"
    assert PartitionStatus("history", pair.owned, "standby", 0) in pair.second.processor.status()
    written = pair.log.watermarks(TopicPartition(NAMES.history, pair.owned))[1] - before[NAMES.history][1]
    assert written == 2, "what the owner wrote, and nothing else"
    assert pair.log.watermarks(TopicPartition(NAMES.tasks, pair.owned)) == before[NAMES.tasks]


def test_a_takeover_of_a_hot_standby_folds_its_own_mark_and_nothing_else(pair: Pair) -> None:
    for value in (b"a", b"b", b"c"):
        pair.decide(value)
    pair.pass_time()
    standby = pair.standby
    folded_before = pair.second.processor.stats.folded
    pair.first.processor.close(graceful=False)
    pair.second.steps()
    assert pair.second.processor.partitions[pair.owned] is Phase.LIVE
    assert pair.second.role.handlers[pair.owned] is standby, "the fold becomes the owner's"
    assert pair.second.processor.stats.folded - folded_before == 1, "only the mark of the takeover"
    pair.second.command(b"d", pair.owned)
    pair.second.steps()
    assert _values(pair.second.read(NAMES.history, pair.owned)) == [b"0", b"1", b"2", b"3"]


def test_i1_a_standby_stops_before_its_mark_and_never_folds_past_it(pair: Pair) -> None:
    pair.decide(b"a")
    pair.pass_time()
    pair.first.processor.close(graceful=False)
    standby = pair.standby
    zombie = pair.log.producer("zombie")
    pair.second.processor._membership.poll()  # assigned: the mark is on its way
    key = keys.fenced_key("late", pair.owned, 0)
    assert zombie.append([NewRecord(NAMES.history, pair.owned, key, b"99")]).wait(30)
    pair.second.time_ms += A_WHILE_MS
    pair.second.steps()
    assert pair.second.processor.partitions[pair.owned] is Phase.LIVE
    assert standby.folded == [b"0"], "what stands behind the mark is not folded"


def test_i4_a_standbys_state_waits_for_the_groups_commit(pair: Pair) -> None:
    pair.pass_time()
    pair.first.command(b"a", pair.owned)
    pair.first.steps(6)  # decided, not committed: the owner's clock stands still
    for _ in range(3):
        pair.second.time_ms += A_WHILE_MS
        pair.second.steps(4)
    assert pair.standby.folded == [b"0"]
    on_disk = pair.second.store.beside().partition(pair.owned)
    assert int.from_bytes(on_disk.get(b"next") or b"", "big") == 0
    pair.pass_time()  # the owner commits
    on_disk = pair.second.store.beside().partition(pair.owned)
    assert int.from_bytes(on_disk.get(b"next") or b"", "big") == 1
    assert pair.standby.committed == 1, "and the handler is told"


def test_a_deposed_owner_becomes_a_standby_again(pair: Pair, log: EmbeddedLog, tmp_path: Path) -> None:
    pair.decide(b"a")
    pair.pass_time()
    third = Shell(log, tmp_path / "third", "three", standbys=True)  # two partitions: it gets none
    pair.second.processor.close()
    pair.first.steps(4)
    third.steps(8)
    assert sorted([*pair.first.processor.partitions, *third.processor.partitions]) == [0, 1]
    moved = 1 - pair.owned
    owner, other = (pair.first, third) if moved in pair.first.processor.partitions else (third, pair.first)
    for shell in (owner, other):
        shell.time_ms += A_WHILE_MS
        shell.steps(8)
    owner.command(b"z", moved)
    for _ in range(3):
        owner.time_ms += A_WHILE_MS
        other.time_ms += A_WHILE_MS
        owner.steps(4)
        other.steps(4)
    assert other.role.handlers[moved].folded[-1:] == [b"0"]
    assert PartitionStatus("history", moved, "standby", 0) in other.processor.status()


def test_a_failure_of_a_standby_touches_nothing_else_and_is_tried_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.pass_time()
    standbys = pair.second.processor._standbys
    assert standbys._reader is not None

    def gone(records_max: int, timeout_s: float) -> list[LogRecord]:
        raise LogError("the offset does not exist any more")

    monkeypatch.setattr(standbys._reader, "poll", gone)
    pair.second.time_ms += A_WHILE_MS
    pair.second.steps(4)
    assert standbys.partitions == {}
    assert pair.second.processor.ready
    pair.second.command(b"mine", 1 - pair.owned)
    pair.second.steps(4)
    assert _values(pair.second.read(NAMES.history, 1 - pair.owned)) == [b"0"], "its own partition is worked on"
    pair.decide(b"a")
    pair.second.time_ms += int(RETRY_S * 1000) + 1
    pair.pass_time()
    assert pair.standby.folded == [b"0"]


def test_a_record_that_cannot_be_folded_is_passed_over(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.pass_time()
    pair.log.producer("x").append([NewRecord(NAMES.history, pair.owned, b"k@0.0", b"no number")]).wait(30)
    pair.decide(b"a")
    pair.pass_time()
    assert "standby_skipped" in caplog.text
    assert pair.standby.folded[-1:] == [b"0"]
    assert pair.second.read(NAMES.dead_letters, pair.owned) == []


def test_standby_state_is_found_again_after_a_restart(pair: Pair, log: EmbeddedLog, tmp_path: Path) -> None:
    for value in (b"a", b"b"):
        pair.decide(value)
    pair.pass_time(4)
    pair.second.processor.close()
    pair.second.store.close()
    again = Shell(log, tmp_path / "second", "two", standbys=True)
    for _ in range(5):
        again.steps(2)
        pair.first.steps(2)
    assert again.role.handlers[pair.owned].next_command == 2, "from the store"


def test_without_standbys_nothing_is_followed(log: EmbeddedLog, tmp_path: Path) -> None:
    first = Shell(log, tmp_path / "first", "one")
    second = Shell(log, tmp_path / "second", "two")
    for _ in range(10):
        first.steps(2)
        second.steps(2)
    assert {status.state for status in first.processor.status()} == {"live"}
    assert first.processor._standbys._reader is None


def test_a_large_restore_is_written_on_the_way(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Shell(log, tmp_path / "first", "one")
    first.steps()
    for number in range(600):
        first.command(b"%d" % number)
    first.steps(50)
    first.settle()
    first.processor.close(graceful=False)
    monkeypatch.setattr("perdure_runtime.folding.STAGE_BYTES", 1_000)
    second = Shell(log, tmp_path / "second", "two")
    seen: list[int] = []

    def look(record: LogRecord) -> None:
        seen.append(int.from_bytes(second.store.beside().partition(0).get(b"next") or b"", "big"))

    opened = second.role.open

    def open_handler(partition: int, store: object, committed: int | None) -> Echo:
        handler = opened(partition, store, committed)  # type: ignore[arg-type]
        if partition == 0:
            fold = handler.fold
            handler.fold = lambda record: (look(record), fold(record))[1]  # type: ignore[func-returns-value,method-assign]
        return handler

    second.role.open = open_handler  # type: ignore[method-assign]
    second.steps(50)
    assert second.processor.ready
    assert max(seen) >= 256, "part of it was on disk before the end"
