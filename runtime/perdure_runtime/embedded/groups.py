"""Consumer groups inside one process: who owns which partition of a topic.

Invariants:

* a partition has one owner at a time: it goes to its next owner only after the old one's ``on_revoked`` returned, or
  after the old one left or was replaced by a member of the same name (then the old one has lost it);
* shares differ by one partition at most, and no more partitions move than that needs;
* a commit is taken only from the owner, and is durable (in the order of commits) when it is acknowledged.

There is no heartbeat: a member lives as long as this process does, or until it leaves.
Called by the processor shell through :meth:`perdure_runtime.embedded.log.EmbeddedLog.join`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from perdure_runtime.acks import LocalAck
from perdure_runtime.embedded.core import LogCore
from perdure_runtime.embedded.layout import GroupOffset, encode, group_key
from perdure_runtime.log import LogError

#: How long a commit inside ``on_revoked`` waits for the disk.
REVOKE_COMMIT_S_MAX = 5.0


def share(partitions: int, members: Sequence[str], owned: Mapping[int, str]) -> dict[int, str]:
    """Give each of the partitions ``0 .. partitions - 1`` to a member, evenly, moving as few as possible.

    Args:
        partitions: how many there are.
        members: names of the members, without repetition.
        owned: who owns which now; owners that are no members any more do not count.
    """
    if not members:
        return {}
    kept: dict[str, list[int]] = {member: [] for member in sorted(members)}
    for partition in range(partitions):
        owner = owned.get(partition)
        if owner in kept:
            kept[owner].append(partition)
    least, extra = divmod(partitions, len(kept))
    # Who owns most keeps the odd ones, so that they do not move.
    by_load = sorted(kept, key=lambda member: -len(kept[member]))
    quota = {member: least + (1 if position < extra else 0) for position, member in enumerate(by_load)}
    for member, own in kept.items():
        del own[quota[member] :]
    given = {partition: member for member, own in kept.items() for partition in own}
    free = [partition for partition in range(partitions) if partition not in given]
    for member, own in kept.items():
        for _ in range(quota[member] - len(own)):
            given[free.pop(0)] = member
    return given


class Group:
    """One group on one topic. All fields are read and written under the log's lock."""

    def __init__(self, name: str, topic: str, partitions: int) -> None:
        self.name = name
        self.topic = topic
        self.partitions = partitions
        self.members: dict[str, EmbeddedMembership] = {}
        self.owners: dict[int, EmbeddedMembership] = {}
        self.target: dict[int, str] = {}
        #: Grows with every change a member may have to act on.
        self.generation = 0

    def changed(self) -> None:
        """Members came or went: share the partitions again."""
        owned = {partition: member.instance for partition, member in self.owners.items()}
        self.target = share(self.partitions, list(self.members), owned)
        self.generation += 1


class EmbeddedMembership:
    """Implements :class:`perdure_runtime.log.Membership`. Belongs to one thread."""

    def __init__(
        self,
        core: LogCore,
        group: Group,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> None:
        self.instance = instance
        self._core = core
        self._group = group
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._seen = -1
        self._announced = False
        self._revoking = False
        self._gone = False
        self._owned: set[int] = set()
        with core.lock:
            replaced = group.members.get(instance)
            group.members[instance] = self
            if replaced is not None:
                for partition in [p for p, owner in group.owners.items() if owner is replaced]:
                    del group.owners[partition]
            group.changed()

    def poll(self) -> None:
        group = self._group
        if self._seen == group.generation:
            return
        with self._core.lock:
            self._seen = group.generation
            if self._gone:
                return
            fenced = group.members.get(self.instance) is not self
            revoked = sorted(p for p in self._owned if group.target.get(p) != self.instance)
        if fenced:
            self._gone = True
            lost = sorted(self._owned)
            self._owned.clear()
            self._on_revoked(lost, True)
            return
        if revoked:
            self._revoke(revoked)
        self._take()

    def _revoke(self, partitions: list[int]) -> None:
        self._revoking = True
        try:
            self._on_revoked(partitions, False)
        finally:
            self._revoking = False
            self._owned.difference_update(partitions)
            with self._core.lock:
                for partition in partitions:
                    if self._group.owners.get(partition) is self:
                        del self._group.owners[partition]
                self._group.generation += 1

    def _take(self) -> None:
        group = self._group
        with self._core.lock:
            assigned = sorted(p for p, name in group.target.items() if name == self.instance and p not in group.owners)
            for partition in assigned:
                group.owners[partition] = self
        self._owned.update(assigned)
        if assigned or not self._announced:
            self._announced = True
            self._on_assigned(assigned)

    def commit(self, offsets: Mapping[int, int]) -> LocalAck:
        core, group = self._core, self._group
        with core.lock:
            foreign = sorted(p for p in offsets if group.owners.get(p) is not self)
            if foreign:
                error = LogError(
                    f"member {self.instance!r} of group {group.name!r} does not own partitions {foreign} of "
                    f"{group.topic}: somebody else took them over; nothing was committed"
                )
                return LocalAck.decided(core.lock, error)
            entries: dict[bytes, bytes | None] = {}
            for partition, offset in offsets.items():
                core.committed[(group.name, group.topic, partition)] = offset
                entries[group_key(group.name, group.topic, partition)] = encode(
                    GroupOffset(group.name, group.topic, partition, offset)
                )
            ack = core.change(entries)
        if self._revoking:
            ack.wait(REVOKE_COMMIT_S_MAX)
        return ack

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        group = self._group
        with self._core.lock:
            found = {p: self._core.committed.get((group.name, group.topic, p)) for p in partitions}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def leave(self) -> None:
        with self._core.lock:
            if self._gone:
                return
            self._gone = True
            group = self._group
            for partition in [p for p, owner in group.owners.items() if owner is self]:
                del group.owners[partition]
            if group.members.get(self.instance) is self:
                del group.members[self.instance]
                group.changed()
