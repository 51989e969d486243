"""The table of bounds says what the code has."""

from __future__ import annotations

import pytest

from perdure_schemas.nesting import is_too_deep
from tests.support import limits_table


def test_the_table_is_what_the_code_says() -> None:
    assert limits_table.TABLE.read_text() == limits_table.render(), "run: python -m tests.support.limits_table"


def test_every_bound_is_described() -> None:
    assert not [name for _, _, rows in limits_table.sections() for name, text in rows if not text]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'{"a":[1,{"b":[]}]}', 4),
        (b'["[[[[[[", "{{{\\"{{{"]', 1),
        (b"[[],[],[[]]]", 3),
        (b"[{},[{}]]", 3),
    ],
)
def test_levels_are_counted(text: bytes, levels: int) -> None:
    assert not is_too_deep(text, levels)
    if levels:
        assert is_too_deep(text, levels - 1)


@pytest.mark.parametrize(
    ("text", "too_deep"),
    [
        (b"[" * 50, True),
        (b"[" * 50 + b"]" * 49, True),
        (b'{"a":' * 50, True),
        (b'["' + b'\\"' * 50_000, False),
        (b"][" * 50, False),
    ],
)
def test_texts_that_are_no_json_end_too(text: bytes, too_deep: bool) -> None:
    assert is_too_deep(text, 10) is too_deep
