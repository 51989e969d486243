"""The relay on Kafka: records and position go into one transaction.

Invariants:

* each partition has a transactional id of its own, whoever carries it: its next carrier shuts the one before out, and
  only then trusts the position it reads; so a carrier that was stopped for a while writes nothing more;
* offsets are the last thing in a transaction; after any end that is not certain the producer is thrown away;
* a record that the broker will never take is found out in transactions that are aborted, so that nothing of it is seen.

A partition in which nobody emits costs neither a producer nor a transaction: its position is committed through the
group. Called through :meth:`perdure_runtime.kafka.log.KafkaLog.carrier`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as ConsumerClient
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client
from confluent_kafka import TopicPartition as ClientPartition

from perdure_runtime.kafka.ack import KafkaAck
from perdure_runtime.kafka.errors import ErrorTranslator, client_logger, describe, kafka_error
from perdure_runtime.kafka.membership import KafkaMembership
from perdure_runtime.log import LogError, LogUnavailableError, NewRecord
from perdure_runtime.relay.carrier import Position, RefusedError

__all__ = ["KafkaCarrier"]

#: How long one step of a transaction may take; the brokers end a transaction after ``options.TRANSACTION_MS_MAX``.
_STEP_S_MAX = 12.0
#: A topic that was made just now is not known everywhere at once.
_NEW_TOPIC_S = 5.0
_NEW_TOPIC_SLICE_S = 0.1
#: A topic that was missing is not waited for again so soon.
_MISSING_S = 30.0
_ADVANCE_S_MAX = 5.0
_ADVANCE_SLICE_S = 0.01
#: Errors that a record will meet whenever it is sent.
_LASTING = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._INVALID_ARG,
    }
)


class KafkaCarrier:
    """Implements :class:`perdure_runtime.relay.carrier.Carrier`.

    Args:
        group / topic: the group, and the topic whose partitions it shares.
        membership: this member of the group.
        config: makes the configuration of the producer with a transactional id.
        consumer_config: that of a consumer that only asks for offsets.
        errors: makes the port's errors.
        timeout_s: how long a question may take.
    """

    def __init__(
        self,
        group: str,
        topic: str,
        membership: KafkaMembership,
        config: Callable[[str], Mapping[str, object]],
        consumer_config: Mapping[str, object],
        errors: ErrorTranslator,
        timeout_s: float,
    ) -> None:
        self._group = group
        self._topic = topic
        self._membership = membership
        self._config = config
        self._consumer_config = consumer_config
        self._errors = errors
        self._timeout_s = timeout_s
        self._writers: dict[int, _Transactions] = {}
        #: The newest offsets that we know of.
        self._done: dict[int, int] = {}
        self._known: set[str] = set()
        #: Topics that were missing, and until when they are not waited for.
        self._missing: dict[str, float] = {}
        self._advancing: KafkaAck | None = None
        self._offsets: Any = None

    def poll(self) -> None:
        self._membership.poll()

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        found = self._membership.committed_with_notes(partitions)
        self._done.update({number: found[number][0] if number in found else -1 for number in partitions})
        return {number: Position(offset, _epoch(note)) for number, (offset, note) in found.items()}

    def advance(self, positions: Mapping[int, Position]) -> None:
        self._done.update({number: position.offset for number, position in positions.items()})
        self._membership.notes.update({number: str(position.epoch) for number, position in positions.items()})
        self._advancing = self._membership.commit({number: position.offset for number, position in positions.items()})

    def carry(self, partition: int, records: Sequence[NewRecord], position: Position) -> None:
        self._settle_advance()
        writer = self._writers.get(partition)
        try:
            if writer is None:
                writer = self._writers[partition] = self._open(partition)
            self._refuse_missing(writer, records)
            writer.write(records, ClientPartition(self._topic, partition, position.offset, str(position.epoch)))
            self._done[partition] = position.offset
        except RefusedError:
            raise
        except Exception as error:
            broken = self._writers.pop(partition, None)
            if broken is not None:
                broken.close()
            if isinstance(error, LogError):
                raise
            what = f"write what partition {partition} of {self._topic} emits"
            raise self._errors.translate(what, error, f"Write on the transactional id {self._id(partition)}") from None

    def leave(self) -> None:
        try:
            self._membership.leave()
        finally:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()
            if self._offsets is not None:
                self._offsets.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _id(self, partition: int) -> str:
        return f"{self._group}.{partition}"

    def _settle_advance(self) -> None:
        """A commit of an earlier position that is repeated must not overtake a transaction."""
        advancing, self._advancing = self._advancing, None
        if advancing is None:
            return
        deadline_s = time.monotonic() + _ADVANCE_S_MAX
        while not advancing.wait(_ADVANCE_SLICE_S):
            if time.monotonic() > deadline_s:
                raise LogUnavailableError(f"the group {self._group} did not take a commit in {_ADVANCE_S_MAX:g} s")
            self._membership.poll()

    def _open(self, partition: int) -> _Transactions:
        """Shut out whoever carried the partition before, and make sure that it is done no further than we believe."""
        if self._offsets is None:
            self._offsets = ConsumerClient({**self._consumer_config, "logger": client_logger})
        writer = _Transactions(self._id(partition), self._config(self._id(partition)), self._errors, self._offsets)
        try:
            asked = [ClientPartition(self._topic, partition)]
            found = self._offsets.committed(asked, timeout=self._timeout_s)[0]
            if found.error is not None:
                raise KafkaException(found.error)
            if found.offset > self._done.get(partition, -1):
                raise LogError(
                    f"partition {partition} of {self._topic} was carried by somebody else up to {found.offset}: this"
                    " relay begins again from there"
                )
        except BaseException:
            writer.close()
            raise
        return writer

    def _refuse_missing(self, writer: _Transactions, records: Sequence[NewRecord]) -> None:
        missing: dict[str, str] = {}
        for topic in {record.topic for record in records} - self._known:
            reason = self._look_up(writer, topic)
            if reason:
                missing[topic] = reason
            else:
                self._known.add(topic)
                self._missing.pop(topic, None)
        if missing:
            reasons = {i: missing[record.topic] for i, record in enumerate(records) if record.topic in missing}
            raise RefusedError(reasons)

    def _look_up(self, writer: _Transactions, topic: str) -> str:
        """Why there is nothing to write to; empty if there is."""
        now_s = time.monotonic()
        wait_until_s = now_s if self._missing.get(topic, 0.0) > now_s else now_s + _NEW_TOPIC_S
        while True:
            reason = writer.look_up(topic, self._timeout_s)
            now_s = time.monotonic()
            if not reason:
                return ""
            if now_s >= wait_until_s:
                self._missing[topic] = now_s + _MISSING_S
                return self._errors.clean(reason)
            writer.pause(_NEW_TOPIC_SLICE_S)


class _Transactions:
    """The producer of one partition."""

    def __init__(self, name: str, config: Mapping[str, object], errors: ErrorTranslator, offsets: Any) -> None:
        self._errors = errors
        self._group_metadata = offsets.consumer_group_metadata()
        observe = errors.observe(f"transactions of {name}")
        self._client: Any = Client({**config, "logger": client_logger, "error_cb": observe})
        self._client.init_transactions(_STEP_S_MAX)

    def look_up(self, topic: str, timeout_s: float) -> str:
        """Why a topic cannot be written to, as far as the brokers say; empty if nothing is known."""
        found = self._client.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is None:
            return ""
        if found.error.code() in _LASTING:
            return f"the topic {topic} cannot be written to: {describe(found.error, f'Write on the topic {topic}')}"
        raise KafkaException(found.error)

    def pause(self, seconds: float) -> None:
        """Wait, while the client library works."""
        self._client.poll(seconds)

    def write(self, records: Sequence[NewRecord], position: Any) -> None:
        """One transaction.

        Raises:
            RefusedError: see the port. KafkaException, LogError: the end of the transaction is uncertain.
        """
        failed = self._begin(records)
        if failed:
            self._client.abort_transaction(_STEP_S_MAX)
            raise RefusedError(self._at_fault(records, failed))
        self._client.send_offsets_to_transaction([position], self._group_metadata, _STEP_S_MAX)
        self._client.commit_transaction(_STEP_S_MAX)

    def _at_fault(self, records: Sequence[NewRecord], failed: Mapping[int, str]) -> dict[int, str]:
        """The broker refuses a batch for one of its records: each is tried alone, and taken back."""
        if len(failed) == 1:
            return dict(failed)
        reasons = {}
        for index in failed:
            alone = self._begin([records[index]])
            self._client.abort_transaction(_STEP_S_MAX)
            if alone:
                reasons[index] = alone[0]
        # If each is taken alone, what refused them is over, and a fresh transaction will show it.
        if not reasons:
            raise LogUnavailableError(f"records were refused together, but not alone: {next(iter(failed.values()))}")
        return reasons

    def _begin(self, records: Sequence[NewRecord]) -> dict[int, str]:
        """Begin a transaction and send records; which of them the broker refused for good, and why."""
        refused: dict[int, str] = {}
        uncertain: list[KafkaError] = []

        def delivered(index: int, error: KafkaError | None) -> None:
            if error is None:
                return
            if error.code() in _LASTING:
                topic = records[index].topic
                text = describe(error, f"Write on the topic {topic}")
                refused[index] = self._errors.clean(f"the topic {topic} does not take the record: {text}")
            else:
                uncertain.append(error)

        client = self._client
        client.begin_transaction()
        for index, (topic, partition, key, value, timestamp_ms, headers) in enumerate(records):

            def on_delivery(error: KafkaError | None, _: Any, index: int = index) -> None:
                delivered(index, error)

            try:
                client.produce(topic, value, key, partition, on_delivery, timestamp=timestamp_ms, headers=list(headers))
            except KafkaException as exception:
                delivered(index, kafka_error(exception))
            if not index % 1_000:
                client.poll(0)
        if client.flush(_STEP_S_MAX):
            raise LogUnavailableError(f"Kafka did not take {len(records)} records in {_STEP_S_MAX:g} s")
        if uncertain and not refused:
            raise KafkaException(uncertain[0])
        return refused

    def close(self) -> None:
        """Throw it away; what is not committed is aborted by whoever comes next, or by the brokers after a while."""
        self._client.purge()
        self._client.close()


def _epoch(note: str) -> int:
    """The epoch in what was committed with an offset; -1 if somebody else has moved the group's offset."""
    return int(note) if note.isdecimal() else -1
