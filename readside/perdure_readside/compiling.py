"""From a parsed filter to SQL with bound parameters: which index a list is read by, in which order, from where on.

Most lists are in the order of starts. They are *walked*: the runs of one index, which has them in that order, are
looked at one by one, and the statement tells of each whether the filter holds, so that whoever runs it can stop after
so many, however few were found. Other orders, and conditions of which few runs fulfil one, are collected and sorted.

Invariants: no text of a filter ever becomes part of a statement, only of its parameters; an attribute that no run has
holds for no run. Pure; called by :mod:`perdure_readside.index`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perdure_readside import conditions
from perdure_readside.attributes import LAST, SYSTEM_ATTRIBUTES, Kind
from perdure_readside.conditions import Scope, hint, is_equality, names, right_side, value_test, where
from perdure_readside.filters import (
    Between,
    Comparison,
    Condition,
    FilterError,
    ListFilter,
    Operator,
    Order,
    Value,
)

__all__ = ["Compiled", "IsRare", "Walk", "compile_count", "compile_page", "compile_schedules"]

#: Newest first; the run id makes the order total.
_DEFAULT_ORDER = (Order("StartTime", descending=True),)
_GROUPS = ("ExecutionStatus", "WorkflowType", "TaskQueue", "WorkerDeploymentVersion")
#: The indexes over runs themselves; each has the runs of one value in the order of their starts.
_INDEXES = {
    "WorkflowId": "executions_by_workflow",
    "ParentWorkflowId": "executions_by_parent",
    "WorkflowType": "executions_by_type",
    "ExecutionStatus": "executions_by_status",
}

#: Whether a statement, with its parameters, gives few rows.
IsRare = Callable[[str, Sequence[Value]], bool]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement and its parameters. ``keys``: how many columns, behind the first, the next page begins with."""

    sql: str
    parameters: list[Value | bytes]
    keys: int = 0
    checksum: int = 0

    def token(self, row: Sequence[Value]) -> bytes:
        """Where the page behind a row begins."""
        return _token(self.checksum, row[1 : 1 + self.keys])


@dataclass(frozen=True, slots=True)
class Walk:
    """A statement whose rows are runs in the order of their starts: the id of the row, the start in milliseconds since
    the epoch, whether the filter holds. Runs of one start come in any order; they belong in that of their run ids.

    ``behind``: the start and run id of the last run of the page before; empty for the first page.
    """

    sql: str
    parameters: list[Value]
    checksum: int
    behind: tuple[Value, ...]

    def is_behind(self, start_ms: int, run_id: str) -> bool:
        """Whether a run that the statement gave belongs to this page and not to one before."""
        return not self.behind or start_ms != self.behind[0] or run_id > str(self.behind[1])

    def token(self, start_ms: int, run_id: str) -> bytes:
        """Where the page behind a run begins."""
        return _token(self.checksum, (start_ms, run_id))

    def token_behind_all(self, start_ms: int) -> bytes:
        """Where the page behind all runs of a start begins."""
        return _token(self.checksum, (start_ms, str(LAST[True])))


def compile_page(
    found: ListFilter, text: str, kinds: Mapping[str, Kind], page_token: bytes, rows_max: int, is_rare: IsRare
) -> Compiled | Walk:
    """The statement that gives a page of summaries.

    Args:
        found: the parsed filter.
        text: the filter as it was written; a page token belongs to it.
        kinds: the types of the search attributes that runs have.
        page_token: from :meth:`Compiled.token` or :meth:`Walk.token`; empty for the first page.
        rows_max: the size of the page, where it is not walked.
        is_rare: told of each condition that an index serves, until one is rare.

    Raises:
        FilterError: an attribute or a value does not fit, or the token belongs to another filter.
    """
    if found.group_by:
        raise FilterError("GROUP BY is for counts; leave it out of a list")
    scope = conditions.runs(kinds)
    checksum = zlib.crc32(text.encode())
    orders = tuple(found.order_by or _DEFAULT_ORDER)
    by_start = len(orders) == 1 and orders[0].name == "StartTime"
    parts = conditions.conjuncts(found.condition, scope)
    if by_start and (len(parts) == 0 or (len(parts) == 1 and _serves(parts[0], scope) and is_equality(parts[0]))):
        chosen, rare = (parts[0] if parts else None), False
    else:
        chosen, rare = _choose(parts, scope, is_rare)
    if by_start and (not rare or (chosen is not None and is_equality(chosen))):
        behind = tuple(_read_token(page_token, checksum, 2)) if page_token else ()
        return _walk(parts, chosen, scope, orders[0], behind, checksum)
    source = _source(parts, chosen if rare else None, scope)
    terms = [_term(order, kinds) for order in orders] + [_Term("e.run_id", False)]
    condition, parameters = source.condition, [*source.table_parameters, *source.pick_parameters, *source.parameters]
    if page_token:
        sql, values = _behind(terms, _read_token(page_token, checksum, len(terms)))
        condition, parameters = f"{condition} AND ({sql})", [*parameters, *values]
    columns = ", ".join(term.expression for term in terms)
    order = ", ".join(f"{number + 2}{' DESC' if term.descending else ''}" for number, term in enumerate(terms))
    sql = f"SELECT e.summary, {columns} FROM {source.tables} WHERE {condition} ORDER BY {order} LIMIT ?"  # noqa: S608 - ours
    selected = [value for term in terms for value in term.parameters]
    return Compiled(sql, [*selected, *parameters, rows_max], len(terms), checksum)


