"""A producer on Kafka: idempotent, acknowledged by all replicas, and failing as a whole.

Invariants: callbacks run on one thread only (the producer's own, which blocks in the client library); a Python callback
is paid for once per partition of an ``append`` call, because an idempotent producer's partition is acknowledged in
order; after the first record that could not be written nothing more is acknowledged and nothing more is taken
(fenced), so that what was acknowledged is always a gapless beginning of what was appended. Called by
:class:`perdure_runtime.kafka.log.KafkaLog`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client

from perdure_runtime.kafka.ack import KafkaAck
from perdure_runtime.kafka.errors import ErrorTranslator, client_logger, describe, kafka_error, logger
from perdure_runtime.log import LogError, NewRecord, ProducerFencedError, TopicPartition
from perdure_runtime.sizes import record_bytes, too_large
from perdure_schemas.framing import SchemaIds, framed
from perdure_schemas.topics import RECORD_BYTES_MAX

#: The longest the callback thread blocks in the client library: it only bounds how long ``close`` waits for the thread.
_POLL_S = 0.05
#: librdkafka asks for its producer id again only after 500 ms when the first records come while it is still connecting.
#: One question to the brokers, answered, avoids that; the name need not exist.
_FIRST_QUESTION = "perdure-is-anybody-there"
_FIRST_ANSWER_TIMEOUT_S = 1.0
_FULL_QUEUE_TIMEOUT_S = 60.0
_CLOSE_FLUSH_S = 2.0
_CLOSE_PURGE_S = 2.0


class KafkaProducer:
    """See :class:`perdure_runtime.log.Producer`.

    Parameters:
        name: for logs and the thread's name.
        config: librdkafka configuration.
        errors: makes the port's errors.
        schema_ids: the topics whose values are framed for a schema registry, and its ids.
    """

    def __init__(
        self, name: str, config: Mapping[str, object], errors: ErrorTranslator, schema_ids: SchemaIds | None = None
    ) -> None:
        self.name = name
        self._schema_ids = schema_ids
        self._errors = errors
        self._lock = threading.Lock()
        self._all_decided = threading.Condition(self._lock)
        self._undecided: set[KafkaAck] = set()
        self._fence_error: ProducerFencedError | None = None
        self._closed = False
        self._progress = threading.Event()
        self._observe = errors.observe(f"producer {name}")
        try:
            self._client: Any = Client({**config, "logger": client_logger, "error_cb": self._on_client_error})
        except Exception as error:
            raise errors.translate(f"make the producer {name}", error) from None
        self._stopping = False
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"kafka-producer-{name}", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[NewRecord]) -> KafkaAck:
        """Append records; see the port.

        Blocks only while the client's queue is full, at most a minute, and at first until a broker answered, at most
        a second.

        Raises:
            LogError: a record is too large (then nothing of the call was appended), or the producer is closed.
            ProducerFencedError: an earlier record could not be written.
        """
        self._connected.wait()
        if self._schema_ids is not None:
            records = [_framed(record, self._schema_ids) for record in records]
        ends: dict[tuple[str, int], int] = {}
        for index, record in enumerate(records):
            ends[record[0], record[1]] = index
            size = record_bytes(record)
            if size > RECORD_BYTES_MAX:
                raise too_large(record, size)
        ack = self._open_ack(len(ends))
        if not ends:
            self._decide(ack, None)
            return ack
        ending = set(ends.values())
        try:
            for index, (topic, partition, key, value, timestamp_ms, headers) in enumerate(records):
                callback = self._on_delivery(ack) if index in ending else None
                self._produce(topic, partition, key, value, timestamp_ms, headers, callback)
        except Exception as exception:
            failed = records[index]
            error = self._fence(f"append to {failed.topic}[{failed.partition}]", exception, failed.topic)
            self._decide(ack, error)
            raise error from None
        return ack

    def _open_ack(self, remaining: int) -> KafkaAck:
        ack = KafkaAck(self._lock, remaining)
        with self._lock:
            if self._closed:
                raise LogError(f"the producer {self.name} is closed")
            if self._fence_error is not None:
                raise self._fence_error
            self._undecided.add(ack)
        return ack

    def _produce(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: tuple[tuple[str, bytes], ...],
        callback: Callable[[KafkaError | None, Any], None] | None,
    ) -> None:
        produce = self._client.produce
        deadline = 0.0
        while True:
            self._progress.clear()
            try:
                if headers:
                    produce(topic, value, key, partition, callback, None, timestamp_ms, headers=list(headers))
                else:
                    produce(topic, value, key, partition, callback, None, timestamp_ms)
                return
            except BufferError:
                now = time.monotonic()
                deadline = deadline or now + _FULL_QUEUE_TIMEOUT_S
                if now > deadline:
                    raise TimeoutError from None
                self._progress.wait(_POLL_S)

    def _on_delivery(self, ack: KafkaAck) -> Callable[[KafkaError | None, Any], None]:
        def delivered(error: KafkaError | None, message: Any) -> None:
            partition = TopicPartition(message.topic(), message.partition())
            if error is None and self._fence_error is None:
                if ack.delivered(partition, message.offset()):
                    self._decide(ack, None)
            else:
                self._decide(
                    ack, self._fence(f"write to {partition.topic}[{partition.partition}]", error, partition.topic)
                )

        return delivered

    def _fence(
        self, action: str, cause: BaseException | KafkaError | None, topic: str = "it writes to"
    ) -> ProducerFencedError:
        """Take nothing more, and fail all that is undecided; keeps the first cause.

        The client would report what still waits in its queue only when that times out, minutes later.
        """
        with self._lock:
            if self._fence_error is not None:
                return self._fence_error
            known = kafka_error(cause) if cause is not None else None
            need = f"Write on the topic {topic}"
            reason = (
                describe(known, need) if known is not None else str(cause) or "the broker took nothing for a minute"
            )
            text = (
                f"the producer {self.name} could not {action}: {reason}. Nothing it appended after its last "
                "acknowledgement counts: make a new producer and go on from there"
            )
            fence_error = self._fence_error = ProducerFencedError(self._errors.clean(text))
            undecided = list(self._undecided)
        logger.error("%s", fence_error)
        for ack in undecided:
            self._decide(ack, fence_error)
        return fence_error

    def _decide(self, ack: KafkaAck, error: LogError | None) -> None:
        ack.decide(error)
        with self._lock:
            self._undecided.discard(ack)
            if not self._undecided:
                self._all_decided.notify_all()

    def _on_client_error(self, error: KafkaError) -> None:
        self._observe(error)
        if error.fatal():
            self._fence("go on", KafkaException(error))

    def _serve(self) -> None:
        try:
            self._client.list_topics(_FIRST_QUESTION, timeout=_FIRST_ANSWER_TIMEOUT_S)
        except KafkaException as error:
            self._observe(error.args[0])
        finally:
            self._connected.set()
        poll = self._client.poll
        while not self._stopping:
            try:
                if poll(_POLL_S):
                    self._progress.set()
            except KafkaException as error:  # fatal; the reports of what is lost come with the next calls
                self._fence("go on", error)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was appended is decided; true if it is."""
        with self._lock:
            return self._all_decided.wait_for(lambda: not self._undecided, timeout_s)

    def close(self) -> None:
        """Flush for up to 2 s; what is undecided then fails (it may or may not be in the log)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # The client's own close waits for all it holds, and what a fenced one holds never goes.
        if self._fence_error is not None or not self.flush(_CLOSE_FLUSH_S):
            self._client.purge()
            self.flush(_CLOSE_PURGE_S)
        self._stopping = True
        self._thread.join()
        with self._lock:
            left = list(self._undecided)
        for ack in left:
            self._decide(ack, LogError(f"the producer {self.name} was closed before the records were acknowledged"))
        self._client.close()


def _framed(record: NewRecord, schema_ids: SchemaIds) -> NewRecord:
    ids = schema_ids.get(record.topic)
    if ids is None or record.value is None:
        return record
    value, headers = framed(record.value, record.headers, ids)
    return record._replace(value=value, headers=headers)
