"""The cleaner on a real log: what is removed, what readers see then, and that a reopened log agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure_runtime.embedded import CleanerOptions, EmbeddedLog
from perdure_runtime.embedded import partition as partition_module
from perdure_runtime.log import LogError, LogRecord, NewRecord, TopicPartition
from perdure_schemas.topics import COMMANDS, HISTORY, Cleanup, TopicSpec

OPTIONS = CleanerOptions(interval_s=3_600, pause_s=0, lag_records=2, records_min=1)
DAY_MS = 24 * 3_600_000
PLACE = TopicPartition("t", 0)


@pytest.fixture(autouse=True)
def _short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records leave memory early, so that few of them are enough."""
    monkeypatch.setattr(partition_module, "TAIL_RECORDS_KEPT", 4)


@pytest.fixture(params=["memory", "disk"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], EmbeddedLog]:
    opened: list[EmbeddedLog] = []

    def open_log() -> EmbeddedLog:
        if request.param == "memory" and opened:
            return opened[-1]
        for log in opened:
            log.close()
        opened.append(EmbeddedLog(None if request.param == "memory" else tmp_path / "log", cleaner=OPTIONS))
        return opened[-1]

    def close() -> None:
        for log in opened:
            log.close()

    request.addfinalizer(close)
    return open_log


def _append(log: EmbeddedLog, *records: tuple[str, str | None], timestamp_ms: int = 0) -> None:
    producer = log.producer("p")
    for key, value in records:
        record = NewRecord("t", 0, key.encode(), None if value is None else value.encode(), timestamp_ms)
        assert producer.append([record]).wait(10)


def _read(log: EmbeddedLog, begin: int | None = None) -> list[LogRecord]:
    reader = log.reader("r")
    reader.assign({PLACE: log.BEGIN if begin is None else begin})
    end = log.watermarks(PLACE)[1]
    found: list[LogRecord] = []
    while reader.position(PLACE) < end:
        found += reader.poll(3, 5)
    reader.close()
    return found


def _clean(log: EmbeddedLog, time_ms: int) -> None:
    log._cleaner.run_once(time_ms)


def _keys(records: list[LogRecord]) -> list[tuple[int, str]]:
    return [(record.offset, (record.key or b"").decode()) for record in records]


def test_a_compacted_partition_keeps_the_newest_of_each_key(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    log.create_topics({"t": HISTORY}, 1)
    _append(log, *[("same", str(i)) for i in range(20)], ("a", "1"), ("b", "1"), *[("z", str(i)) for i in range(12)])
    before = {record.key: record.value for record in _read(log)}
    _clean(log, 1_000)
    after = _read(log)
    assert {record.key: record.value for record in after} == before
    assert _keys(after)[:3] == [(19, "same"), (20, "a"), (21, "b")]
    assert log.watermarks(PLACE) == (0, 34)
    assert _read(log, 5)[0].offset == 19, "a reader inside a gap goes on behind it"
    log = reopen()
    assert _read(log) == after
    assert log.watermarks(PLACE) == (0, 34)
    _append(log, ("new", "1"))
    assert _read(log)[-1].offset == 34


def test_the_newest_records_are_left_alone(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    log.create_topics({"t": HISTORY}, 1)
    _append(log, *[("same", str(i)) for i in range(8)])
    _clean(log, 1_000)
    assert len(_read(log)) == 8, "all of it is still in memory"


def test_tombstones_go_after_their_retention(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    log.create_topics({"t": HISTORY}, 1)
    _append(log, ("a", "1"), ("a", None), *[("z", str(i)) for i in range(30)])
    _clean(log, 1_000)
    assert (1, "a") in _keys(_read(log))
    _clean(log, 1_000 + DAY_MS - 1)
    assert (1, "a") in _keys(_read(log))
    log = reopen()
    _clean(log, 1_000 + DAY_MS)
    assert (1, "a") not in _keys(_read(log))
    assert all(key == "z" for _, key in _keys(_read(log)))


def test_a_reader_in_the_middle_is_not_disturbed_by_compaction(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    log.create_topics({"t": HISTORY}, 1)
    _append(log, *[(str(i % 3), str(i)) for i in range(40)])
    reader = log.reader("slow")
    reader.assign({PLACE: 0})
    seen = reader.poll(5, 5)
    _clean(log, 1_000)
    while reader.position(PLACE) < 40:
        seen += reader.poll(5, 5)
    offsets = [record.offset for record in seen]
    assert offsets == sorted(set(offsets))
    assert {r.key: r.value for r in seen} == {str(i % 3).encode(): str(i).encode() for i in range(37, 40)}


def test_old_records_expire_and_their_offsets_are_refused(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    spec = TopicSpec("t", "", "", Cleanup.DELETE, (), (), (), retention_ms=1_000)
    log.create_topics({"t": spec}, 1)
    _append(log, *[("k", str(i)) for i in range(10)], timestamp_ms=10_000)
    _append(log, *[("k", str(i)) for i in range(10, 15)], timestamp_ms=20_000)
    _clean(log, 10_500)
    assert log.watermarks(PLACE) == (0, 15)
    _clean(log, 20_500)
    assert log.watermarks(PLACE) == (10, 15)
    assert [record.offset for record in _read(log)] == list(range(10, 15))
    reader = log.reader("r")
    reader.assign({PLACE: 3})
    with pytest.raises(LogError, match="offset 3 of t/0 does not exist"):
        reader.poll(1, 0)
    reader.assign({PLACE: log.BEGIN})
    assert reader.poll(1, 1)[0].offset == 10
    _clean(log, 30_000)
    assert log.watermarks(PLACE) == (15, 15)
    log = reopen()
    assert log.watermarks(PLACE) == (15, 15), "offsets are never given twice"
    _append(log, ("k", "15"), timestamp_ms=30_000)
    assert [record.offset for record in _read(log)] == [15]


def test_retention_without_a_limit_removes_nothing(reopen: Callable[[], EmbeddedLog]) -> None:
    log = reopen()
    log.create_topics({"t": COMMANDS}, 1)
    log.alter_topic("t", {"retention.ms": "-1"})
    _append(log, ("k", "v"), timestamp_ms=1)
    _clean(log, 10**15)
    assert log.watermarks(PLACE) == (0, 1)
