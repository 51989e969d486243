"""Avro schemas derived from the record structs, so that there is one source for both.

``python -m perdure_schemas.avro`` writes the ``.avsc`` files that other languages use; a test fails when they differ
from the structs. Called by the codec and by the release routine.
"""

from __future__ import annotations

import json
import types
import typing
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from perdure_schemas import records
from perdure_schemas.records import Record, avro_name

SCHEMA_FOLDER = Path(__file__).parent / "avsc"

#: Types that stand alone as a record's value, or as opaque bytes inside another record.
TOP_LEVEL: tuple[type[Record], ...] = (
    records.Command,
    records.HistoryRecord,
    records.OwnerMark,
    records.TaskRecord,
    records.WorkflowTask,
    records.QueryTask,
    records.ActivityTask,
    records.TimerRecord,
    records.WorkerHeartbeat,
    records.WorkerStopped,
    records.Dispatch,
    records.Reply,
    records.ExecutionSummary,
    records.DeploymentRouting,
    records.DeploymentVersionSeen,
    records.DeadLetter,
    records.ReadRequest,
    records.TaskQueueConfig,
)

_PRIMITIVES: dict[Any, str] = {
    str: "string",
    int: "long",
    float: "double",
    bool: "boolean",
    bytes: "bytes",
    type(None): "null",
}


@cache
def field_types(record: type[Record]) -> dict[str, Any]:
    """The resolved type of each field of a struct."""
    return typing.get_type_hints(record)


def schema_of(record: type[Record]) -> dict[str, Any]:
    """The Avro schema of a struct: a record whose fields have the struct's names, order, types and defaults."""
    return typing.cast("dict[str, Any]", _schema(record, set()))


def _schema(kind: Any, named: set[str]) -> Any:
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    origin = typing.get_origin(kind)
    if origin is list:
        return {"type": "array", "items": _schema(typing.get_args(kind)[0], named)}
    if origin is dict:
        return {"type": "map", "values": _schema(typing.get_args(kind)[1], named)}
    if origin in (types.UnionType, typing.Union):
        # Null first, so that a default of null is legal.
        members = sorted(typing.get_args(kind), key=lambda member: member is not type(None))
        return [_schema(member, named) for member in members]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "string"
    if isinstance(kind, type) and issubclass(kind, Record):
        return _record(kind, named)
    raise TypeError(f"no Avro type for {kind!r}")


def _record(record: type[Record], named: set[str]) -> Any:
    full_name = avro_name(record.__name__)
    if full_name in named:
        return full_name
    named.add(full_name)
    fields = []
    hints = field_types(record)
    for info in msgspec.structs.fields(record):
        entry: dict[str, Any] = {"name": info.name, "type": _schema(hints[info.name], named)}
        if info.default is not msgspec.NODEFAULT:
            entry["default"] = _default(info.default)
        elif info.default_factory is not msgspec.NODEFAULT:
            entry["default"] = _default(info.default_factory())
        fields.append(entry)
    doc = " ".join((record.__doc__ or "").split())
    return {"type": "record", "name": full_name, "doc": doc, "fields": fields}


def _default(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")  # Avro writes bytes defaults so
    return msgspec.to_builtins(value)


def write_schemas(folder: Path = SCHEMA_FOLDER) -> None:
    """Write one ``.avsc`` file for each top-level type."""
    folder.mkdir(exist_ok=True)
    for record in TOP_LEVEL:
        text = json.dumps(schema_of(record), indent=2) + "\n"
        (folder / f"{record.__name__}.avsc").write_text(text)


if __name__ == "__main__":
    write_schemas()