def compile_count(found: ListFilter, kinds: Mapping[str, Kind], is_rare: IsRare) -> Compiled:
    """The statement that counts runs: one row ``(count,)``, or rows ``(count, group, …)``.

    Raises:
        FilterError: an attribute or a value does not fit.
    """
    if found.order_by:
        raise FilterError("ORDER BY is for lists; leave it out of a count")
    for name in found.group_by:
        if name not in _GROUPS:
            raise FilterError(f"GROUP BY {name}: runs can be grouped by {', '.join(_GROUPS)}")
    scope = conditions.runs(kinds)
    parts = conditions.conjuncts(found.condition, scope)
    chosen, _ = _choose(parts, scope, is_rare)
    source = _source(parts, chosen, scope, needs_runs=bool(found.group_by))
    groups = [SYSTEM_ATTRIBUTES[name].sql for name in found.group_by]
    sql = f"SELECT {', '.join(['count(*)', *groups])} FROM {source.tables} WHERE {source.condition}"  # noqa: S608 - ours
    if groups:
        numbers = ", ".join(str(number + 2) for number in range(len(groups)))
        sql += f" GROUP BY {numbers} ORDER BY {numbers}"
    return Compiled(sql, [*source.table_parameters, *source.pick_parameters, *source.parameters])


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
    condition, parameters = where(found.condition, conditions.schedules(kinds))
    sql = (
        "SELECT e.schedule_id, e.summary FROM schedules e"  # noqa: S608 - only our own expressions
        f" WHERE e.schedule_id > ? AND ({condition}) ORDER BY e.schedule_id, e.run_id LIMIT ?"
    )
    return Compiled(sql, [behind, *parameters, rows_max])


