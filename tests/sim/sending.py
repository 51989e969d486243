"""The sending side of the simulated log: producers, what travels, and acknowledgements.

Invariants: what one producer sends to one partition arrives in its order, or a beginning of it; an acknowledgement is
decided once. Called through :class:`tests.sim.simlog.ProcessLog`, and by groups, whose commits are acknowledged too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from perdure_runtime.log import LogError, NewRecord, ProducerFencedError, TopicPartition
from tests.sim.mortal import Process
from tests.sim.world import SimCrash, World

if TYPE_CHECKING:
    from tests.sim.simlog import SimLog


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


class Flight:
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
        self._flights: deque[Flight] = deque()
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
        flight = Flight(ack, groups)
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

    def _arrive(self, flight: Flight, places: Sequence[TopicPartition]) -> None:
        if self.failed is not None or not self.process.alive or flight.ack.done():
            return  # what is to become of these was decided when it happened
        wait_ms = self.process.stopped_until_ms - self.log.world.now_ms
        if wait_ms > 0:  # a stopped process sends nothing
            self.log.world.later(wait_ms, lambda: self._arrive(flight, places))
            return
        for where in places:
            if where not in flight.arrived:
                for earlier in list(self._flights):  # one that a stopped process had held back is never overtaken
                    if where in earlier.groups and where not in earlier.arrived:
                        self._put(earlier, where, earlier.groups[where])
                    if earlier is flight:
                        break

    def _acknowledge(self, flight: Flight) -> None:
        if self.process.alive and self.failed is None:
            wait_ms = self.process.stopped_until_ms - self.log.world.now_ms
            if wait_ms > 0:
                self.log.world.later(wait_ms, lambda: self._acknowledge(flight))
            else:
                flight.ack.decide(None, flight.offsets)
        elif self.failed is not None:
            flight.ack.decide(self.failed)

    def _put(self, flight: Flight, where: TopicPartition, records: Sequence[NewRecord]) -> None:
        flight.offsets[where] = self.log.put(where, records)
        flight.arrived.add(where)
        flight.waiting -= 1
        if flight.waiting:
            return
        self._flights.remove(flight)
        world = self.log.world
        if world.network.random() < 0.5:
            flight.ack.decide(None, flight.offsets)
        else:
            world.later(self._delay_ms(), lambda: self._acknowledge(flight))

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
