"""Groups of the simulated log: who owns which partition, commits, and members that are given up without knowing it.

Invariants, as the port has them: a commit succeeds only if its member owned the partitions when the group took note; a
partition is given to another member when the old one has given it back, or was given up. A member that was given up
hears of it later, and goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from perdure_runtime.log import LogError
from tests.sim.mortal import Process
from tests.sim.sending import SimAck
from tests.sim.world import SimCrash, World


class SimGroup:
    """A group that shares the partitions of one topic."""

    def __init__(self, world: World, name: str, partitions: int) -> None:
        self.world = world
        self.name = name
        self.partitions = partitions
        self.members: dict[str, SimMembership] = {}
        self.owners: dict[int, SimMembership] = {}
        self.target: dict[int, str] = {}
        self.committed: dict[int, int] = {}
        self.generation = 0
        #: Grows with each change of target and owners: a member that has seen it all has nothing to do.
        self.changes = 0

    def rebalance(self) -> None:
        """Share the partitions anew, in any way that is balanced."""
        self.changes += 1
        names = sorted(self.members)
        self.generation += 1
        self.target = {}
        if names:
            self.world.faults.shuffle(names)
            self.target = {number: names[number % len(names)] for number in range(self.partitions)}
        self.tell()

    def tell(self) -> None:
        """Wake all members."""
        self.changes += 1
        for member in self.members.values():
            self.world.later(self.world.network.random() * 30, member.wake)

    def give_up(self, member: SimMembership, notice_ms: float) -> None:
        """A member is taken for dead; it hears of it after a while, if it lives."""
        if member.given_up or self.members.get(member.instance) is not member:
            return
        member.given_up = True
        member.notice_at_ms = self.world.now_ms + notice_ms
        del self.members[member.instance]
        for partition in [p for p, owner in self.owners.items() if owner is member]:
            del self.owners[partition]
        self.world.at(member.notice_at_ms, member.wake)
        self.rebalance()


class SimMembership:
    """Implements ``Membership``."""

    def __init__(
        self,
        group: SimGroup,
        process: Process,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
        wake: Callable[[], None],
    ) -> None:
        self.group = group
        self.process = process
        self.instance = instance
        self.wake = wake
        self.given_up = False
        self.notice_at_ms = 0.0
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._owned: set[int] = set()
        self._announced = False
        self._revoking = False
        self._gone = False
        self._commits: list[SimAck] = []
        self._seen = -1
        earlier = group.members.get(instance)
        if earlier is not None:  # static membership: the same name takes the place of the one before
            group.give_up(earlier, 0)
        group.members[instance] = self
        group.rebalance()

    def poll(self) -> None:
        group = self.group
        if self._gone:
            raise LogError("this member has left")
        if self.given_up:
            if group.world.now_ms >= self.notice_at_ms:
                self._gone = True
                lost, self._owned = sorted(self._owned), set()
                for ack in self._commits:
                    ack.decide(LogError("the group has given this member up"))
                self._on_revoked(lost, True)
            return
        if self._seen == group.changes:
            return
        self._seen = group.changes
        revoked = sorted(p for p in self._owned if group.target.get(p) != self.instance)
        if revoked:
            self._revoking = True
            try:
                self._on_revoked(revoked, False)
            finally:
                self._revoking = False
                self._owned.difference_update(revoked)
            for partition in revoked:
                if group.owners.get(partition) is self:
                    del group.owners[partition]
            group.tell()
        taken = sorted(p for p, name in group.target.items() if name == self.instance and p not in group.owners)
        for partition in taken:
            group.owners[partition] = self
        self._owned.update(taken)
        if taken or not self._announced:
            self._announced = True
            self._on_assigned(taken)

    def commit(self, offsets: Mapping[int, int]) -> SimAck:
        killed = self.process.write(f"commit of {self.group.name}")
        world = self.group.world
        ack = SimAck(world)
        wanted = dict(offsets)
        if self._revoking or world.network.random() < 0.3:
            self._take(ack, wanted)
        else:
            self._commits.append(ack)
            world.later(world.network.random() * 10, lambda: self._take(ack, wanted))
        if killed:
            raise SimCrash(self.process)
        return ack

    def _take(self, ack: SimAck, offsets: dict[int, int]) -> None:
        """The commit reaches the group, maybe from a process that is dead by now."""
        group, world = self.group, self.group.world
        if ack.done():
            return
        wait_ms = self.process.stopped_until_ms - world.now_ms
        if wait_ms > 0:
            world.later(wait_ms, lambda: self._take(ack, offsets))
            return
        if not self.process.alive and self.process.cut is None and world.network.random() < 0.5:
            return
        if ack in self._commits:
            self._commits.remove(ack)
        if any(group.owners.get(partition) is not self for partition in offsets):
            error: LogError | None = LogError(f"{self.instance} does not own {sorted(offsets)} of {group.name}")
        else:
            error = None
            group.committed.update(offsets)
        if self.process.alive:
            ack.decide(error)
            self.wake()

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        return {p: self.group.committed[p] for p in partitions if p in self.group.committed}

    def leave(self) -> None:
        if self._gone or self.given_up:
            self._gone = True
            return
        self._gone = True
        for ack in list(self._commits):
            ack.decide(LogError("this member has left"))
        for partition in [p for p, owner in self.group.owners.items() if owner is self]:
            del self.group.owners[partition]
        if self.group.members.get(self.instance) is self:
            del self.group.members[self.instance]
            self.group.rebalance()
