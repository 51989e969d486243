"""Topics and offsets: everything the ``Log`` port asks of Kafka besides reading and writing records.

Every call is bounded by ``timeout_s`` and ends in an answer or in an error of the port. May be used by many threads.
Called by :class:`perdure_runtime.kafka.log.KafkaLog` and its readers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from perdure_runtime.kafka.errors import ErrorTranslator, client_logger, describe_need, kafka_error
from perdure_runtime.log import GroupDescription, LogError, TopicDescription, TopicPartition
from perdure_schemas.topics import TopicSpec

#: The client's own deadline is hit first, so that its error says why.
_GRACE_S = 1.0
_RETRY_PAUSE_S = 0.02
#: What a broker says while a partition gets its (first or next) leader.
_LEADER_MOVES = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)
_OFFSETS: Any = OffsetSpec  # it has no type annotations


class Placement(NamedTuple):
    """The brokers that have a partition, those of them that are in sync, and the one that leads it."""

    replicas: list[int]
    in_sync: list[int]
    leader: int | None


class Admin:
    """Topic administration and offset queries of one log.

    Parameters:
        config: librdkafka configuration of the admin client.
        errors: makes the port's errors.
        timeout_s: how long a call may take, in seconds.
    """

    def __init__(self, config: Mapping[str, object], errors: ErrorTranslator, timeout_s: float) -> None:
        self._errors = errors
        self._timeout_s = timeout_s
        settings: dict[str, Any] = {**config, "logger": client_logger, "error_cb": errors.observe("admin")}
        try:
            self._client = AdminClient(settings)
        except Exception as error:
            raise errors.translate("make an admin client", error) from None
        self._partition_counts: dict[str, int] = {}
        self._closed = threading.Event()

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int) -> None:
        """Create those that do not exist, and wait until all partitions of the new ones are served."""
        missing = set(specs) - set(self._layouts(list(specs)))
        if missing:
            topics = [
                NewTopic(name, num_partitions=partitions, replication_factor=replication, config=specs[name].config())
                for name in specs
                if name in missing
            ]
            created: dict[str, Future[None]] = self._client.create_topics(topics, request_timeout=self._timeout_s)
            for name, future in created.items():
                error = self._error_of(future)
                known = kafka_error(error) if error is not None else None
                if error is not None and (known is None or known.code() != KafkaError.TOPIC_ALREADY_EXISTS):
                    need = f"Create on the topic {name}"
                    raise self._errors.translate(f"create the topic {name}", error, need) from None
            self._wait_for_leaders(sorted(missing))
            self.end_offsets(
                TopicPartition(name, number) for name in missing for number in range(self.partition_count(name))
            )

    def _wait_for_leaders(self, names: Sequence[str]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while names:
            layouts = self._layouts(names)
            names = [
                name
                for name in names
                if name not in layouts or any(partition.leader is None for partition in layouts[name].partitions)
            ]
            if not names:
                return
            if time.monotonic() > deadline:
                raise self._errors.unavailable(
                    f"see leaders for the new topics {', '.join(names)}", "no leader in time"
                )
            self._pause()

    def _pause(self) -> None:
        if self._closed.wait(_RETRY_PAUSE_S):
            raise LogError("the log was closed")

    def close(self) -> None:
        """End calls of other threads that wait for a leader."""
        self._closed.set()

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Partitions, replication and configuration of those that exist."""
        layouts = self._layouts(names)
        if not layouts:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in layouts]
        futures = self._client.describe_configs(resources, request_timeout=self._timeout_s)
        described = {}
        for resource, future in futures.items():
            action = f"read the configuration of the topic {resource.name}"
            entries = self._result(future, action, f"DescribeConfigs on the topic {resource.name}")
            layout = layouts[resource.name]
            described[resource.name] = TopicDescription(
                name=resource.name,
                partitions=len(layout.partitions),
                replication=min(len(partition.replicas) for partition in layout.partitions),
                config={entry.name: entry.value for entry in entries.values() if entry.value is not None},
                in_sync=min(len(partition.isr) for partition in layout.partitions),
            )
        return described

    def placements(self, names: Sequence[str]) -> dict[TopicPartition, Placement]:
        """Which brokers have each partition of those topics that exist."""
        found = {}
        for name, layout in self._layouts(names).items():
            for one in layout.partitions:
                replicas, in_sync = ([node.id for node in nodes] for nodes in (one.replicas, one.isr))
                leader = None if one.leader is None else one.leader.id
                found[TopicPartition(name, one.id)] = Placement(replicas, in_sync, leader)
        return found

    def brokers(self) -> list[int]:
        """The ids of the brokers that are up."""
        future = self._client.describe_cluster(request_timeout=self._timeout_s)
        return sorted(node.id for node in self._result(future, "list the brokers", "Describe on the cluster").nodes)

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Set some configuration entries of a topic."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in self._client.incremental_alter_configs([resource], request_timeout=self._timeout_s).values():
            self._result(future, f"set {', '.join(config)} of the topic {name}", f"AlterConfigs on the topic {name}")

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        """Committed offsets and owners of the partitions of a topic; nothing of a group that does not exist."""
        asked = [ClientPartition(topic, number) for number in range(self.partition_count(topic))]
        request = [ConsumerGroupTopicPartitions(group, asked)]
        committed = {}
        answer = self._client.list_consumer_group_offsets(request, request_timeout=self._timeout_s)[group]
        offsets = self._group_result(answer, f"read committed offsets of the group {group}", group)
        for place in [] if offsets is None else offsets.topic_partitions:
            if place.error is not None:
                action = f"read the committed offset of {topic}[{place.partition}] in the group {group}"
                raise self._errors.translate(action, KafkaException(place.error), describe_need(topic))
            if place.offset >= 0:
                committed[place.partition] = place.offset
        answer = self._client.describe_consumer_groups([group], request_timeout=self._timeout_s)[group]
        described = self._group_result(answer, f"describe the group {group}", group)
        owners = {
            place.partition: member.group_instance_id or member.client_id
            for member in ([] if described is None else described.members)
            for place in member.assignment.topic_partitions
            if place.topic == topic
        }
        return GroupDescription(committed, owners)

    def _group_result(self, future: Future[Any], action: str, group: str) -> Any:
        """A question about a group; ``None`` if there is no such group."""
        error = self._error_of(future)
        known = kafka_error(error) if error is not None else None
        if known is not None and known.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return None
        return self._result(future, action, f"Describe on the group {group}")

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has (it never changes: see the platform's rules on keys).

        Raises:
            LogError: there is no such topic.
        """
        if topic not in self._partition_counts:
            layout = self._layouts([topic]).get(topic)
            if layout is None:
                raise LogError(f"Kafka: there is no topic {topic}: create it first (perdure topics apply)")
            self._partition_counts[topic] = len(layout.partitions)
        return self._partition_counts[topic]

    def begin_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first kept offset of each partition."""
        return self._offsets({partition: _OFFSETS.earliest() for partition in partitions}, "beginning")

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset the next record of each partition will get."""
        return self._offsets({partition: _OFFSETS.latest() for partition in partitions}, "end")

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """The first offset with at least this timestamp, or the end."""
        found = self._offsets({partition: _OFFSETS.for_timestamp(timestamp_ms)}, f"offset at {timestamp_ms} ms")[
            partition
        ]
        return found if found >= 0 else self.end_offsets([partition])[partition]

    def _offsets(self, specs: Mapping[TopicPartition, OffsetSpec], what: str) -> dict[TopicPartition, int]:
        for topic, number in specs:
            if not 0 <= number < self.partition_count(topic):
                raise LogError(
                    f"Kafka: the topic {topic} has no partition {number}, only {self.partition_count(topic)}"
                )
        if not specs:
            return {}
        found: dict[TopicPartition, int] = {}
        open_specs = dict(specs)
        deadline = time.monotonic() + self._timeout_s
        while open_specs:
            request = {ClientPartition(*partition): spec for partition, spec in open_specs.items()}
            for asked, future in self._client.list_offsets(request, request_timeout=self._timeout_s).items():
                error = self._error_of(future)
                known = kafka_error(error) if error is not None else None
                if error is None:
                    partition = TopicPartition(asked.topic, asked.partition)
                    found[partition] = future.result().offset
                    del open_specs[partition]
                elif known is None or known.code() not in _LEADER_MOVES or time.monotonic() > deadline:
                    action = f"read the {what} of {asked.topic}[{asked.partition}]"
                    raise self._errors.translate(action, error, describe_need(asked.topic)) from None
            if open_specs:
                self._pause()
                self._refresh_metadata()
        return found

    def _refresh_metadata(self) -> None:
        """Ask for the leaders: after a broker's restart the cached leader epoch would be refused for minutes."""
        try:
            self._client.list_topics(timeout=self._timeout_s)
        except Exception as error:
            raise self._errors.translate("look up the current leaders", error) from None

    def _layouts(self, names: Sequence[str]) -> dict[str, Any]:
        if not names:
            return {}
        futures = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s)
        layouts = {}
        for name, future in futures.items():
            error = self._error_of(future)
            if error is None:
                layouts[name] = future.result()
                continue
            known = kafka_error(error)
            if known is None or known.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise self._errors.translate(f"describe the topic {name}", error, describe_need(name)) from None
        return layouts

    def _error_of(self, future: Future[Any]) -> BaseException | None:
        try:
            return future.exception(timeout=self._timeout_s + _GRACE_S)
        except FutureTimeoutError:
            return TimeoutError()

    def _result(self, future: Future[Any], action: str, need: str) -> Any:
        error = self._error_of(future)
        if error is not None:
            raise self._errors.translate(action, error, need) from None
        return future.result()
