"""Reading the platform's topics with confluent-kafka, fastavro and the ``.avsc`` files alone.

Three things a reader needs: the schema that a value was written with (:class:`Schemas`), which records count
(:class:`Fence`), and all of them up to now (:func:`read`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from fastavro.schema import fingerprint, to_parsing_canonical_form

FOLDER = Path(__file__).parents[2] / "broker-schemas" / "perdure_schemas" / "avsc"


class Schemas:
    """The schemas that values name by their fingerprints.

    Args:
        schemas: As JSON objects; those of all versions whose records may stand in the topics.
    """

    def __init__(self, schemas: Iterable[dict[str, Any]]) -> None:
        self._by_header: dict[bytes, tuple[str, Any]] = {}
        for schema in schemas:
            mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
            name = schema["name"].rpartition(".")[2]
            self._by_header[b"\xc3\x01" + mark] = (name, fastavro.parse_schema(schema))

    @classmethod
    def of_folder(cls, folder: Path = FOLDER) -> Schemas:
        """Those of a folder of ``.avsc`` files, with its ``versions``."""
        return cls(json.loads(path.read_text()) for path in sorted(folder.rglob("*.avsc")))

    @classmethod
    def of_registry(cls, registry: Any, topic: str) -> Schemas:
        """Those that ``perdure topics register-schemas`` has registered for a topic.

        Args:
            registry: A ``confluent_kafka.schema_registry.SchemaRegistryClient``.
            topic: The full name of the topic.
        """
        subjects = [subject for subject in registry.get_subjects() if subject.startswith(f"{topic}-io.perdure.")]
        versions = [(subject, version) for subject in subjects for version in registry.get_versions(subject)]
        return cls(json.loads(registry.get_version(*one).schema.schema_str) for one in versions)

    def decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """The name of a record, and its fields. A member of a union is a pair of its name and its fields.

        Raises:
            KeyError: the value was written with another schema. ValueError and others: it is damaged.
        """
        name, schema = self._by_header[value[:10]]
        fields: Any = fastavro.schemaless_reader(
            io.BytesIO(value[10:]), schema, None, return_record_name=True, return_record_name_override=True
        )
        return name, fields


def plain(value: bytes, headers: Iterable[tuple[str, bytes]] | None) -> bytes:
    """A value as :class:`Schemas` reads it, if an engine with a schema registry has framed it, too.

    Such a value begins with a zero byte and the registry's id; the fingerprint is in a header.
    """
    if not value.startswith(b"\0"):
        return value
    return b"\xc3\x01" + dict(headers or ())["perdure-schema"] + value[5:]


class Fence:
    """Tells which records of a partition count.

    Keys end in ``@<source partition>.<epoch>``. A new owner writes a mark; what an older owner still writes behind it
    is void, and stands there again as written by the new one. ``marks`` is all there is to keep for going on later.
    """

    def __init__(self, marks: Mapping[str, int] | None = None) -> None:
        self.marks = dict(marks or {})

    def mark(self, mark: dict[str, Any], offset: int) -> None:
        """An ``OwnerMark`` stands at this offset; in its owner's own topic that is its epoch."""
        epoch = offset if mark["epoch"] < 0 else mark["epoch"]
        self.marks[mark["source"]] = max(epoch, self.marks.get(mark["source"], -1))

    def id_of(self, key: bytes) -> str | None:
        """The id in a key, or ``None`` if the record is void."""
        record_id, _, writer = key.decode().rpartition("@")
        partition, _, epoch = writer.partition(".")
        return record_id if int(epoch) >= self.marks.get(f"history/{partition}", -1) else None


class Change(NamedTuple):
    """A record that counts: ``fields`` is ``None`` where ``id`` was deleted."""

    partition: int
    offset: int
    id: str
    fields: dict[str, Any] | None


class Reading:
    """The changes in ``history`` or ``executions``, from the beginning or from where one was.

    Args:
        bootstrap: Brokers.
        topic: The full name of the topic.
        schemas: See :class:`Schemas`.
        positions: For each partition its next offset and the marks of its fence, as in :attr:`positions`.
        options: More options of the client, such as those for security.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        schemas: Schemas,
        positions: Mapping[int, tuple[int, Mapping[str, int]]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._schemas = schemas
        self._consumer = Consumer(
            {
                "group.id": "recipes",  # the client wants one; nothing is committed to it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                **(options or {}),
                "bootstrap.servers": bootstrap,
            }
        )
        found = self._consumer.list_topics(topic, timeout=30).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        start = positions or {}
        self._fences = {one: Fence(start[one][1] if one in start else None) for one in found.partitions}
        self._next = {one: start[one][0] if one in start else OFFSET_BEGINNING for one in found.partitions}
        self._consumer.assign([TopicPartition(topic, one, offset) for one, offset in self._next.items()])

    @property
    def positions(self) -> dict[int, tuple[int, dict[str, int]]]:
        """Where to go on after what was read, for each partition of which anything was."""
        return {one: (offset, self._fences[one].marks) for one, offset in self._next.items() if offset >= 0}

    def changes(self, *, follow: bool = False, batch: int = 1_000) -> Iterator[list[Change]]:
        """The changes in batches, up to the end of the topic, or for ever.

        Raises:
            KafkaException: the topic cannot be read. KeyError: a record was written with an unknown schema.
        """
        unfinished = set(self._next)
        while follow or unfinished:
            found = []
            for message in self._consumer.consume(batch, 1.0):
                error = message.error()
                if error is None:
                    unfinished.add(message.partition())
                    found += self._take(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition())
                else:
                    raise KafkaException(error)
            if found:
                yield found

    def close(self) -> None:
        """Let go of the brokers."""
        self._consumer.close()

    def _take(self, message: Any) -> Iterator[Change]:
        fence, key, value = self._fences[message.partition()], message.key(), message.value()
        value = None if value is None else plain(value, message.headers())
        self._next[message.partition()] = message.offset() + 1
        if key.startswith(b"~mark/"):
            if value is not None:
                fence.mark(self._schemas.decode(value)[1], message.offset())
            return
        record_id = fence.id_of(key)
        if record_id is not None:
            fields = None if value is None else self._schemas.decode(value)[1]
            yield Change(message.partition(), message.offset(), record_id, fields)
