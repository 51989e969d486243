"""The language of list filters: what a filter can say, and the way from its text to that.

``WorkflowType = 'Order' AND (ExecutionStatus IN ('Running', 'Failed') OR Amount > 100) ORDER BY StartTime DESC``. The
grammar follows the list filters that Temporal documents. Pure; called by :mod:`perdure_readside.compiling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from perdure_schemas import limits

__all__ = [
    "And",
    "Between",
    "Comparison",
    "Condition",
    "FilterError",
    "ListFilter",
    "Not",
    "NullTest",
    "OneOf",
    "Operator",
    "Or",
    "Order",
    "StartsWith",
    "Value",
    "parse",
]

Value = str | int | float | bool


class FilterError(ValueError):
    """A filter that makes no sense; the message says what and where."""


class Operator(StrEnum):
    """How a value is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="


@dataclass(frozen=True, slots=True)
class Comparison:
    """``name operator value``."""

    name: str
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """``name IN (values)``."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """``name BETWEEN low AND high``, both ends included."""

    name: str
    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class StartsWith:
    """``name STARTS_WITH prefix``."""

    name: str
    prefix: Value


@dataclass(frozen=True, slots=True)
class NullTest:
    """``name IS NULL``: the run has no such attribute."""

    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """The runs for which the condition does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of them holds."""

    conditions: tuple[Condition, ...]


Condition = Comparison | OneOf | Between | StartsWith | NullTest | Not | And | Or


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by an attribute."""

    name: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ListFilter:
    """A parsed filter."""

    condition: Condition | None = None
    group_by: tuple[str, ...] = ()
    order_by: tuple[Order, ...] = ()


def parse(text: str) -> ListFilter:
    """Parse a list filter; an empty one holds for every run.

    Raises:
        FilterError: it is too long, too deep, or does not follow the grammar.
    """
    if len(text) > limits.FILTER_CHARS_MAX:
        raise FilterError(f"the filter has {len(text)} characters; {limits.FILTER_CHARS_MAX} are allowed")
    _check_depth(text)
    # Only who filters waits for the parser to be loaded and made.
    from perdure_readside.grammar import parse_checked

    return parse_checked(text)


def _check_depth(text: str) -> None:
    """Recursion follows the nesting, so it is bounded before anything recurses."""
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    negations = text.upper().count("NOT")
    if deepest > limits.FILTER_DEPTH_MAX or negations > limits.FILTER_DEPTH_MAX:
        raise FilterError(f"the filter is nested more than {limits.FILTER_DEPTH_MAX} deep: split it")
