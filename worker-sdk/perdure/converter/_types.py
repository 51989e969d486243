"""From plain JSON values to the types that annotations ask for. Pure functions.

Invariant: a value that does not fit its hint is a ``TypeError`` that says which part of it; a hint that is not
understood never changes a value silently. Called by the JSON payload converter for arguments, results, signals and
queries.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, ClassVar, NewType, TypeVar
from uuid import UUID

#: The type of :attr:`JSONTypeConverter.Unhandled`.
JSONTypeConverterUnhandled = NewType("JSONTypeConverterUnhandled", object)

_PARSED_FROM_TEXT: dict[type, typing.Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}
_SEQUENCES: dict[Any, type] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}


class JSONTypeConverter(ABC):
    """Turns a plain JSON value (scalar, list or dict) into a type of its own choice."""

    #: Returned by :meth:`to_typed_value` for a hint this converter does not handle.
    Unhandled: ClassVar[JSONTypeConverterUnhandled] = JSONTypeConverterUnhandled(object())

    @abstractmethod
    def to_typed_value(self, hint: type, value: Any) -> Any | JSONTypeConverterUnhandled | None:
        """The value as ``hint`` wants it, or :attr:`Unhandled` to leave it to others.

        Args:
            hint: The annotation.
            value: What ``json.loads`` gave.
        """


def value_to_type(hint: Any, value: Any, custom_converters: Sequence[JSONTypeConverter] = ()) -> Any:
    """Convert a plain JSON value to what a type annotation asks for.

    Handles dataclasses, enums, dates and times, UUID, Decimal, lists, sets, tuples, dicts, TypedDict, named tuples,
    unions, Literal, NewType, Annotated, generics of these, and Pydantic models.

    Args:
        hint: The annotation.
        value: What ``json.loads`` gave.
        custom_converters: Asked first, in order, at every level.

    Raises:
        TypeError: the value does not fit.
    """
    for converter in custom_converters:
        converted = converter.to_typed_value(hint, value)
        if converted is not JSONTypeConverter.Unhandled:
            return converted
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return value
    if hint is None or hint is type(None):
        if value is not None:
            raise _mismatch("None", value)
        return None
    if hint in (str, int, float, bool):
        return _scalar(hint, value)
    parse = _PARSED_FROM_TEXT.get(hint) if isinstance(hint, type) else None
    if parse is not None:
        return _parsed(hint, parse, value)
    if isinstance(hint, NewType):
        return value_to_type(hint.__supertype__, value, custom_converters)
    origin = typing.get_origin(hint)
    if origin is not None:
        return _generic(hint, origin, typing.get_args(hint), value, custom_converters)
    return _by_class(hint, value, custom_converters)


def _mismatch(expected: str, value: Any) -> TypeError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return TypeError(f"expected {expected}, got {type(value).__name__} {shown}")


def _scalar(hint: type, value: Any) -> Any:
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    raise _mismatch(hint.__name__, value)


def _parsed(hint: type, parse: typing.Callable[[str], Any], value: Any) -> Any:
    if not isinstance(value, str):
        if hint is Decimal and type(value) in (int, float):
            return Decimal(str(value))
        raise _mismatch(f"text of a {hint.__name__}", value)
    try:
        return parse(value)
    except (ValueError, ArithmeticError) as error:
        raise _mismatch(f"text of a {hint.__name__}", value) from error


def _generic(hint: Any, origin: Any, args: tuple[Any, ...], value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if origin in (typing.Union, types.UnionType):
        return _union(hint, args, value, custom)
    if origin is typing.Annotated:
        return value_to_type(args[0], value, custom)
    if origin is typing.Literal:
        if value in args:
            return value
        raise _mismatch(f"one of {', '.join(map(repr, args))}", value)
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return value_to_type(args[0], value, custom)
    if origin is type:
        raise TypeError(f"{hint} cannot be converted from JSON")
    if origin is tuple:
        return _tuple(args, value, custom)
    if origin in _SEQUENCES:
        return _sequence(_SEQUENCES[origin], args[0], value, custom)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return _mapping(origin, args, value, custom)
    if dataclasses.is_dataclass(origin) and isinstance(origin, type):
        parameters = getattr(origin, "__parameters__", ())
        return _dataclass(origin, dict(zip(parameters, args, strict=False)), value, custom)
    return _by_class(hint if hasattr(hint, "model_validate") else origin, value, custom)


def _union(hint: Any, args: tuple[Any, ...], value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    # A member that takes the value unchanged wins, so that "1" stays text under UUID | str.
    if value is None and type(None) in args:
        return None
    plain = next((arg for arg in args if arg is type(value)), None)
    if plain in (str, int, float, bool):
        return value
    reasons: list[str] = []
    for arg in args:
        try:
            return value_to_type(arg, value, custom)
        except (TypeError, ValueError) as error:
            reasons.append(str(error))
    raise TypeError(f"no member of {hint} takes the value: {'; '.join(reasons)}")


def _sequence(target: type, item: Any, value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, list):
        raise _mismatch("a list", value)
    return target(_item(item, entry, f"item {i}", custom) for i, entry in enumerate(value))


def _tuple(args: tuple[Any, ...], value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, list):
        raise _mismatch("a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_item(args[0], entry, f"item {i}", custom) for i, entry in enumerate(value))
    if len(args) != len(value):
        raise _mismatch(f"a list of {len(args)}", value)
    return tuple(_item(arg, entry, f"item {i}", custom) for i, (arg, entry) in enumerate(zip(args, value, strict=True)))


def _mapping(origin: type, args: tuple[Any, ...], value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, dict):
        raise _mismatch("an object", value)
    if issubclass(origin, collections.Counter):
        args = (args[0], int)
    converted = {
        _item(args[0], _key(args[0], key), f"key {key!r}", custom): _item(args[1], entry, f"value of {key!r}", custom)
        for key, entry in value.items()
    }
    if origin is collections.defaultdict:
        return collections.defaultdict(None, converted)
    return converted if origin in (dict, Mapping, collections.abc.MutableMapping) else origin(converted)


def _key(hint: Any, key: str) -> Any:
    """A JSON key as the scalar it was before JSON made text of it."""
    if hint is bool:
        return {"true": True, "false": False}.get(key, key)
    if hint is int or hint is float or (isinstance(hint, type) and issubclass(hint, int) and issubclass(hint, Enum)):
        try:
            return float(key) if hint is float else int(key)
        except ValueError:
            return key
    return key


def _item(hint: Any, value: Any, where: str, custom: Sequence[JSONTypeConverter]) -> Any:
    try:
        return value_to_type(hint, value, custom)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error


@cache
def _hints_of(hint: type) -> dict[str, Any]:
    return typing.get_type_hints(hint, include_extras=True)


def _dataclass(hint: Any, parameters: dict[Any, Any], value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(f"an object for {hint.__name__}", value)
    hints = _hints_of(hint)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(hint):
        if field.init and field.name in value:
            wanted = hints.get(field.name, Any)
            fields[field.name] = _item(
                _substituted(wanted, parameters), value[field.name], f"{hint.__name__}.{field.name}", custom
            )
    return hint(**fields)  # a missing field without a default is the constructor's TypeError, which names it


def _substituted(hint: Any, parameters: dict[Any, Any]) -> Any:
    if not parameters:
        return hint
    if isinstance(hint, TypeVar):
        return parameters.get(hint, hint)
    open_parameters = getattr(hint, "__parameters__", ())
    if open_parameters and typing.get_origin(hint) is not None:
        return hint[tuple(parameters.get(parameter, parameter) for parameter in open_parameters)]
    return hint


def _typed_dict(hint: Any, value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(f"an object for {hint.__name__}", value)
    missing = sorted(hint.__required_keys__ - value.keys())
    if missing:
        raise TypeError(f"{hint.__name__} lacks {', '.join(missing)}")
    hints = _hints_of(hint)
    return {
        key: _item(hints[key], entry, f"{hint.__name__}.{key}", custom) if key in hints else entry
        for key, entry in value.items()
    }


def _by_class(hint: Any, value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(hint, type):
        raise TypeError(f"the type hint {hint!r} is not understood; use a class, or a custom JSONTypeConverter")
    if typing.is_typeddict(hint):
        return _typed_dict(hint, value, custom)
    if issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            raise _mismatch(f"a value of {hint.__name__}", value) from error
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    if hasattr(hint, "parse_obj"):
        return hint.parse_obj(value)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, {}, value, custom)
    if issubclass(hint, tuple):
        return _bare_tuple(hint, value, custom)
    if hint in _SEQUENCES:
        return _sequence(_SEQUENCES[hint], Any, value, custom)
    if isinstance(value, hint):
        return value
    if issubclass(hint, collections.abc.Mapping) and isinstance(value, dict):
        return _mapping(hint, (Any, Any), value, custom)
    raise _mismatch(hint.__name__, value)


def _bare_tuple(hint: Any, value: Any, custom: Sequence[JSONTypeConverter]) -> Any:
    if not isinstance(value, list):
        raise _mismatch("a list", value)
    names = getattr(hint, "_fields", None)
    if names is None:
        return hint(value)
    if len(value) > len(names):
        raise _mismatch(f"at most {len(names)} items for {hint.__name__}", value)
    hints = _hints_of(hint)
    return hint(
        *(
            _item(hints.get(name, Any), entry, f"{hint.__name__}.{name}", custom)
            for name, entry in zip(names, value, strict=False)
        )
    )
