"""From a parsed filter to SQL with bound parameters.

Invariants: no text of a filter ever becomes part of a statement, only of its parameters; an attribute that no run has
holds for no run. Pure; called by :mod:`perdure_readside.index`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perdure_readside.attributes import (
    LAST,
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

__all__ = ["Compiled", "compile_count", "compile_page", "compile_schedules"]

#: Newest first; the run id makes the order total.
_DEFAULT_ORDER = (Order("StartTime", descending=True),)
_GROUPS = ("ExecutionStatus", "WorkflowType", "TaskQueue", "WorkerDeploymentVersion")
_NOWHERE = "0"
#: The runs of rows of attributes; CROSS: those rows are read first.
_JOINED = "CROSS JOIN executions e ON e.id = a.execution_id"
_WITH_VALUE = "SELECT 1 FROM attributes WHERE "

#: Whether a statement, with its parameters, gives few rows.
IsRare = Callable[[str, Sequence[Value]], bool]
_SQL_OPERATORS = {operator: operator.value for operator in Operator} | {Operator.NOT_EQUAL: "<>"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement and its parameters. ``keys``: how many columns, behind the first, the next page begins with."""

    sql: str
    parameters: list[Value | bytes]
    keys: int = 0
    checksum: int = 0

    def token(self, row: Sequence[Value]) -> bytes:
        """Where the page behind a row begins."""
        return json.dumps([self.checksum, *row[1 : 1 + self.keys]], separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a filter is about: its attributes of the platform, the table of its search attributes, and their types."""

    system: Mapping[str, SystemAttribute]
    attributes: str
    kinds: Mapping[str, Kind]


def _runs(kinds: Mapping[str, Kind]) -> _Scope:
    return _Scope(SYSTEM_ATTRIBUTES, "attributes", kinds)


def compile_page(
    found: ListFilter, text: str, kinds: Mapping[str, Kind], page_token: bytes, rows_max: int, is_rare: IsRare
) -> Compiled:
    """The statement that gives a page of summaries.

    Of the conditions that all have to hold, one on a search attribute that few runs fulfil is asked first, and the rest
    of those few alone. If many runs fulfil each, runs are looked at in order until the page is full, and their
    attributes one by one.

    Args:
        found: the parsed filter.
        text: the filter as it was written; a page token belongs to it.
        kinds: the types of the search attributes that runs have.
        page_token: from :meth:`Compiled.token`; empty for the first page.
        rows_max: the size of the page.
        is_rare: told of each condition on a search attribute that has to hold, until one is rare.

    Raises:
        FilterError: an attribute or a value does not fit, or the token belongs to another filter.
    """
    if found.group_by:
        raise FilterError("GROUP BY is for counts; leave it out of a list")
    terms = [_term(order, kinds) for order in found.order_by or _DEFAULT_ORDER] + [_Term("e.run_id", False)]
    checksum = zlib.crc32(text.encode())
    in_order = tuple(found.order_by or _DEFAULT_ORDER) == _DEFAULT_ORDER
    source = _source(found.condition, _runs(kinds), is_rare, in_order=in_order)
    where, parameters = source.where, source.parameters
    if source.is_ordered and in_order:
        # However many runs have the value, only a page of them is read.
        terms[0] = _Term("a.start_ms", True)
    if page_token:
        behind, behind_parameters = _behind(terms, _read_token(page_token, checksum, len(terms)))
        where = f"({where}) AND ({behind})"
        parameters = [*parameters, *behind_parameters]
    columns = ", ".join(term.expression for term in terms)
    order = ", ".join(f"{number + 2}{' DESC' if term.descending else ''}" for number, term in enumerate(terms))
    sql = f"SELECT e.summary, {columns} FROM {source.tables} WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - ours
    selected = [value for term in terms for value in term.parameters]
    return Compiled(sql, [*selected, *parameters, rows_max], len(terms), checksum)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where runs are taken from, with its parameters, and the condition for them with its own."""

    tables: str
    where: str
    parameters: list[Value]
    is_ordered: bool = False


def _source(condition: Condition | None, scope: _Scope, is_rare: IsRare, *, in_order: bool) -> _Source:
    parts = _conjuncts(condition)
    ours = {number: test for number, part in enumerate(parts) if (test := _value_test(part, scope)) is not None}
    if in_order and len(parts) == 1 and _is_equality(parts[0]):
        first = next(iter(ours), None)
    else:
        first = next((number for number, (sql, values) in ours.items() if is_rare(_WITH_VALUE + sql, values)), None)
    tables, is_ordered = "executions e", False
    tests: list[str] = []
    asked_first: list[Value] = []
    parameters: list[Value] = []
    for number, part in enumerate(parts):
        sql, values = ours[number] if number in ours else _where(part, scope)
        if number == first and _is_equality(part):
            # A run has a value once, and the index of values has its runs from the newest to the oldest.
            tables, is_ordered = f"attributes a {_JOINED}", True
        elif number == first:
            tables, asked_first = f"(SELECT DISTINCT execution_id FROM attributes WHERE {sql}) a {_JOINED}", values  # noqa: S608 - ours
            continue
        elif number in ours:
            sql = f"EXISTS (SELECT 1 FROM attributes WHERE execution_id = e.id AND {sql})"  # noqa: S608 - ours
        tests.append(f"({sql})")
        parameters += values
    return _Source(tables, " AND ".join(tests) or "1", asked_first + parameters, is_ordered)


def _conjuncts(condition: Condition | None) -> list[Condition]:
    """The conditions that all have to hold."""
    if isinstance(condition, And):
        return [part for one in condition.conditions for part in _conjuncts(one)]
    return [] if condition is None else [condition]


def _value_test(condition: Condition, scope: _Scope) -> tuple[str, list[Value]] | None:
    """The test of one row of attributes, for a condition that such a row fulfils; ``None``: it is another condition.

    Raises:
        FilterError: the value does not have the attribute's type.
    """
    if not isinstance(condition, Comparison | OneOf | Between | StartsWith) or condition.name in scope.system:
        return None
    kind = scope.kinds.get(condition.name)
    if kind in (None, Kind.TEXT):
        return None
    if isinstance(condition, Comparison) and condition.operator is Operator.NOT_EQUAL:
        return None
    test, values = _test(condition, kind)
    return f"name = ? AND value {test}", [condition.name, *values]


def _is_equality(condition: Condition) -> bool:
    return isinstance(condition, Comparison) and condition.operator is Operator.EQUAL


def compile_count(found: ListFilter, kinds: Mapping[str, Kind]) -> Compiled:
    """The statement that counts runs: one row ``(count,)``, or rows ``(count, group, …)``.

    Raises:
        FilterError: an attribute or a value does not fit.
    """
    if found.order_by:
        raise FilterError("ORDER BY is for lists; leave it out of a count")
    where, parameters = _where(found.condition, _runs(kinds))
    for name in found.group_by:
        if name not in _GROUPS:
            raise FilterError(f"GROUP BY {name}: runs can be grouped by {', '.join(_GROUPS)}")
    groups = [SYSTEM_ATTRIBUTES[name].sql for name in found.group_by]
    sql = f"SELECT {', '.join(['count(*)', *groups])} FROM executions e WHERE {where}"  # noqa: S608 - only our own expressions
    if groups:
        numbers = ", ".join(str(number + 2) for number in range(len(groups)))
        sql += f" GROUP BY {numbers} ORDER BY {numbers}"
    return Compiled(sql, list(parameters))


def compile_schedules(found: ListFilter, kinds: Mapping[str, Kind], behind: str, rows_max: int) -> Compiled:
    """The statement that gives a page of schedules, by id: rows ``(schedule id, summary)``.

    Args:
        found: the parsed filter.
        kinds: the types of search attributes.
        behind: the id of the last schedule of the page before; empty for the first page.
        rows_max: the size of the page.

    Raises:
        FilterError: an attribute or a value does not fit.
    """
    if found.group_by or found.order_by:
        raise FilterError("schedules are listed by id; leave out ORDER BY and GROUP BY")
    where, parameters = _where(found.condition, _Scope(SCHEDULE_ATTRIBUTES, "schedule_attributes", kinds))
    sql = (
        "SELECT e.schedule_id, e.summary FROM schedules e"  # noqa: S608 - only our own expressions
        f" WHERE e.schedule_id > ? AND ({where}) ORDER BY e.schedule_id, e.run_id LIMIT ?"
    )
    return Compiled(sql, [behind, *parameters, rows_max])


@dataclass(frozen=True, slots=True)
class _Term:
    """One term of an order: what is compared, and what stands for a missing value (``None``: it is never missing)."""

    sql: str
    descending: bool
    last: Value | None = None

    @property
    def expression(self) -> str:
        return self.sql if self.last is None else f"coalesce({self.sql}, ?)"

    @property
    def parameters(self) -> list[Value]:
        return [] if self.last is None else [self.last]


def _term(order: Order, kinds: Mapping[str, Kind]) -> _Term:
    system = SYSTEM_ATTRIBUTES.get(order.name)
    if system is not None:
        return _Term(system.sql, order.descending, LAST[system.kind.is_text] if system.nullable else None)
    kind = kinds.get(order.name)
    if kind is None:
        raise FilterError(f"ORDER BY {order.name}: no run has this attribute{_hint(order.name, SYSTEM_ATTRIBUTES)}")
    if kind in (Kind.TEXT, Kind.KEYWORD_LIST):
        raise FilterError(f"ORDER BY {order.name}: a {kind} has no order")
    # The only text that is not a parameter: a name that the index knows, quoted as SQL wants it.
    name = order.name.replace("'", "''")
    sql = f"(SELECT value FROM attributes WHERE execution_id = e.id AND name = '{name}')"  # noqa: S608 - see above
    return _Term(sql, order.descending, LAST[kind.is_text])


def _behind(terms: Sequence[_Term], row: Sequence[Value]) -> tuple[str, list[Value]]:
    """The condition for rows that sort behind ``row``: (a, b) > (x, y), with a direction for each term."""
    alternatives: list[str] = []
    parameters: list[Value] = []

    def test(number: int, operator: str) -> str:
        parameters.extend((*terms[number].parameters, row[number]))
        return f"{terms[number].expression} {operator} ?"

    for number, term in enumerate(terms):
        equal = [test(before, "=") for before in range(number)]
        alternatives.append(" AND ".join([*equal, test(number, "<" if term.descending else ">")]))
    # Implied by the alternatives, but in this form an index finds the place.
    bound = test(0, "<=" if terms[0].descending else ">=")
    return f"({' OR '.join(f'({one})' for one in alternatives)}) AND {bound}", parameters


def _read_token(token: bytes, checksum: int, keys: int) -> list[Value]:
    try:
        found = json.loads(token)
    except ValueError:
        found = None
    if (
        not isinstance(found, list)
        or len(found) != keys + 1
        or not all(isinstance(value, str | int | float) for value in found)
    ):
        raise FilterError("the page token is damaged: take the one that came with the page before")
    if found[0] != checksum:
        raise FilterError("the page token belongs to another filter: ask for the next page with the same filter")
    return found[1:]


def _where(condition: Condition | None, scope: _Scope) -> tuple[str, list[Value]]:
    if condition is None:
        return "1", []
    if isinstance(condition, And | Or):
        parts = [_where(one, scope) for one in condition.conditions]
        joined = (" AND " if isinstance(condition, And) else " OR ").join(f"({sql})" for sql, _ in parts)
        return joined, [value for _, values in parts for value in values]
    if isinstance(condition, Not):
        sql, parameters = _where(condition.condition, scope)
        return f"NOT coalesce({sql}, 0)", parameters
    system = scope.system.get(condition.name)
    if system is not None:
        if isinstance(condition, NullTest):
            return f"{system.sql} IS NULL", []
        test, parameters = _test(condition, system.kind)
        return f"{system.sql} {test}", parameters
    return _custom(condition, scope)


def _custom(condition: Comparison | OneOf | Between | StartsWith | NullTest, scope: _Scope) -> tuple[str, list[Value]]:
    name = condition.name
    kind = scope.kinds.get(name)
    has = f"e.id IN (SELECT execution_id FROM {scope.attributes} WHERE name = ?"  # noqa: S608 - a name of ours
    if isinstance(condition, NullTest):
        return f"NOT {has})", [name]
    if name in SYSTEM_ATTRIBUTES:
        raise FilterError(f"{name} is of runs; schedules have {', '.join(scope.system)} and their search attributes")
    if kind is None:
        hint = _hint(name, scope.system)
        if hint:
            raise FilterError(f"there is no attribute {name}{hint}")
        return _NOWHERE, []
    if isinstance(condition, Comparison) and condition.operator is Operator.NOT_EQUAL:
        equal, parameters = _custom(Comparison(name, Operator.EQUAL, condition.value), scope)
        return f"{has}) AND NOT {equal}", [name, *parameters]
    if kind is Kind.TEXT:
        return _contains(condition, has)
    test, values = _test(condition, kind)
    return f"{has} AND value {test})", [name, *values]


def _contains(condition: Comparison | OneOf | Between | StartsWith, has: str) -> tuple[str, list[Value]]:
    """A Text is equal to what it contains: every word."""
    if not isinstance(condition, Comparison) or condition.operator is not Operator.EQUAL:
        raise FilterError(f"{condition.name} is a Text: only = and != are possible, which look for words")
    wanted = words(str(stored_value(condition.name, Kind.TEXT, condition.value)))
    if not wanted:
        return _NOWHERE, []
    tests = [f"{has} AND value = ?)" for _ in wanted]
    return " AND ".join(tests), [value for word in wanted for value in (condition.name, word)]


def _test(condition: Comparison | OneOf | Between | StartsWith, kind: Kind) -> tuple[str, list[Value]]:
    """The right side of a test, behind the column."""
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


def _hint(name: str, system: Mapping[str, SystemAttribute]) -> str:
    """For names that look like one of ours, written wrongly."""
    plain = name.replace("_", "").replace(" ", "").lower()
    meant = next((known for known in system if known.lower() == plain), None)
    return f"; did you mean {meant}?" if meant else ""
