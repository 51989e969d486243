"""How far the groups of a namespace are behind: in records, as Kafka's own tools count, and in seconds.

Changes nothing and joins no group. Called by the commands ``lag``, ``partitions`` and ``doctor``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from perdure_ops.roles import ROLE_NAMES
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_runtime.relay.service import RELAY
from perdure_runtime.relay.waits import WAITS
from perdure_schemas.topics import TopicNames

__all__ = ["Group", "PartitionLag", "groups_of", "lags_of"]

_POLL_S = 0.5
_POLL_RECORDS = 500
#: Compaction may have dropped everything that is left; there is no more when nothing comes for so long.
_QUIET_S = 2.0
READ_SIDE = "read-side"


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the platform: the role it is of, its name, and the topic whose partitions it shares.

    One that does not commit how far it is commits where a successor would begin: how far behind it is, nobody can tell.
    """

    role: str
    name: str
    topic: str
    commits: bool = True


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a group is in one partition.

    Attributes:
        group / partition: where.
        member: whom the group has given the partition to; empty while nobody has it.
        committed: everything below is done; ``None`` while nothing was committed.
        end: the offset of the next record.
        oldest_ms: the time of the oldest record that is not done; ``None`` if there is none.
    """

    group: Group
    partition: int
    member: str
    committed: int | None
    end: int
    oldest_ms: int | None

    @property
    def lag(self) -> int | None:
        """Offsets from what is committed to the end; ``None`` while nothing was committed."""
        return None if self.committed is None else max(0, self.end - self.committed)

    def age_s(self, now_ms: int) -> float:
        """How old the oldest record is that is not done, in seconds; 0 if there is none."""
        return 0.0 if self.oldest_ms is None else max(0.0, (now_ms - self.oldest_ms) / 1000)


def groups_of(names: TopicNames) -> list[Group]:
    """The groups of a namespace: one for each role, and those of the read sides and the relays.

    The last one, for records that workflows wait for, commits where the oldest open wait stands, which is no lag.
    """
    topics = {"history": names.commands, "matching": names.tasks, "timers": names.timers}
    others = {READ_SIDE: names.reads, RELAY: names.history, WAITS: names.executions}
    of = {role: topics[role] for role in ROLE_NAMES} | others
    return [Group(role, f"{names.prefix}.{names.namespace}.{role}", topic, role != WAITS) for role, topic in of.items()]


def lags_of(log: Log, names: TopicNames, *, ages: bool = True, member: str | None = None) -> list[PartitionLag]:
    """How far every group is, by group and partition.

    Parameters:
        log / names: where.
        ages: also look how old the oldest record is that is not done.
        member: only the partitions that this member has.

    Raises:
        LogError: the log cannot be asked.
    """
    rows: list[tuple[Group, TopicPartition, str, int | None, int]] = []
    unread: dict[TopicPartition, tuple[int, int]] = {}
    for group in groups_of(names):
        described = log.describe_group(group.name, group.topic)
        for number in range(names.partitions):
            if member is not None and described.owners.get(number) != member:
                continue
            place = TopicPartition(group.topic, number)
            low, end = log.watermarks(place)
            committed = described.committed.get(number) if group.commits else None
            rows.append((group, place, described.owners.get(number, ""), committed, end))
            begin = low if committed is None else max(low, committed)
            if begin < end and group.commits:
                unread[place] = (begin, end)
    oldest = {place: record.timestamp_ms for place, record in _first_records(log, unread if ages else {}).items()}
    return [
        PartitionLag(group, place.partition, member, committed, end, oldest.get(place))
        for group, place, member, committed, end in rows
    ]


def _first_records(log: Log, ranges: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, LogRecord]:
    """The first record in each of these ranges of offsets, where there is one."""
    found: dict[TopicPartition, LogRecord] = {}
    if not ranges:
        return found
    reader = log.reader("lag")
    try:
        reader.assign({place: begin for place, (begin, _) in ranges.items()})
        left = set(ranges)
        heard_s = time.monotonic()
        while left and time.monotonic() - heard_s < _QUIET_S:
            for record in reader.poll(_POLL_RECORDS, _POLL_S):
                place = TopicPartition(record.topic, record.partition)
                if place in left:
                    heard_s = time.monotonic()
                    left.discard(place)
                    reader.unassign([place])
                    if record.offset < ranges[place][1]:
                        found[place] = record
            # What compaction has left of the range may be nothing.
            left -= {place for place in left if reader.position(place) >= ranges[place][1]}
    finally:
        reader.close()
    return found
