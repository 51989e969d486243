"""Hypothesis strategies for record types, built from the structs' own annotations.

Used by the schema tests; may be used by any test that needs arbitrary records.
"""

from __future__ import annotations

import types
import typing
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from perdure_schemas.avro import field_types
from perdure_schemas.records import Failure, Record

_LONG = st.integers(min_value=-(2**63), max_value=2**63 - 1)
_PRIMITIVES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=6),
    int: _LONG,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=6),
    type(None): st.none(),
}


@cache
def records_of(record: type[Record]) -> st.SearchStrategy[Any]:
    """Any value of a record type, with every field set."""
    hints = field_types(record)
    if record is Failure:
        # The one recursive type: a chain of at most two causes.
        plain = st.builds(record, **{name: _values(kind) for name, kind in hints.items() if name != "cause"})
        return st.lists(plain, min_size=1, max_size=3).map(_chain)
    return st.builds(record, **{name: _values(kind) for name, kind in hints.items()})


def _chain(failures: list[Failure]) -> Failure:
    chained = failures[-1]
    for failure in reversed(failures[:-1]):
        chained = msgspec.structs.replace(failure, cause=chained)
    return chained


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    origin = typing.get_origin(kind)
    if origin is list:
        return st.lists(_values(typing.get_args(kind)[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=4), _values(typing.get_args(kind)[1]), max_size=2)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([_values(member) for member in typing.get_args(kind)])
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    return st.deferred(lambda: records_of(kind))