# --- where runs are taken from ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """Where runs ``e`` are taken from, and what else has to hold for them.

    ``picks`` are the tests by which an index finds the runs; ``start`` is the column of their starts.
    """

    tables: str
    table_parameters: list[Value]
    picks: list[str]
    pick_parameters: list[Value]
    tests: list[str]
    parameters: list[Value]
    start: str = "e.start_ms"

    @property
    def condition(self) -> str:
        """All that has to hold; its parameters are those of the picks, then those of the tests."""
        return _all([*self.picks, *self.tests])


def _serves(condition: Condition, scope: Scope) -> tuple[str, list[Value]] | None:
    """The rows of an index that a condition picks, as a statement; ``None``: no index serves it."""
    tested = value_test(condition, scope)
    if tested is not None:
        return f"SELECT 1 FROM {scope.attributes} WHERE {tested[0]}", tested[1]  # noqa: S608 - ours
    if not isinstance(condition, conditions.Tested) or condition.name not in _INDEXES:
        return None
    if isinstance(condition, Comparison) and condition.operator is Operator.NOT_EQUAL:
        return None
    sql, values = where(condition, scope)
    return f"SELECT 1 FROM executions e INDEXED BY {_INDEXES[condition.name]} WHERE {sql}", values  # noqa: S608 - ours


def _choose(parts: Sequence[Condition], scope: Scope, is_rare: IsRare) -> tuple[Condition | None, bool]:
    """The condition whose runs are looked at, and whether few runs fulfil it.

    Without a rare one it is one for which an index has the runs in order: a search attribute before others, because
    other search attributes can then be looked up without the run.
    """
    served = [part for part in parts if _serves(part, scope) is not None]
    for part in served:
        if is_rare(*_serves(part, scope) or ("", [])):
            return part, True
    equal = [part for part in served if is_equality(part)]
    return next((part for part in equal if not _needs_run(part, scope)), equal[0] if equal else None), False


def _source(parts: Sequence[Condition], chosen: Condition | None, scope: Scope, *, needs_runs: bool = True) -> _Source:
    rest = [_test_of_run(part, scope) for part in parts if part is not chosen]
    needs_runs = needs_runs or any(_needs_run(part, scope) for part in parts if part is not chosen)
    tests = [sql for sql, _ in rest]
    parameters = [value for _, values in rest for value in values]
    if chosen is None:
        return _Source("executions e", [], [], [], tests, parameters)
    tested = value_test(chosen, scope)
    if tested is None:
        tables = f"executions e INDEXED BY {_INDEXES[next(iter(names(chosen)))]}"
        sql, values = where(chosen, scope)
        return _Source(tables, [], [sql], values, tests, parameters)
    sql, values = tested
    # CROSS: rows of attributes are read first.
    of_runs = "CROSS JOIN executions e ON e.id = a.execution_id"
    if not is_equality(chosen):
        tables = f"(SELECT DISTINCT execution_id FROM attributes WHERE {sql}) a {of_runs}"  # noqa: S608 - ours
        return _Source(tables, values, [], [], tests, parameters)
    # A run has a value once.
    if needs_runs:
        return _Source(f"attributes a {of_runs}", [], [sql], values, tests, parameters, "a.start_ms")
    # What else has to hold is known from attributes alone: the run itself is read if all of it does.
    tables = f"(SELECT execution_id AS id, start_ms FROM attributes WHERE {sql}) e"  # noqa: S608 - ours
    return _Source(tables, values, [], [], tests, parameters)


def _needs_run(part: Condition, scope: Scope) -> bool:
    return bool((names(part) & scope.system.keys()) - {"StartTime"})


def _test_of_run(part: Condition, scope: Scope) -> tuple[str, list[Value]]:
    tested = value_test(part, scope) if is_equality(part) else None
    if tested is None:
        return where(part, scope)
    # In the order of starts, as the runs are looked at, so neighbours are on one page of the index.
    sql = f"EXISTS (SELECT 1 FROM attributes WHERE {tested[0]} AND start_ms = e.start_ms AND execution_id = e.id)"  # noqa: S608 - ours
    return sql, tested[1]


def _is_range_of_starts(part: Condition) -> bool:
    if not isinstance(part, Comparison | Between) or part.name != "StartTime":
        return False
    return not isinstance(part, Comparison) or part.operator is not Operator.NOT_EQUAL


def _walk(
    parts: Sequence[Condition], chosen: Condition | None, scope: Scope, order: Order, behind: tuple[Value, ...],
    checksum: int,
) -> Walk:  # fmt: skip
    source = _source([part for part in parts if not _is_range_of_starts(part)], chosen, scope, needs_runs=False)
    tables = source.tables if chosen is not None else "executions e INDEXED BY executions_by_start"
    picks, parameters = list(source.picks), [*source.parameters, *source.table_parameters, *source.pick_parameters]
    for part in parts:
        if isinstance(part, Comparison | Between) and _is_range_of_starts(part):
            sql, values = right_side(part, Kind.DATETIME)
            picks.append(f"{source.start} {sql}")
            parameters += values
    if behind:
        # The others of that start are given once more, if any of them may be behind.
        or_equal = "" if behind[1] == LAST[True] else "="
        picks.append(f"{source.start} {'<' if order.descending else '>'}{or_equal} ?")
        parameters.append(behind[0])
    direction = "DESC" if order.descending else "ASC"
    sql = (
        f"SELECT e.id, {source.start}, {_all(source.tests)} FROM {tables}"  # noqa: S608 - ours
        f" WHERE {_all(picks)} ORDER BY {source.start} {direction}"
    )
    return Walk(sql, parameters, checksum, behind)


def _all(tests: Sequence[str]) -> str:
    return " AND ".join(f"({test})" for test in tests) or "1"


def _token(checksum: int, row: Sequence[Value]) -> bytes:
    return json.dumps([checksum, *row], separators=(",", ":")).encode()


# --- orders -------------------------------------------------------------------------------------------------------


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
        raise FilterError(f"ORDER BY {order.name}: no run has this attribute{hint(order.name, SYSTEM_ATTRIBUTES)}")
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
