"""Dead letters: what the engine could not process, and how it gets another chance. Called by ``perdure dlq``.

Invariants: a letter is put back as it was, with one header more that names the letter; before that the topic is
searched for this header, so a letter is put back once, whatever was interrupted. Nothing is put back that would do harm
or nothing: what would be void by now, what is over, what stands for itself by its place in the log. A record that a
workflow emitted goes to its topic of the user's; a command of the namespace that this one was carried over from (see
``migrate_partitions``) goes to this one's commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from perdure_ops.audit.reading import TopicScan
from perdure_ops.emit_letters import Topics
from perdure_ops.errors import CliError
from perdure_runtime.dead_letters import is_cut
from perdure_runtime.log import Log, LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DeadLetter, OwnerMark, TaskRecord, TimerRecord
from perdure_schemas.topics import COMMANDS, DEAD_LETTERS, TASKS, TIMERS, TopicNames

__all__ = ["REPLAY_HEADER", "Action", "Letter", "Plan", "letters_of", "plan_replay", "put_back", "subject_of"]

#: On a record that was put back: the id of its letter.
REPLAY_HEADER = "perdure-replay-of"
_APPEND_TIMEOUT_S = 30.0
_REPLAYABLE = (COMMANDS, TASKS, TIMERS)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. ``id`` names the record it is about: ``<topic>/<partition>/<offset>``, or ``emit/<emit id>``."""

    id: str
    content: DeadLetter

    @property
    def replay_of(self) -> str:
        """The letter whose record this one is, put back and failed again; empty for a first failure."""
        return self.content.headers.get(REPLAY_HEADER, b"").decode(errors="replace")


