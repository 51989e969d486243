"""The layout of the embedded log in its storage: keys, values, and their format version.

Keys begin with one letter:

* ``f`` the format version, ``i`` the log's identity;
* ``t<topic>`` a topic (:class:`TopicEntry`), ``l<partition>`` a low watermark, ``c<partition>`` how far it is compact;
* ``r<partition><last offset>`` a block: the records of one partition in one commit, as a list of records;
* ``g<group, topic, partition>`` a committed offset, ``p<producer>`` the last sequence of a remote producer.

``<partition>`` is topic id (4 bytes) and partition (4), offsets are 8 bytes, all big-endian, so that keys sort as
numbers do. A block stands under its *last* offset, so that a seek to any offset finds the block that holds it or the
next one. Blocks instead of records, because RocksDB's price is per entry. Pure. Called by the rest of this package.
"""

from __future__ import annotations

import msgspec

from perdure_runtime.log import LogRecord
from perdure_runtime.sizes import record_bytes

FORMAT_VERSION = 1
FORMAT_KEY = b"f"
IDENTITY_KEY = b"i"
TOPIC_PREFIX = b"t"
LOW_PREFIX = b"l"
CLEAN_PREFIX = b"c"
RECORD_PREFIX = b"r"
GROUP_PREFIX = b"g"
PRODUCER_PREFIX = b"p"

#: A block is cut at whichever comes first, so that a read and a step of the cleaner stay short.
BLOCK_RECORDS_MAX = 256
BLOCK_BYTES_MAX = 256 * 1024


class TopicEntry(msgspec.Struct, array_like=True, frozen=True):
    """A topic as stored."""

    topic_id: int
    partitions: int
    config: dict[str, str]
    #: Readers see its records only once they are synced.
    answers_clients: bool = False


class Incarnation(msgspec.Struct, array_like=True, frozen=True):
    """One opening of the log after an unclean end: what was visible beyond ``ends`` before it never became durable."""

    number: int
    #: End of each partition that had records, by its 8-byte prefix.
    ends: dict[bytes, int]


class Identity(msgspec.Struct, array_like=True, frozen=True):
    """Which log this is, how often it was opened, and where it lost a suffix."""

    log_id: str
    incarnation: int
    clean: bool
    #: The newest ones; older ones matter only to a client that was away for as many crashes.
    unclean: list[Incarnation]


class CleanState(msgspec.Struct, array_like=True, frozen=True):
    """How far a compacted partition is cleaned (Kafka's cleaner checkpoint and delete horizon)."""

    #: Below this offset each key stands once.
    end: int = 0
    #: Records left below ``end``.
    live: int = 0
    #: Tombstones left below ``end``.
    tombstones: int = 0
    #: Tombstones below this offset may go once ``horizon_ms`` is ``delete.retention.ms`` ago.
    horizon: int = 0
    horizon_ms: int = 0


class ProducerEntry(msgspec.Struct, array_like=True, frozen=True):
    """The last append of a remote producer, so that one sent again is known."""

    sequence: int
    time_ms: int


class GroupOffset(msgspec.Struct, array_like=True, frozen=True):
    """A committed offset; the names are in the value, because they may contain anything."""

    group: str
    topic: str
    partition: int
    offset: int
    #: The relay's: the newest owner mark below the offset.
    epoch: int = -1


encode = msgspec.msgpack.Encoder().encode
decode_topic = msgspec.msgpack.Decoder(TopicEntry).decode
decode_identity = msgspec.msgpack.Decoder(Identity).decode
decode_clean = msgspec.msgpack.Decoder(CleanState).decode
decode_producer = msgspec.msgpack.Decoder(ProducerEntry).decode
decode_group_offset = msgspec.msgpack.Decoder(GroupOffset).decode
decode_block = msgspec.msgpack.Decoder(list[LogRecord]).decode


def partition_id(topic_id: int, partition: int) -> bytes:
    """The 8 bytes that stand for a partition in keys."""
    return topic_id.to_bytes(4, "big") + partition.to_bytes(4, "big")


def block_key(identity: bytes, last_offset: int) -> bytes:
    """The key of the block that ends with ``last_offset`` (or of the place where a seek to that offset begins)."""
    return RECORD_PREFIX + identity + last_offset.to_bytes(8, "big")


def blocks_end(identity: bytes) -> bytes:
    """A key behind every block of the partition."""
    return RECORD_PREFIX + identity + b"\xff" * 9


def last_offset_of(key: bytes) -> int:
    """The last offset of a block, from its key."""
    return int.from_bytes(key[9:17], "big")


def group_key(group: str, topic: str, partition: int) -> bytes:
    """The key of a committed offset."""
    return GROUP_PREFIX + encode((group, topic, partition))


def next_prefix(prefix: bytes) -> bytes:
    """The first key behind all that begin with this one-letter prefix."""
    return bytes((prefix[0] + 1,))


def cut_blocks(records: list[LogRecord], size_bytes: int) -> list[list[LogRecord]]:
    """Cut consecutive records of a partition, ``size_bytes`` in all, into blocks of a bounded size."""
    if size_bytes <= BLOCK_BYTES_MAX:
        if len(records) <= BLOCK_RECORDS_MAX:
            return [records]
        return [records[i : i + BLOCK_RECORDS_MAX] for i in range(0, len(records), BLOCK_RECORDS_MAX)]
    blocks: list[list[LogRecord]] = [[]]
    filled_bytes = 0
    for record in records:
        size = record_bytes(record)
        if blocks[-1] and (len(blocks[-1]) >= BLOCK_RECORDS_MAX or filled_bytes + size > BLOCK_BYTES_MAX):
            blocks.append([])
            filled_bytes = 0
        blocks[-1].append(record)
        filled_bytes += size
    return blocks
