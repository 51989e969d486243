"""Deserializers: from the bytes of a record's value to what a trigger's function gets.

A deserializer is any callable from bytes to a value, sync or async. One that raises makes the record a dead letter; one
that raises :class:`RetryRecordError` is asked again later, since not the record is to blame. Called by the pipeline.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from fastavro import parse_schema, schemaless_reader

_MAGIC = 0
_HEADER_BYTES = 5


class RetryRecordError(Exception):
    """Raised by a deserializer or a trigger's function when the record may well succeed later."""


def as_bytes(data: bytes) -> bytes:
    """The value as it is."""
    return data


def as_text(data: bytes) -> str:
    """The value as UTF-8 text."""
    return data.decode()


class Json:
    """JSON, into plain values or into a type.

    Args:
        kind: A dataclass, msgspec struct, TypedDict, pydantic model or other type to make; plain values if not given.
    """

    def __init__(self, kind: Any = None) -> None:
        self._decode: Callable[[bytes], Any]
        validate = getattr(kind, "model_validate_json", None)
        if validate is not None:
            self._decode = validate
        elif kind is None:
            self._decode = msgspec.json.Decoder().decode
        else:
            self._decode = msgspec.json.Decoder(kind).decode

    def __call__(self, data: bytes) -> Any:
        """Decode.

        Raises:
            ValueError: it is no JSON, or not of the type.
        """
        return self._decode(data)


class Avro:
    """Avro without framing: every record was written with one schema.

    Args:
        schema: The schema it was written with, as a mapping or as JSON text.
    """

    def __init__(self, schema: Mapping[str, Any] | str) -> None:
        self._schema = parse_schema(json.loads(schema) if isinstance(schema, str) else dict(schema))

    def __call__(self, data: bytes) -> Any:
        """Decode.

        Raises:
            ValueError: it was not written with this schema.
        """
        return _read(data, 0, self._schema)


class Registry(Protocol):
    """What is needed of a schema registry: ``confluent_kafka.schema_registry.SchemaRegistryClient`` will do."""

    def get_schema(self, schema_id: int) -> Any:
        """The schema of an id: its JSON text, or an object that has it as ``schema_str``."""


class RegistryAvro:
    """Avro in Confluent framing: each value begins with the id of its schema in a registry.

    Args:
        registry: The registry. It is asked once for each id, in a thread. An error that it raises is taken as passing,
            unless it has a ``http_status_code`` from 400 to 499.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, Any] = {}

    async def __call__(self, data: bytes) -> Any:
        """Decode.

        Raises:
            ValueError: it is not framed, its schema is unknown, or it was not written with it.
            RetryRecordError: the registry cannot be asked now.
        """
        if len(data) < _HEADER_BYTES or data[0] != _MAGIC:
            raise ValueError("the value is not framed: it does not begin with a zero byte and a schema id")
        schema_id = int.from_bytes(data[1:_HEADER_BYTES], "big")
        schema = self._schemas.get(schema_id)
        if schema is None:
            schema = self._schemas[schema_id] = await self._fetch(schema_id)
        return _read(data, _HEADER_BYTES, schema)

    async def _fetch(self, schema_id: int) -> Any:
        try:
            found = await asyncio.to_thread(self._registry.get_schema, schema_id)
        except Exception as error:
            status = getattr(error, "http_status_code", None)
            if isinstance(status, int) and 400 <= status < 500:
                raise ValueError(f"the registry has no schema {schema_id}: {error}") from error
            raise RetryRecordError(f"the registry cannot be asked for schema {schema_id}: {error}") from error
        text = found if isinstance(found, str) else found.schema_str
        return parse_schema(json.loads(text))


def _read(data: bytes, start: int, schema: Any) -> Any:
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        value = schemaless_reader(stream, schema, None)
    except Exception as error:
        # What is raised for bytes of another schema is not documented, and of many kinds.
        raise ValueError(f"the value was not written with this Avro schema: {type(error).__name__}: {error}") from error
    if stream.read(1):
        raise ValueError("the value was not written with this Avro schema: bytes are left over")
    return value
