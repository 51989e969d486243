"""What a role (history, matching, timers) gives to the processor shell: one handler for each partition it owns.

The shell (:mod:`perdure_runtime.processor`) does everything that is the same for the three roles: ownership, marks,
restoring, batching, producing, acknowledgements, checkpoints, dead letters. A handler turns records into records and
state, and does no I/O but through the store it was given. All its methods are called on the shell's one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from perdure_runtime.log import LogRecord, NewRecord, Reader, TopicPartition
from perdure_runtime.metrics import Sample

#: Where the shell writes, with each checkpoint, the offset behind our last acknowledged record in the restored topic:
#: eight bytes, big-endian. The checkpoint holds the state after every record below it.
ACKNOWLEDGED_KEY = b"\x00acknowledged"


class PartitionStore(Protocol):
    """The state of one partition of one role: an ordered map of bytes.

    Writes are staged and seen by reads at once; the shell writes them to disk, together, when the log has acknowledged
    all that was sent before the checkpoint they belong to.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, staged writes included."""

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a write."""

    def delete(self, key: bytes) -> None:
        """Stage a removal."""

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries whose keys begin with ``prefix``, in key order, from ``start`` on; staged writes included."""


class Outbox(Protocol):
    """Takes the records that go out with the current batch, in order."""

    def send(self, record: NewRecord) -> None:
        """Append ``record`` with the current batch."""


class PartitionHandler(Protocol):
    """One partition of a role. Life: (``fold`` | ``fold_checkpoint`` | ``fold_committed``)* → ``take_over`` →
    (``handle`` | ``tick`` | ``checkpoint``)*. A standby stays in the first part for as long as another owns it."""

    #: It has read a newer mark of its own source in the restored topic, and sends nothing any more.
    deposed: bool

    def restore_offset(self) -> int | None:
        """Where folding of the restored topic starts: behind what the store holds; ``None``: at the beginning.

        A role that writes the restored topic itself finds this under :data:`ACKNOWLEDGED_KEY`.
        """

    def fold(self, record: LogRecord) -> None:
        """Take in one record of the restored topic, without sending anything."""

    def fold_committed(self, committed: int) -> None:
        """While folding: the group has committed up to here meanwhile, so effects below need not be sent again."""

    def fold_checkpoint(self, complete_ms: int) -> int | None:
        """While folding: stage the folded state, with the positions it belongs to, in the store.

        ``complete_ms``: a time at which the state held all that stood in the log; 0 while there was none since
        :meth:`restore_offset`. Returns the offset of the owned topic up to which the group must have committed before
        this may be written, because effects of what is folded may be unsent (I4); ``None``: it may be written at once.
        """

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> Mapping[str, int]:
        """Own the partition from here on: the fold has reached our mark, whose offset is ``epoch``.

        Sends again what an earlier owner may have left unsent: the effects of everything at or above ``committed``,
        the group's committed offset of the owned topic (I4). Returns for each live topic (full name) the offset to read
        from.
        """

    def handle(self, record: LogRecord, outbox: Outbox) -> None:
        """Process one record of a live topic.

        Raises:
            Exception: the record could not be processed. The shell calls :meth:`quarantine` and writes a dead letter.
        """

    def quarantine(self, record: LogRecord, reason: str, outbox: Outbox) -> None:
        """A record could not be processed: keep whatever it concerns from doing harm, and go on (I5)."""

    def tick(self, now_ms: int, outbox: Outbox) -> None:
        """Do what is due by the clock. Called at least when :meth:`next_wakeup_ms` says so."""

    def next_wakeup_ms(self) -> int | None:
        """When :meth:`tick` is due next; ``None``: never by itself."""

    def checkpoint(self) -> int | None:
        """Stage all changed state, with the positions it belongs to, in the store.

        Returns the offset of the owned topic below which everything is done once all that was sent so far is
        acknowledged; ``None`` while nothing is known.
        """


@runtime_checkable
class Foreseeing(Protocol):
    """A handler that can act on a record of its restored topic before the log shows it.

    The record is only a hint, which the log confirms by showing it, or never does: nothing that follows from it may be
    kept in the store, and it must be forgotten if it is not confirmed.
    """

    def foresee(self, record: NewRecord, outbox: Outbox) -> None:
        """Another role of this engine is about to append this record. Never raises for what the record says."""


@runtime_checkable
class Inheriting(Protocol):
    """A handler that has to know which records of the owned topic an earlier owner may have processed in vain.

    An owner that dies leaves effects in other topics of decisions whose own record was lost; who takes the decision
    again has to clean up under the earlier epoch, too.
    """

    def inherit(self, below: int) -> None:
        """All our marks are in the log by now, and the owned topic ends at ``below``.

        Until this is called every record may have been processed by an earlier owner; from ``below`` on none was, as
        far as anybody reads what he wrote.
        """


@runtime_checkable
class Measured(Protocol):
    """A handler with something to show to whoever watches the engine."""

    def samples(self) -> Iterable[Sample]:
        """Its gauges and counters now. Called on another thread than all else, so it reads copies."""


class MakesReaders(Protocol):
    """A log, or what shares the consumer of one among several roles."""

    def reader(self, name: str) -> Reader:
        """A new reader without partitions."""


class Role(Protocol):
    """A role of the engine, as the shell sees it."""

    #: "history", "matching" or "timers": names the group, the store and the source of marks ("<name>/<partition>").
    name: str
    #: The topic whose partitions are shared among owners, and the topic that is folded to restore a partition.
    owned_topic: str
    restored_topic: str
    #: The topics read while owning (same partition number); the restored topic, if among them, goes on after the mark.
    live_topics: Sequence[str]
    #: Version of the store's layout; a store of another version is refused.
    store_version: int

    def marks(self, partition: int) -> Sequence[TopicPartition]:
        """Every partition (besides the restored one) this role writes fenced records to: each gets an owner mark."""

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> PartitionHandler:
        """A handler for a partition that is about to be restored."""
