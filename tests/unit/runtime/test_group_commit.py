"""Which appends to the embedded log are committed at once, and which wait for company."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure_runtime.embedded import EmbeddedLog, core
from perdure_runtime.embedded.reader import EmbeddedReader
from perdure_runtime.log import NewRecord, TopicPartition
from perdure_schemas.topics import COMMANDS, REPLIES

DEADLINE_S = 30.0
COMMANDS_0 = TopicPartition("commands", 0)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedLog]:
    """A log whose commit thread waits for company longer than any test."""
    log = EmbeddedLog(None)
    log.create_topics({"commands": COMMANDS, "replies": REPLIES}, 1)
    monkeypatch.setattr(core, "PATIENCE_S_MAX", 3600.0)
    yield log
    log.close()


def _record(topic: str) -> NewRecord:
    return NewRecord(topic, 0, b"key", b"value")


def test_what_nobody_waits_for_waits_for_company(log: EmbeddedLog) -> None:
    reader = log.reader("r")
    reader.assign({COMMANDS_0: 0})
    first = log.producer("p").append([_record("commands")])
    second = log.producer("p").append([_record("commands")])
    assert len(reader.poll(10, DEADLINE_S)) == 2, "visible at once"
    assert not first.done()
    assert not second.done()


def test_an_awaited_acknowledgement_is_committed_at_once_with_all_before_it(log: EmbeddedLog) -> None:
    first = log.producer("p").append([_record("commands")])
    second = log.producer("q").append([_record("commands")])
    assert second.wait(DEADLINE_S)
    assert first.done()


def test_an_answer_to_a_client_is_committed_at_once(log: EmbeddedLog) -> None:
    before = log.producer("p").append([_record("commands")])
    reader = log.reader("client")
    reader.assign({TopicPartition("replies", 0): 0})
    log.producer("q").append([_record("replies")])
    assert len(reader.poll(10, DEADLINE_S)) == 1
    assert before.done()


def test_what_another_process_reads_is_committed_at_once(log: EmbeddedLog) -> None:
    reader = EmbeddedReader(log._core, "another process", synced_only=True)
    reader.assign({COMMANDS_0: 0})
    log.producer("p").append([_record("commands")])
    assert len(reader.poll(10, DEADLINE_S)) == 1


def test_closing_commits_what_is_pending(log: EmbeddedLog) -> None:
    last = log.producer("p").append([_record("commands")])
    log.close()
    assert last.done()
    assert last.error() is None
