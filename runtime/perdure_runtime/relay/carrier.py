"""What the relay needs of a log beyond the port: to write records and how far it has read, together or not at all.

Implemented by the adapters for Kafka (transactions) and for the embedded log (one commit). Invariants:

* of one partition's carriers only the newest writes: what an earlier one still tries fails as a whole;
* after an error of :meth:`Carrier.carry` that is no :class:`RefusedError` nobody knows what was written; the carrier is
  thrown away, and the next one learns it from :meth:`Carrier.positions`.

Called by :mod:`perdure_runtime.relay.service`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from perdure_runtime.log import Log, LogError, NewRecord

__all__ = ["BY_KEY", "Carrier", "CarryingLog", "Position", "RefusedError"]

#: The partition of a record whose key decides it.
BY_KEY = -1


class Position(NamedTuple):
    """How far a partition is done: everything below ``offset``, where ``epoch`` is the newest owner mark (-1: none)."""

    offset: int
    epoch: int


class RefusedError(LogError):
    """Some records will never be taken as they are; nothing was written, and nothing is uncertain.

    Args:
        reasons: why, by the record's index in the call.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = dict(reasons)


class Carrier(Protocol):
    """A member of a group that carries what is in the partitions of one topic to others. Belongs to one thread."""

    def poll(self) -> None:
        """Take part in the group; see :meth:`perdure_runtime.log.Membership.poll`."""

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        """How far these partitions are done, by whomever; absent where nobody has begun."""

    def advance(self, positions: Mapping[int, Position]) -> None:
        """These partitions are done so far, and there was nothing to write. May be forgotten in a crash."""

    def carry(self, partition: int, records: Sequence[NewRecord], position: Position) -> None:
        """Write records (each to the partition it names, or :data:`BY_KEY`) and that ``partition`` is done so far.

        Blocks until all of it is safe.

        Raises:
            RefusedError: some records will never be taken; call again without them.
            LogError: nobody knows whether it was written, or another carrier has taken over.
        """

    def leave(self) -> None:
        """Give all partitions back, and go."""


@runtime_checkable
class CarryingLog(Log, Protocol):
    """A log on which a relay can run."""

    def carrier(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> Carrier:
        """Join a group that shares the partitions of ``topic``; the parameters are those of :meth:`Log.join`."""
