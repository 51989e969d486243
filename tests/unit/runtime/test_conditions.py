"""What the value of a record has to hold, and what is no condition."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure_runtime.relay.conditions import Condition, encoded

VALUE = {"order": {"id": 7, "items": [{"sku": "a"}, {"sku": "b"}]}, "paid": True, "note": None, "sum": 1.0}


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({}, True),
        (None, True),
        ({"order.id": 7}, True),
        ({"order.id": "7"}, False),
        ({"order.items.1.sku": "b", "paid": True}, True),
        ({"order.items.2.sku": "b"}, False),
        ({"order.id.deeper": 7}, False),
        ({"paid": 1}, False),
        ({"sum": 1}, True),
        ({"sum": True}, False),
        ({"note": None}, True),
        ({"absent": None}, False),
        ({"order": {"id": 7}}, False),
    ],
)
def test_paths_and_values(where: dict[str, Any] | None, holds: bool) -> None:
    assert Condition(encoded(where)).holds(json.dumps(VALUE).encode()) is holds


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"no json", b"[" * 10_000])
def test_what_is_no_json_fits_only_if_nothing_is_wanted(value: bytes | None) -> None:
    assert Condition("").holds(value)
    assert not Condition(encoded({"a": 1})).holds(value)


@pytest.mark.parametrize("where", [{"": 1}, {"a..b": 1}, {3: 1}, {"a": object()}, {"a": float("nan")}])
def test_what_is_no_condition(where: dict[Any, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        encoded(where)
    with pytest.raises(ValueError, match="no condition"):
        Condition("[1]")
