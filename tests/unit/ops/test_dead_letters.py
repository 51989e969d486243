"""Which dead letters may be put back: decided from the letter and from what stands behind it in its partition."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from perdure_ops.dead_letters import REPLAY_HEADER, Action, Letter, Plan, letters_of, plan_replay, put_back
from perdure_ops.emit_letters import murmur2
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.dead_letters import VALUE_BYTES_MAX, dead_letter, is_cut
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.log import Log, LogRecord, NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DeadLetter, DescribeWorkflow, OwnerMark, TaskRecord
from perdure_schemas.topics import EMIT_ID_HEADER, TopicNames

NAMES = TopicNames(partitions=1)
COMMAND = codec.encode(Command(command_id="c", workflow_id="w", run_id="", body=DescribeWorkflow()))
TASK = codec.encode(
    TaskRecord(
        task_id="r/a4.1", task_queue="q", kind="activity", workflow_id="w", run_id="r", created_time_ms=1, body=b""
    )
)


@pytest.fixture
def log() -> Iterator[Log]:
    opened = EmbeddedLog(None)
    create_platform_topics(opened, NAMES)
    yield opened
    opened.close()


def append(log: Log, topic: str, key: bytes | None, value: bytes | None) -> LogRecord:
    producer = log.producer("test")
    acknowledgement = producer.append([NewRecord(topic, 0, key, value, 1)])
    assert acknowledgement.wait(30.0)
    producer.close()
    return LogRecord(topic, 0, acknowledgement.offsets()[TopicPartition(topic, 0)], key, value, 1)


def mark(log: Log, topic: str, epoch: int) -> None:
    value = codec.encode(OwnerMark(source="history/0", epoch=epoch, owner="test", time_ms=1))
    append(log, topic, keys.mark_key("history/0", str(epoch)), value)


def letter_of(record: LogRecord) -> Letter:
    content = codec.decode_as(dead_letter(NAMES.dead_letters, record, "because", 2).value, DeadLetter)
    return Letter(f"{record.topic}/{record.partition}/{record.offset}", content)


def plan(log: Log, record: LogRecord) -> Plan:
    (found,) = plan_replay(log, NAMES, [letter_of(record)])
    return found


def test_a_record_is_put_back_once_as_it_was(log: Log) -> None:
    record = append(log, NAMES.commands, b"w", COMMAND)._replace(headers=(("trace", b"1"),))
    planned = plan(log, record)
    assert planned.action is Action.REPLAY
    back = planned.record
    assert back is not None
    assert (back.topic, back.partition, back.key, back.value) == (NAMES.commands, 0, b"w", COMMAND)
    assert back.headers == (("trace", b"1"), (REPLAY_HEADER, f"{NAMES.commands}/0/{record.offset}".encode()))
    assert put_back(log, [planned]) == 1
    again = plan(log, record)
    assert (again.action, again.reason) == (Action.DONE, "it stands at offset 1")
    assert put_back(log, [again]) == 0


def test_a_task_goes_back_while_its_owner_is_the_same(log: Log) -> None:
    mark(log, NAMES.tasks, 5)
    record = append(log, NAMES.tasks, keys.fenced_key("r/a4.1", 0, 5), TASK)
    assert plan(log, record).action is Action.REPLAY
    mark(log, NAMES.tasks, 9)
    refused = plan(log, record)
    assert refused.action is Action.REFUSED
    assert "it would be void: history/0 has another owner now" in refused.reason


def test_a_task_that_is_over_does_not_go_back(log: Log) -> None:
    key = keys.fenced_key("r/a4.1", 0, 5)
    record = append(log, NAMES.tasks, key, TASK)
    append(log, NAMES.tasks, key, None)
    assert "is over" in plan(log, record).reason


@pytest.mark.parametrize(
    ("topic", "key", "value", "reason"),
    [
        (NAMES.history, b"r/0000000001@0.1", COMMAND, "counts by its place in the log"),
        (NAMES.workers, b"w", COMMAND, "workers tell anew"),
        ("perdure.other.tasks", b"w", COMMAND, "is no topic of this namespace"),
        ("other.commands", b"w", COMMAND, "is no topic of this namespace"),
        (NAMES.commands, b"w", b"garbage", "it still cannot be read: not an Avro"),
        (NAMES.commands, b"w", None, "it still cannot be read: there is no value"),
        (NAMES.commands, b"w", TASK, "a TaskRecord does not belong into"),
        (NAMES.tasks, b"no fence", TASK, "its key is wrong"),
        (NAMES.commands, b"w", b"\x00" * (VALUE_BYTES_MAX + 1), "too large to be kept in full"),
    ],
)
def test_what_would_do_harm_or_nothing_is_refused(
    log: Log, topic: str, key: bytes, value: bytes | None, reason: str
) -> None:
    planned = plan(log, LogRecord(topic, 0, 3, key, value, 1))
    assert (planned.action, planned.record) == (Action.REFUSED, None)
    assert reason in planned.reason


def test_a_command_of_the_namespace_this_one_was_copied_from_goes_into_this_one(log: Log) -> None:
    record = LogRecord("perdure.other.commands", 7, 3, b"w", COMMAND, 1)
    planned = plan(log, record)
    assert planned.record is not None
    assert planned.record[:4] == (NAMES.commands, 0, b"w", COMMAND)
    assert put_back(log, [planned]) == 1
    assert plan(log, record).action is Action.DONE


def emitted(topic: str, key: bytes | None, value: bytes | None = b"v") -> Letter:
    at = LogRecord(topic, 0, 3, key, value, 1, ((EMIT_ID_HEADER, b"r/7"),))
    content = codec.decode_as(dead_letter(NAMES.dead_letters, at, "because", 2, emit_id="r/7").value, DeadLetter)
    return Letter("emit/r/7", content)


def test_an_emitted_record_goes_to_its_topic_once(log: Log) -> None:
    (missing,) = plan_replay(log, NAMES, [emitted("parcels", b"key")])
    assert (missing.action, missing.record) == (Action.REFUSED, None)
    assert "there is no topic parcels: make it" in missing.reason
    log.create_topics({"parcels": user_topic_spec("parcels")}, 3)
    (planned,) = plan_replay(log, NAMES, [emitted("parcels", b"key")])
    assert planned.record is not None
    assert planned.record[:4] == ("parcels", zlib.crc32(b"key") % 3, b"key", b"v")
    assert dict(planned.record.headers)[EMIT_ID_HEADER] == b"r/7"
    assert put_back(log, [planned]) == 1
    (again,) = plan_replay(log, NAMES, [emitted("parcels", b"key")])
    assert (again.action, again.record) == (Action.DONE, None)
    (cut,) = plan_replay(log, NAMES, [emitted("other", None, b"\x00" * (VALUE_BYTES_MAX + 1))])
    assert "too large" in cut.reason


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"", 275646681)],
)
def test_partitions_are_those_of_kafkas_clients(key: bytes, value: int) -> None:
    assert murmur2(key) == value % 2**32


def test_letters_of_emitted_records_have_ids_of_their_own(log: Log) -> None:
    at = LogRecord("parcels", 0, 3, b"k", b"v", 1)
    letters = [dead_letter(NAMES.dead_letters, at, "no", 2, emit_id=f"r/{number}") for number in range(2)]
    for letter in letters:
        append(log, letter.topic, letter.key, letter.value)
    assert [letter.id for letter in letters_of(log, NAMES)] == ["emit/r/0", "emit/r/1"]


def test_a_letter_says_whether_it_is_whole() -> None:
    whole = LogRecord("t", 0, 1, b"k", b"v", 1)
    assert not is_cut(letter_of(whole).content)
    assert is_cut(letter_of(whole._replace(value=b"\x00" * (VALUE_BYTES_MAX + 1))).content)
    assert is_cut(letter_of(whole._replace(key=b"\x00" * 20_000)).content)
    assert is_cut(letter_of(whole._replace(headers=(("h", b"\x00" * 40_000),))).content)
