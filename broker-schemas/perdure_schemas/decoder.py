"""Reads structs from Avro, by one function for each struct type, generated once from its fields.

The counterpart of :mod:`perdure_schemas.encoder`, for bytes written with the current schemas; what an earlier version
wrote is read by fastavro, which resolves the difference. Measured, a command takes 3 to 7 µs this way, and took 8 to 17
with fastavro and the conversion of its dictionaries. Invariants: it reads what fastavro reads (a property test compares
them); damaged bytes raise an exception or end beyond the data, which the codec checks, and never allocate more than the
data can hold, because lengths only ever move the position forward; a struct that holds its own kind (a failure and its
causes) is read to a bounded depth. Called by the codec only.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from perdure_schemas.avro import field_types
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.records import Record

#: Takes the bytes and a position; returns the struct and the position behind it.
Reader = Callable[[bytes, int], tuple[Any, int]]

_unpack_double = struct.Struct("<d").unpack_from
#: A long has 64 bits: ten bytes at most.
_LONG_SHIFT_MAX = 63


def long_tail(data: bytes, position: int, first: int) -> tuple[int, int]:
    """The rest of a variable-length number of more than one byte, still in zig-zag form."""
    number = first & 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > _LONG_SHIFT_MAX:
            raise ValueError("a number has more than 64 bits")


class _Source:
    """The text of the generated functions, and the names they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tables: dict[str, list[str | None]] = {}
        self.names: dict[str, Any] = {
            "long_tail": long_tail,
            "unpack_double": _unpack_double,
            "LEVELS_MAX": NESTING_MAX,
        }
        self._done: set[type[Record]] = set()
        #: The structs whose readers are being written, and those of them that hold their own kind.
        self._open: list[type[Record]] = []
        self._recursive: set[type[Record]] = set()
        self._temporaries = 0

    def read_record(self, record: type[Record]) -> str:
        """Add the reader of a struct and of all it holds; returns the function's name."""
        function = f"read_{record.__name__}"
        if record in self._done:
            return function
        self._done.add(record)
        self.names[record.__name__] = record
        hints = field_types(record)
        body: list[str] = []
        arguments = []
        self._open.append(record)
        for info in msgspec.structs.fields(record):
            arguments.append(f"{info.name}={self._value(hints[info.name], '    ', body)}")
        self._open.pop()
        head = [f"def {function}(d, p):"]
        if record in self._recursive:
            head = [
                f"def {function}(d, p, level=0):",
                "    if level > LEVELS_MAX:",
                "        raise ValueError(f'it is nested more than {LEVELS_MAX} times')",
            ]
        self.lines += [*head, *body, f"    return {record.__name__}({', '.join(arguments)}), p"]
        return function

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _value(self, kind: Any, indent: str, body: list[str]) -> str:
        """Add what reads a value; returns the name it is in."""
        name = self._temporary()
        origin = typing.get_origin(kind)
        if origin in (types.UnionType, typing.Union):
            self._union(name, typing.get_args(kind), indent, body)
        elif origin is list:
            self._blocks(name, "[]", indent, body, lambda deeper: self._item(kind, name, deeper, body))
        elif origin is dict:
            self._blocks(name, "{}", indent, body, lambda deeper: self._entry(kind, name, deeper, body))
        elif isinstance(kind, type) and issubclass(kind, Record):
            level = ""
            if kind in self._open:
                self._recursive.add(kind)
                level = ", level + 1"
            body.append(f"{indent}{name}, p = {self.read_record(kind)}(d, p{level})")
        elif kind is str:
            self._bytes(name, ".decode()", indent, body)
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            self.names[f"ENUM_{kind.__name__}"] = {member.value.encode(): member for member in kind}
            self._bytes(name, "", indent, body)
            body.append(f"{indent}{name} = ENUM_{kind.__name__}[{name}]")
        elif kind is bytes:
            self._bytes(name, "", indent, body)
        elif kind is bool:
            body += [f"{indent}{name} = d[p] == 1", f"{indent}p += 1"]
        elif kind is int:
            self._zigzag(name, indent, body)
            body.append(f"{indent}{name} = ({name} >> 1) ^ -({name} & 1)")
        elif kind is float:
            body += [f"{indent}({name},) = unpack_double(d, p)", f"{indent}p += 8"]
        else:
            raise TypeError(f"no Avro reader for {kind!r}")
        return name

    def _zigzag(self, name: str, indent: str, body: list[str]) -> None:
        body += [
            f"{indent}{name} = d[p]",
            f"{indent}p += 1",
            f"{indent}if {name} > 127:",
            f"{indent}    {name}, p = long_tail(d, p, {name})",
        ]

    def _bytes(self, name: str, decoded: str, indent: str, body: list[str]) -> None:
        end = self._temporary()
        self._zigzag(end, indent, body)
        body += [
            f"{indent}if {end} & 1:",
            f"{indent}    raise ValueError('a length is negative')",
            f"{indent}{end} = p + ({end} >> 1)",
            f"{indent}{name} = d[p:{end}]{decoded}",
            f"{indent}p = {end}",
        ]

    def _blocks(self, name: str, empty: str, indent: str, body: list[str], element: Callable[[str], None]) -> None:
        """An array or a map: blocks with their counts (a negative one is followed by the size in bytes), and a zero."""
        count, size = self._temporary(), self._temporary()
        body.append(f"{indent}{name} = {empty}")
        self._zigzag(count, indent, body)
        body.append(f"{indent}while {count}:")
        deeper = indent + "    "
        body.append(f"{deeper}if {count} & 1:")
        self._zigzag(size, deeper + "    ", body)
        body += [
            f"{deeper}    {count} += 1",
            f"{deeper}if {count} >> 1 > len(d) - p:",
            f"{deeper}    raise ValueError('a block counts more elements than there are bytes')",
            f"{deeper}for _ in range({count} >> 1):",
        ]
        element(deeper + "    ")
        self._zigzag(count, deeper, body)

    def _item(self, kind: Any, name: str, indent: str, body: list[str]) -> None:
        item = self._value(typing.get_args(kind)[0], indent, body)
        body.append(f"{indent}{name}.append({item})")

    def _entry(self, kind: Any, name: str, indent: str, body: list[str]) -> None:
        key = self._value(str, indent, body)
        value = self._value(typing.get_args(kind)[1], indent, body)
        body.append(f"{indent}{name}[{key}] = {value}")

    def _union(self, name: str, members: tuple[Any, ...], indent: str, body: list[str]) -> None:
        present = [member for member in members if member is not type(None)]
        if len(present) == len(members):
            # By the zig-zag form of the branch's number, so odd ones, which would be negative, have no reader.
            table = self._temporary()
            readers: list[str | None] = []
            for member in members:
                readers += [self.read_record(member), None]
            self.tables[table] = readers
            self._zigzag(name, indent, body)
            body.append(f"{indent}{name}, p = {table}[{name}](d, p)")
            return
        if len(present) != 1:
            raise TypeError(f"an optional union of several members is not read: {members}")
        branch = self._temporary()
        body += [f"{indent}{branch} = d[p]", f"{indent}p += 1", f"{indent}if {branch} == 2:"]
        value = self._value(present[0], indent + "    ", body)
        body += [
            f"{indent}    {name} = {value}",
            f"{indent}elif {branch} == 0:",
            f"{indent}    {name} = None",
            f"{indent}else:",
            f"{indent}    raise ValueError('a union has no such branch')",
        ]


def reader_of(record: type[Record]) -> Reader:
    """The function that reads a struct from its Avro body."""
    source = _Source()
    function = source.read_record(record)
    names = source.names
    exec(compile("\n".join(source.lines), f"<avro reader of {record.__name__}>", "exec"), names)  # noqa: S102 - our own text
    for table, readers in source.tables.items():
        names[table] = tuple(None if reader is None else names[reader] for reader in readers)
    reader: Reader = names[function]
    return reader
