"""Schedules in the index: listed by id and in pages, apart from workflows, in their newest state, until they go."""

from __future__ import annotations

import pytest

from perdure_readside.filters import FilterError
from perdure_readside.index import Change, ExecutionIndex
from perdure_schemas import codec
from perdure_schemas.records import ExecutionSummary, ScheduleSpec, ScheduleSummary, WorkflowStatus
from tests.unit.readside.runs import index_of, listed, put, run


def schedule(schedule_id: str, *, version: int = 1, note: str = "", **fields: object) -> ExecutionSummary:
    shown = ScheduleSummary(schedule_id=schedule_id, workflow_type="Report", spec=ScheduleSpec(), note=note)
    return run(f"run-{schedule_id}", version=version, schedule=shown, **fields)


def pages(index: ExecutionIndex, page_size: int) -> list[list[str]]:
    """The ids and notes of each page."""
    found: list[list[str]] = []
    token = b""
    while True:
        page = index.schedules(page_size, token)
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
        index_of([]).schedules(10, b"\xff")
