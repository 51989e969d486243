"""From the condition of a filter to an SQL expression about a run, or a schedule, ``e``.

Invariants: no text of a filter ever becomes part of a statement, only of its parameters; an attribute that no run has
holds for no run. Pure; called by :mod:`perdure_readside.compiling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perdure_readside.attributes import (
    SCHEDULE_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    Kind,
    SystemAttribute,
    stored_value,
    words,
)
from perdure_readside.filters import (
    And,
    Between,
    Comparison,
    Condition,
    FilterError,
    Not,
    NullTest,
    OneOf,
    Operator,
    Or,
    StartsWith,
    Value,
)

__all__ = [
    "Scope",
    "Tested",
    "conjuncts",
    "hint",
    "is_equality",
    "names",
    "right_side",
    "runs",
    "schedules",
    "value_test",
    "where",
]

#: Conditions that compare an attribute with values.
Tested = Comparison | OneOf | Between | StartsWith
_NOWHERE = "0"
_SQL_OPERATORS = {operator: operator.value for operator in Operator} | {Operator.NOT_EQUAL: "<>"}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a filter is about: its attributes of the platform, the table of its search attributes, and their types."""

    system: Mapping[str, SystemAttribute]
    attributes: str
    kinds: Mapping[str, Kind]


def runs(kinds: Mapping[str, Kind]) -> Scope:
    """Filters of runs, whose search attributes have these types."""
    return Scope(SYSTEM_ATTRIBUTES, "attributes", kinds)


def schedules(kinds: Mapping[str, Kind]) -> Scope:
    """Filters of schedules, whose search attributes have these types."""
    return Scope(SCHEDULE_ATTRIBUTES, "schedule_attributes", kinds)


def conjuncts(condition: Condition | None, scope: Scope) -> list[Condition]:
    """The conditions that all have to hold. A Text that has to have several words makes one of each."""
    if isinstance(condition, And):
        return [part for one in condition.conditions for part in conjuncts(one, scope)]
    if isinstance(condition, Comparison) and is_equality(condition) and condition.name not in scope.system:
        wanted = words(str(condition.value)) if scope.kinds.get(condition.name) is Kind.TEXT else []
        if isinstance(condition.value, str) and len(wanted) > 1:
            return [Comparison(condition.name, Operator.EQUAL, word) for word in wanted]
    return [] if condition is None else [condition]


def is_equality(condition: Condition) -> bool:
    """Whether it compares for equality with one value."""
    return isinstance(condition, Comparison) and condition.operator is Operator.EQUAL


def names(condition: Condition) -> set[str]:
    """The attributes that a condition is about."""
    if isinstance(condition, And | Or):
        return {name for one in condition.conditions for name in names(one)}
    return names(condition.condition) if isinstance(condition, Not) else {condition.name}


def value_test(condition: Condition, scope: Scope) -> tuple[str, list[Value]] | None:
    """The test of one row of search attributes, for a condition that such a row fulfils; ``None``: it is another one.

    Raises:
        FilterError: the value does not have the attribute's type.
    """
    if isinstance(condition, Or):
        tests = [found for one in condition.conditions if (found := value_test(one, scope)) is not None]
        if len(tests) < len(condition.conditions):
            return None
        return f"({' OR '.join(sql for sql, _ in tests)})", [value for _, values in tests for value in values]
    if not isinstance(condition, Tested) or condition.name in scope.system:
        return None
    kind = scope.kinds.get(condition.name)
    if kind is None or (isinstance(condition, Comparison) and condition.operator is Operator.NOT_EQUAL):
        return None
    if kind is Kind.TEXT:
        if not isinstance(condition, Comparison) or condition.operator is not Operator.EQUAL:
            return None
        wanted = words(str(stored_value(condition.name, kind, condition.value)))
        return ("(name = ? AND value = ?)", [condition.name, wanted[0]]) if len(wanted) == 1 else None
    sql, values = right_side(condition, kind)
    return f"(name = ? AND value {sql})", [condition.name, *values]


