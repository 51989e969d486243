"""The cache of runs: what is kept, what goes first, and how a run that goes is torn down."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from perdure import workflow
from perdure._runtime.errors import HistoryIncompleteError
from perdure_schemas import records as r
from tests.support.history_builder import History, kinds, run, runner

LIMIT = timedelta(seconds=5)


@workflow.defn
class Waits:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        return "done"


def _start(one: object, run_id: str, workflow_type: str = "Waits") -> History:
    history = History(workflow_type, run_id=run_id)
    completed = run(one, history, history.task())  # type: ignore[arg-type]
    assert isinstance(completed, r.WorkflowTaskCompleted), completed.failure
    history.apply(completed)
    return history


def test_the_run_used_longest_ago_goes_first() -> None:
    cache = runner(Waits, max_cached_workflows=2)
    first, second = _start(cache, "one"), _start(cache, "two")
    assert cache.cached_count == 2
    assert (cache.next_event_id("one"), cache.next_event_id("two"), cache.next_event_id("three")) == (3, 3, 1)
    cache.query("wf", "one", first.query_task("__stack_trace"), first.records)
    third = _start(cache, "three")
    assert cache.cached_count == 2
    assert cache.next_event_id("two") == 1
    assert cache.next_event_id("one") == first.last_event_id + 1
    for history in (first, second, third):
        history.complete_activity("1")
        completed = run(cache, history, history.task())
        assert isinstance(completed, r.WorkflowTaskCompleted)
        assert kinds(completed.commands) == ["CompleteWorkflowExecution"]


def test_histories_of_cached_runs_have_no_more_bytes_together_than_allowed() -> None:
    cache = runner(Waits, max_cached_history_bytes=1000)
    histories = []
    for run_id, history_bytes in (("one", 400), ("two", 500), ("three", 300), ("four", 1200)):
        history = History("Waits", run_id=run_id)
        history.history_bytes = history_bytes
        completed = run(cache, history, history.task())
        assert isinstance(completed, r.WorkflowTaskCompleted), completed.failure
        history.apply(completed)
        histories.append((history, cache.cached_count))
    # Two fit; the third sends the first away; the fourth fits by no means.
    assert [count for _, count in histories] == [1, 2, 2, 0]
    history = histories[0][0]
    history.complete_activity("1")
    history.history_bytes = 900
    completed = run(cache, history, history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands) == ["CompleteWorkflowExecution"]
    assert cache.cached_count == 1
    # What a run has grown to counts, not the sum of what it was.
    other = History("Waits", run_id="five")
    other.history_bytes = 100
    assert isinstance(run(cache, other, other.task()), r.WorkflowTaskCompleted)
    assert cache.cached_count == 2
    cache.evict_all()
    assert cache.cached_count == 0
    with pytest.raises(ValueError, match="max_cached_history_bytes is 0; it must be 1 or more"):
        runner(Waits, max_cached_history_bytes=0)


def test_without_a_cache_every_task_is_replayed_and_not_sticky() -> None:
    cache = runner(Waits, max_cached_workflows=0)
    history = History("Waits")
    completed = run(cache, history, history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert completed.sticky_worker_id == ""
    assert cache.cached_count == 0
    history.apply(completed)
    history.complete_activity("1")
    completed = run(cache, history, history.task())
    assert isinstance(completed, r.WorkflowTaskCompleted)
    assert kinds(completed.commands) == ["CompleteWorkflowExecution"]


def test_evicting_is_harmless_for_unknown_runs_and_can_be_for_all() -> None:
    cache = runner(Waits)
    cache.evict("unknown")
    _start(cache, "one")
    _start(cache, "two")
    cache.evict("one")
    assert cache.cached_count == 1
    cache.evict_all()
    assert cache.cached_count == 0


@workflow.defn
class WaitsForMuch:
    @workflow.run
    async def run(self) -> None:
        self.go = False
        async with asyncio.TaskGroup() as group:
            group.create_task(workflow.wait_condition(lambda: self.go))
            group.create_task(asyncio.sleep(60))
            await asyncio.gather(workflow.execute_activity("step", start_to_close_timeout=LIMIT), self.locks())

    async def locks(self) -> None:
        async with asyncio.timeout(5), asyncio.Lock():
            await asyncio.Event().wait()


@pytest.mark.parametrize("workflow_class", [Waits, WaitsForMuch])
def test_a_run_that_leaves_the_cache_is_freed_without_the_garbage_collector(workflow_class: type) -> None:
    cache = runner(workflow_class)
    _start(cache, "one", workflow_class.__name__)
    instance = cache._runs["one"].instance
    assert instance is not None
    parts = [weakref.ref(part) for part in (instance, instance.object, instance.loop, *instance.loop.pending_tasks())]
    assert len(parts) > 3
    gc.disable()
    try:
        del instance
        cache.evict("one")
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


def test_the_code_of_an_evicted_run_is_ended_here_and_now_and_can_do_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def noted() -> AsyncIterator[None]:
        try:
            yield
        finally:
            log.append("left")

    @workflow.defn
    class Stubborn:
        @workflow.run
        async def run(self) -> None:
            self.event = asyncio.Event()
            tasks = [
                asyncio.create_task(body()) for body in (self.cleans_up, self.stays, self.swallows, self.cancelled)
            ]
            async with noted(), asyncio.TaskGroup() as group:
                group.create_task(self.event.wait())
                await asyncio.gather(*tasks)

        async def cleans_up(self) -> None:
            try:
                async with asyncio.timeout(10), asyncio.Lock():
                    await self.event.wait()
            finally:
                log.append("cleaning")
                await workflow.execute_activity("undo", start_to_close_timeout=LIMIT)
                log.append("never")

        async def stays(self) -> None:
            try:
                await self.event.wait()
            finally:
                await asyncio.sleep(1)
                log.append("never")

        async def swallows(self) -> None:
            for _ in range(150):
                try:
                    await self.event.wait()
                except BaseException:
                    log.append("swallowed")

        async def cancelled(self) -> None:
            try:
                await self.event.wait()
            except asyncio.CancelledError:
                log.append("never")

    cache = runner(Stubborn)
    _start(cache, "one", "Stubborn")
    cache.evict("one")
    gc.collect()
    assert "left" in log
    assert "cleaning" in log
    assert "never" not in log
    # Nothing ends code that swallows everything, but it is not waited for.
    assert log.count("swallowed") == 100
    assert "cannot be ended" in caplog.text
    assert asyncio._get_running_loop() is None
    assert "was destroyed" not in caplog.text


def test_missing_history_is_asked_for_from_where_the_cache_ends() -> None:
    """What is fetched takes the place of what the task came with, so a part that travels is fetched, too."""
    cache = runner(Waits, max_cached_workflows=2)
    history = _start(cache, "one")
    cached_to = cache.next_event_id("one")
    for number in range(5):
        history.signal(f"s{number}")
    history.complete_activity("1")
    task = history.task()
    whole = list(history.records)
    with pytest.raises(HistoryIncompleteError) as incomplete:
        cache.run_task(history.workflow_id, history.run_id, task, whole[:-3], history.clock_ms)
    assert incomplete.value.first_event_id == cached_to
