"""Values to payloads and back."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.common import RawValue
from perdure.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
    JSONTypeConverter,
    Payload,
    PayloadCodec,
    PayloadConverter,
    value_to_type,
)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Kind(StrEnum):
    A = "a"


@dataclass
class Inner:
    at: datetime
    tags: set[str] = field(default_factory=set)


@dataclass
class Outer:
    name: str
    inner: Inner
    amounts: dict[str, Decimal]
    parent: Outer | None = None


class Point(NamedTuple):
    x: int
    y: float


class Movie(TypedDict, total=False):
    title: str
    year: int


class Model(pydantic.BaseModel):
    id: UUID
    when: datetime


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T


UserId = NewType("UserId", int)
NOW = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


def round_trip(value: Any, hint: Any = None) -> Any:
    converter = PayloadConverter.default
    return converter.from_payload(converter.to_payload(value), hint)


@pytest.mark.parametrize(
    ("value", "encoding", "data"),
    [
        (None, b"binary/null", b""),
        (b"\x00\x01", b"binary/plain", b"\x00\x01"),
        ({"b": 1, "a": [True, None]}, b"json/plain", b'{"a":[true,null],"b":1}'),
        ("ä", b"json/plain", b'"\\u00e4"'),
        (NOW, b"json/plain", b'"2026-02-03T04:05:06.000789+00:00"'),
    ],
)
def test_encodings_and_text_are_fixed(value: Any, encoding: bytes, data: bytes) -> None:
    payload = PayloadConverter.default.to_payload(value)
    assert payload.metadata == {"encoding": encoding}
    assert payload.data == data
    if not isinstance(value, datetime):
        assert round_trip(value) == value


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Outer("o", Inner(NOW, {"x", "y"}), {"a": Decimal("1.10")}, None), Outer),
        (Outer("o", Inner(NOW), {}, Outer("p", Inner(NOW), {})), Outer),
        ([Inner(NOW)], list[Inner]),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ({1: "a", 2: "b"}, dict[int, str]),
        ({Level.LOW: 1}, dict[Level, int]),
        (frozenset({1, 2}), frozenset[int]),
        (collections.deque([1, 2]), collections.deque[int]),
        (Colour.RED, Colour),
        (Level.LOW, Level),
        (Kind.A, Kind),
        (SOME_ID, UUID),
        (NOW, datetime),
        (date(2026, 1, 2), date),
        (time(1, 2, 3), time),
        (Decimal("3.14159265358979323846"), Decimal),
        (Point(1, 2.0), Point),
        ({"title": "t"}, Movie),
        (Model(id=SOME_ID, when=NOW), Model),
        (Box(Inner(NOW)), Box[Inner]),
        (Box([1, 2]), Box[list[int]]),
        (UserId(3), UserId),
        (3, Annotated[int, "metadata"]),
        ("x", Literal["x", "y"]),
        (None, Inner | None),
        (Inner(NOW), Inner | None),
        ("12345678-1234-5678-1234-567812345678", UUID | str),
        (5, float | int),
        ([1, 2], Sequence[int]),
        ({"a": 1}, dict),
        (1, Any),
        (1, object),
    ],
)
def test_values_come_back_as_their_hint_says(value: Any, hint: Any) -> None:
    back = round_trip(value, hint)
    assert back == value
    assert type(back) is type(value)


def test_an_int_for_a_float_becomes_a_float() -> None:
    back = round_trip(3, float)
    assert back == 3.0
    assert isinstance(back, float)


def test_without_a_hint_a_dataclass_comes_back_as_a_dict() -> None:
    assert round_trip(Inner(NOW, {"x"})) == {"at": NOW.isoformat(), "tags": ["x"]}


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("a", int, "expected int"),
        (True, int, "expected int"),
        (1.5, int, "expected int"),
        ([1, "a"], list[int], "item 1"),
        ({"at": 5}, Inner, "Inner.at"),
        ({"a": "x"}, dict[str, int], "value of 'a'"),
        ([1], tuple[int, int], "a list of 2"),
        ("z", Literal["x"], "one of 'x'"),
        ("z", Colour, "a value of Colour"),
        ({}, Inner, "at"),
        ("x", int | UUID, "no member of"),
        ({}, TypedDict("Needs", {"k": int}), "lacks k"),  # type: ignore[operator]
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        value_to_type(hint, value)


def test_unknown_fields_of_a_dataclass_are_ignored() -> None:
    assert value_to_type(Inner, {"at": NOW.isoformat(), "added_later": 1}) == Inner(NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
        max_leaves=20,
    )
)
def test_every_json_value_survives(value: Any) -> None:
    assert round_trip(value) == value


def test_nan_survives_like_in_the_json_module() -> None:
    assert math.isnan(round_trip(float("nan")))


def test_a_damaged_payload_says_so() -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b"{")
    with pytest.raises(RuntimeError, match="payload 0 with encoding json/plain could not be converted"):
        PayloadConverter.default.from_payload(payload)


def test_an_unknown_encoding_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown encoding x.*json/plain"):
        PayloadConverter.default.from_payload(Payload(metadata={"encoding": b"x"}))


def test_a_value_nobody_encodes_is_an_error() -> None:
    with pytest.raises(TypeError):
        PayloadConverter.default.to_payload(object())


def test_raw_values_pass_through() -> None:
    payload = Payload(metadata={"encoding": b"anything"}, data=b"1")
    converter = PayloadConverter.default
    assert converter.to_payload(RawValue(payload)) is payload
    assert converter.from_payload(payload, RawValue) == RawValue(payload)


def test_custom_type_converters_are_asked_first_at_every_level() -> None:
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    class MoneyConverter(JSONTypeConverter):
        def to_typed_value(self, hint: type, value: Any) -> Any:
            return Money(value) if hint is Money else JSONTypeConverter.Unhandled

    converter = CompositePayloadConverter(JSONPlainPayloadConverter(custom_type_converters=[MoneyConverter()]))
    (first,) = converter.from_payload(converter.to_payload([5]), list[Money])
    assert isinstance(first, Money)
    assert first.cents == 5


def test_an_encoding_of_ones_own_goes_first() -> None:
    class Upper(EncodingPayloadConverter):
        @property
        def encoding(self) -> str:
            return "text/upper"

        def to_payload(self, value: Any) -> Payload | None:
            if not isinstance(value, str):
                return None
            return Payload(metadata={"encoding": b"text/upper"}, data=value.upper().encode())

        def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
            return payload.data.decode()

    converter = CompositePayloadConverter(Upper(), *DefaultPayloadConverter.default_encoding_payload_converters)
    assert converter.from_payloads(converter.to_payloads(["abc", 1])) == ["ABC", 1]


class Reversing(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"reversed"} | {"was": p.metadata["encoding"]}, data=p.data[::-1])
            for p in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": p.metadata["was"]}, data=p.data[::-1]) for p in payloads]


async def test_the_codec_is_applied_outside_of_the_converter() -> None:
    converter = dataclasses.replace(DataConverter.default, payload_codec=Reversing())
    (payload,) = await converter.encode([12])
    assert payload.data == b"21"
    assert await converter.decode([payload], [int]) == [12]


async def test_a_codec_must_keep_the_number_of_payloads() -> None:
    class Swallowing(Reversing):
        async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
            return []

    from perdure.exceptions import ApplicationError

    converter = dataclasses.replace(DataConverter.default, payload_codec=Swallowing())
    with pytest.raises(ValueError, match="made 0 payloads of 1"):
        await converter.encode_failure(ApplicationError("m", 1))


async def test_failures_go_through_the_codec_with_their_causes() -> None:
    from perdure.exceptions import ApplicationError

    converter = dataclasses.replace(DataConverter.default, payload_codec=Reversing())
    error = ApplicationError("outer", 12)
    error.__cause__ = ApplicationError("inner", 34)
    failure = await converter.encode_failure(error)
    assert failure.details[0].data == b"21"
    assert failure.cause is not None
    assert failure.cause.details[0].data == b"43"
    back = await converter.decode_failure(failure)
    assert isinstance(back, ApplicationError)
    assert back.details == (12,)