def where(condition: Condition | None, scope: Scope) -> tuple[str, list[Value]]:
    """The expression, and its parameters.

    Raises:
        FilterError: an attribute or a value does not fit.
    """
    if condition is None:
        return "1", []
    if isinstance(condition, And | Or):
        parts = [where(one, scope) for one in condition.conditions]
        joined = (" AND " if isinstance(condition, And) else " OR ").join(f"({sql})" for sql, _ in parts)
        return joined, [value for _, values in parts for value in values]
    if isinstance(condition, Not):
        sql, parameters = where(condition.condition, scope)
        return f"NOT coalesce({sql}, 0)", parameters
    system = scope.system.get(condition.name)
    if system is not None:
        if isinstance(condition, NullTest):
            return f"{system.sql} IS NULL", []
        compared, parameters = right_side(condition, system.kind)
        return f"{system.sql} {compared}", parameters
    return _custom(condition, scope)


def _custom(condition: Tested | NullTest, scope: Scope) -> tuple[str, list[Value]]:
    name = condition.name
    kind = scope.kinds.get(name)
    has = f"EXISTS (SELECT 1 FROM {scope.attributes} WHERE execution_id = e.id AND name = ?"  # noqa: S608 - a name of ours
    if isinstance(condition, NullTest):
        return f"NOT {has})", [name]
    if name in SYSTEM_ATTRIBUTES:
        raise FilterError(f"{name} is of runs; schedules have {', '.join(scope.system)} and their search attributes")
    if kind is None:
        meant = hint(name, scope.system)
        if meant:
            raise FilterError(f"there is no attribute {name}{meant}")
        return _NOWHERE, []
    if isinstance(condition, Comparison) and condition.operator is Operator.NOT_EQUAL:
        equal, parameters = _custom(Comparison(name, Operator.EQUAL, condition.value), scope)
        return f"{has}) AND NOT ({equal})", [name, *parameters]
    if kind is Kind.TEXT:
        return _contains(condition, has)
    compared, values = right_side(condition, kind)
    return f"{has} AND value {compared})", [name, *values]


def _contains(condition: Tested, has: str) -> tuple[str, list[Value]]:
    """A Text is equal to what it contains: every word."""
    if not isinstance(condition, Comparison) or condition.operator is not Operator.EQUAL:
        raise FilterError(f"{condition.name} is a Text: only = and != are possible, which look for words")
    wanted = words(str(stored_value(condition.name, Kind.TEXT, condition.value)))
    if not wanted:
        return _NOWHERE, []
    tests = [f"{has} AND value = ?)" for _ in wanted]
    return " AND ".join(tests), [value for word in wanted for value in (condition.name, word)]


def right_side(condition: Tested, kind: Kind) -> tuple[str, list[Value]]:
    """The right side of a test, behind the column, and its parameters.

    Raises:
        FilterError: the value does not have the attribute's type.
    """
    name = condition.name
    if isinstance(condition, Comparison):
        if kind is Kind.BOOL and condition.operator not in (Operator.EQUAL, Operator.NOT_EQUAL):
            raise FilterError(f"{name} is a Bool: only = and != are possible")
        return f"{_SQL_OPERATORS[condition.operator]} ?", [stored_value(name, kind, condition.value)]
    if isinstance(condition, OneOf):
        marks = ", ".join("?" for _ in condition.values)
        return f"IN ({marks})", [stored_value(name, kind, value) for value in condition.values]
    if isinstance(condition, Between):
        return "BETWEEN ? AND ?", [stored_value(name, kind, value) for value in (condition.low, condition.high)]
    if kind not in (Kind.KEYWORD, Kind.KEYWORD_LIST):
        raise FilterError(f"{name} is of type {kind}: STARTS_WITH is for a Keyword")
    prefix = str(stored_value(name, kind, condition.prefix))
    # A range, so that an index serves it; no text begins with the last code point there is.
    return "BETWEEN ? AND ?", [prefix, prefix + "\U0010ffff"]


def hint(name: str, system: Mapping[str, SystemAttribute]) -> str:
    """For names that look like one of ours, written wrongly."""
    plain = name.replace("_", "").replace(" ", "").lower()
    meant = next((known for known in system if known.lower() == plain), None)
    return f"; did you mean {meant}?" if meant else ""
