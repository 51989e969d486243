"""What a processor may append, and the dead letter of what it could not process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure_runtime.dead_letters import HEADERS_BYTES_MAX, KEY_BYTES_MAX, REASON_CHARS_MAX, dead_letter, reason_of
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogRecord, LogUnavailableError, NewRecord
from perdure_runtime.outgoing import CheckedOutbox, UndeliverableError
from perdure_runtime.sizes import record_bytes
from perdure_schemas import codec
from perdure_schemas.records import DeadLetter
from perdure_schemas.topics import RECORD_BYTES_MAX, TOPICS, WORK, TopicNames

NAMES = TopicNames(partitions=2)


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


@pytest.mark.parametrize("partition", [-1, 2, 2**31])
def test_a_partition_that_does_not_exist_is_refused(log: EmbeddedLog, partition: int) -> None:
    outbox = CheckedOutbox(log, NAMES)
    with pytest.raises(UndeliverableError, match=f"for partition {partition} of {NAMES.tasks}.*0 to 1"):
        outbox.send(NewRecord(NAMES.tasks, partition, b"k", b"v"))
    assert outbox.records == []


def test_a_record_above_the_limit_is_refused(log: EmbeddedLog) -> None:
    with pytest.raises(UndeliverableError, match=f"the limit is {RECORD_BYTES_MAX}"):
        CheckedOutbox(log, NAMES).send(NewRecord(NAMES.tasks, 0, b"k", bytes(RECORD_BYTES_MAX)))


def test_a_missing_inbox_is_made(log: EmbeddedLog) -> None:
    outbox = CheckedOutbox(log, NAMES)
    outbox.send(NewRecord(NAMES.work("q"), 1, b"k", b"v"))
    assert log.describe_topics([NAMES.work("q")])[NAMES.work("q")].partitions == 2
    assert len(outbox.records) == 1


def test_an_inbox_counts_as_it_is(log: EmbeddedLog) -> None:
    log.create_topics({NAMES.work("q"): WORK}, 1)
    with pytest.raises(UndeliverableError, match="0 to 0"):
        CheckedOutbox(log, NAMES).send(NewRecord(NAMES.work("q"), 1, b"k", b"v"))


def test_a_foreign_topic_is_refused(log: EmbeddedLog) -> None:
    with pytest.raises(UndeliverableError, match="no topic of this namespace"):
        CheckedOutbox(log, NAMES).send(NewRecord("perdure.other.tasks", 0, b"k", b"v"))


def test_a_log_that_is_away_is_not_the_records_fault(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: object) -> None:
        raise LogUnavailableError("nobody answered")

    monkeypatch.setattr(log, "describe_topics", away)
    with pytest.raises(LogUnavailableError):
        CheckedOutbox(log, NAMES).send(NewRecord(NAMES.work("q"), 1, b"k", b"v"))


def letter_of(record: LogRecord, reason: str = "because") -> tuple[NewRecord, DeadLetter]:
    letter = dead_letter(NAMES.dead_letters, record, reason, 7)
    assert record_bytes(letter) <= RECORD_BYTES_MAX
    return letter, codec.decode_as(letter.value, DeadLetter)


def test_a_letter_holds_the_record_as_it_was() -> None:
    record = LogRecord("t", 1, 5, b"key", b"value", 3, (("a", b"b"),))
    raw, letter = letter_of(record)
    assert (raw.topic, raw.partition, raw.key) == (NAMES.dead_letters, 1, b"t/1/5")
    assert letter == DeadLetter(
        topic="t", partition=1, offset=5, key=b"key", value=b"value", headers={"a": b"b"}, reason="because", time_ms=7
    )


def test_what_is_too_large_for_a_letter_is_cut_and_the_reason_says_so() -> None:
    headers = (("h", bytes(HEADERS_BYTES_MAX)),)
    _, letter = letter_of(LogRecord("t", 0, 0, bytes(KEY_BYTES_MAX + 1), bytes(RECORD_BYTES_MAX), 0, headers))
    assert f"the value of {RECORD_BYTES_MAX} bytes, the key of {KEY_BYTES_MAX + 1} bytes, all of its 1" in letter.reason
    assert len(letter.key or b"") == KEY_BYTES_MAX


@pytest.mark.parametrize("text", ["x" * 5_000_000, "lone \udcff surrogate"])
def test_a_reason_can_always_be_kept(text: str) -> None:
    reason = reason_of(ValueError(text))
    assert reason.startswith("ValueError: ")
    assert len(reason) < REASON_CHARS_MAX + 100
    letter_of(LogRecord("t", 0, 0, None, None, 0), reason)
