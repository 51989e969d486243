"""What filters find, in which order and on which page; and what a crash, another version or damage does to the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_readside import index as index_module
from perdure_readside.attributes import Kind
from perdure_readside.compiling import compile_page
from perdure_readside.filters import FilterError, parse
from perdure_readside.index import Change, ExecutionIndex
from perdure_schemas import codec, limits
from perdure_schemas.records import ExecutionSummary, Payload, WorkflowStatus
from tests.unit.readside.runs import TOPIC, attribute, index_of, listed, parent, put, run

HOUR_MS = 3_600_000
RUNS = [
    run(
        "a",
        start_time_ms=4_000,
        search_attributes={"Amount": attribute("Int", 5), "Note": attribute("Text", "Big red Ball")},
    ),
    run(
        "b", start_time_ms=3_000, status=WorkflowStatus.COMPLETED, close_time_ms=3_000 + HOUR_MS, workflow_type="Refund"
    ),
    run(
        "c",
        start_time_ms=2_000,
        status=WorkflowStatus.TIMED_OUT,
        close_time_ms=9_000,
        parent=parent("boss"),
        search_attributes={"Amount": attribute("Int", 50), "Region": attribute("Keyword", "eu-west")},
    ),
    run(
        "d",
        start_time_ms=2_000,
        paused=True,
        search_attributes={
            "Price": attribute("Double", 2.5),
            "Gift": attribute("Bool", True),
            "Due": attribute("Datetime", "2026-01-31T10:00:00+01:00"),
            "Tags": attribute("KeywordList", ["red", "blue"]),
        },
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcd"),
        ("WorkflowType = 'Refund'", "b"),
        ("WorkflowId = 'w-c'", "c"),
        ("RunId IN ('a', 'd')", "ad"),
        ("ExecutionStatus = 'Running'", "ad"),
        ("ExecutionStatus = 'TimedOut' OR ExecutionStatus = 'COMPLETED'", "bc"),
        ("ExecutionStatus != 'Running'", "bc"),
        ("StartTime > '1970-01-01T00:00:02Z'", "ab"),
        ("StartTime >= 2000000000", "abcd"),
        ("StartTime BETWEEN '1970-01-01T00:00:02Z' AND '1970-01-01T00:00:03Z'", "bcd"),
        ("CloseTime IS NULL", "ad"),
        ("CloseTime IS NOT NULL ORDER BY CloseTime", "cb"),
        ("ORDER BY CloseTime", "cbad"),
        ("ExecutionDuration >= '1h'", "b"),
        ("ExecutionDuration < '10s'", "c"),
        ("ParentWorkflowId = 'boss'", "c"),
        ("NOT ParentWorkflowId = 'boss'", "abd"),
        ("Paused = true", "d"),
        ("TaskQueue STARTS_WITH 'ord' AND HistoryLength = 3", "abcd"),
        ("WorkflowId STARTS_WITH 'W'", ""),
        ("Amount = 5", "a"),
        ("Amount > 5", "c"),
        ("Amount != 5", "c"),
        ("NOT Amount = 5", "bcd"),
        ("Amount IS NULL", "bd"),
        ("Amount IS NOT NULL ORDER BY Amount DESC", "ca"),
        ("ORDER BY Amount", "acbd"),
        ("Region = 'eu-west'", "c"),
        ("Region STARTS_WITH 'eu-'", "c"),
        ("Price BETWEEN 2 AND 3", "d"),
        ("Gift = true", "d"),
        ("Gift != true", ""),
        ("Due = '2026-01-31T09:00:00Z'", "d"),
        ("Due > '2026-01-01'", "d"),
        ("Tags = 'red'", "d"),
        ("Tags IN ('green', 'blue')", "d"),
        ("Tags != 'red'", ""),
        ("Note = 'ball RED'", "a"),
        ("Note = 'green ball'", ""),
        ("Note != 'green'", "a"),
        ("Unheard = 'of'", ""),
        ("Unheard IS NULL", "abcd"),
        ("NOT Unheard = 'of'", "abcd"),
    ],
)
def test_filters_find_what_they_say(text: str, expected: str) -> None:
    assert "".join(listed(index_of(RUNS), text)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ExecutionStatus = 'Runing'", "'Runing' is no status; write Running"),
        ("ExecutionStatus = 1", "is no status"),
        ("WorkflowId = 1", "in quotes"),
        ("Paused = 'yes'", "true or false"),
        ("Paused > true", "only = and !="),
        ("StartTime > 'yesterday'", "is no time"),
        ("ExecutionDuration > '1 week'", "is no duration"),
        ("HistoryLength = 'many'", "without quotes"),
        ("HistoryLength = true", "cannot be compared with true"),
        ("Amount = 'five'", "Amount is of type Int"),
        ("Note > 'a'", "only = and !="),
        ("Amount STARTS_WITH '5'", "STARTS_WITH is for a Keyword"),
        ("workflowtype = 'x'", "did you mean WorkflowType"),
        ("start_time > 1", "did you mean StartTime"),
        ("ORDER BY Nothing", "no run has this attribute"),
        ("ORDER BY Tags", "a KeywordList has no order"),
        ("GROUP BY ExecutionStatus", "GROUP BY is for counts"),
    ],
)
def test_a_value_that_does_not_fit_is_said(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        index_of(RUNS).page(text, 10)


def test_counts() -> None:
    index = index_of(RUNS)
    assert index.count("") == [(4, ())]
    assert index.count("WorkflowType = 'Order'") == [(3, ())]
    assert index.count("GROUP BY ExecutionStatus") == [(1, ("Completed",)), (2, ("Running",)), (1, ("TimedOut",))]
    assert index.count("Amount > 1 GROUP BY WorkflowType, ExecutionStatus") == [
        (1, ("Order", "Running")),
        (1, ("Order", "TimedOut")),
    ]
    assert index.count("WorkflowType = 'None' GROUP BY WorkflowType") == []
    with pytest.raises(FilterError, match="grouped by ExecutionStatus"):
        index.count("GROUP BY Amount")
    with pytest.raises(FilterError, match="ORDER BY is for lists"):
        index.count("ORDER BY StartTime")


def test_a_page_token_belongs_to_its_filter() -> None:
    index = index_of(RUNS)
    page = index.page("", 2)
    assert len(page.summaries) == 2
    with pytest.raises(FilterError, match="another filter"):
        index.page("Amount > 1", 2, page.next_page_token)
    for damaged in (b"nonsense", b"[1]", b'{"a": 1}', b"[1, [2], 3]"):
        with pytest.raises(FilterError, match="damaged"):
            index.page("", 2, damaged)


def test_runs_that_start_while_pages_are_read_move_nothing() -> None:
    index = index_of(RUNS)
    page = index.page("", 2)
    put(index, run("new", start_time_ms=99_000), run("a", start_time_ms=4_000, status=WorkflowStatus.FAILED, version=2))
    rest = index.page("", 10, page.next_page_token)
    assert [codec.decode_as(value, ExecutionSummary).run_id for value in rest.summaries] == ["c", "d"]


_ORDERS: dict[str, Callable[[ExecutionSummary], object]] = {
    "StartTime": lambda one: one.start_time_ms,
    "HistoryLength": lambda one: one.history_length,
    "CloseTime": lambda one: (one.close_time_ms is None, one.close_time_ms or 0),
    "WorkflowType": lambda one: one.workflow_type,
}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(0, 3), st.sampled_from("XYZ")),
        max_size=25,
    ),
    st.lists(st.tuples(st.sampled_from(sorted(_ORDERS)), st.booleans()), max_size=3, unique_by=lambda one: one[0]),
    st.integers(1, 7),
)
def test_pages_of_any_size_together_are_the_whole_list_in_order(
    fields: list[tuple[int, int, int | None, str]], orders: list[tuple[str, bool]], page_size: int
) -> None:
    runs = [
        run(f"{number:02}", start_time_ms=start, history_length=length, close_time_ms=close, workflow_type=kind)
        for number, (start, length, close, kind) in enumerate(fields)
    ]
    expected = sorted(runs, key=lambda one: one.run_id)
    for name, descending in reversed(orders or [("StartTime", True)]):
        expected.sort(key=_ORDERS[name], reverse=descending)  # type: ignore[arg-type]
    text = "ORDER BY " + ", ".join(f"{name}{' DESC' if down else ''}" for name, down in orders) if orders else ""
    assert listed(index_of(runs), text, page_size) == [one.run_id for one in expected]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["eu", "us", None])), max_size=25),
    st.integers(1, 7),
    st.sampled_from(["", " ORDER BY StartTime DESC", " ORDER BY StartTime"]),
)
def test_runs_of_one_value_are_paged_in_order(fields: list[tuple[int, str | None]], page_size: int, order: str) -> None:
    runs = [
        run(
            f"{number:02}",
            start_time_ms=start,
            search_attributes={} if region is None else {"Region": attribute("Keyword", region)},
        )
        for number, (start, region) in enumerate(fields)
    ]
    expected = [one for one, (_, region) in zip(runs, fields, strict=True) if region == "eu"]
    expected.sort(key=lambda one: one.run_id)
    expected.sort(key=lambda one: one.start_time_ms, reverse=order != " ORDER BY StartTime")
    found = listed(index_of(runs), "Region = 'eu'" + order, page_size)
    assert found == [one.run_id for one in expected]


@dataclass(frozen=True)
class Goods:
    """What a run is made of, in a test of conditions that are put together."""

    start_ms: int
    region: str | None
    amount: int | None
    tags: frozenset[str]
    running: bool

    def as_run(self, run_id: str) -> ExecutionSummary:
        values = {}
        if self.region is not None:
            values["Region"] = attribute("Keyword", self.region)
        if self.amount is not None:
            values["Amount"] = attribute("Int", self.amount)
            values["Note"] = attribute("Text", ("a big box", "the Big red ball", "some ball", "")[self.amount])
        if self.tags:
            values["Tags"] = attribute("KeywordList", sorted(self.tags))
        status = WorkflowStatus.RUNNING if self.running else WorkflowStatus.FAILED
        return run(run_id, start_time_ms=self.start_ms, status=status, search_attributes=values)


_CONDITIONS: dict[str, Callable[[Goods], bool]] = {
    "Region = 'eu'": lambda goods: goods.region == "eu",
    "Region IN ('us', 'asia')": lambda goods: goods.region in ("us", "asia"),
    "Region != 'eu'": lambda goods: goods.region not in ("eu", None),
    "NOT Region = 'eu'": lambda goods: goods.region != "eu",
    "(Region = 'eu' OR Tags = 'red')": lambda goods: goods.region == "eu" or "red" in goods.tags,
    "Note = 'big ball'": lambda goods: goods.amount == 1,
    "Note != 'big ball'": lambda goods: goods.amount in (0, 2),
    "WorkflowId STARTS_WITH 'w-0'": lambda _: True,
    "StartTime <= '1970-01-01T00:00:00.002Z'": lambda goods: goods.start_ms <= 2,
    "ExecutionStatus != 'Failed'": lambda goods: goods.running,
    "Region IS NULL": lambda goods: goods.region is None,
    "Tags = 'red'": lambda goods: "red" in goods.tags,
    "Tags IN ('red', 'blue')": lambda goods: bool(goods.tags & {"red", "blue"}),
    "Amount BETWEEN 1 AND 2": lambda goods: goods.amount in (1, 2),
    "Amount > 0": lambda goods: (goods.amount or 0) > 0,
    "(Region = 'us' OR Amount = 1)": lambda goods: goods.region == "us" or goods.amount == 1,
    "ExecutionStatus = 'Running'": lambda goods: goods.running,
    "StartTime >= '1970-01-01T00:00:00.002Z'": lambda goods: goods.start_ms >= 2,
}
_GOODS = st.builds(
    Goods,
    st.integers(0, 3),
    st.sampled_from(["eu", "us", None]),
    st.none() | st.integers(0, 3),
    st.frozensets(st.sampled_from(["red", "blue", "green"])),
    st.booleans(),
)


@settings(max_examples=40)
@given(
    st.lists(_GOODS, max_size=20),
    st.lists(st.sampled_from(sorted(_CONDITIONS)), min_size=1, max_size=3),
    st.sampled_from([-1, 3, 20_000]),
    st.sampled_from([1, 4, 20_000]),
    st.sampled_from([" ORDER BY StartTime DESC", " ORDER BY StartTime", " ORDER BY StartTime, RunId"]),
    st.integers(1, 7),
)
def test_however_a_filter_is_gone_about_it_finds_the_same(
    goods: list[Goods], conditions: list[str], rare_max: int, examined_max: int, order: str, page_size: int
) -> None:
    """What counts as rare, and after how many runs a page ends, decide how runs are looked for, and nothing else."""
    found = {f"{number:02}": one for number, one in enumerate(goods)}
    expected = [id for id, one in found.items() if all(_CONDITIONS[text](one) for text in conditions)]
    expected.sort(key=lambda id: found[id].start_ms, reverse="DESC" in order)
    index = index_of([one.as_run(id) for id, one in found.items()])
    text = " AND ".join(conditions)
    examined = mock.patch.object(limits, "LIST_EXAMINED_MAX", examined_max)
    with examined, mock.patch.object(index_module, "_RARE_MAX", rare_max):
        assert listed(index, text + order, page_size) == expected
        assert index.count(text) == [(len(expected), ())]
        assert sum(count for count, _ in index.count(text + " GROUP BY ExecutionStatus")) == len(expected)


def _plan(index: ExecutionIndex, text: str, kinds: dict[str, Kind], *, rare: bool) -> list[str]:
    statement = compile_page(parse(text), text, kinds, b"", 101, lambda *_: rare)
    rows = index._database.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
    return [str(row[3]) for row in rows]


@pytest.mark.parametrize(
    ("text", "walked"),
    [
        ("", "SCAN e USING INDEX executions_by_start"),
        ("HistoryLength > 5", "SCAN e USING INDEX executions_by_start"),
        ("StartTime > '2026-01-01' AND Paused = true", "SEARCH e USING INDEX executions_by_start (start_ms>?)"),
        ("Region = 'eu'", "SEARCH attributes USING PRIMARY KEY (name=? AND value=?)"),
        ("Amount > 0 AND Region = 'eu'", "SEARCH attributes USING PRIMARY KEY (name=? AND value=?)"),
        ("Region = 'eu' AND ExecutionStatus = 'Running'", "SEARCH a USING PRIMARY KEY (name=? AND value=?)"),
        (
            "StartTime > '2026-01-01' AND ExecutionStatus = 'Failed'",
            "SEARCH e USING INDEX executions_by_status (status=? AND start_ms>?)",
        ),
        ("WorkflowType = 'Order' AND HistoryLength > 5", "SEARCH e USING INDEX executions_by_type (workflow_type=?)"),
        ("ParentWorkflowId = 'p'", "SEARCH e USING INDEX executions_by_parent (parent_workflow_id=?)"),
    ],
)
def test_what_many_runs_have_is_walked_in_order_and_neither_collected_nor_sorted(text: str, walked: str) -> None:
    index = index_of([run("a", search_attributes={"Region": attribute("Keyword", "eu")})])
    plan = _plan(index, text, {"Region": Kind.KEYWORD, "Amount": Kind.INT}, rare=False)
    assert plan[0].replace("COVERING ", "") == walked
    assert not [step for step in plan if "TEMP B-TREE" in step or "LIST SUBQUERY" in step]


def test_a_page_of_a_rare_value_looks_at_its_runs_alone() -> None:
    index = index_of([run("a", search_attributes={"Customer": attribute("Keyword", "c")})])
    text = "ExecutionStatus != 'Running' AND Customer IN ('c', 'd')"
    plan = " ".join(_plan(index, text, {"Customer": Kind.KEYWORD}, rare=True))
    assert "SEARCH attributes USING PRIMARY KEY (name=? AND value=?)" in plan
    assert "SEARCH e USING INTEGER PRIMARY KEY" in plan


def test_a_page_ends_after_so_many_runs_and_the_next_goes_on_there() -> None:
    index = index_of([run(f"{number:02}", start_time_ms=number // 2) for number in range(20)])
    with mock.patch.object(limits, "LIST_EXAMINED_MAX", 5):
        page = index.page("HistoryLength > 1000 OR RunId = '03'", 10)
        assert page.summaries == []
        assert page.next_page_token
        assert listed(index, "HistoryLength > 1000 OR RunId = '03'") == ["03"]
        assert listed(index, "HistoryLength > 1000") == []


# --- the rows -----------------------------------------------------------------------------------------------------


def test_a_run_is_its_newest_summary_and_goes_with_its_tombstone() -> None:
    index = index_of([run("a", version=3, search_attributes={"Amount": attribute("Int", 1)})])
    put(index, run("a", version=2, status=WorkflowStatus.FAILED))
    assert listed(index, "ExecutionStatus = 'Running' AND Amount = 1") == ["a"]
    put(index, run("a", version=4, search_attributes={"Amount": attribute("Int", 2)}))
    assert listed(index, "Amount = 1") == []
    assert listed(index, "Amount = 2") == ["a"]
    index.apply([Change(0, {"a": None, "never there": None}, 9, b"")])
    assert listed(index, "") == []
    assert listed(index, "Amount = 2") == []


def test_an_attribute_that_nobody_can_read_hides_nothing() -> None:
    odd = {
        "X": attribute("Int", "five"),
        "Y": attribute("Unknown", 1),
        "Z": attribute("Datetime", 5),
        "V": attribute("Int", 2**70),
    }
    index = index_of([run("a", search_attributes=odd)])
    assert listed(index, "X IS NULL AND Y IS NULL AND Z IS NULL AND V > 1") == ["a"]


# --- the file -----------------------------------------------------------------------------------------------------


def test_rows_and_places_survive_together(tmp_path: Path) -> None:
    path = tmp_path / "index" / "e.sqlite3"
    index = ExecutionIndex(path, TOPIC)
    put(index, *RUNS, partition=1, position=7)
    index.folded_ms = 1234
    index.close()
    again = ExecutionIndex(path, TOPIC)
    assert again.places() == {1: (7, b"")}
    assert again.folded_ms == 1234
    assert listed(again, "Amount = 5") == ["a"]


def test_a_run_whose_attributes_stay_keeps_their_rows_and_one_whose_start_moves_does_not() -> None:
    values = {"Tags": attribute("KeywordList", ["red", "blue"])}
    index = index_of([run("a", search_attributes=values), run("b", search_attributes=values)])
    put(index, run("a", search_attributes=values, status=WorkflowStatus.FAILED, version=2))
    put(index, run("b", search_attributes=values, start_time_ms=5_000, version=2))
    assert listed(index, "Tags = 'red'") == ["b", "a"]
    rows = index._database.execute("SELECT execution_id, value, start_ms FROM attributes ORDER BY 1, 2").fetchall()
    assert rows == [(1, "blue", 1_000), (1, "red", 1_000), (2, "blue", 5_000), (2, "red", 5_000)]


def test_a_number_that_is_none_stops_no_batch() -> None:
    odd = Payload(metadata={"encoding": b"json/plain", "type": b"Double"}, data=b"NaN")
    assert listed(index_of([run("a", search_attributes={"X": odd})]), "X IS NULL") == ["a"]


def test_a_batch_that_fails_changes_nothing(tmp_path: Path) -> None:
    index = ExecutionIndex(tmp_path / "e.sqlite3", TOPIC)
    put(index, run("a"), position=1)
    with pytest.raises(codec.DecodeError):
        index.apply([Change(0, {"b": codec.encode(run("b")), "c": b"damaged"}, 3, b"")])
    assert listed(index, "") == ["a"]
    assert index.places() == {0: (1, b"")}


@pytest.mark.parametrize("what", ["other topic", "other version", "damaged", "not a database"])
def test_a_file_that_does_not_fit_is_built_again(tmp_path: Path, what: str) -> None:
    path = tmp_path / "e.sqlite3"
    index = ExecutionIndex(path, TOPIC)
    put(index, *RUNS)
    index.close()
    if what == "other version":
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 999")
        database.close()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:1000] + b"\xff" * 500)
    elif what == "not a database":
        path.write_bytes(b"hello" * 1000)
    again = ExecutionIndex(path, "another.topic" if what == "other topic" else TOPIC)
    assert again.places() == {}
    assert listed(again, "") == []
