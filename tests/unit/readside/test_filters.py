"""The grammar of list filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_readside.filters import (
    And,
    Between,
    Comparison,
    FilterError,
    ListFilter,
    Not,
    NullTest,
    OneOf,
    Operator,
    Or,
    Order,
    StartsWith,
    parse,
)
from perdure_schemas import limits

EQUAL = Operator.EQUAL


def test_an_empty_filter_holds_for_every_run() -> None:
    assert parse("") == parse("  \n") == ListFilter()


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("A = 'x'", Comparison("A", EQUAL, "x")),
        ('A = "it\'s"', Comparison("A", EQUAL, "it's")),
        ("A = 'it''s'", Comparison("A", EQUAL, "it's")),
        ("A <> 1", Comparison("A", Operator.NOT_EQUAL, 1)),
        ("A >= -1.5e3", Comparison("A", Operator.GREATER_OR_EQUAL, -1500.0)),
        ("A = TRUE", Comparison("A", EQUAL, True)),
        ("`my attribute` = 1", Comparison("my attribute", EQUAL, 1)),
        ("a.b-c = 1", Comparison("a.b-c", EQUAL, 1)),
        ("A in (1, 'x')", OneOf("A", (1, "x"))),
        ("A NOT IN (1)", Not(OneOf("A", (1,)))),
        ("A between 1 and 2", Between("A", 1, 2)),
        ("A starts_with 'x'", StartsWith("A", "x")),
        ("A NOT STARTS_WITH 'x'", Not(StartsWith("A", "x"))),
        ("A is null", NullTest("A")),
        ("A IS NOT NULL", Not(NullTest("A"))),
        ("NOT A = 1", Not(Comparison("A", EQUAL, 1))),
        ("Order = 1 AND Notes = 2", And((Comparison("Order", EQUAL, 1), Comparison("Notes", EQUAL, 2)))),
        (
            "A = 1 OR B = 2 AND C = 3",
            Or((Comparison("A", EQUAL, 1), And((Comparison("B", EQUAL, 2), Comparison("C", EQUAL, 3))))),
        ),
        (
            "(A = 1 OR B = 2) AND C = 3",
            And((Or((Comparison("A", EQUAL, 1), Comparison("B", EQUAL, 2))), Comparison("C", EQUAL, 3))),
        ),
    ],
)
def test_conditions(text: str, condition: object) -> None:
    assert parse(text) == ListFilter(condition)  # type: ignore[arg-type]


def test_groups_and_orders() -> None:
    assert parse("GROUP BY ExecutionStatus").group_by == ("ExecutionStatus",)
    assert parse("A = 1 ORDER BY B DESC, C, D asc").order_by == (Order("B", True), Order("C"), Order("D"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A =", "ends too early"),
        ("(A = 1", "ends too early"),
        ("A = 'x", "line 1, column 5"),
        ("= 3", "line 1, column 1"),
        ("A = 1\nB = 2", "line 2, column 1"),
        ("A == 1", "column 4"),
        ("A IN ()", "column 7"),
        ("A AND B = 1", "column 3"),
        ("; DROP TABLE executions", "column 1"),
        ("(" * 60 + "A = 1" + ")" * 60, "deep"),
        ("x" * (limits.FILTER_CHARS_MAX + 1), "characters"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        parse(text)


@given(st.text(alphabet="AB ='\"()<>!,.`1-\n", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        assert isinstance(parse(text), ListFilter)
    except FilterError:
        pass


@pytest.mark.parametrize("under", [0, 1])
def test_filters_end_at_their_bounds(under: int) -> None:
    depth = limits.FILTER_DEPTH_MAX - under
    assert parse("(" * depth + "A = 1" + ")" * depth) == parse("A = 1")
    assert parse("A = 1".ljust(limits.FILTER_CHARS_MAX - under)) == parse("A = 1")


def test_a_filter_beyond_a_bound_is_refused() -> None:
    depth = limits.FILTER_DEPTH_MAX + 1
    with pytest.raises(FilterError, match="nested more than 50 deep"):
        parse("(" * depth + "A = 1" + ")" * depth)
    with pytest.raises(FilterError, match="10000 are allowed"):
        parse("A = 1".ljust(limits.FILTER_CHARS_MAX + 1))
