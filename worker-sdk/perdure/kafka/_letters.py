"""Dead letters of users' topics: records that a trigger could not process, and how they get another chance.

A letter stands in ``<topic>.dlq``, as the record was (key, value, headers), with headers more that say where it comes
from and why it is there. Invariants: a record's offset is committed only after its letter is acknowledged; a letter
that is put back keeps the identity of its record, so putting it back twice, or a letter that is there twice, makes one
request; one that was put back is marked in the letters' topic. Called by the pipeline, and by ``perdure dlq``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perdure.kafka.core import identity
from perdure.kafka.core.identity import Origin
from perdure_runtime.log import Log, LogError, LogRecord, NewRecord, Producer, Reader, TopicPartition
from perdure_runtime.sizes import record_bytes
from perdure_schemas.topics import RECORD_BYTES_MAX, Cleanup, TopicSpec

SUFFIX = ".dlq"
_PREFIX = "perdure-dlq-"
_TOPIC, _PARTITION, _OFFSET, _TIMESTAMP = (f"{_PREFIX}{name}" for name in ("topic", "partition", "offset", "timestamp"))
_REASON, _GROUP, _TRIGGER = (f"{_PREFIX}{name}" for name in ("reason", "group", "trigger"))
_REPLAYED = f"{_PREFIX}replayed"
#: The value was too large to be kept.
_CUT = f"{_PREFIX}cut"
_REASON_CHARS_MAX = 2_000
_PARTITIONS = 1
_APPEND_TIMEOUT_S = 30.0
_POLL_S = 5.0


def letters_topic(topic: str) -> str:
    """The topic of the dead letters of a topic."""
    return topic + SUFFIX


def letter_of(record: LogRecord, group: str, trigger: str, reason: str, partition: int) -> NewRecord:
    """The dead letter of a record; ``partition`` is the letters'."""
    origin = identity.origin_of(record.topic, record.partition, record.offset, record.timestamp_ms, record.headers)
    own = {
        _TOPIC: record.topic,
        _PARTITION: str(record.partition),
        _OFFSET: str(record.offset),
        _TIMESTAMP: str(record.timestamp_ms),
        _REASON: reason[:_REASON_CHARS_MAX],
        _GROUP: group,
        _TRIGGER: trigger,
        identity.ORIGIN_HEADER: str(origin),
    }
    kept = [(name, value) for name, value in record.headers if not _is_ours(name)]
    headers = (*kept, *((name, value.encode(errors="replace")) for name, value in own.items()))
    letter = NewRecord(letters_topic(record.topic), partition, record.key, record.value, headers=headers)
    if record_bytes(letter) <= RECORD_BYTES_MAX:
        return letter
    size = len(record.value or b"")
    return letter._replace(value=None, headers=(*headers, (_CUT, f"a value of {size} bytes".encode())))


def ensure_letters_topic(log: Log, topic: str) -> int:
    """Create the dead letters' topic of a topic if there is none; returns how many partitions it has. Blocks.

    Raises:
        LogError: it cannot be created.
    """
    name = letters_topic(topic)
    found = log.describe_topics([name]).get(name)
    if found is None:
        log.create_topics({name: _spec(name)}, _PARTITIONS)
        found = log.describe_topics([name]).get(name)
    return _PARTITIONS if found is None else found.partitions


def _spec(name: str) -> TopicSpec:
    return TopicSpec(
        name=name,
        partitioned_by="topic",
        key="as in the topic",
        cleanup=Cleanup.DELETE,
        records=(),
        producers=("triggers",),
        consumers=("ops",),
    )


