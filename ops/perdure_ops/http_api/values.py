"""Values in JSON: what users send becomes payloads, payloads become what users read.

A value is plain JSON. A payload that is no JSON (encrypted, binary) is an object with its ``metadata`` and ``data``,
all in base64, as codec servers speak of it; the same form is taken from callers. Invariants: JSON travels byte for
byte, so no number loses a digit; a JSON value that looks like such an object is written in that form itself, so what is
read can be sent again. Pure functions, called by the operations.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from perdure.common import (
    RawValue,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import Payload

__all__ = ["SearchAttribute", "json_of", "json_values", "raw_values", "search_attributes_of", "typed_attributes"]

_NULL = msgspec.Raw(b"null")
_JSON_ENCODING = b"json/plain"
_PAYLOAD_FIELDS = frozenset({"metadata", "data"})


class SearchAttribute(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A typed search attribute.

    ``type`` is Text, Keyword, Int, Double, Bool, Datetime (RFC 3339, with a time zone) or KeywordList.
    """

    type: str
    value: Any


class _EncodedPayload(msgspec.Struct, forbid_unknown_fields=True):
    metadata: dict[str, str]
    data: str = ""


class _Shape(msgspec.Struct):
    """Only what tells an encoded payload from other objects."""

    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# --- out ------------------------------------------------------------------------------------------------------------


def json_of(payload: Payload | None) -> msgspec.Raw:
    """A payload as JSON text."""
    if payload is None:
        return _NULL
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null":
        return _NULL
    if encoding == _JSON_ENCODING and _is_json(payload.data) and not _looks_encoded(payload.data):
        return msgspec.Raw(payload.data)
    return msgspec.Raw(
        msgspec.json.encode(
            {
                "metadata": {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()},
                "data": base64.b64encode(payload.data).decode(),
            }
        )
    )


def json_values(payloads: Iterable[Payload]) -> list[msgspec.Raw]:
    """Payloads as JSON texts."""
    return [json_of(payload) for payload in payloads]


def _is_json(data: bytes) -> bool:
    try:
        data.decode()
        if is_too_deep(data):
            return False
        msgspec.json.decode(data)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True


def _looks_encoded(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and _encoded(data) is not None


# --- in -------------------------------------------------------------------------------------------------------------


def raw_values(values: Sequence[msgspec.Raw], where: str) -> list[RawValue]:
    """What a caller sent, as arguments that pass through the client's converter as they are.

    Args:
        values: JSON texts.
        where: The field they stand in, for the error.

    Raises:
        ValueError: one is an encoded payload whose base64 is damaged, or is nested too deeply.
    """
    return [RawValue(_payload(bytes(value), f"{where}[{number}]")) for number, value in enumerate(values)]


def _payload(text: bytes, where: str) -> Payload:
    if is_too_deep(text):
        raise ValueError(f"{where} is nested more than {NESTING_MAX} times")
    encoded = _encoded(text) if text.lstrip()[:1] == b"{" else None
    if encoded is None:
        if text == b"null":
            return Payload(metadata={"encoding": b"binary/null"})
        return Payload(metadata={"encoding": _JSON_ENCODING}, data=text)
    try:
        return Payload(
            metadata={key: base64.b64decode(value, validate=True) for key, value in encoded.metadata.items()},
            data=base64.b64decode(encoded.data, validate=True),
        )
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where} is an encoded payload, but its metadata or data is no base64: {error}") from error


def _encoded(text: bytes) -> _EncodedPayload | None:
    """The encoded payload that a JSON object is, if it is one: ``metadata`` with an ``encoding``, and ``data``."""
    try:
        if isinstance(msgspec.json.decode(text, type=_Shape).metadata, msgspec.UnsetType):
            return None
        found = msgspec.json.decode(text, type=_EncodedPayload)
    except msgspec.DecodeError:
        return None
    return found if "encoding" in found.metadata else None


# --- search attributes ------------------------------------------------------------------------------------------------

_KEYS: dict[str, Callable[[str], SearchAttributeKey[Any]]] = {
    "Text": SearchAttributeKey.for_text,
    "Keyword": SearchAttributeKey.for_keyword,
    "Int": SearchAttributeKey.for_int,
    "Double": SearchAttributeKey.for_float,
    "Bool": SearchAttributeKey.for_bool,
    "Datetime": SearchAttributeKey.for_datetime,
    "KeywordList": SearchAttributeKey.for_keyword_list,
}


def typed_attributes(attributes: Mapping[str, SearchAttribute]) -> TypedSearchAttributes | None:
    """Search attributes as the client takes them; ``None`` if there are none.

    Raises:
        ValueError: a type is unknown, or a time is none.
    """
    pairs: list[SearchAttributePair[Any]] = []
    for name, attribute in attributes.items():
        make = _KEYS.get(attribute.type)
        if make is None:
            raise ValueError(
                f"search attribute {name!r} has type {attribute.type!r}, which is none of {', '.join(_KEYS)}"
            )
        pairs.append(SearchAttributePair(make(name), _value(name, attribute)))
    return TypedSearchAttributes(pairs) if pairs else None


def _value(name: str, attribute: SearchAttribute) -> Any:
    if attribute.type != "Datetime":
        return attribute.value
    try:
        return datetime.fromisoformat(attribute.value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"search attribute {name!r} is no time: {error}; write 2026-01-31T10:00:00Z") from error


def search_attributes_of(payloads: Mapping[str, Payload]) -> dict[str, SearchAttribute]:
    """The search attributes of a run; the type of one that has none is empty."""
    return {
        name: SearchAttribute(type=payload.metadata.get("type", b"").decode(errors="replace"), value=json_of(payload))
        for name, payload in payloads.items()
    }
