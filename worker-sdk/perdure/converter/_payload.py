"""Payload converters: Python values to payloads and back.

Invariants: each payload names its ``encoding`` in its metadata; the encodings ("binary/null", "binary/plain",
"json/plain") and the JSON text are those of the ``temporalio`` package, so other tools read them; conversion is
deterministic, because workflow code runs it on every replay. Called by the client, the worker and the workflow runtime.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from perdure.common import RawValue
from perdure.converter._types import JSONTypeConverter, value_to_type
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import Payload


class PayloadConverter(ABC):
    """Turns several Python values into payloads and back. :attr:`default` is the one used when none is given."""

    default: ClassVar[PayloadConverter]

    @abstractmethod
    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Encode values. A :class:`perdure.common.RawValue` must pass through as it is.

        Raises:
            Exception: a value cannot be encoded.
        """

    @abstractmethod
    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[Any] | None = None) -> list[Any]:
        """Decode payloads.

        Args:
            payloads: What to decode.
            type_hints: The type wanted for each payload, as many as there are payloads; ``None`` if none is known.

        Raises:
            Exception: a payload cannot be decoded.
        """

    def to_payload(self, value: Any) -> Payload:
        """Encode one value."""
        return self.to_payloads([value])[0]

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """Decode one payload."""
        return self.from_payloads([payload], [type_hint] if type_hint is not None else None)[0]


class EncodingPayloadConverter(ABC):
    """Turns one value into a payload of one encoding and back; a part of a :class:`CompositePayloadConverter`."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """The name of the encoding, as it stands in a payload's metadata."""

    @abstractmethod
    def to_payload(self, value: Any) -> Payload | None:
        """Encode a value, or return ``None`` to leave it to the next converter.

        Raises:
            TypeError, ValueError, RuntimeError: the value belongs here and cannot be encoded.
        """

    @abstractmethod
    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """Decode a payload of this encoding, as ``type_hint`` wants it.

        Raises:
            RuntimeError, TypeError: the payload is damaged or does not fit the hint.
        """


