"""A log in memory that keeps the promises of the ``Log`` port, and only those.

What is appended travels: it arrives later, in the order of its producer for each partition, and is acknowledged later
still. A producer's process may be killed meanwhile (for each partition any beginning of what travels still arrives,
maybe late) or the producer may fail (the same, and it says so). Readers get what has arrived, in pieces of any size.
Compacted topics are compacted at any time. ``everything`` keeps what ever arrived, for the checks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perdure_runtime.log import (
    GroupDescription,
    LogError,
    LogRecord,
    NewRecord,
    ProducerFencedError,
    TopicDescription,
    TopicPartition,
)
from perdure_schemas.topics import Cleanup, TopicSpec
from tests.sim.groups import SimGroup, SimMembership
from tests.sim.world import SimCrash, World

_DAY_MS = 24 * 3_600_000


class Faults:
    """How the log behaves just now. Latencies in milliseconds."""

    def __init__(self) -> None:
        self.latency_ms = 2.0
        self.slow = 0.0
        self.slow_ms = 0.0
        self.torn = 0.0
        self.producer_failure = 0.0


@dataclass
class Cut:
    """How much of a write becomes durable: of its partitions one or all, of their records all or all but the last."""

    #: The number of the only partition; ``None``: all.
    only: int | None = None
    short: int = 0
    #: The call of ``append`` that is cut; ``None``: the process was killed before it, or the write was of another kind.
    flight: _Flight | None = None

    def kept(self, flight: _Flight, number: int, count: int) -> int:
        """How many of its ``count`` records for its partition ``number`` arrive."""
        if flight is not self.flight:
            return count
        return 0 if self.only not in (None, number) else count - self.short


class Process:
    """A process as the log sees it: killed, stopped, or about to be killed at its next write number so-and-so."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        #: To be killed when the present step is over: nothing it still does has any effect.
        self.doomed = False
        self.stopped_until_ms = 0
        #: Killed at this many writes from now; ``None``: not.
        self.writes_left: int | None = None
        self.producers: list[SimProducer] = []
        #: What becomes of its newest write, and of that alone, when it is killed: all earlier ones arrive. ``None``:
        #: any beginning of what travels does.
        self.cut: Cut | None = None

    def write(self, what: str, records: Sequence[NewRecord] = ()) -> bool:
        """A write is about to happen. True: it still happens, and the process is killed right behind it.

        Raises:
            SimCrash: the process is killed before it.
        """
        if not self.alive or self.doomed:
            raise SimCrash(self)
        before = self.world.before_write
        if before is not None and before(self, what, records):
            return True
        if self.writes_left is None:
            return False
        self.writes_left -= 1
        if self.writes_left > 0:
            return False
        self.writes_left = None
        self.world.note(f"{self.name} is killed at a write: {what}")
        self.doom()
        if self.world.faults.random() < 0.5:
            raise SimCrash(self)
        return True

    def doom(self) -> None:
        """It is killed now; the simulation buries it when the present step is over."""
        self.doomed = True
        self.world.doomed.append(self)


