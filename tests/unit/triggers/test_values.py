"""Deserializers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest
from fastavro import parse_schema, schemaless_writer

from perdure.kafka import Avro, Json, RegistryAvro, RetryRecordError, as_bytes, as_text

SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "string"}, {"name": "amount", "type": "long"}],
}
ORDER = {"id": "o-1", "amount": 3}


def encoded(value: Any = ORDER) -> bytes:
    stream = io.BytesIO()
    schemaless_writer(stream, parse_schema(SCHEMA), value)
    return stream.getvalue()


@dataclass
class Order:
    id: str
    amount: int


class Model(pydantic.BaseModel):
    id: str
    amount: int


def test_json_becomes_plain_values_or_what_is_asked_for() -> None:
    data = b'{"id": "o-1", "amount": 3}'
    assert Json()(data) == ORDER
    assert Json(Order)(data) == Order("o-1", 3)
    assert Json(Model)(data) == Model(id="o-1", amount=3)


@pytest.mark.parametrize("data", [b"", b"{", b'{"id": 1, "amount": 3}', b"\x00\x00\x00\x00\x01"])
def test_what_is_no_such_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Json(Order)(data)


def test_text_and_bytes() -> None:
    assert as_text("é".encode()) == "é"
    assert as_bytes(b"\xff") == b"\xff"


def test_avro_without_framing() -> None:
    assert Avro(SCHEMA)(encoded()) == ORDER


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\xff", encoded() + b"x"])
def test_what_was_not_written_with_the_schema_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not written with this Avro schema"):
        Avro(SCHEMA)(data)


class Registry:
    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[int] = []
        self.error = error

    def get_schema(self, schema_id: int) -> str:
        self.asked.append(schema_id)
        if self.error is not None:
            raise self.error
        import json

        return json.dumps(SCHEMA)


class RegistryError(Exception):
    def __init__(self, http_status_code: int) -> None:
        super().__init__("no")
        self.http_status_code = http_status_code


FRAMED = b"\x00" + (7).to_bytes(4, "big") + encoded()


async def test_framed_avro_asks_the_registry_once() -> None:
    registry = Registry()
    decode = RegistryAvro(registry)
    assert [await decode(FRAMED), await decode(FRAMED)] == [ORDER, ORDER]
    assert registry.asked == [7]


async def test_what_is_not_framed_is_refused() -> None:
    with pytest.raises(ValueError, match="not framed"):
        await RegistryAvro(Registry())(b"\x01abc")


async def test_an_unknown_schema_is_the_record_s_fault_and_a_silent_registry_is_not() -> None:
    with pytest.raises(ValueError, match="no schema 7"):
        await RegistryAvro(Registry(RegistryError(404)))(FRAMED)
    for error in (RegistryError(503), ConnectionError("refused")):
        with pytest.raises(RetryRecordError, match="cannot be asked"):
            await RegistryAvro(Registry(error))(FRAMED)
