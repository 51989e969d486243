"""What the value of a record has to hold for a workflow that waits for it. Pure.

A condition is an object of paths and values: ``{"order.id": 7, "items.0.sku": "a"}``. A path goes through JSON objects
by their keys and through arrays by numbers; what stands there has to equal the value. Every path has to fit. Called by
the SDK, which refuses what is no condition, and by the relay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.nesting import is_too_deep

__all__ = ["Condition", "encoded"]

_ABSENT = object()


def encoded(where: Mapping[str, Any] | None) -> str:
    """A condition as it travels; empty for none.

    Raises:
        TypeError, ValueError: it is none; the message says why.
    """
    if not where:
        return ""
    for path in where:
        if not isinstance(path, str) or not all(path.split(".")):
            raise ValueError(f"{path!r} is no path into a value: names and numbers with dots between, as in 'order.id'")
    return json.dumps(dict(where), separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)


class Condition:
    """A condition that values can be held against.

    Args:
        where: as :func:`encoded` made it.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, where: str) -> None:
        parsed = json.loads(where) if where else {}
        if not isinstance(parsed, dict):
            raise ValueError(f"{where[:200]!r} is no condition")
        self._wanted = [(path.split("."), value) for path, value in parsed.items()]

    def holds(self, value: bytes | None) -> bool:
        """Whether a record's value is as wanted; one that is no JSON is not, if anything is wanted."""
        if not self._wanted:
            return True
        if value is None or is_too_deep(value, NESTING_MAX):
            return False
        try:
            parsed = json.loads(value)
        except ValueError:
            return False
        return all(_equal(_at(parsed, path), wanted) for path, wanted in self._wanted)


def _at(value: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _ABSENT
    return value


def _equal(found: Any, wanted: Any) -> bool:
    """As JSON has it: 1 is 1.0, and neither is true."""
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)
