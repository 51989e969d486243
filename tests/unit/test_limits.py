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


#: Bounds whose tests work with a smaller number, or see the effect: where.
_TESTED_ELSEWHERE = {
    "FAIRNESS_WEIGHT_MIN": "tests/unit/sdk/test_common.py",
    "FAIRNESS_WEIGHT_MAX": "tests/unit/sdk/test_common.py",
    "FAIRNESS_KEY_BYTES_MAX": "tests/unit/sdk/test_common.py",
    "PRIORITY_FIRST": "tests/unit/sdk/test_common.py",
    "PRIORITY_LAST": "tests/unit/sdk/test_common.py",
    "UPDATES_MAX": "tests/unit/history/test_updates.py",
    "UPDATES_HELD_MAX": "tests/unit/history/test_updates.py",
    "STUCK_FAILURE_CHARS_MAX": "tests/unit/history/test_stuck.py",
    "TASK_RETRY_INITIAL_MS": "tests/unit/history/test_rules.py",
    "TASK_RETRY_INTERVAL_MS_MAX": "tests/unit/history/test_rules.py",
}


def test_every_bound_of_what_is_refused_or_cut_has_a_test() -> None:
    text = "\n".join(path.read_text() for path in (limits_table.ROOT / "tests").rglob("test_*.py"))
    sections = limits_table.sections()
    strict = [name for title, _, rows in sections[:5] for name, _ in rows if title]
    untested = [name for name in strict if name not in _TESTED_ELSEWHERE and f"limits.{name}" not in text]
    assert untested == []
    assert all((limits_table.ROOT / path).exists() for path in _TESTED_ELSEWHERE.values())
