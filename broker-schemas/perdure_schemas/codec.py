"""Bytes of records: Avro, framed so that a reader finds the schema they were written with.

Without a registry the framing is Avro's single-object encoding (``C3 01``, the 8-byte CRC-64-AVRO fingerprint of the
writer's schema, the body). Invariant: what an earlier committed version wrote is read by this one, because the earlier
schemas stay in ``avsc/versions`` and are found by fingerprint. Called at the topic boundary only.
"""

from __future__ import annotations

import io
import json
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import fastavro
import msgspec
from fastavro._read_py import schemaless_reader as careful_reader

from perdure_schemas.avro import SCHEMA_FOLDER, TOP_LEVEL, field_types, schema_of
from perdure_schemas.decoder import reader_of
from perdure_schemas.encoder import writer_of
from perdure_schemas.records import Record, avro_name

SINGLE_OBJECT_MARKER = b"\xc3\x01"
HEADER_BYTES = len(SINGLE_OBJECT_MARKER) + 8
VERSIONS_FOLDER = SCHEMA_FOLDER / "versions"

R = TypeVar("R", bound=Record)
_Patch = Callable[[dict[str, Any]], None]


#: fastavro's reader in C recurses without looking at the stack: with a chain of causes it would end the process. No
#: record up to this size can be nested so deeply; larger ones are left to the reader in Python.
_FAST_BYTES_MAX = 4 * 1024


class DecodeError(Exception):
    """Bytes that are not a readable record. The message says why; whoever reads a topic adds where."""


class UnknownSchemaError(DecodeError):
    """A record in the platform's framing, with a schema that this version does not know."""


class _Codec:
    """Encoder and decoder of one struct type, built once."""

    __slots__ = ("_patch", "_read", "_schema", "_write", "header", "record")

    def __init__(self, record: type[Record]) -> None:
        schema = schema_of(record)
        self.record = record
        self._schema = fastavro.parse_schema(schema)
        self.header = SINGLE_OBJECT_MARKER + fingerprint(schema)
        self._patch = _patch_of(record)
        self._write = writer_of(record)
        self._read = reader_of(record)

    def encode(self, value: Record) -> bytes:
        out = bytearray(self.header)
        self._write(value, out)
        return bytes(out)

    def decode(self, data: bytes) -> Record:
        value, end = self._read(data, HEADER_BYTES)
        self._check_end(end, data)
        return typing.cast("Record", value)

    def decode_earlier(self, data: bytes, writer_schema: Any) -> Record:
        """Decode what an earlier version wrote; fastavro resolves the difference."""
        stream = io.BytesIO(data)
        stream.seek(HEADER_BYTES)
        read = fastavro.schemaless_reader if len(data) <= _FAST_BYTES_MAX else careful_reader
        plain: Any = read(
            stream, writer_schema, self._schema, return_record_name=True, return_record_name_override=True
        )
        self._check_end(stream.tell(), data)
        if self._patch is not None:
            self._patch(plain)
        return msgspec.convert(plain, self.record)

    def _check_end(self, end: int, data: bytes) -> None:
        if end < len(data):
            raise DecodeError(f"{len(data) - end} bytes are left after the {self.record.__name__}")
        if end > len(data):
            raise DecodeError(f"the {self.record.__name__} is cut off: it goes on for {end - len(data)} bytes")


def fingerprint(schema: dict[str, Any]) -> bytes:
    """The CRC-64-AVRO fingerprint of a schema's canonical form, little-endian as single-object encoding wants it."""
    canonical = fastavro.schema.to_parsing_canonical_form(typing.cast("Any", schema))
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def encode(value: Record) -> bytes:
    """Encode a top-level record."""
    return _codec(type(value)).encode(value)


def decode(data: bytes | None) -> Record:
    """Decode any top-level record; its type follows from the framing.

    Raises:
        DecodeError: the bytes are no record of the platform, or are damaged.
    """
    if data is None:
        raise DecodeError("there is no value where a record was expected")
    header = data[:HEADER_BYTES]
    codec = _by_header().get(header)
    try:
        if codec is not None:
            return codec.decode(data)
        earlier = _earlier_versions().get(header)
        if earlier is not None:
            return earlier[0].decode_earlier(data, earlier[1])
    except DecodeError:
        raise
    except Exception as error:  # damaged bytes raise many kinds
        raise DecodeError(f"the record is damaged: {type(error).__name__}: {error}") from error
    if header[:2] != SINGLE_OBJECT_MARKER:
        raise DecodeError(f"not an Avro single-object record: it starts with {data[:4].hex() or 'nothing'}")
    raise UnknownSchemaError(
        f"unknown schema fingerprint {header[2:].hex()}: a newer version of perdure wrote it; upgrade this one"
    )


def decode_as(data: bytes | None, record: type[R]) -> R:
    """Decode a record that must be of a given type.

    Raises:
        DecodeError: as :func:`decode`, or the record is of another type.
    """
    value = decode(data)
    if not isinstance(value, record):
        raise DecodeError(f"a {type(value).__name__} stands where a {record.__name__} was expected")
    return value


@cache
def _codec(record: type[Record]) -> _Codec:
    if record not in TOP_LEVEL:
        raise TypeError(f"{record.__name__} is not a top-level record")
    return _Codec(record)


@cache
def _by_header() -> dict[bytes, _Codec]:
    return {codec.header: codec for codec in map(_codec, TOP_LEVEL)}


@cache
def _earlier_versions() -> dict[bytes, tuple[_Codec, Any]]:
    """Writer schemas of earlier versions by framing header."""
    by_name = {record.__name__: record for record in TOP_LEVEL}
    found: dict[bytes, tuple[_Codec, Any]] = {}
    for path in sorted(VERSIONS_FOLDER.glob("*/*.avsc")):
        schema = json.loads(path.read_text())
        header = SINGLE_OBJECT_MARKER + fingerprint(schema)
        found[header] = (_codec(by_name[path.stem]), fastavro.parse_schema(schema))
    return found


# fastavro returns a member of a union as (name, fields); msgspec wants the name inside. The functions below build, once
# for each struct, the shortest walk that moves it there; structs without unions are not walked at all.


@cache
def _patch_of(record: type[Record]) -> _Patch | None:
    patches: list[tuple[str, Callable[[Any], Any]]] = []
    for name, kind in field_types(record).items():
        change = _change_of(kind, record)
        if change is not None:
            patches.append((name, change))
    if not patches:
        return None

    def patch(fields: dict[str, Any]) -> None:
        for name, change in patches:
            value = fields[name]
            if value is not None:
                fields[name] = change(value)

    return patch


def _change_of(kind: Any, inside: type[Record]) -> Callable[[Any], Any] | None:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return _union_change(members) if len(members) > 1 else _change_of(members[0], inside)
    if origin is list:
        change = _change_of(typing.get_args(kind)[0], inside)
        return None if change is None else lambda values: [change(value) for value in values]
    if isinstance(kind, type) and issubclass(kind, Record) and kind is not inside:
        patch = _patch_of(kind)
        return None if patch is None else _in_place(patch)
    return None


def _in_place(patch: _Patch) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        patch(value)
        return value

    return change


def _union_change(members: list[type[Record]]) -> Callable[[Any], Any]:
    patches = {avro_name(member.__name__): _patch_of(member) for member in members}

    def change(value: Any) -> Any:
        name, fields = value
        patch = patches[name]
        if patch is not None:
            patch(fields)
        fields["-type"] = name
        return fields

    return change
