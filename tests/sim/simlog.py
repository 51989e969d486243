"""A log in memory that keeps the promises of the ``Log`` port, and only those.

What is appended travels: it arrives later, in the order of its producer for each partition, and is acknowledged later
still. A producer's process may be killed meanwhile (for each partition any beginning of what travels still arrives,
maybe late) or the producer may fail (the same, and it says so). Readers get what has arrived, in pieces of any size.
Compacted topics are compacted at any time. ``everything`` keeps what ever arrived, for the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from perdure_runtime.log import (
    GroupDescription,
    LogError,
    LogRecord,
    NewRecord,
    TopicDescription,
    TopicPartition,
)
from perdure_schemas.topics import Cleanup, TopicSpec
from tests.sim.groups import SimGroup, SimMembership
from tests.sim.mortal import Process
from tests.sim.reading import BEGIN, END, SimReader
from tests.sim.sending import SimProducer
from tests.sim.world import World

_DAY_MS = 24 * 3_600_000


def _nobody() -> None:
    """Wakes nobody."""


class Faults:
    """How the log behaves just now. Latencies in milliseconds."""

    def __init__(self) -> None:
        self.latency_ms = 2.0
        self.slow = 0.0
        self.slow_ms = 0.0
        self.torn = 0.0
        self.producer_failure = 0.0


class _Partition:
    __slots__ = ("everything", "next_offset", "offsets", "readers", "records")

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.offsets: list[int] = []
        self.next_offset = 0
        self.readers: list[SimReader] = []
        self.everything: list[LogRecord] = []


class SimLog:
    """The log. One object; each process uses it through :meth:`for_process`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = Faults()
        self.specs: dict[str, TopicSpec] = {}
        self.partitions: dict[TopicPartition, _Partition] = {}
        self.counts: dict[str, int] = {}
        self.groups: dict[str, SimGroup] = {}
        self.stats = {"records": 0, "producer failures": 0, "compactions": 0, "late records": 0}

    def for_process(self, process: Process, wake: Callable[[], None]) -> ProcessLog:
        """The log as a process sees it. ``wake``: one of its readers has something."""
        return ProcessLog(self, process, wake)

    def partition(self, where: TopicPartition) -> _Partition:
        """A partition.

        Raises:
            LogError: there is none.
        """
        try:
            return self.partitions[where]
        except KeyError:
            raise LogError(f"there is no partition {where}") from None

    def create(self, name: str, spec: TopicSpec, count: int) -> None:
        """Make a topic unless it exists."""
        if name not in self.specs:
            self.specs[name] = spec
            self.counts[name] = count
            for number in range(count):
                self.partitions[TopicPartition(name, number)] = _Partition()

    def put(self, where: TopicPartition, records: Sequence[NewRecord]) -> int:
        """Records arrive; the offset of the last one."""
        partition = self.partitions[where]
        offset = partition.next_offset
        now_ms = self.world.now_ms
        for record in records:
            stored = LogRecord(where[0], where[1], offset, record[2], record[3], record[4] or now_ms, record[5])
            partition.records.append(stored)
            partition.offsets.append(offset)
            partition.everything.append(stored)
            offset += 1
        partition.next_offset = offset
        self.stats["records"] += len(records)
        for reader in partition.readers:
            reader.note(where)
        return offset - 1

    def put_late(self, where: TopicPartition, records: Sequence[NewRecord]) -> None:
        """What a killed process had sent arrives."""
        self.stats["late records"] += len(records)
        self.put(where, records)

    def compact(self, rng_share: float) -> None:
        """Compact a beginning of every compacted partition: of each key only the newest record stays."""
        self.stats["compactions"] += 1
        rng = self.world.faults
        for where, partition in self.partitions.items():
            if self.specs[where.topic].cleanup is not Cleanup.COMPACT or rng.random() > rng_share:
                continue
            clean = int(rng.random() * (len(partition.records) + 1))
            newest: dict[bytes | None, int] = {}
            for record in partition.records[:clean]:
                newest[record.key] = record.offset
            oldest_ms = self.world.now_ms - _DAY_MS
            kept = [
                record
                for record in partition.records[:clean]
                if newest[record.key] == record.offset
                and (record.value is not None or record.timestamp_ms >= oldest_ms)
            ]
            partition.records = kept + partition.records[clean:]
            partition.offsets = [record.offset for record in partition.records]

    def read(self, topic: str) -> Iterator[LogRecord]:
        """All records that ever arrived in a topic."""
        for number in range(self.counts.get(topic, 0)):
            yield from self.partitions[TopicPartition(topic, number)].everything

    def everything(self) -> Iterator[LogRecord]:
        """All records that ever arrived."""
        for partition in self.partitions.values():
            yield from partition.everything

    def compacted(self) -> Iterator[LogRecord]:
        """What is left of them now."""
        for partition in self.partitions.values():
            yield from partition.records


class ProcessLog:
    """Implements ``Log`` for one process."""

    BEGIN = BEGIN
    END = END

    def __init__(self, log: SimLog, process: Process, wake: Callable[[], None]) -> None:
        self._log = log
        self._process = process
        self._wake = wake

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int = -1) -> None:
        for name, spec in specs.items():
            self._log.create(name, spec, partitions)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        return {
            name: TopicDescription(name, self._log.counts[name], 1, self._log.specs[name].config())
            for name in names
            if name in self._log.specs
        }

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        raise NotImplementedError("the simulated log has no configuration")

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        found = self._log.partition(partition)
        return 0, found.next_offset

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        found = self._log.partition(partition)
        return next((r.offset for r in found.records if r.timestamp_ms >= timestamp_ms), found.next_offset)

    def producer(self, name: str) -> SimProducer:
        return SimProducer(self._log, self._process, name)

    def reader(self, name: str) -> SimReader:
        # A standby looks when it is its time to look: what arrives wakes nobody.
        return SimReader(self._log, _nobody if name.endswith("-standby") else self._wake)

    def join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> SimMembership:
        found = self._log.groups.get(group)
        if found is None:
            found = self._log.groups[group] = SimGroup(self._log.world, group, self._log.counts[topic])
        return SimMembership(found, self._process, instance, on_assigned, on_revoked, self._wake)

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        found = self._log.groups.get(group)
        if found is None:
            return GroupDescription({}, {})
        return GroupDescription(dict(found.committed), {p: owner.instance for p, owner in found.owners.items()})

    def close(self) -> None:
        """Nothing to let go of."""
