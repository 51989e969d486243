"""Pydantic models through the payload converter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, ValidationError

from perdure.common import RawValue
from perdure.contrib.pydantic import PydanticPayloadConverter, ToJsonOptions, pydantic_data_converter
from perdure_schemas.records import Payload


class Line(BaseModel):
    sku: str
    price: Decimal = Field(ge=0)
    tags: set[str] = set()


class Order(BaseModel):
    id: UUID
    placed: datetime
    ships_in: timedelta
    lines: tuple[Line, ...]


ORDER = Order(
    id=UUID(int=7),
    placed=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    ships_in=timedelta(days=1),
    lines=(Line(sku="a", price=Decimal("1.10"), tags={"x"}),),
)
CONVERTER = pydantic_data_converter.payload_converter


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (ORDER, Order),
        ([ORDER], list[Order]),
        ({"a": ORDER}, dict[str, Order]),
        (Decimal("0.10"), Decimal),
        ({1, 2}, set[int]),
        ((1, "a"), tuple[int, str]),
        (timedelta(seconds=90), timedelta),
        (ORDER, Order | None),
        (3, Any),
        (None, None),
        (b"\x00\xff", bytes),
    ],
)
def test_values_come_back_as_their_hints_say(value: Any, hint: Any) -> None:
    (payload,) = CONVERTER.to_payloads([value])
    assert CONVERTER.from_payloads([payload], [hint]) == [value]


def test_the_json_is_that_of_other_tools() -> None:
    payload = CONVERTER.to_payload(Line(sku="a", price=Decimal("1.10")))
    assert payload.metadata == {"encoding": b"json/plain"}
    assert payload.data == b'{"sku":"a","price":"1.10","tags":[]}'


def test_what_does_not_fit_is_pydantics_own_error() -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'{"sku": "a", "price": -1}')
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        CONVERTER.from_payload(payload, Line)


def test_raw_values_pass_through() -> None:
    payload = Payload(metadata={"encoding": b"my/own"}, data=b"x")
    assert CONVERTER.to_payloads([RawValue(payload)]) == [payload]
    assert CONVERTER.from_payloads([payload], [RawValue]) == [RawValue(payload)]


def test_unset_fields_can_be_left_out() -> None:
    converter = PydanticPayloadConverter(ToJsonOptions(exclude_unset=True))
    assert converter.to_payload(Line(sku="a", price=Decimal(1))).data == b'{"sku":"a","price":"1"}'
