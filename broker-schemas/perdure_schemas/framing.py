"""The wire format of schema registries, for topics that others read with their registry's own deserialisers.

A value is a zero byte, the registry's id of the writer's schema in four bytes, and the Avro body. The platform's own
readers ask no registry: the fingerprint that the id stands for goes into a header of the record, and with it the value
is again what :mod:`perdure_schemas.codec` has written, byte for byte. Invariants: a value that begins with a zero byte
and has no such header is nobody's business; what has no id stays as it is, so readers accept both forms in one topic.
Called by the Kafka adapter, at the boundary of the log.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure_schemas.codec import HEADER_BYTES, SINGLE_OBJECT_MARKER
from perdure_schemas.topics import SCHEMA_HEADER

__all__ = ["FRAME_BYTES", "MAGIC", "Headers", "SchemaIds", "framed", "unframed"]

MAGIC = b"\0"
#: The zero byte and the id.
FRAME_BYTES = 5

Headers = tuple[tuple[str, bytes], ...]
#: For each topic, by its full name, the registry's id of each schema, by its fingerprint.
SchemaIds = Mapping[str, Mapping[bytes, int]]


def framed(value: bytes, headers: Headers, ids: Mapping[bytes, int]) -> tuple[bytes, Headers]:
    """A value and the headers of its record in the registry's format; both as they are without an id for its schema."""
    mark = value[len(SINGLE_OBJECT_MARKER) : HEADER_BYTES]
    number = ids.get(mark) if value.startswith(SINGLE_OBJECT_MARKER) else None
    if number is None:
        return value, headers
    return MAGIC + number.to_bytes(4, "big") + value[HEADER_BYTES:], (*headers, (SCHEMA_HEADER, mark))


def unframed(value: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """The reverse of :func:`framed`; both as they are if the platform has not framed the value."""
    if not value.startswith(MAGIC) or len(value) < FRAME_BYTES:
        return value, headers
    mark = next((content for name, content in headers if name == SCHEMA_HEADER), None)
    if mark is None:
        return value, headers
    left = tuple(header for header in headers if header[0] != SCHEMA_HEADER)
    return SINGLE_OBJECT_MARKER + mark + value[FRAME_BYTES:], left
