"""A reader on Kafka: assigned partitions, no group, records as soon as the broker sends them.

Invariants: an assigned offset is exact (an end is looked up when it is assigned, so that nothing appended after
``assign`` returned is missed); an offset that is gone is an error, never a silent jump; a broker that cannot be
reached is waited for; what the platform framed for a schema registry comes without the frame. Called by
:class:`perdure_runtime.kafka.log.KafkaLog`.

Waking: confluent-kafka admits one thread at a time to a consumer, and no call of another thread ends a ``poll``. So
``poll`` blocks in slices, and looks at the flag set by ``wake`` between them: a record is returned at once all the
same, and only ``wake`` (stopping, in practice) may take as long as a slice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException
from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as ClientPartition

from perdure_runtime.kafka.admin import Admin
from perdure_runtime.kafka.errors import ErrorTranslator, client_logger, describe, describe_need, logger
from perdure_runtime.kafka.options import READER_GROUP
from perdure_runtime.log import LogClosedError, LogError, LogRecord, TopicPartition
from perdure_schemas.framing import Headers, unframed

_WAKE_SLICE_S = 0.05
#: Errors that more waiting does not cure.
_LASTING = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)


class KafkaReader:
    """See :class:`perdure_runtime.log.Reader`.

    Parameters:
        name: for logs.
        config: librdkafka configuration.
        admin: looks up offsets.
        errors: makes the port's errors.
        timeout_s: how long a question about topics may take.
    """

    def __init__(
        self, name: str, config: Mapping[str, object], admin: Admin, errors: ErrorTranslator, timeout_s: float
    ) -> None:
        self.name = name
        self._admin = admin
        self._errors = errors
        self._starts: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._partition_counts: dict[str, int] = {}
        self._timeout_s = timeout_s
        self._wake = threading.Event()
        self._failure: LogError | None = None
        self._reported: set[int] = set()
        self._closed = False
        try:
            self._client: Any = Client(
                {**config, "logger": client_logger, "error_cb": errors.observe(f"reader {name}")}
            )
        except Exception as error:
            raise errors.translate(f"make the reader {name}", error) from None

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, too; see the port. Looks up ends, and topics it has not seen, at the brokers.

        Raises:
            LogError: there is no such topic or partition. LogUnavailableError: nobody answered.
        """
        self._check_open()
        for topic, number in offsets:
            count = self._partition_count(topic)
            if not 0 <= number < count:
                raise LogError(f"Kafka: the topic {topic} has no partition {number}, only {count}")
        ends = self._admin.end_offsets([partition for partition, offset in offsets.items() if offset == OFFSET_END])
        starts = {TopicPartition(*partition): ends.get(partition, offset) for partition, offset in offsets.items()}
        moved = [partition for partition in starts if partition in self._starts]
        if moved:
            self._client.incremental_unassign([ClientPartition(*partition) for partition in moved])
        self._client.incremental_assign([ClientPartition(*partition, offset) for partition, offset in starts.items()])
        still_paused = [partition for partition in moved if partition in self._paused]
        if still_paused:
            self._client.pause([ClientPartition(*partition) for partition in still_paused])
        self._starts.update(starts)

    def _partition_count(self, topic: str) -> int:
        """Ask this very client: it connects to the topic's leaders then, and the first fetch need not wait for that."""
        if topic not in self._partition_counts:
            try:
                found = self._client.list_topics(topic, timeout=self._timeout_s).topics[topic]
            except KafkaException as error:
                raise self._errors.translate(f"look up the topic {topic}", error, describe_need(topic)) from None
            if found.error is None:
                self._partition_counts[topic] = len(found.partitions)
            elif found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                # The broker that was asked may not have heard of a new topic yet.
                self._partition_counts[topic] = self._admin.partition_count(topic)
            else:
                exception = KafkaException(found.error)
                raise self._errors.translate(f"read the topic {topic}", exception, describe_need(topic))
        return self._partition_counts[topic]

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""
        self._check_open()
        known = [partition for partition in partitions if partition in self._starts]
        paused = [partition for partition in known if partition in self._paused]
        if paused:
            # The client remembers a pause beyond the assignment: assigned again, nothing would be fetched.
            self._client.resume([ClientPartition(*partition) for partition in paused])
        if known:
            self._client.incremental_unassign([ClientPartition(*partition) for partition in known])
        for partition in known:
            del self._starts[partition]
            self._paused.discard(partition)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until ``resume``."""
        self._check_assigned(partitions)
        self._client.pause([ClientPartition(*partition) for partition in partitions])
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on with paused partitions."""
        self._check_assigned(partitions)
        self._client.resume([ClientPartition(*partition) for partition in partitions])
        self._paused.difference_update(partitions)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record ``poll`` would return."""
        self._check_assigned([partition])
        offset: int = self._client.position([ClientPartition(*partition)])[0].offset
        if offset >= 0:
            return offset
        start = self._starts[partition]
        return self._admin.begin_offsets([partition])[partition] if start == OFFSET_BEGINNING else start

    def poll(self, records_max: int, timeout_s: float) -> list[LogRecord]:
        """Return records as soon as there are any; see the port."""
        self._check_open()
        deadline = monotonic() + timeout_s
        remaining_s = timeout_s
        while True:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            # poll() returns with the first record; consume() alone waits for all of them or for the whole time-out.
            first = self._client.poll(min(max(remaining_s, 0.0), _WAKE_SLICE_S))
            if first is not None:
                messages = [first]
                if records_max > 1:
                    messages += self._client.consume(records_max - 1, 0)
                records = self._records(messages)
                if records:
                    return records
                continue
            if self._wake.is_set():
                self._wake.clear()
                return []
            remaining_s = deadline - monotonic()
            if remaining_s <= 0:
                return []

    def _records(self, messages: list[Any]) -> list[LogRecord]:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                found, value = message.headers(), message.value()
                headers: Headers = ()
                if found:
                    headers = tuple((name, content or b"") for name, content in found)
                    if value is not None:
                        value, headers = unframed(value, headers)
                records.append(
                    LogRecord(
                        message.topic(),
                        message.partition(),
                        message.offset(),
                        message.key(),
                        value,
                        message.timestamp()[1],
                        headers,
                    )
                )
            else:
                self._take_error(error, message)
        return records

    def _take_error(self, error: KafkaError, message: Any) -> None:
        if not error.fatal() and error.code() not in _LASTING:
            if error.code() not in self._reported:
                self._reported.add(error.code())
                text = self._errors.clean(describe(error, f"Describe on the group {READER_GROUP}"))
                logger.warning("reader %s keeps waiting: %s", self.name, text)
            return
        topic, number = message.topic(), message.partition()
        partition = TopicPartition(topic or "?", number if number is not None else -1)
        if partition not in self._starts and error.code() == KafkaError._AUTO_OFFSET_RESET:
            return  # it was unassigned meanwhile
        where = f"{partition.topic}[{partition.partition}]"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            text = (
                f"Kafka: the offset {self.position(partition)} of {where} does not exist any more (or not yet): "
                f"{error.str()}; the log was truncated or its retention passed: start again from what it still holds"
            )
        else:
            text = f"Kafka: reader {self.name} cannot read {where}: {describe(error, f'Read on the topic {topic}')}"
        self._failure = LogError(self._errors.clean(text))

    def wake(self) -> None:
        """Make a ``poll`` of another thread return within 50 ms."""
        self._wake.set()

    def close(self) -> None:
        """Let go of all resources."""
        if not self._closed:
            self._closed = True
            self._wake.set()
            self._client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosedError(f"the reader {self.name} is closed")

    def _check_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._check_open()
        for partition in partitions:
            if partition not in self._starts:
                raise LogError(f"{partition.topic}[{partition.partition}] is not assigned to the reader {self.name}")
