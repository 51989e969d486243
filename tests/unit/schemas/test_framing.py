"""The wire format of schema registries: five bytes in front of what the codec wrote, and the way back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_schemas import codec
from perdure_schemas.framing import FRAME_BYTES, framed, unframed
from perdure_schemas.records import OwnerMark
from perdure_schemas.topics import SCHEMA_HEADER

MARK = codec.encode(OwnerMark(source="history/3", epoch=17, owner="engine-1", time_ms=1))
FINGERPRINT = MARK[2:10]
HEADERS = (("perdure-emits", b"1"),)


def test_the_fingerprint_gives_way_to_the_registrys_id_and_comes_back() -> None:
    value, headers = framed(MARK, HEADERS, {FINGERPRINT: 258})
    assert value == b"\x00\x00\x00\x01\x02" + MARK[10:]
    assert headers == (*HEADERS, (SCHEMA_HEADER, FINGERPRINT))
    assert unframed(value, headers) == (MARK, HEADERS)


def test_a_schema_without_an_id_and_bytes_of_others_stay_as_they_are() -> None:
    assert framed(MARK, HEADERS, {}) == (MARK, HEADERS)
    assert framed(MARK, (), {b"another!": 1}) == (MARK, ())
    assert framed(b"\x00\x01", (), {FINGERPRINT: 1}) == (b"\x00\x01", ())
    assert unframed(MARK, HEADERS) == (MARK, HEADERS)
    of_others = b"\x00\x00\x00\x00\x07body"
    assert unframed(of_others, HEADERS) == (of_others, HEADERS)


@given(st.binary(max_size=40), st.lists(st.tuples(st.sampled_from(["a", SCHEMA_HEADER]), st.binary(max_size=12))))
def test_damaged_records_are_no_error_here(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    plain, left = unframed(value, tuple(headers))
    if plain == value:
        assert left == tuple(headers)
    else:
        assert value.startswith(b"\x00")
        assert len(value) >= FRAME_BYTES
        assert SCHEMA_HEADER not in dict(left)
