"""The generated writers and readers agree with fastavro, which is the reference."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure_schemas import codec
from perdure_schemas.avro import TOP_LEVEL, schema_of
from perdure_schemas.decoder import reader_of
from perdure_schemas.encoder import varint, writer_of
from perdure_schemas.records import Record
from tests.unit.schemas.strategies import records_of


def _by_fastavro(value: Record) -> bytes:
    out = io.BytesIO()
    schema = fastavro.parse_schema(json.loads(json.dumps(schema_of(type(value)))))
    fastavro.schemaless_writer(out, schema, msgspec.to_builtins(value, builtin_types=(bytes,)))
    return out.getvalue()


@pytest.mark.parametrize("record", TOP_LEVEL, ids=lambda record: record.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_writers_agree_with_fastavro(record: type[Record], data: Any) -> None:
    value = data.draw(records_of(record))
    assert codec.encode(value)[10:] == _by_fastavro(value)


@pytest.mark.parametrize("record", TOP_LEVEL, ids=lambda record: record.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_readers_read_what_fastavro_wrote(record: type[Record], data: Any) -> None:
    value = data.draw(records_of(record))
    written = _by_fastavro(value)
    assert reader_of(record)(written, 0) == (value, len(written))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_as_something_and_nothing_else_happens(data: Any) -> None:
    record = data.draw(st.sampled_from(TOP_LEVEL))
    damaged = bytearray(codec.encode(data.draw(records_of(record))))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(10, len(damaged) - 1)) if len(damaged) > 10 else 0] = data.draw(
            st.integers(0, 255)
        )
    try:
        codec.decode(bytes(damaged[: data.draw(st.integers(10, len(damaged)))]))
    except codec.DecodeError:
        pass


def test_blocks_with_a_negative_count_carry_their_size() -> None:
    class Numbers(Record, frozen=True, kw_only=True):
        values: list[int]

    items = b"".join(map(varint, (5, 6)))
    block = varint(-2) + varint(len(items)) + items + varint(0)
    assert reader_of(Numbers)(block, 0) == (Numbers(values=[5, 6]), len(block))


def test_a_block_that_claims_more_elements_than_bytes_is_refused_before_anything_is_made() -> None:
    class Numbers(Record, frozen=True, kw_only=True):
        values: list[int]

    with pytest.raises(ValueError, match="more elements than there are bytes"):
        reader_of(Numbers)(varint(2**40) + b"\x00" * 20, 0)


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_varint_is_what_fastavro_reads(number: int) -> None:
    assert fastavro.schemaless_reader(io.BytesIO(varint(number)), "long", None) == number


def test_a_field_type_without_avro_form_is_refused() -> None:
    class Odd(Record, frozen=True, kw_only=True):
        what: complex

    with pytest.raises(TypeError, match="no Avro writer"):
        writer_of(Odd)
