"""The relay on the embedded log: records and position go into one commit.

Invariants: a commit of the log is atomic, so a crash keeps both or neither; only the member that the group has given a
partition to writes its position; since commits keep their order, no record survives whose history did not.
Called through :meth:`perdure_runtime.embedded.log.EmbeddedLog.carrier`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

from perdure_runtime.embedded.core import LogCore
from perdure_runtime.embedded.groups import EmbeddedMembership, Group
from perdure_runtime.embedded.layout import GroupOffset, encode, group_key
from perdure_runtime.log import LogError, LogUnavailableError, NewRecord
from perdure_runtime.relay.carrier import BY_KEY, Position, RefusedError
from perdure_runtime.sizes import record_bytes, too_large
from perdure_schemas.limits import RECORD_BYTES_MAX
from perdure_schemas.topics import Cleanup, TopicSpec

__all__ = ["EmbeddedCarrier", "user_topic_spec"]

#: How long a write may take to reach the disk.
_WRITE_S_MAX = 30.0


def user_topic_spec(name: str) -> TopicSpec:
    """A topic of the user's that nobody has made: everything in it is kept."""
    return TopicSpec(
        name=name,
        partitioned_by="key",
        key="the user's",
        cleanup=Cleanup.DELETE,
        records=(),
        producers=("relay",),
        consumers=("anyone",),
        answers_clients=True,
    )


class EmbeddedCarrier:
    """Implements :class:`perdure_runtime.relay.carrier.Carrier`."""

    def __init__(
        self,
        core: LogCore,
        group: Group,
        membership: EmbeddedMembership,
        create_topics: Callable[[Mapping[str, TopicSpec], int], None],
    ) -> None:
        self._core = core
        self._group = group
        self._membership = membership
        self._create_topics = create_topics

    def poll(self) -> None:
        self._membership.poll()

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        core, group = self._core, self._group
        found = {}
        with core.lock:
            for number in partitions:
                place = (group.name, group.topic, number)
                if place in core.committed:
                    found[number] = Position(core.committed[place], core.epochs.get(place, -1))
        return found

    def advance(self, positions: Mapping[int, Position]) -> None:
        self._core.append([], together_with=lambda: self._entries(positions))

    def carry(self, partition: int, records: Sequence[NewRecord], position: Position) -> None:
        missing = {record.topic for record in records} - set(self._core.topics)
        if missing:
            self._create_topics({name: user_topic_spec(name) for name in sorted(missing)}, self._group.partitions)
        reasons: dict[int, str] = {}
        placed = []
        for index, record in enumerate(records):
            entry = self._core.topics[record.topic]
            if record.partition == BY_KEY:
                record = record._replace(partition=zlib.crc32(record.key or b"") % entry.partitions)
            if record_bytes(record) > RECORD_BYTES_MAX:
                reasons[index] = str(too_large(record, record_bytes(record)))
            elif record.key is None and Cleanup.COMPACT in entry.config.get("cleanup.policy", ""):
                reasons[index] = f"the topic {record.topic} is compacted, and the record has no key"
            placed.append(record)
        if reasons:
            raise RefusedError(reasons)
        acknowledgement = self._core.append(placed, together_with=lambda: self._entries({partition: position}))
        if not acknowledgement.wait(_WRITE_S_MAX):
            raise LogUnavailableError(f"the disk of the log {self._core.where} did not take a record for so long")
        error = acknowledgement.error()
        if error is not None:
            raise error

    def _entries(self, positions: Mapping[int, Position]) -> dict[bytes, bytes | None]:
        """Take positions in (lock held)."""
        core, group = self._core, self._group
        foreign = sorted(number for number in positions if group.owners.get(number) is not self._membership)
        if foreign:
            raise LogError(f"partitions {foreign} of {group.topic} were taken over by another relay")
        entries: dict[bytes, bytes | None] = {}
        for number, (offset, epoch) in positions.items():
            place = (group.name, group.topic, number)
            core.committed[place] = offset
            core.epochs[place] = epoch
            entries[group_key(*place)] = encode(GroupOffset(*place, offset, epoch))
        return entries

    def leave(self) -> None:
        self._membership.leave()
