"""Writes structs as Avro, by one function for each struct type, generated once from its fields.

Why not ``fastavro.schemaless_writer``: it wants dictionaries, and finds the branch of a union by trying one after the
other; measured, a command took 25 to 58 µs that way and takes 2 to 4 µs this way, and every hop of the platform writes
a record. Reading stays with fastavro. Invariant: the bytes are those fastavro would write (a property test compares
them). Called by the codec only.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from perdure_schemas.avro import field_types
from perdure_schemas.records import Record

Writer = Callable[[Any, bytearray], None]

_SMALL_MAX = 2_048


@lru_cache(maxsize=4_096)
def varint(number: int) -> bytes:
    """A long in Avro's zig-zag variable-length form.

    Cached, since the large ones are times, and one time stands in many records of a decision.
    """
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


#: Lengths, ids and counts are small numbers nearly always.
_SMALL = [varint(number) for number in range(_SMALL_MAX)]
_pack_double = struct.Struct("<d").pack


class _Source:
    """The text of the generated functions, and the names they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tables: list[dict[type[Record], Any]] = []
        self.names: dict[str, Any] = {"SMALL": _SMALL, "varint": varint, "pack_double": _pack_double}
        self._done: set[type[Record]] = set()
        self._temporaries = 0

    def write_record(self, record: type[Record]) -> str:
        """Add the writer of a struct and of all it holds; returns the function's name."""
        function = f"write_{record.__name__}"
        if record in self._done:
            return function
        self._done.add(record)
        hints = field_types(record)
        body: list[str] = []
        for info in msgspec.structs.fields(record):
            self._value(hints[info.name], f"v.{info.name}", "    ", body)
        self.lines += [f"def {function}(v, out):", *(body or ["    pass"])]
        return function

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _value(self, kind: Any, expression: str, indent: str, body: list[str]) -> None:
        origin = typing.get_origin(kind)
        if origin in (types.UnionType, typing.Union):
            self._union(typing.get_args(kind), expression, indent, body)
        elif origin is list:
            self._block(expression, indent, body, lambda item, deeper: self._items(kind, item, deeper, body))
        elif origin is dict:
            self._block(expression, indent, body, lambda item, deeper: self._entries(kind, item, deeper, body))
        elif isinstance(kind, type) and issubclass(kind, Record):
            body.append(f"{indent}{self.write_record(kind)}({expression}, out)")
        elif kind is str or (isinstance(kind, type) and issubclass(kind, StrEnum)):
            self._bytes(f"{expression}.encode()", indent, body)
        elif kind is bytes:
            self._bytes(expression, indent, body)
        elif kind is bool:
            body.append(f"{indent}out.append(1 if {expression} else 0)")
        elif kind is int:
            body.append(f"{indent}{self._long(expression, indent, body)}")
        elif kind is float:
            body.append(f"{indent}out += pack_double({expression})")
        else:
            raise TypeError(f"no Avro writer for {kind!r}")

    def _long(self, expression: str, indent: str, body: list[str]) -> str:
        name = self._temporary()
        body.append(f"{indent}{name} = {expression}")
        return f"out += SMALL[{name}] if 0 <= {name} < {_SMALL_MAX} else varint({name})"

    def _bytes(self, expression: str, indent: str, body: list[str]) -> None:
        name = self._temporary()
        body.append(f"{indent}{name} = {expression}")
        length = self._long(f"len({name})", indent, body)
        body += [f"{indent}{length}", f"{indent}out += {name}"]

    def _block(self, expression: str, indent: str, body: list[str], inside: Callable[[str, str], None]) -> None:
        """An array or a map: one block with its count, unless it is empty, and the end."""
        name = self._temporary()
        body += [f"{indent}{name} = {expression}", f"{indent}if {name}:"]
        count = self._long(f"len({name})", indent + "    ", body)
        body.append(f"{indent}    {count}")
        inside(name, indent + "    ")
        body.append(f"{indent}out.append(0)")

    def _items(self, kind: Any, name: str, indent: str, body: list[str]) -> None:
        item = self._temporary()
        body.append(f"{indent}for {item} in {name}:")
        self._value(typing.get_args(kind)[0], item, indent + "    ", body)

    def _entries(self, kind: Any, name: str, indent: str, body: list[str]) -> None:
        key, value = self._temporary(), self._temporary()
        body.append(f"{indent}for {key}, {value} in {name}.items():")
        self._value(str, key, indent + "    ", body)
        self._value(typing.get_args(kind)[1], value, indent + "    ", body)

    def _union(self, members: tuple[Any, ...], expression: str, indent: str, body: list[str]) -> None:
        present = [member for member in members if member is not type(None)]
        if len(present) == len(members):
            table = self._temporary()
            branches = {member: (varint(index), self.write_record(member)) for index, member in enumerate(members)}
            self.names[table] = branches
            self.tables.append(branches)
            branch, writer = self._temporary(), self._temporary()
            body += [
                f"{indent}{branch}, {writer} = {table}[type({expression})]",
                f"{indent}out += {branch}",
                f"{indent}{writer}({expression}, out)",
            ]
            return
        if len(present) != 1:
            raise TypeError(f"an optional union of several members is not written: {members}")
        name = self._temporary()
        body += [f"{indent}{name} = {expression}", f"{indent}if {name} is None:", f"{indent}    out.append(0)"]
        body += [f"{indent}else:", f"{indent}    out.append(2)"]
        self._value(present[0], name, indent + "    ", body)


def writer_of(record: type[Record]) -> Writer:
    """The function that appends a struct's Avro body to a ``bytearray``."""
    source = _Source()
    function = source.write_record(record)
    names = source.names
    exec(compile("\n".join(source.lines), f"<avro writer of {record.__name__}>", "exec"), names)  # noqa: S102 - our own text
    for table in source.tables:
        for member, (branch, name) in table.items():
            table[member] = (branch, names[name])
    writer: Writer = names[function]
    return writer
