"""Patches: old histories take the old way, new ones the new way, and a marker may be given up later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from perdure import workflow
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, kinds, result_of, run, runner

LIMIT = timedelta(seconds=5)


def step(name: str) -> Awaitable[Any]:
    return workflow.execute_activity(name, start_to_close_timeout=LIMIT)


def made_of(body: Callable[[], Awaitable[Any]]) -> type:
    @workflow.defn(name="Patched")
    class Patched:
        @workflow.run
        async def run(self) -> Any:
            return await body()

    return Patched


async def before() -> str:
    await step("old")
    return "old way"


async def patched() -> str:
    if workflow.patched("change-1"):
        await step("new")
        assert workflow.patched("change-1")
        return "new way"
    await step("old")
    assert not workflow.patched("change-1")
    return "old way"


async def deprecated() -> str:
    workflow.deprecate_patch("change-1")
    await step("new")
    return "new way"


async def after() -> str:
    await step("new")
    return "new way"


def open_history(body: Callable[[], Awaitable[Any]]) -> History:
    driver = Driver(made_of(body))
    driver.commands()
    driver.history.complete_activity("1")
    return driver.history


def go_on(history: History, body: Callable[[], Awaitable[Any]]) -> r.WorkflowTaskCompleted | r.WorkflowTaskFailed:
    return run(runner(made_of(body)), history, history.task())


def test_new_runs_take_the_new_way_and_note_it_once() -> None:
    driver = Driver(made_of(patched))
    commands = driver.commands()
    assert kinds(commands) == ["RecordMarker", "ScheduleActivityTask"]
    driver.history.complete_activity("1")
    assert result_of(driver.commands()) == "new way"


def test_old_histories_take_the_old_way_and_stay_on_it() -> None:
    completed = go_on(open_history(before), patched)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert result_of(completed.commands) == "old way"


def test_a_history_with_the_marker_needs_the_patch() -> None:
    failed = go_on(open_history(patched), after)
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "NON_DETERMINISTIC_ERROR"
    assert "MarkerRecorded(patch_id='change-1')" in failed.failure.message


def test_patched_histories_replay_with_the_deprecated_patch() -> None:
    completed = go_on(open_history(patched), deprecated)
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert result_of(completed.commands) == "new way"


def test_histories_of_a_deprecated_patch_replay_with_and_without_it() -> None:
    for body in (deprecated, after, patched):
        completed = go_on(open_history(deprecated), body)
        assert isinstance(completed, r.WorkflowTaskCompleted)
        assert result_of(completed.commands) == "new way"


def test_histories_without_any_marker_replay_with_a_deprecated_patch() -> None:
    completed = go_on(open_history(after), deprecated)
    assert isinstance(completed, r.WorkflowTaskCompleted)


def test_a_patch_that_is_met_only_later_in_a_run_is_on() -> None:
    async def late() -> str:
        await step("old")
        if workflow.patched("late"):
            await step("new")
        return "done"

    driver = Driver(made_of(before))
    driver.commands()
    driver.history.complete_activity("1")
    driver.workflow = made_of(late)
    driver.runner = driver.new_runner()
    assert kinds(driver.commands()) == ["RecordMarker", "ScheduleActivityTask"]
    driver.history.complete_activity("2")
    assert result_of(driver.commands()) == "done"
