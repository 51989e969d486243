"""Walks over records and replaces the payloads in them, for codecs.

Invariants: headers are left alone (they belong to interceptors), and so are search attributes (the engine reads them);
a codec gets all payloads of one record at once, in order, and must give as many back. Called where records cross the
boundary of the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from perdure_schemas.records import Payload, Record

_R = TypeVar("_R", bound=Record | list[Any])
_UNTOUCHED_FIELDS = frozenset({"header", "search_attributes"})


async def map_payloads(record: _R, change: Callable[[Sequence[Payload]], Awaitable[list[Payload]]]) -> _R:
    """The record, or the list of records, with every payload in it replaced by what ``change`` makes of it.

    Raises:
        ValueError: ``change`` gave back another number of payloads than it got.
    """
    found = list(payloads_in(record))
    if not found:
        return record
    changed = await change(found)
    if len(changed) != len(found):
        raise ValueError(
            f"the payload codec made {len(changed)} payloads of {len(found)}; it must give back as many as it gets"
        )
    replaced: _R = _replace(record, iter(changed))
    return replaced


def payloads_in(value: Any) -> Iterator[Payload]:
    """Every payload in a record, headers and search attributes left out, in the order of its fields."""
    if isinstance(value, Payload):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from payloads_in(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from payloads_in(entry)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if name not in _UNTOUCHED_FIELDS:
                yield from payloads_in(getattr(value, name))


def _replace(value: Any, changed: Iterator[Payload]) -> Any:
    if isinstance(value, Payload):
        return next(changed)
    if isinstance(value, list):
        return [_replace(entry, changed) for entry in value]
    if isinstance(value, dict):
        return {key: _replace(entry, changed) for key, entry in value.items()}
    if isinstance(value, msgspec.Struct):
        return type(value)(
            **{
                name: getattr(value, name) if name in _UNTOUCHED_FIELDS else _replace(getattr(value, name), changed)
                for name in value.__struct_fields__
            }
        )
    return value
