"""The ``Log`` port: all that the platform needs of a log, small enough to be the same on Kafka and on the embedded log.

Invariants that every adapter keeps, and that the contract suite in ``tests/contract`` checks:

* a partition is ordered; the records of one producer for one partition keep the order of their ``append`` calls;
* an acknowledged record survives ``kill -9`` (and, on Kafka, what ``acks=all`` survives);
* nothing is acknowledged before everything the same producer appended earlier to that partition is;
* a reader sees each surviving record once, in offset order; compaction may leave gaps in offsets;
* nobody polls in a sleep loop: ``Reader.poll`` returns as soon as there is a record.

Threads: a ``Reader`` and a ``Membership`` belong to one thread; a ``Producer`` and the ``Log`` may be used by many.
Called by the processor shell, the SDK's client and worker, and ops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from perdure_schemas.topics import TopicSpec


class TopicPartition(NamedTuple):
    """A partition of a topic, by the topic's full name."""

    topic: str
    partition: int


class LogRecord(NamedTuple):
    """A record as read. ``value`` ``None`` is a tombstone; ``timestamp_ms`` is the time its producer gave."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


class NewRecord(NamedTuple):
    """A record to append. ``timestamp_ms`` 0 lets the log take the current time."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class LogError(Exception):
    """The log could not do what was asked. The message says what, where and what to do."""


class LogClosedError(LogError):
    """The log, or the part of it that was used, was closed by this process: there is nothing to wait for."""


class LogUnavailableError(LogError):
    """No broker or server answered in time."""


class TopicConfigurationError(LogError):
    """A topic exists, but not as the platform needs it."""


class ProducerFencedError(LogError):
    """The producer had a fatal error: make a new one, and start again from the last acknowledged state."""


class Ack(Protocol):
    """The acknowledgement of one ``append`` call: all of its records, or an error."""

    def done(self) -> bool:
        """Whether it is decided."""

    def error(self) -> LogError | None:
        """The error, if it failed; ``None`` while undecided or when all is safe."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until decided; true if it is."""

    def offsets(self) -> Mapping[TopicPartition, int]:
        """The offset of the *last* record of the call in each partition it wrote to, once acknowledged.

        Raises:
            LogError: it failed or is undecided.
        """

    def on_done(self, callback: Callable[[Ack], None]) -> None:
        """Call ``callback`` once decided, on a thread of the log (or at once if it already is). It must not block."""


class Producer(Protocol):
    """Appends records. Idempotent: a retry inside the adapter never doubles a record."""

    def append(self, records: Sequence[NewRecord]) -> Ack:
        """Append records, in order for each partition, and return at once.

        Raises:
            LogError: a record is larger than ``RECORD_BYTES_MAX``, or the producer is closed or fenced.
        """

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was appended is decided; true if it is."""

    def close(self) -> None:
        """Flush for a short time and let go of all resources."""


class Reader(Protocol):
    """Reads assigned partitions from given offsets; no consumer group is involved."""

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, too, from these offsets on (:attr:`Log.END` and :attr:`Log.BEGIN` are allowed).

        A partition that is read already is moved to the given offset.
        """

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more; nothing of them is returned by a later ``poll``."""

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until ``resume``; the position is kept."""

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on with paused partitions."""

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record ``poll`` would return (or of the next one to be written)."""

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        """Return at least one record as soon as there is one, and whatever else is ready, up to ``records_max``.

        Returns an empty list after ``timeout_s`` or after :meth:`wake`.

        Raises:
            LogError: an assigned offset does not exist any more, or the log is gone for good.
        """

    def wake(self) -> None:
        """Make a ``poll`` of another thread return now (the only method other threads may call)."""

    def close(self) -> None:
        """Let go of all resources."""


class Membership(Protocol):
    """Membership in a group that shares the partitions of one topic: who owns which. It fetches no records."""

    def poll(self) -> None:
        """Take part: calls ``on_assigned`` and ``on_revoked`` on a change. Never blocks; call it every second."""

    def commit(self, offsets: Mapping[int, int]) -> Ack:
        """Remember that everything below these offsets is done, by partition. Asynchronous; the last one wins.

        The acknowledgement is decided within a later :meth:`poll` (inside ``on_revoked``: before this returns), and it
        is an error if this member did not own the partitions any more when the group took note: so a success proves
        that up to the call of ``commit`` nobody else had taken over. Its ``offsets`` are empty.
        """

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        """What was committed last for each of these partitions, by anybody; absent where nothing was."""

    def leave(self) -> None:
        """Give all partitions back (without a call of ``on_revoked``), commit what is pending, and go."""


class TopicDescription(NamedTuple):
    """A topic as it is. ``in_sync``: the fewest in-sync replicas any partition has; -1 where nobody counts them."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    in_sync: int = -1


class GroupDescription(NamedTuple):
    """A group as it is, by partition of its topic.

    ``committed``: what was committed last; absent where nothing was. ``owners``: which member the group has given a
    partition to, by its instance name; absent while nobody has it.
    """

    committed: Mapping[int, int]
    owners: Mapping[int, str]


class Log(Protocol):
    """A log. See the module's docstring for its invariants."""

    #: Offsets for :meth:`Reader.assign`: the first record kept, and behind the last one.
    BEGIN: int
    END: int

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int = -1) -> None:
        """Create those of the topics (full name → spec) that do not exist. Existing ones are left as they are.

        Raises:
            LogUnavailableError: nobody answered. LogError: the log refused, with its reason.
        """

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Describe those of the topics that exist."""

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Set some configuration entries of a topic; the others stay."""

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """The first kept offset, and the offset the next record will get."""

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """The offset of the first record with at least this timestamp; the end if there is none."""

    def producer(self, name: str) -> Producer:
        """A new producer. ``name`` is for logs and metrics."""

    def reader(self, name: str, *, committed_only: bool = False) -> Reader:
        """A new reader without partitions. ``committed_only``: it passes over what aborted transactions wrote."""

    def join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> Membership:
        """Join a group that shares the partitions of ``topic``.

        ``instance`` names this member across restarts (static membership). ``on_revoked(partitions, lost)`` tells with
        ``lost`` that others may own them already; else it is called before they are given away. Both are called inside
        :meth:`Membership.poll` and must be quick.
        """

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        """Who owns which partition of ``topic``, and what is committed, without joining; empty for an unknown group.

        Raises:
            LogUnavailableError: nobody answered. LogError: there is no such topic, or the log refused.
        """

    def close(self) -> None:
        """Close everything that was opened through this log."""
