"""``python -m examples.recipes.confluent_framing BOOTSTRAP REGISTRY``: a topic for tools that read Confluent's framing.

Copies ``executions`` (or another topic) to ``<topic>.framed``: each record that counts, once, with a zero byte and the
registry's id of the schema in front of the body instead of the fingerprint; the body stays as it is. The key is the id
without the writer. Register the schemas before, with ``perdure topics register-schemas``.

Records and offsets are written in one transaction, so a ``read_committed`` consumer sees each record once, however
often this is killed. The marks that :class:`~examples.recipes.records.Fence` needs go with the offsets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from fastavro.schema import fingerprint, to_parsing_canonical_form

from examples.recipes.records import Fence, Schemas, plain

_RECORDS_MAX = 1_000


def headers_of(registry: Any, topic: str) -> dict[bytes, bytes]:
    """Confluent's header for each of the platform's, from what is registered for a topic."""
    found = {}
    for subject in registry.get_subjects():
        if subject.startswith(f"{topic}-io.perdure."):
            for number in registry.get_versions(subject):
                version = registry.get_version(subject, number)
                canonical = to_parsing_canonical_form(json.loads(version.schema.schema_str))
                mark = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
                found[b"\xc3\x01" + mark] = b"\0" + version.schema_id.to_bytes(4, "big")
    return found


class Framing:
    """Copies one topic, from where it was on.

    Args:
        bootstrap: Brokers.
        registry: A registry client.
        topic: The full name of the topic; the copy has ``.framed`` behind it, and must be there.
        options: More options of the clients, such as those for security.
    """

    def __init__(self, bootstrap: str, registry: Any, topic: str, options: Mapping[str, Any] | None = None) -> None:
        self._topic, self.target = topic, f"{topic}.framed"
        self._headers = headers_of(registry, topic)
        self._schemas = Schemas.of_registry(registry, topic)
        shared = {**(options or {}), "bootstrap.servers": bootstrap}
        # One process at a time: another one with this name ends the transactions of the one before.
        self._producer = Producer({**shared, "transactional.id": self.target})
        self._producer.init_transactions(60)
        self._consumer = Consumer(
            {
                **shared,
                "group.id": self.target,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        places = [TopicPartition(topic, one) for one in self._consumer.list_topics(topic, 30).topics[topic].partitions]
        committed = self._consumer.committed(places, timeout=60)
        self._fences = {one.partition: Fence(json.loads(one.metadata or "{}")) for one in committed}
        self._consumer.assign(committed)
        self._unfinished = {one.partition for one in committed}

    def copy(self, *, follow: bool = False) -> int:
        """Copy up to the end of the topic, or for ever; returns how many records were written.

        Raises:
            KafkaException: a topic cannot be read or written, or another process has taken over. KeyError: a record's
                schema is not registered.
        """
        count = 0
        while follow or self._unfinished:
            records = []
            for message in self._consumer.consume(_RECORDS_MAX, 1.0):
                error = message.error()
                if error is None:
                    records.append(message)
                    self._unfinished.add(message.partition())
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._unfinished.discard(message.partition())
                else:
                    raise KafkaException(error)
            if records:
                count += self._write(records)
        return count

    def close(self) -> None:
        """Let go of the brokers."""
        self._consumer.close()

    def _write(self, records: Sequence[Any]) -> int:
        """One transaction: what counts of the records, and where to go on."""
        self._producer.begin_transaction()
        count = sum(map(self._take, records))
        ends = {message.partition(): message.offset() + 1 for message in records}
        positions = [
            TopicPartition(self._topic, one, end, json.dumps(self._fences[one].marks)) for one, end in ends.items()
        ]
        self._producer.send_offsets_to_transaction(positions, self._consumer.consumer_group_metadata(), 60)
        self._producer.commit_transaction(60)
        return count

    def _take(self, message: Any) -> int:
        fence, key, value = self._fences[message.partition()], message.key(), message.value()
        value = None if value is None else plain(value, message.headers())
        if key.startswith(b"~mark/"):
            if value is not None:
                fence.mark(self._schemas.decode(value)[1], message.offset())
            return 0
        record_id = fence.id_of(key)
        if record_id is None:
            return 0
        framed = None if value is None else self._headers[value[:10]] + value[10:]
        _, milliseconds = message.timestamp()
        self._producer.produce(
            self.target, framed, record_id.encode(), partition=message.partition(), timestamp=milliseconds
        )
        return 1


def main() -> None:
    """Read the arguments, copy, and say how much there was."""
    parser = argparse.ArgumentParser(prog="python -m examples.recipes.confluent_framing")
    parser.add_argument("bootstrap", help="brokers, as HOST:PORT,HOST:PORT")
    parser.add_argument("registry", help="http://HOST:8081 of the schema registry")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--topic", default="executions", help="executions or history")
    parser.add_argument("--follow", action="store_true", help="go on until interrupted")
    options = parser.parse_args()
    registry = SchemaRegistryClient({"url": options.registry})
    framing = Framing(options.bootstrap, registry, f"perdure.{options.namespace}.{options.topic}")
    try:
        print(f"{framing.copy(follow=options.follow)} records written to {framing.target}")
    finally:
        framing.close()


if __name__ == "__main__":
    main()
