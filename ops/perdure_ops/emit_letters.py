"""Records that a workflow emitted and their topic did not take: where they go when they get another chance.

Invariants: a record goes to the partition to which the relay would have written it; before that the topic is searched
for it, from the time of its letter on, so it is written once. Called by :mod:`perdure_ops.dead_letters`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence

from perdure_runtime.log import Log, TopicPartition
from perdure_schemas.records import DeadLetter
from perdure_schemas.topics import EMIT_ID_HEADER

__all__ = ["Topics", "murmur2"]

_POLL_S = 0.5
_RECORDS_PER_POLL = 2_000
#: Compaction may have dropped everything that is left; there is no more when nothing comes for so long.
_QUIET_S = 5.0
#: Clocks of the relay and of whoever wrote the record meanwhile may differ by so much.
_SKEW_MS = 60_000


class Topics:
    """What a look at the topics that emitted records are for has shown.

    Args:
        log: where.
        letters: the letters of emitted records.
    """

    def __init__(self, log: Log, letters: Sequence[DeadLetter]) -> None:
        by_topic: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_topic.setdefault(letter.topic, []).append(letter)
        found = log.describe_topics(list(by_topic)) if by_topic else {}
        self._counts: Mapping[str, int] = {name: topic.partitions for name, topic in found.items()}
        self._by_murmur = by_topic != {} and _is_kafka(log)
        #: Emitted records that are there: by id, where.
        self._there: dict[str, str] = {}
        for topic, count in self._counts.items():
            since_ms = min(letter.time_ms for letter in by_topic[topic]) - _SKEW_MS
            self._look(log, topic, count, {letter.emit_id.encode() for letter in by_topic[topic]}, since_ms)

    def place_of(self, letter: DeadLetter) -> str:
        """Where the record stands already; empty if it does not."""
        return self._there.get(letter.emit_id, "")

    def partition_for(self, letter: DeadLetter) -> int | None:
        """The partition it belongs to; ``None`` if there is no such topic."""
        count = self._counts.get(letter.topic)
        if count is None:
            return None
        key = letter.key or b""
        return ((murmur2(key) & 0x7FFFFFFF) if self._by_murmur else zlib.crc32(key)) % count

    def _look(self, log: Log, topic: str, count: int, ids: set[bytes], since_ms: int) -> None:
        places = [TopicPartition(topic, number) for number in range(count)]
        ends = {place: log.watermarks(place)[1] for place in places}
        reader = log.reader("emit-letters", committed_only=True)
        try:
            reader.assign({place: log.offset_for_time(place, max(0, since_ms)) for place in places})
            heard_s = time.monotonic()
            while any(reader.position(place) < end for place, end in ends.items()):
                records = reader.poll(_RECORDS_PER_POLL, _POLL_S)
                if records:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > _QUIET_S:
                    return
                for record in records:
                    for name, value in record.headers:
                        if name == EMIT_ID_HEADER and value in ids:
                            self._there[value.decode()] = f"{topic}[{record.partition}]@{record.offset}"
        finally:
            reader.close()


def _is_kafka(log: Log) -> bool:
    from perdure_runtime.kafka import KafkaLog

    return isinstance(log, KafkaLog)


def murmur2(key: bytes) -> int:
    """The hash by which Kafka's clients find the partition of a key, without a sign."""
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    whole = len(key) & ~3
    value = 0x9747B28C ^ len(key)
    for begin in range(0, whole, 4):
        part = int.from_bytes(key[begin : begin + 4], "little") * factor & mask
        part = (part ^ part >> 24) * factor & mask
        value = (value * factor & mask) ^ part
    if len(key) > whole:
        value = (value ^ int.from_bytes(key[whole:], "little")) * factor & mask
    value = (value ^ value >> 13) * factor & mask
    return value ^ value >> 15
