"""The grammar of list filters, and the way from lark's tree to ours. Pure; called by :mod:`perdure_readside.filters`,
which loads it when the first filter comes: neither lark nor the parser is needed to start."""

from __future__ import annotations

from functools import cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from perdure_readside.filters import (
    And,
    Between,
    Comparison,
    Condition,
    FilterError,
    ListFilter,
    Not,
    NullTest,
    OneOf,
    Operator,
    Or,
    Order,
    StartsWith,
    Value,
)

__all__ = ["parse_checked"]

_GRAMMAR = r"""
start: [condition] [group_by] [order_by]
group_by: _GROUP_BY name ("," name)*
order_by: _ORDER_BY order ("," order)*
order: name [DIRECTION]
?condition: conjunction (_OR conjunction)* -> or_
?conjunction: negation (_AND negation)* -> and_
?negation: _NOT negation -> not_
    | test
?test: "(" condition ")"
    | name OPERATOR value -> comparison
    | name _IN "(" value ("," value)* ")" -> one_of
    | name _NOT _IN "(" value ("," value)* ")" -> not_one_of
    | name _BETWEEN value _AND value -> between
    | name _STARTS_WITH value -> starts_with
    | name _NOT _STARTS_WITH value -> not_starts_with
    | name _IS _NULL -> is_null
    | name _IS _NOT _NULL -> is_not_null
name: NAME | QUOTED_NAME
value: STRING | NUMBER | BOOLEAN

_GROUP_BY.3: /GROUP\s+BY\b/i
_ORDER_BY.3: /ORDER\s+BY\b/i
DIRECTION.2: /(ASC|DESC)\b/i
_AND.2: /AND\b/i
_OR.2: /OR\b/i
_NOT.2: /NOT\b/i
_IN.2: /IN\b/i
_BETWEEN.2: /BETWEEN\b/i
_STARTS_WITH.2: /STARTS_WITH\b/i
_IS.2: /IS\b/i
_NULL.2: /NULL\b/i
BOOLEAN.2: /(true|false)\b/i
OPERATOR: "=" | "!=" | "<>" | ">=" | "<=" | ">" | "<"
NUMBER: /[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?/
STRING: /'(''|[^'])*'/ | /"(""|[^"])*"/
NAME: /[A-Za-z_][A-Za-z0-9_.-]*/
QUOTED_NAME: /`[^`]+`/
%import common.WS
%ignore WS
"""


def parse_checked(text: str) -> ListFilter:
    """Parse a filter whose length and depth are within their bounds.

    Raises:
        FilterError: it does not follow the grammar.
    """
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise FilterError(_explain(error, text)) from None
    found: ListFilter = _Builder().transform(tree)
    return found


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=True)


def _explain(error: UnexpectedInput, text: str) -> str:
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        return f"the filter ends too early: {text[-40:]!r}"
    if isinstance(error, (UnexpectedCharacters, UnexpectedToken)) and error.column > 0:
        rest = text.split("\n")[error.line - 1][error.column - 1 :] if error.line > 0 else text
        return (
            f"the filter makes no sense at line {error.line}, column {error.column}: {rest[:40]!r}. Write conditions as"
            " Name = 'text', Name IN (1, 2), Name BETWEEN 1 AND 2, Name STARTS_WITH 'x' or Name IS NULL, joined by AND"
            " and OR"
        )
    return f"the filter makes no sense: {text[:80]!r}"


class _Builder(Transformer[Token, Any]):
    """Lark's tree into ours; each method is a rule of the grammar."""

    def start(self, children: list[Any]) -> ListFilter:
        condition, group_by, order_by = children
        return ListFilter(condition, group_by or (), order_by or ())

    def group_by(self, children: list[Any]) -> tuple[str, ...]:
        return tuple(children)

    def order_by(self, children: list[Any]) -> tuple[Order, ...]:
        return tuple(children)

    def order(self, children: list[Any]) -> Order:
        name, direction = children
        return Order(name, direction is not None and direction.upper() == "DESC")

    def or_(self, children: list[Any]) -> Condition:
        return Or(tuple(children)) if len(children) > 1 else children[0]

    def and_(self, children: list[Any]) -> Condition:
        return And(tuple(children)) if len(children) > 1 else children[0]

    def not_(self, children: list[Any]) -> Condition:
        return Not(children[0])

    def comparison(self, children: list[Any]) -> Condition:
        name, operator, value = children
        return Comparison(name, Operator("!=" if operator == "<>" else str(operator)), value)

    def one_of(self, children: list[Any]) -> Condition:
        return OneOf(children[0], tuple(children[1:]))

    def not_one_of(self, children: list[Any]) -> Condition:
        return Not(self.one_of(children))

    def between(self, children: list[Any]) -> Condition:
        return Between(*children)

    def starts_with(self, children: list[Any]) -> Condition:
        return StartsWith(*children)

    def not_starts_with(self, children: list[Any]) -> Condition:
        return Not(StartsWith(*children))

    def is_null(self, children: list[Any]) -> Condition:
        return NullTest(children[0])

    def is_not_null(self, children: list[Any]) -> Condition:
        return Not(NullTest(children[0]))

    def name(self, children: list[Any]) -> str:
        return str(children[0]).strip("`")

    def value(self, children: list[Any]) -> Value:
        token = children[0]
        text = str(token)
        if token.type == "STRING":
            quote = text[0]
            return text[1:-1].replace(quote * 2, quote)
        if token.type == "BOOLEAN":
            return text.lower() == "true"
        try:
            return int(text)
        except ValueError:
            return float(text)
