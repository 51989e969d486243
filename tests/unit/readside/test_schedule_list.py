"""Schedules in the index: listed by id, filtered and in pages, apart from workflows, in their newest state."""

from __future__ import annotations

import pytest

from perdure_readside.filters import FilterError
from perdure_readside.index import Change, ExecutionIndex
from perdure_schemas import codec
from perdure_schemas.records import ExecutionSummary, Payload, ScheduleSpec, ScheduleSummary, WorkflowStatus
from tests.unit.readside.runs import attribute, index_of, listed, put, run


def schedule(
    schedule_id: str, *, version: int = 1, note: str = "", paused: bool = False, **fields: object
) -> ExecutionSummary:
    shown = ScheduleSummary(
        schedule_id=schedule_id, workflow_type="Report", spec=ScheduleSpec(), note=note, paused=paused
    )
    return run(f"run-{schedule_id}", version=version, schedule=shown, **fields)


def owned_by(team: str, rank: int = 0) -> dict[str, Payload]:
    return {"Team": attribute("Keyword", team), "Rank": attribute("Int", rank)}


def pages(index: ExecutionIndex, page_size: int, text: str = "") -> list[list[str]]:
    """The ids and notes of each page."""
    found: list[list[str]] = []
    token = b""
    while True:
        page = index.schedules(text, page_size, token)
        shown = [codec.decode_as(value, ExecutionSummary).schedule for value in page.summaries]
        found.append([f"{entry.schedule_id}{entry.note}" for entry in shown if entry is not None])
        token = page.next_page_token
        if not token:
            return found


def test_schedules_are_listed_by_id_apart_from_workflows() -> None:
    index = index_of([run("a"), schedule("nightly"), schedule("daily"), schedule("weekly")])
    assert listed(index, "") == ["a"]
    assert index.count("") == [(1, ())]
    assert pages(index, 10) == [["daily", "nightly", "weekly"]]
    assert pages(index, 2) == [["daily", "nightly"], ["weekly"]]
    assert pages(index, 1) == [["daily"], ["nightly"], ["weekly"]]


def test_the_newest_state_counts_and_a_removed_one_is_gone() -> None:
    index = index_of([schedule("a", version=2, note="!"), schedule("b")])
    put(index, schedule("a", version=1, note="old"))
    assert pages(index, 10) == [["a!", "b"]]
    index.apply([Change(0, {"run-b": None}, 3, b"")])
    put(index, schedule("a", version=3, status=WorkflowStatus.TERMINATED))
    assert pages(index, 10) == [[]]
    put(index, schedule("a"))
    index.clear()
    assert pages(index, 10) == [[]]


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(FilterError, match="page token"):
        index_of([]).schedules("", 10, b"\xff")


OWNED = [
    schedule("a-1", paused=True, search_attributes=owned_by("payments", 1)),
    schedule("a-2", search_attributes=owned_by("payments", 2)),
    schedule("b-1", search_attributes=owned_by("risk", 3)),
    schedule("b-2", paused=True),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("TemporalSchedulePaused = true", ["a-1", "b-2"]),
        ("Paused = false", ["a-2", "b-1"]),
        ("ScheduleId = 'a-2'", ["a-2"]),
        ("ScheduleId STARTS_WITH 'b-'", ["b-1", "b-2"]),
        ("ScheduleId IN ('a-1', 'b-2', 'none')", ["a-1", "b-2"]),
        ("Team = 'payments'", ["a-1", "a-2"]),
        ("Team = 'payments' AND NOT Paused = true", ["a-2"]),
        ("Team != 'payments'", ["b-1"]),
        ("Team IS NULL", ["b-2"]),
        ("Rank BETWEEN 2 AND 3 OR Paused = true", ["a-1", "a-2", "b-1", "b-2"]),
        ("Nothing = 'has this'", []),
    ],
)
def test_a_filter_says_which_are_listed(text: str, found: list[str]) -> None:
    index = index_of([*OWNED, run("w", search_attributes=owned_by("payments"))])
    assert pages(index, 10, text) == [found]
    assert [name for page in pages(index, 1, text) for name in page] == found
    assert listed(index, "Team = 'payments'") == ["w"]


def test_a_filter_sees_the_newest_state() -> None:
    index = index_of(OWNED)
    put(index, schedule("a-1", version=2, search_attributes=owned_by("risk")))
    assert pages(index, 10, "Team = 'risk' AND Paused = false") == [["a-1", "b-1"]]
    put(index, schedule("b-1", version=2, status=WorkflowStatus.TERMINATED))
    index.apply([Change(0, {"run-a-1": None}, 9, b"")])
    assert pages(index, 10, "Team = 'risk'") == [[]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WorkflowType = 'Report'", "WorkflowType is of runs; schedules have ScheduleId"),
        ("TemporalSchedulePaused = 'yes'", "compare it with true or false"),
        ("scheduleid = 'a'", "did you mean ScheduleId?"),
        ("ScheduleId = 'a' ORDER BY ScheduleId", "leave out ORDER BY"),
        ("GROUP BY Paused", "leave out ORDER BY and GROUP BY"),
        ("ScheduleId =", "the filter ends too early"),
    ],
)
def test_a_wrong_filter_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message.replace("?", r"\?")):
        index_of(OWNED).schedules(text, 10)