class CompositePayloadConverter(PayloadConverter):
    """Asks several converters in turn: the first that takes a value encodes it; decoding goes by the encoding's name.

    Args:
        converters: The converters, in the order in which they are asked.
    """

    def __init__(self, *converters: EncodingPayloadConverter) -> None:
        self.converters: dict[bytes, EncodingPayloadConverter] = {
            converter.encoding.encode(): converter for converter in converters
        }

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Encode values.

        Raises:
            RuntimeError: no converter takes a value.
        """
        return [self._encode(index, value) for index, value in enumerate(values)]

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[Any] | None = None) -> list[Any]:
        """Decode payloads.

        Raises:
            KeyError: a payload has an unknown encoding. RuntimeError, TypeError: it cannot be decoded.
        """
        values = []
        for index, payload in enumerate(payloads):
            hint = None if type_hints is None else type_hints[index]
            if hint is RawValue:
                values.append(RawValue(payload))
                continue
            encoding = payload.metadata.get("encoding", b"<none>")
            converter = self.converters.get(encoding)
            if converter is None:
                known = ", ".join(name.decode() for name in self.converters)
                raise KeyError(
                    f"payload {index} has the unknown encoding {encoding.decode(errors='replace')}; known are {known}"
                )
            try:
                values.append(converter.from_payload(payload, hint))
            except RuntimeError as error:
                raise RuntimeError(
                    f"payload {index} with encoding {encoding.decode()} could not be converted: {error}"
                ) from error
        return values

    def _encode(self, index: int, value: Any) -> Payload:
        if isinstance(value, RawValue):
            return value.payload
        for converter in self.converters.values():
            payload = converter.to_payload(value)
            if payload is not None:
                return payload
        raise RuntimeError(f"value {index} of type {type(value).__name__} has no known converter")


_NULL_PAYLOAD = Payload(metadata={"encoding": b"binary/null"})
_BINARY_METADATA = {"encoding": b"binary/plain"}


class BinaryNullPayloadConverter(EncodingPayloadConverter):
    """``None``, as "binary/null"."""

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "binary/null"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        return _NULL_PAYLOAD if value is None else None

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """See the base class."""
        if payload.data:
            raise RuntimeError("expected empty data for binary/null")
        return None


class BinaryPlainPayloadConverter(EncodingPayloadConverter):
    """``bytes``, as "binary/plain"."""

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "binary/plain"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        return Payload(metadata=_BINARY_METADATA, data=value) if isinstance(value, bytes) else None

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """See the base class."""
        return payload.data


class AdvancedJSONEncoder(json.JSONEncoder):
    """A JSON encoder that also takes dataclasses, enums, dates, times, UUID, Decimal, Pydantic models and iterables."""

    def default(self, o: Any) -> Any:
        """What stands in JSON for a value that JSON does not know."""
        if isinstance(o, (datetime, date, time)):
            return o.isoformat()
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            # One level; the encoder comes back for what is inside.
            return {field.name: getattr(o, field.name) for field in dataclasses.fields(o)}
        if isinstance(o, Enum):
            return o.value
        if isinstance(o, (UUID, Decimal)):
            return str(o)
        if hasattr(o, "model_dump") and not isinstance(o, type):
            return o.model_dump(mode="json")
        as_dict = getattr(o, "dict", None)
        if callable(as_dict) and not isinstance(o, type):
            return as_dict()
        if isinstance(o, Iterable) and not isinstance(o, (bytes, bytearray, memoryview)):
            return list(o)
        return super().default(o)


class JSONPlainPayloadConverter(EncodingPayloadConverter):
    """Everything JSON can express, as "json/plain".

    Args:
        encoder: The encoder class; ``None`` for the one of ``json``.
        decoder: The decoder class; ``None`` for the one of ``json``.
        encoding: The name of the encoding.
        custom_type_converters: Asked first when a value is turned into its hinted type.
    """

    def __init__(
        self,
        *,
        encoder: type[json.JSONEncoder] | None = AdvancedJSONEncoder,
        decoder: type[json.JSONDecoder] | None = None,
        encoding: str = "json/plain",
        custom_type_converters: Sequence[JSONTypeConverter] = (),
    ) -> None:
        self._encode = (encoder or json.JSONEncoder)(separators=(",", ":"), sort_keys=True).encode
        self._fast_decode = decoder is None
        self._decode = (decoder or json.JSONDecoder)().decode
        self._encoding = encoding
        self._metadata = {"encoding": encoding.encode()}
        self._custom_type_converters = tuple(custom_type_converters)

    @property
    def encoding(self) -> str:
        """See the base class."""
        return self._encoding

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        data = self._encode(value).encode()
        if is_too_deep(data):
            raise ValueError(f"the value is nested more than {NESTING_MAX} times: nobody could read it")
        return Payload(metadata=self._metadata, data=data)

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """See the base class."""
        value = self._loads(payload.data)
        if type_hint is None:
            return value
        return value_to_type(type_hint, value, self._custom_type_converters)

    def _loads(self, data: bytes) -> Any:
        if is_too_deep(data):
            raise RuntimeError(f"arrays and objects stand in each other more than {NESTING_MAX} times")
        if self._fast_decode:
            try:
                return msgspec.json.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # NaN and the like, which only Python's own module reads
        try:
            return self._decode(data.decode())
        except ValueError as error:
            raise RuntimeError(f"failed parsing JSON: {error}") from error


class DefaultPayloadConverter(CompositePayloadConverter):
    """``None``, ``bytes``, and everything JSON can express. One instance is :attr:`PayloadConverter.default`."""

    default_encoding_payload_converters: ClassVar[tuple[EncodingPayloadConverter, ...]] = (
        BinaryNullPayloadConverter(),
        BinaryPlainPayloadConverter(),
        JSONPlainPayloadConverter(),
    )

    def __init__(self) -> None:
        super().__init__(*DefaultPayloadConverter.default_encoding_payload_converters)


PayloadConverter.default = DefaultPayloadConverter()
