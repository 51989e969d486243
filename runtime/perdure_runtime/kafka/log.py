"""``KafkaLog``: the ``Log`` port on a Kafka cluster.

Responsible for putting the parts of this package together and for closing what was opened. Called through the port.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

from perdure_runtime.kafka import options as kafka_options
from perdure_runtime.kafka.admin import Admin, Placement
from perdure_runtime.kafka.carrying import KafkaCarrier
from perdure_runtime.kafka.errors import ErrorTranslator
from perdure_runtime.kafka.membership import KafkaMembership
from perdure_runtime.kafka.producer import KafkaProducer
from perdure_runtime.kafka.reader import KafkaReader
from perdure_runtime.kafka.shared_reader import SharedReaders
from perdure_runtime.log import GroupDescription, LogClosedError, LogError, TopicDescription, TopicPartition
from perdure_schemas.framing import SchemaIds
from perdure_schemas.topics import TopicSpec

_ADMIN_TIMEOUT_S = 10.0


class _Closeable(Protocol):
    def close(self) -> None: ...


_Opened = TypeVar("_Opened", bound=_Closeable)


class KafkaLog:
    """A Kafka cluster as a :class:`perdure_runtime.log.Log`.

    Parameters:
        bootstrap: ``host:port,host:port``.
        options: librdkafka options by their names, for all clients (``security.protocol``, ``sasl.username`` …).
        timeout_s: how long a question about topics or offsets may take.
        schema_ids: topics whose values are written as a schema registry has it, and the ids of their schemas there.
            What is framed so is read with and without it.

    Raises:
        LogError: an option is unknown, or one that the platform cannot work with. Nothing is connected before it is
        used.
    """

    BEGIN: int = OFFSET_BEGINNING
    END: int = OFFSET_END

    def __init__(
        self,
        bootstrap: str,
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = _ADMIN_TIMEOUT_S,
        schema_ids: SchemaIds | None = None,
    ) -> None:
        if not bootstrap:
            raise LogError("Kafka needs at least one bootstrap server, as host:port")
        self._options = dict(options or {})
        kafka_options.check_options(self._options)
        self.bootstrap = bootstrap
        self._schema_ids = schema_ids
        self._timeout_s = timeout_s
        self._errors = ErrorTranslator(bootstrap, self._options)
        self._lock = threading.Lock()
        self._closed = False
        self._open: weakref.WeakSet[_Closeable] = weakref.WeakSet()
        self._memberships: weakref.WeakSet[KafkaMembership] = weakref.WeakSet()
        self._admin = Admin(kafka_options.admin_config(bootstrap, self._options), self._errors, timeout_s)

    def __repr__(self) -> str:
        return f"KafkaLog({self.bootstrap!r})"

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int = -1) -> None:
        """Create those of the topics that do not exist; returns when their leaders are known."""
        self._check_open()
        self._admin.create_topics(specs, partitions, replication)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Describe those of the topics that exist, with all of their configuration."""
        self._check_open()
        return self._admin.describe_topics(names)

    def placements(self, names: Sequence[str]) -> dict[TopicPartition, Placement]:
        """Which brokers have each partition of those topics that exist. Not of the port: only Kafka has brokers."""
        self._check_open()
        return self._admin.placements(names)

    def brokers(self) -> list[int]:
        """The ids of the brokers that are up."""
        self._check_open()
        return self._admin.brokers()

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Set some configuration entries of a topic."""
        self._check_open()
        self._admin.alter_topic(name, config)

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """The first kept offset, and the offset the next record will get."""
        self._check_open()
        return self._admin.begin_offsets([partition])[partition], self._admin.end_offsets([partition])[partition]

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """The offset of the first record with at least this timestamp; the end if there is none."""
        self._check_open()
        return self._admin.offset_for_time(partition, timestamp_ms)

    def producer(self, name: str) -> KafkaProducer:
        """A new producer."""
        config = kafka_options.producer_config(self.bootstrap, self._options)
        return self._opened(lambda: KafkaProducer(name, config, self._errors, self._schema_ids))

    def reader(self, name: str, *, committed_only: bool = False) -> KafkaReader:
        """A new reader without partitions."""
        config = kafka_options.reader_config(self.bootstrap, self._options, committed_only=committed_only)
        return self._opened(lambda: KafkaReader(name, config, self._admin, self._errors, self._timeout_s))

    def together(self) -> SharedReaders:
        """Readers for one thread, which share a consumer."""
        return SharedReaders(self.reader("engine"))

    def join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> KafkaMembership:
        """Join a group; a static member if ``instance`` is not empty."""
        return self._join(group, topic, instance, on_assigned, on_revoked)

    def carrier(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> KafkaCarrier:
        """See :class:`perdure_runtime.relay.carrier.CarryingLog`."""
        bootstrap, options = self.bootstrap, self._options
        return KafkaCarrier(
            group,
            topic,
            self._join(group, topic, instance, on_assigned, on_revoked),
            lambda transactional_id: kafka_options.transactions_config(bootstrap, options, transactional_id),
            kafka_options.offsets_config(bootstrap, options, group),
            self._errors,
            self._timeout_s,
        )

    def _join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> KafkaMembership:
        self._check_open()
        config = kafka_options.member_config(self.bootstrap, self._options, group, instance)
        membership = KafkaMembership(group, topic, config, on_assigned, on_revoked, self._errors, self._timeout_s)
        with self._lock:
            self._memberships.add(membership)
        return membership

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        """Who owns which partition, and what is committed, without joining."""
        self._check_open()
        return self._admin.describe_group(group, topic)

    def _opened(self, make: Callable[[], _Opened]) -> _Opened:
        self._check_open()
        made = make()
        with self._lock:
            self._open.add(made)
        return made

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosedError(f"{self!r} is closed")

    def close(self) -> None:
        """Close everything that was opened through this log."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            memberships, others = list(self._memberships), list(self._open)
        self._admin.close()
        for membership in memberships:
            membership.leave()
        for other in others:
            other.close()