class Action(StrEnum):
    """What becomes of a letter."""

    REPLAY = "replay"
    DONE = "replayed before"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a letter, and why; ``record``: what is put back."""

    letter: Letter
    action: Action
    reason: str
    record: NewRecord | None = None


def letters_of(log: Log, names: TopicNames) -> Iterator[Letter]:
    """All dead letters of a namespace, those of a partition in their order.

    Raises:
        LogError: the log cannot be read.
    """
    scan = TopicScan(log, names, [DEAD_LETTERS])
    try:
        for record in scan.to_end():
            try:
                content = codec.decode_as(record.value, DeadLetter)
            except codec.DecodeError:
                continue  # written by a stranger: no record of ours is behind it
            emitted = f"emit/{content.emit_id}"
            yield Letter(
                emitted if content.emit_id else f"{content.topic}/{content.partition}/{content.offset}", content
            )
    finally:
        scan.close()


def subject_of(content: DeadLetter) -> tuple[Any, str]:
    """The record a letter is about, decoded, and an empty text; or ``None`` and why it cannot be."""
    try:
        return codec.decode(content.value), ""
    except codec.DecodeError as error:
        return None, str(error)


def plan_replay(log: Log, names: TopicNames, letters: Sequence[Letter]) -> list[Plan]:
    """What would become of these letters now. Reads the topics concerned."""
    chosen = {letter.id: letter for letter in letters}
    emitted = Topics(log, [letter.content for letter in chosen.values() if letter.content.emit_id])
    seen = _look(log, names, [letter for letter in chosen.values() if not letter.content.emit_id])
    return [
        _plan_emitted(letter, emitted) if letter.content.emit_id else _plan(letter, names, seen)
        for letter in chosen.values()
    ]


def put_back(log: Log, plans: Iterable[Plan]) -> int:
    """Append the records of those plans that have one; returns how many.

    Raises:
        CliError: the log did not acknowledge them; asking again does no harm.
    """
    records = [plan.record for plan in plans if plan.record is not None]
    if not records:
        return 0
    producer = log.producer("dlq")
    try:
        acknowledgement = producer.append(records)
        if not acknowledgement.wait(_APPEND_TIMEOUT_S) or acknowledgement.error() is not None:
            reason = acknowledgement.error() or f"no answer in {_APPEND_TIMEOUT_S:g} s"
            raise CliError(f"not all records were put back ({reason}); run the command again, it repeats none")
    finally:
        producer.close()
    return len(records)


class _Seen:
    """What a look at the topics has shown."""

    def __init__(self) -> None:
        #: Letters whose records were put back: by id, the offset.
        self.replayed: dict[str, int] = {}
        #: Newest epoch of each source, by topic, partition and source.
        self.epochs: dict[tuple[str, int, str], int] = {}
        #: The newest tombstone of each id, by topic and partition.
        self.tombstones: dict[tuple[str, int, str], int] = {}


def _look(log: Log, names: TopicNames, letters: Sequence[Letter]) -> _Seen:
    seen = _Seen()
    concerned = {_topic_of(letter.content, names) for letter in letters}
    topics = [spec for spec in _REPLAYABLE if names.of(spec) in concerned]
    if not topics:
        return seen
    ids = {_fenced_id(letter.content) for letter in letters}
    scan = TopicScan(log, names, topics)
    try:
        for record in scan.to_end():
            for name, value in record.headers:
                if name == REPLAY_HEADER:
                    seen.replayed[value.decode(errors="replace")] = record.offset
            if record.topic != names.commands:
                _note_fence(record, ids, seen)
    finally:
        scan.close()
    return seen


def _note_fence(record: LogRecord, ids: set[str], seen: _Seen) -> None:
    try:
        if keys.is_mark(record.key):
            mark = codec.decode_as(record.value, OwnerMark)
            place = (record.topic, record.partition, mark.source)
            seen.epochs[place] = max(seen.epochs.get(place, -1), mark.epoch if mark.epoch >= 0 else record.offset)
        elif record.value is None:
            record_id = keys.parse_fenced_key(record.key or b"").id
            if record_id in ids:
                seen.tombstones[record.topic, record.partition, record_id] = record.offset
    except (codec.DecodeError, ValueError):
        return  # not ours


def _fenced_id(content: DeadLetter) -> str:
    try:
        return keys.parse_fenced_key(content.key or b"").id
    except ValueError:
        return ""


def _plan(letter: Letter, names: TopicNames, seen: _Seen) -> Plan:
    content = letter.content
    if letter.id in seen.replayed:
        return Plan(letter, Action.DONE, f"it stands at offset {seen.replayed[letter.id]}")
    refusal = _refusal(content, names, seen)
    if refusal:
        return Plan(letter, Action.REFUSED, refusal)
    partition = content.partition
    if content.topic != names.commands and _topic_of(content, names) == names.commands:
        partition = keys.partition_of(codec.decode_as(content.value, Command).workflow_id, names.partitions)
    return _put(letter, _topic_of(content, names), partition)


def _plan_emitted(letter: Letter, topics: Topics) -> Plan:
    content = letter.content
    place = topics.place_of(content)
    if place:
        return Plan(letter, Action.DONE, f"it stands at {place}")
    if is_cut(content):
        return Plan(letter, Action.REFUSED, "it was too large to be kept in full")
    partition = topics.partition_for(content)
    if partition is None:
        return Plan(letter, Action.REFUSED, f"there is no topic {content.topic}: make it, then run this again")
    return _put(letter, content.topic, partition)


def _put(letter: Letter, topic: str, partition: int) -> Plan:
    content = letter.content
    headers = tuple((name, value) for name, value in content.headers.items() if name != REPLAY_HEADER)
    replay = (REPLAY_HEADER, letter.id.encode())
    record = NewRecord(topic, partition, content.key, content.value, headers=(*headers, replay))
    return Plan(letter, Action.REPLAY, "", record)


def _topic_of(content: DeadLetter, names: TopicNames) -> str:
    """The topic of this namespace that a letter's record is for: another namespace's letters came with its copy."""
    is_copied = content.topic.startswith(f"{names.prefix}.") and content.topic.endswith(f".{COMMANDS.name}")
    return names.commands if is_copied else content.topic


def _refusal(content: DeadLetter, names: TopicNames, seen: _Seen) -> str:
    """Why a record is not put back; empty if it is."""
    if content.topic == names.history:
        return "a history record counts by its place in the log; reset the workflow instead"
    if content.topic == names.workers:
        return "workers tell anew how they are, all the time"
    topic = _topic_of(content, names)
    if topic not in (names.commands, names.tasks, names.timers):
        return f"{content.topic} is no topic of this namespace that the engine reads"
    if is_cut(content):
        return "it was too large to be kept in full"
    record, fault = subject_of(content)
    if record is None:
        return f"it still cannot be read: {fault}"
    wanted = {names.commands: Command, names.tasks: TaskRecord, names.timers: TimerRecord}[topic]
    if not isinstance(record, wanted):
        return f"a {type(record).__name__} does not belong into {content.topic}"
    return "" if topic == names.commands else _fenced_refusal(content, seen)


def _fenced_refusal(content: DeadLetter, seen: _Seen) -> str:
    try:
        key = keys.parse_fenced_key(content.key or b"")
    except ValueError as error:
        return f"its key is wrong: {error}"
    if seen.tombstones.get((content.topic, content.partition, key.id), -1) > content.offset:
        return "what it is about is over"
    newest = seen.epochs.get((content.topic, content.partition, f"history/{key.source_partition}"), -1)
    if key.epoch < newest:
        return f"it would be void: history/{key.source_partition} has another owner now; reset the workflow instead"
    return ""