class SimAck:
    """Implements ``Ack``."""

    __slots__ = ("_callbacks", "_decided", "_error", "_offsets", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._decided = False
        self._error: LogError | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._callbacks: list[Callable[[SimAck], None]] = []

    def done(self) -> bool:
        return self._decided

    def error(self) -> LogError | None:
        return self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        if not self._decided:
            self._world.wait_for(self.done, 3_600_000 if timeout_s is None else int(timeout_s * 1000) + 1)
        return self._decided

    def offsets(self) -> Mapping[TopicPartition, int]:
        if not self._decided:
            raise LogError("undecided")
        if self._error is not None:
            raise self._error
        return self._offsets

    def on_done(self, callback: Callable[[SimAck], None]) -> None:
        if self._decided:
            callback(self)
        else:
            self._callbacks.append(callback)

    def decide(self, error: LogError | None, offsets: dict[TopicPartition, int] | None = None) -> None:
        """Decide it, once."""
        if self._decided:
            return
        self._decided = True
        self._error = error
        if offsets is not None:
            self._offsets = offsets
        for callback in self._callbacks:
            callback(self)
        self._callbacks.clear()


class _Partition:
    __slots__ = ("everything", "next_offset", "offsets", "readers", "records")

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.offsets: list[int] = []
        self.next_offset = 0
        self.readers: list[SimReader] = []
        self.everything: list[LogRecord] = []


class _Flight:
    """One call of ``append`` on its way."""

    __slots__ = ("ack", "arrived", "due_ms", "groups", "offsets", "waiting")

    def __init__(self, ack: SimAck, groups: dict[TopicPartition, list[NewRecord]]) -> None:
        self.ack = ack
        self.groups = groups
        self.arrived: set[TopicPartition] = set()
        self.due_ms: dict[TopicPartition, int] = {}
        self.offsets: dict[TopicPartition, int] = {}
        self.waiting = len(groups)


class SimProducer:
    """Implements ``Producer``."""

    def __init__(self, log: SimLog, process: Process, name: str) -> None:
        self.log = log
        self.process = process
        self.name = name
        self.failed: ProducerFencedError | None = None
        self.closed = False
        self._flights: deque[_Flight] = deque()
        self._busy_until_ms: dict[TopicPartition, int] = {}
        process.producers.append(self)

    def append(self, records: Sequence[NewRecord]) -> SimAck:
        world, log = self.log.world, self.log
        ack = SimAck(world)
        if not records:
            ack.decide(None)
            return ack
        killed = self.process.write(f"append {len(records)} records, first to {records[0].topic}", records)
        if self.closed:
            raise LogError(f"the producer {self.name} is closed")
        if self.failed is not None:
            raise self.failed
        groups: dict[TopicPartition, list[NewRecord]] = {}
        for record in records:
            where = TopicPartition(record[0], record[1])
            group = groups.get(where)
            if group is None:
                if where not in log.partitions:
                    raise LogError(f"there is no partition {where}")
                group = groups[where] = []
            group.append(record)
        flight = _Flight(ack, groups)
        self._flights.append(flight)
        faults, network = log.faults, world.network
        torn = len(groups) > 1 and faults.torn > 0 and network.random() < faults.torn
        delay_ms = self._delay_ms()
        by_time: dict[int, list[TopicPartition]] = {}
        for where in groups:
            if torn:
                delay_ms = self._delay_ms()
            due_ms = max(world.now_ms + delay_ms, self._busy_until_ms.get(where, 0))
            self._busy_until_ms[where] = flight.due_ms[where] = due_ms
            by_time.setdefault(due_ms, []).append(where)
        for due_ms, places in by_time.items():
            world.at(due_ms, lambda places=places: self._arrive(flight, places))
        if faults.producer_failure > 0 and network.random() < faults.producer_failure:
            world.later(network.random() * 20, self.fail)
        if killed:
            if self.process.cut is not None:
                self.process.cut.flight = flight
            raise SimCrash(self.process)
        return ack

    def _delay_ms(self) -> int:
        faults, network = self.log.faults, self.log.world.network
        if faults.slow > 0 and network.random() < faults.slow:
            return int(network.random() * faults.slow_ms)
        return int(network.random() * faults.latency_ms)

    def _arrive(self, flight: _Flight, places: Sequence[TopicPartition]) -> None:
        if self.failed is not None or not self.process.alive or flight.ack.done():
            return  # what is to become of these was decided when it happened
        wait_ms = self.process.stopped_until_ms - self.log.world.now_ms
        if wait_ms > 0:  # a stopped process sends nothing
            self.log.world.later(wait_ms, lambda: self._arrive(flight, places))
            return
        for where in places:
            self._put(flight, where, flight.groups[where])
        if flight.waiting == 0:
            self._flights.remove(flight)
            world = self.log.world
            if world.network.random() < 0.5:
                flight.ack.decide(None, flight.offsets)
            else:
                world.later(self._delay_ms(), lambda: self._acknowledge(flight))

    def _acknowledge(self, flight: _Flight) -> None:
        if self.process.alive and self.failed is None:
            wait_ms = self.process.stopped_until_ms - self.log.world.now_ms
            if wait_ms > 0:
                self.log.world.later(wait_ms, lambda: self._acknowledge(flight))
            else:
                flight.ack.decide(None, flight.offsets)
        elif self.failed is not None:
            flight.ack.decide(self.failed)

    def _put(self, flight: _Flight, where: TopicPartition, records: Sequence[NewRecord]) -> None:
        flight.offsets[where] = self.log.put(where, records)
        flight.arrived.add(where)
        flight.waiting -= 1

    def fail(self) -> None:
        """It cannot write any more; what travels may arrive, a beginning of it for each partition."""
        if self.failed is not None or self.closed or not self.process.alive:
            return
        self.log.world.note(f"the producer {self.name} fails")
        error = ProducerFencedError(f"the producer {self.name} failed")
        self.log.stats["producer failures"] += 1
        self._end(late=False)
        flights, self._flights = list(self._flights), deque()
        self.failed = error
        for flight in flights:
            flight.ack.decide(error)

    def abandon(self) -> None:
        """Its process is killed."""
        cut = self.process.cut
        if cut is None:
            self._end(late=True)
        else:
            for flight in self._flights:
                for number, (where, records) in enumerate(flight.groups.items()):
                    kept = records[: cut.kept(flight, number, len(records))]
                    if kept and where not in flight.arrived:
                        self.log.put(where, kept)
        self._flights.clear()

    def _end(self, *, late: bool) -> None:
        """Of what travels, a beginning for each partition still arrives."""
        rng = self.log.world.faults
        left: dict[TopicPartition, list[NewRecord]] = {}
        for flight in self._flights:
            for where, records in flight.groups.items():
                if where not in flight.arrived:
                    left.setdefault(where, []).extend(records)
        everything = rng.random()
        for where, records in left.items():
            count = int(rng.random() * (len(records) + 1))
            count = len(records) if everything < 0.3 else 0 if everything > 0.8 else count
            survivors = records[:count]
            if not survivors:
                continue
            if late and rng.random() < 0.5:
                self.log.world.later(rng.random() * 3_000, lambda w=where, s=survivors: self.log.put_late(w, s))
            else:
                self.log.put(where, survivors)

    def flush(self, timeout_s: float) -> bool:
        return not self._flights

    def close(self) -> None:
        self.closed = True


class SimReader:
    """Implements ``Reader``; wakes whoever steps it."""

    def __init__(self, log: SimLog, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        #: Partitions that may hold something new, in the order in which they got it.
        self._fresh: dict[TopicPartition, None] = {}

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        for where, offset in offsets.items():
            partition = self._log.partition(where)
            if where not in self._positions:
                partition.readers.append(self)
            if offset == SimLog.BEGIN:
                offset = partition.offsets[0] if partition.offsets else partition.next_offset
            elif offset == SimLog.END:
                offset = partition.next_offset
            self._positions[where] = offset
            if offset < partition.next_offset:
                self.note(where)

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for where in partitions:
            if self._positions.pop(where, None) is not None:
                self._log.partition(where).readers.remove(self)
            self._fresh.pop(where, None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def note(self, where: TopicPartition) -> None:
        """A partition got something."""
        self._fresh[where] = None
        self._wake()

    @property
    def has_more(self) -> bool:
        """Whether a poll would return something."""
        return bool(self._fresh)

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        if not self._fresh:
            return []
        found: list[LogRecord] = []
        rng = self._log.world.network
        places = list(self._fresh)
        if len(places) > 1:
            rng.shuffle(places)
        for where in places:
            if where in self._paused:
                continue
            partition = self._log.partition(where)
            start = bisect_left(partition.offsets, self._positions[where])
            there = len(partition.offsets) - start
            count = min(there, records_max - len(found))
            if count > 1 and rng.random() < 0.2:
                count = 1 + int(rng.random() * count)
            if count > 0:
                found += partition.records[start : start + count]
                self._positions[where] = partition.offsets[start + count - 1] + 1
            if count >= there:
                del self._fresh[where]
                self._positions[where] = (
                    max(self._positions[where], partition.next_offset) if there == 0 else (self._positions[where])
                )
            if len(found) >= records_max:
                break
        return found

    def wake(self) -> None:
        self._wake()

    def close(self) -> None:
        self.unassign(list(self._positions))


class SimLog:
    """The log. One object; each process uses it through :meth:`for_process`."""

    BEGIN = -2
    END = -1

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

    BEGIN = SimLog.BEGIN
    END = SimLog.END

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
        return SimReader(self._log, self._wake)

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