def _is_ours(name: str) -> bool:
    return name.startswith(_PREFIX) or name in (identity.ORIGIN_HEADER, identity.ADDRESSEE_HEADER)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of a user's topic.

    Attributes:
        id: Where it stands: ``<letters' topic>/<partition>/<offset>``.
        topic, partition, offset, timestamp_ms: The record it is about.
        reason: Why it could not be processed.
        group, trigger: By whom.
        key, value, headers: The record as it was.
        replayed: Whether it was put back.
        is_cut: Whether its value was too large to be kept, so that it cannot be put back.
    """

    id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    group: str
    trigger: str
    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    replayed: bool
    is_cut: bool


def letters_of(log: Log, topic: str) -> list[Letter]:
    """All dead letters of a topic, oldest first; none if there is no such topic. Blocks.

    Raises:
        LogError: the log cannot be read.
    """
    records: dict[str, LogRecord] = {}
    replayed: set[str] = set()
    for record in _all_records(log, letters_topic(topic)):
        headers = dict(record.headers)
        if _REPLAYED in headers:
            replayed.add(headers[_REPLAYED].decode(errors="replace"))
        elif _TOPIC in headers:
            records[f"{record.topic}/{record.partition}/{record.offset}"] = record
    found = [_letter(letter_id, record, letter_id in replayed) for letter_id, record in records.items()]
    return sorted(found, key=lambda letter: letter.timestamp_ms)


def _letter(letter_id: str, record: LogRecord, replayed: bool) -> Letter:
    text = {name: value.decode(errors="replace") for name, value in record.headers if _is_ours(name)}

    def number(name: str) -> int:
        value = text.get(name, "")
        return int(value) if value.lstrip("-").isdigit() else -1

    topic, partition, offset, timestamp_ms = text[_TOPIC], number(_PARTITION), number(_OFFSET), number(_TIMESTAMP)
    here = Origin(topic, partition, offset, timestamp_ms)
    return Letter(
        id=letter_id,
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        reason=text.get(_REASON, ""),
        group=text.get(_GROUP, ""),
        trigger=text.get(_TRIGGER, ""),
        origin=identity.parse_origin(text.get(identity.ORIGIN_HEADER, "").encode()) or here,
        key=record.key,
        value=record.value,
        headers=tuple((name, value) for name, value in record.headers if not _is_ours(name)),
        replayed=replayed,
        is_cut=_CUT in text,
    )


def put_back(log: Log, letters: Sequence[Letter]) -> int:
    """Append the records of letters to their topics again, for the trigger that failed alone; returns how many. Blocks.

    Raises:
        LogError: the log did not take them; asking again does no harm.
    """
    wanted = [letter for letter in letters if not letter.replayed and not letter.is_cut]
    if not wanted:
        return 0
    producer = log.producer("dlq")
    try:
        _append(producer, [_again(letter) for letter in wanted])
        _append(producer, [_mark(letter) for letter in wanted])
    finally:
        producer.close()
    return len(wanted)


def _again(letter: Letter) -> NewRecord:
    headers = (
        *letter.headers,
        (identity.ORIGIN_HEADER, str(letter.origin).encode()),
        (identity.ADDRESSEE_HEADER, identity.addressee(letter.group, letter.trigger).encode()),
    )
    return NewRecord(letter.topic, letter.partition, letter.key, letter.value, headers=headers)


def _mark(letter: Letter) -> NewRecord:
    topic, partition, _ = letter.id.rsplit("/", 2)
    return NewRecord(topic, int(partition), letter.key, b"", headers=((_REPLAYED, letter.id.encode()),))


def _append(producer: Producer, records: Sequence[NewRecord]) -> None:
    ack = producer.append(records)
    if not ack.wait(_APPEND_TIMEOUT_S):
        raise LogError(f"the log did not acknowledge within {_APPEND_TIMEOUT_S:g} s; ask again, it does no harm")
    error = ack.error()
    if error is not None:
        raise error


def _all_records(log: Log, topic: str) -> Iterator[LogRecord]:
    """Everything that stands in a topic now."""
    found = log.describe_topics([topic]).get(topic)
    if found is None:
        return
    reader: Reader = log.reader("dlq", committed_only=True)
    try:
        left: dict[TopicPartition, int] = {}
        for number in range(found.partitions):
            partition = TopicPartition(topic, number)
            first, end = log.watermarks(partition)
            if first < end:
                left[partition] = end
                reader.assign({partition: first})
        while left:
            records = reader.poll(1_000, _POLL_S)
            yield from records
            for partition in [partition for partition, end in left.items() if reader.position(partition) >= end]:
                del left[partition]
    finally:
        reader.close()
