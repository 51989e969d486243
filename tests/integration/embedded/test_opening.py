"""Opening a log: what it refuses, and what it remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog, layout
from perdure_runtime.embedded.storage import RocksStorage
from perdure_runtime.log import LogError, NewRecord, TopicPartition
from perdure_schemas.topics import COMMANDS, HISTORY, REPLIES


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    EmbeddedLog(tmp_path / "log").close()
    storage = RocksStorage(tmp_path / "log")
    storage.write({layout.FORMAT_KEY: b"99"}, [])
    storage.close()
    with pytest.raises(LogError, match="has format version 99, this program reads version 1") as refusal:
        EmbeddedLog(tmp_path / "log")
    assert str(tmp_path / "log") in str(refusal.value)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(LogError, match="not an embedded log"):
        EmbeddedLog(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot use"):
        EmbeddedLog(tmp_path / "file")


def test_topics_records_and_commits_are_there_again(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "deep" / "log")
    log.create_topics({"c": COMMANDS, "h": HISTORY}, 2)
    log.create_topics({"r": REPLIES}, 3)
    log.alter_topic("c", {"retention.ms": "5"})
    log.producer("p").append([NewRecord("h", 1, b"k", None, 7, (("name", b"\x00\xff"),))]).wait(10)
    member = log.join("g", "c", "me", lambda _: None, lambda *_: None)
    member.poll()
    assert member.commit({0: 5, 1: 6}).wait(10)
    described = log.describe_topics(["c", "h", "r"])
    log.close()

    log = EmbeddedLog(tmp_path / "deep" / "log")
    try:
        assert log.describe_topics(["c", "h", "r", "missing"]) == described
        assert described["c"].config["retention.ms"] == "5"
        assert log.watermarks(TopicPartition("h", 1)) == (0, 1)
        reader = log.reader("r")
        reader.assign({TopicPartition("h", 1): log.BEGIN})
        (record,) = reader.poll(10, 5)
        assert record == ("h", 1, 0, b"k", None, 7, (("name", b"\x00\xff"),))
        member = log.join("g", "c", "me", lambda _: None, lambda *_: None)
        assert member.committed([0, 1]) == {0: 5, 1: 6}
    finally:
        log.close()


def test_a_failing_disk_fails_the_log_and_everybody_who_waits(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.create_topics({"c": COMMANDS}, 1)
    producer, reader = log.producer("p"), log.reader("r")
    reader.assign({TopicPartition("c", 0): log.END})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    log._core.storage.write = full  # type: ignore[method-assign]
    ack = producer.append([NewRecord("c", 0, b"k", b"v")])
    assert ack.wait(10)
    assert "no space left" in str(ack.error())
    with pytest.raises(LogError, match="no space left"):
        producer.append([NewRecord("c", 0, b"k", b"v")])
    reader.poll(1, 0)
    with pytest.raises(LogError, match="no space left"):
        reader.poll(1, 5)
    log.close()


def test_answers_to_clients_are_seen_only_when_they_are_safe(tmp_path: Path) -> None:
    """A client must never see an answer that a crash takes back."""
    log = EmbeddedLog(tmp_path / "log")
    try:
        log.create_topics({"c": COMMANDS, "r": REPLIES}, 1)
        order: list[str] = []
        original = log._core.storage.sync

        def sync() -> None:
            original()
            order.append("synced")

        log._core.storage.sync = sync  # type: ignore[method-assign]
        reader = log.reader("r")
        reader.assign({TopicPartition("r", 0): 0, TopicPartition("c", 0): 0})
        log.producer("p").append([NewRecord("r", 0, b"k", b"answer"), NewRecord("c", 0, b"k", b"command")])
        seen: list[str] = []
        while len(seen) < 2:
            for record in reader.poll(10, 5):
                seen.append(record.topic)
                order.append(record.topic)
        assert seen == ["c", "r"]
        assert order.index("synced") < order.index("r")
    finally:
        log.close()
