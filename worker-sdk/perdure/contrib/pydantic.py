"""Pydantic models as arguments and results, with the names of ``temporalio.contrib.pydantic``.

``data_converter=pydantic_data_converter`` makes Pydantic (version 2) write and check everything that is JSON: models,
and all other types it knows, according to the annotations of workflows and activities. Pydantic must be installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from perdure.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)
from perdure_schemas.records import Payload


@dataclass
class ToJsonOptions:
    """How values are written; see ``pydantic_core.to_json``.

    Attributes:
        exclude_unset: Leave out fields that were not set.
    """

    exclude_unset: bool = False


class PydanticJSONPlainPayloadConverter(EncodingPayloadConverter):
    """Everything Pydantic can write as JSON, as "json/plain".

    Args:
        to_json_options: How values are written.
    """

    def __init__(self, to_json_options: ToJsonOptions | None = None) -> None:
        self._options = to_json_options or ToJsonOptions()

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class.

        Raises:
            pydantic_core.PydanticSerializationError: Pydantic cannot write the value.
        """
        data = (
            value.model_dump_json(exclude_unset=True).encode()
            if self._options.exclude_unset and hasattr(value, "model_dump_json")
            else to_json(value)
        )
        return Payload(metadata={"encoding": b"json/plain"}, data=data)

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        """See the base class.

        Raises:
            pydantic.ValidationError: the JSON does not fit the hint.
        """
        return _adapter(Any if type_hint is None else type_hint).validate_json(payload.data)


def _adapter(type_hint: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(type_hint)
    except TypeError:  # an annotation that cannot be hashed
        return TypeAdapter(type_hint)


@lru_cache(maxsize=1024)
def _cached_adapter(type_hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_hint)


class PydanticPayloadConverter(CompositePayloadConverter):
    """The default converter, with Pydantic for JSON. Subclass it to give options.

    Args:
        to_json_options: How values are written.
    """

    def __init__(self, to_json_options: ToJsonOptions | None = None) -> None:
        json_converter = PydanticJSONPlainPayloadConverter(to_json_options)
        super().__init__(
            *(
                json_converter if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


#: Give it to the client: its workers use it, too.
pydantic_data_converter = DataConverter(payload_converter_class=PydanticPayloadConverter)
