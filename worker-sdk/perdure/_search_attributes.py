"""Search attributes: typed values a run is found by. Names are those of ``temporalio.common``.

Invariants: a value always travels with its type (in the payload's metadata), so whoever reads it needs no table of
types; values are not seen by payload codecs, since they must stay readable to be searched. Re-exported by
:mod:`perdure.common`; used by the client and by the workflow runtime.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from itertools import pairwise
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import Payload

__all__ = [
    "SearchAttributeIndexedValueType",
    "SearchAttributeKey",
    "SearchAttributePair",
    "SearchAttributeUpdate",
    "TypedSearchAttributes",
    "decode_search_attributes",
    "encode_search_attributes",
    "encode_updates",
]

_ValueT = TypeVar("_ValueT", str, int, float, bool, datetime, Sequence[str])
_TYPE = "type"


class SearchAttributeIndexedValueType(IntEnum):
    """How a search attribute is indexed."""

    TEXT = 1
    KEYWORD = 2
    INT = 3
    DOUBLE = 4
    BOOL = 5
    DATETIME = 6
    KEYWORD_LIST = 7


#: Type → its name in a payload's metadata, the type of its values, and that type as Python checks it.
_TYPES: dict[SearchAttributeIndexedValueType, tuple[str, Any, type]] = {
    SearchAttributeIndexedValueType.TEXT: ("Text", str, str),
    SearchAttributeIndexedValueType.KEYWORD: ("Keyword", str, str),
    SearchAttributeIndexedValueType.INT: ("Int", int, int),
    SearchAttributeIndexedValueType.DOUBLE: ("Double", float, float),
    SearchAttributeIndexedValueType.BOOL: ("Bool", bool, bool),
    SearchAttributeIndexedValueType.DATETIME: ("Datetime", datetime, datetime),
    SearchAttributeIndexedValueType.KEYWORD_LIST: ("KeywordList", Sequence[str], Sequence),
}
_BY_NAME = {name: kind for kind, (name, _, _) in _TYPES.items()}


class SearchAttributeKey(ABC, Generic[_ValueT]):
    """The name and the type of a search attribute. Made by the ``for_…`` functions."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name."""

    @property
    @abstractmethod
    def indexed_value_type(self) -> SearchAttributeIndexedValueType:
        """How it is indexed."""

    @property
    @abstractmethod
    def value_type(self) -> type[_ValueT]:
        """The type of its values."""

    @property
    @abstractmethod
    def origin_value_type(self) -> type:
        """:attr:`value_type` as ``isinstance`` takes it."""

    def value_set(self, value: _ValueT) -> SearchAttributeUpdate[_ValueT]:
        """An update that sets it."""
        return _Update(self, value)

    def value_unset(self) -> SearchAttributeUpdate[_ValueT]:
        """An update that removes it."""
        return _Update(self, None)

    @staticmethod
    def for_text(name: str) -> SearchAttributeKey[str]:
        """A text, searched by its words."""
        return _Key(name, SearchAttributeIndexedValueType.TEXT)

    @staticmethod
    def for_keyword(name: str) -> SearchAttributeKey[str]:
        """A text, searched as a whole."""
        return _Key(name, SearchAttributeIndexedValueType.KEYWORD)

    @staticmethod
    def for_int(name: str) -> SearchAttributeKey[int]:
        """A whole number."""
        return _Key(name, SearchAttributeIndexedValueType.INT)

    @staticmethod
    def for_float(name: str) -> SearchAttributeKey[float]:
        """A number."""
        return _Key(name, SearchAttributeIndexedValueType.DOUBLE)

    @staticmethod
    def for_bool(name: str) -> SearchAttributeKey[bool]:
        """True or false."""
        return _Key(name, SearchAttributeIndexedValueType.BOOL)

    @staticmethod
    def for_datetime(name: str) -> SearchAttributeKey[datetime]:
        """A time; it must be aware."""
        return _Key(name, SearchAttributeIndexedValueType.DATETIME)

    @staticmethod
    def for_keyword_list(name: str) -> SearchAttributeKey[Sequence[str]]:
        """Several keywords."""
        return _Key(name, SearchAttributeIndexedValueType.KEYWORD_LIST)


@dataclass(frozen=True)
class _Key(SearchAttributeKey[_ValueT]):
    _name: str
    _kind: SearchAttributeIndexedValueType

    @property
    def name(self) -> str:
        return self._name

    @property
    def indexed_value_type(self) -> SearchAttributeIndexedValueType:
        return self._kind

    @property
    def value_type(self) -> type[_ValueT]:
        value_type: type[_ValueT] = _TYPES[self._kind][1]
        return value_type

    @property
    def origin_value_type(self) -> type:
        return _TYPES[self._kind][2]


class SearchAttributePair(NamedTuple, Generic[_ValueT]):
    """A key and its value."""

    key: SearchAttributeKey[_ValueT]
    value: _ValueT


class SearchAttributeUpdate(ABC, Generic[_ValueT]):
    """A change of one search attribute: a new value, or ``None`` to remove it."""

    @property
    @abstractmethod
    def key(self) -> SearchAttributeKey[_ValueT]:
        """What is changed."""

    @property
    @abstractmethod
    def value(self) -> _ValueT | None:
        """The new value; ``None`` to remove it."""


@dataclass(frozen=True)
class _Update(SearchAttributeUpdate[_ValueT]):
    _key: SearchAttributeKey[_ValueT]
    _value: _ValueT | None

    @property
    def key(self) -> SearchAttributeKey[_ValueT]:
        return self._key

    @property
    def value(self) -> _ValueT | None:
        return self._value


@dataclass(frozen=True)
class TypedSearchAttributes(Collection[SearchAttributePair[Any]]):
    """Search attributes with their types.

    Attributes:
        search_attributes: The pairs.

    Raises:
        ValueError: two keys have the same name.
    """

    search_attributes: Sequence[SearchAttributePair[Any]] = field(default_factory=list)

    #: None at all.
    empty: ClassVar[TypedSearchAttributes]

    def __post_init__(self) -> None:
        """Sort by name, and refuse a name that stands twice."""
        pairs = sorted(self.search_attributes, key=lambda pair: pair.key.name)
        for first, second in pairwise(pairs):
            if first.key.name == second.key.name:
                raise ValueError(f"search attribute {first.key.name!r} is given twice")
        object.__setattr__(self, "search_attributes", pairs)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.search_attributes)

    def __getitem__(self, key: SearchAttributeKey[_ValueT]) -> _ValueT:
        """The value of a key.

        Raises:
            KeyError: there is none.
        """
        for pair in self.search_attributes:
            if pair.key == key:
                value: _ValueT = pair.value
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[SearchAttributePair[Any]]:
        """The pairs, by name."""
        return iter(self.search_attributes)

    def __contains__(self, key: object) -> bool:
        """Whether there is a value for a key."""
        return any(pair.key == key for pair in self.search_attributes)

    def get(self, key: SearchAttributeKey[_ValueT], default: Any | None = None) -> Any:
        """The value of a key, or ``default``."""
        return next((pair.value for pair in self.search_attributes if pair.key == key), default)

    def updated(self, *search_attributes: SearchAttributePair[Any]) -> TypedSearchAttributes:
        """These with some set anew."""
        pairs = {pair.key.name: pair for pair in (*self.search_attributes, *search_attributes)}
        return TypedSearchAttributes(list(pairs.values()))


TypedSearchAttributes.empty = TypedSearchAttributes()


def encode_search_attributes(attributes: TypedSearchAttributes | None) -> dict[str, Payload]:
    """Search attributes as they stand in the log.

    Raises:
        TypeError: they are not :class:`TypedSearchAttributes`, or a value does not have its key's type.
        ValueError: a time has no time zone.
    """
    if attributes is None:
        return {}
    if not isinstance(attributes, TypedSearchAttributes):
        raise TypeError(
            f"search_attributes must be TypedSearchAttributes, not {type(attributes).__name__}: "
            "TypedSearchAttributes([SearchAttributePair(key, value), ...])"
        )
    return {pair.key.name: _encode(pair.key, pair.value) for pair in attributes}


def encode_updates(updates: Iterable[SearchAttributeUpdate[Any]]) -> tuple[dict[str, Payload], list[str]]:
    """What updates set, and what they remove.

    Raises:
        TypeError: one is no :class:`SearchAttributeUpdate`, or its value does not have its key's type.
    """
    upserted: dict[str, Payload] = {}
    removed: list[str] = []
    for update in [updates] if isinstance(updates, Mapping) else updates:
        if not isinstance(update, SearchAttributeUpdate):
            raise TypeError(
                f"a search attribute update must come from SearchAttributeKey.value_set or value_unset, not be a "
                f"{type(update).__name__}"
            )
        name = update.key.name
        upserted.pop(name, None)
        if name in removed:
            removed.remove(name)
        if update.value is None:
            removed.append(name)
        else:
            upserted[name] = _encode(update.key, update.value)
    return upserted, removed


def decode_search_attributes(payloads: Mapping[str, Payload]) -> TypedSearchAttributes:
    """The search attributes of a record. What this version cannot read is left out: the engine never looks at them, so
    a damaged one must not spoil a list for everybody."""
    pairs: list[SearchAttributePair[Any]] = []
    for name, payload in payloads.items():
        kind = _BY_NAME.get(payload.metadata.get(_TYPE, b"").decode(errors="replace"))
        if kind is None:
            continue
        try:
            value = _decode(kind, payload.data)
        except (ValueError, TypeError, OverflowError):
            continue
        key: SearchAttributeKey[Any] = _Key(name, kind)
        pairs.append(SearchAttributePair(key, value))
    return TypedSearchAttributes(pairs)


def _decode(kind: SearchAttributeIndexedValueType, data: bytes) -> Any:
    if is_too_deep(data):
        raise ValueError("it is nested too deeply")
    value = json.loads(data)
    if kind is SearchAttributeIndexedValueType.DATETIME:
        return datetime.fromisoformat(value)
    if kind is SearchAttributeIndexedValueType.DOUBLE:
        return float(value)
    name, _, checked_type = _TYPES[kind]
    if not isinstance(value, checked_type):
        raise TypeError(f"it is no {name}")
    return value


def _encode(key: SearchAttributeKey[Any], value: Any) -> Payload:
    kind = key.indexed_value_type
    name, _, checked_type = _TYPES[kind]
    fits = isinstance(value, checked_type)
    if kind is SearchAttributeIndexedValueType.DOUBLE:
        fits = isinstance(value, int | float)
    if kind in (SearchAttributeIndexedValueType.INT, SearchAttributeIndexedValueType.DOUBLE):
        fits = fits and not isinstance(value, bool)
    elif kind is SearchAttributeIndexedValueType.KEYWORD_LIST:
        fits = fits and not isinstance(value, str) and all(isinstance(entry, str) for entry in value)
    if not fits:
        raise TypeError(f"search attribute {key.name!r} is a {name}; {value!r} is a {type(value).__name__}")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"search attribute {key.name!r}: the time {value} has no time zone")
        value = value.isoformat()
    elif kind is SearchAttributeIndexedValueType.KEYWORD_LIST:
        value = list(value)
    data = json.dumps(value, separators=(",", ":")).encode()
    return Payload(metadata={"encoding": b"json/plain", _TYPE: name.encode()}, data=data)
