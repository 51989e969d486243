"""asyncio in a workflow: what works, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure._runtime.loop import WorkflowLoop, milliseconds_of
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, result_of

LIMIT = timedelta(seconds=5)


def step(name: str) -> Awaitable[Any]:
    return workflow.execute_activity(name, start_to_close_timeout=LIMIT)


def finishing(body: Callable[[], Awaitable[Any]]) -> Any:
    """The result of a workflow that needs nothing from outside."""

    @workflow.defn(name="inline")
    class Inline:
        @workflow.run
        async def run(self) -> Any:
            return await body()

    return result_of(Driver(Inline).commands())


@workflow.defn
class Gathers:
    @workflow.run
    async def run(self) -> list[Any]:
        first, *rest = await asyncio.gather(step("a"), asyncio.sleep(1), step("b"), step("c"))
        return [first, *rest]


def test_gather_starts_in_order_and_results_stand_in_that_order() -> None:
    driver = Driver(Gathers)
    commands = driver.commands()
    assert kinds(commands) == ["ScheduleActivityTask", "StartTimer", "ScheduleActivityTask", "ScheduleActivityTask"]
    assert [c.options.activity_type for c in commands if isinstance(c, r.ScheduleActivityTask)] == ["a", "b", "c"]
    driver.history.complete_activity("3", "C")
    driver.history.fire_timer("1")
    driver.history.complete_activity("1", "A")
    assert driver.commands() == []
    driver.history.complete_activity("2", "B")
    assert result_of(driver.commands()) == ["A", None, "B", "C"]


@workflow.defn
class AsTheyCome:
    @workflow.run
    async def run(self, way: str) -> list[Any]:
        handles = [workflow.start_activity(name, start_to_close_timeout=LIMIT) for name in "abcd"]
        seen: list[Any] = []
        if way == "as_completed":
            for next_done in workflow.as_completed(handles):
                seen.append(await next_done)
        elif way == "asyncio.as_completed":
            for next_done in asyncio.as_completed(handles):
                seen.append(await next_done)
        else:
            pending = handles
            while pending:
                done, pending = await workflow.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                seen.append([await one for one in done])
        return seen


@pytest.mark.parametrize("way", ["as_completed", "asyncio.as_completed"])
def test_as_completed_follows_the_order_of_the_history(way: str) -> None:
    driver = Driver(AsTheyCome, way)
    driver.commands()
    for activity_id, result in (("3", "C"), ("1", "A"), ("4", "D")):
        driver.history.complete_activity(activity_id, result)
    assert driver.commands() == []
    driver.history.complete_activity("2", "B")
    assert result_of(driver.commands()) == ["C", "A", "D", "B"]


def test_wait_returns_lists_in_the_given_order() -> None:
    driver = Driver(AsTheyCome, "wait")
    driver.commands()
    driver.history.complete_activity("4", "D")
    driver.history.complete_activity("2", "B")
    assert driver.commands() == []
    driver.history.complete_activity("3", "C")
    driver.commands()
    driver.history.complete_activity("1", "A")
    assert result_of(driver.commands()) == [["B", "D"], ["C"], ["A"]]


def test_wait_knows_when_it_has_enough() -> None:
    async def body() -> list[Any]:
        async def fail() -> None:
            raise ValueError("no")

        fail_task = asyncio.create_task(fail())
        forever = asyncio.create_task(asyncio.Event().wait())
        done, pending = await workflow.wait([forever, fail_task], return_when=asyncio.FIRST_EXCEPTION)
        assert (done, pending) == ([fail_task], [forever])
        again, _ = await workflow.wait([fail_task, forever], return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(ValueError, match="no"):
            await again[0]
        with pytest.raises(ValueError, match="nothing"):
            await workflow.wait([])
        with pytest.raises(TypeError, match="single"):
            await workflow.wait(forever)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="return_when"):
            await workflow.wait([forever], return_when="SOON")
        coroutine = fail()
        with pytest.raises(TypeError, match="coroutines"):
            await workflow.wait([coroutine])  # type: ignore[type-var]
        coroutine.close()
        forever.cancel()
        return [len(done), len(pending)]

    assert finishing(body) == [1, 1]


@workflow.defn
class WaitsBounded:
    @workflow.run
    async def run(self, way: str) -> list[Any]:
        handles = [workflow.start_activity(name, start_to_close_timeout=LIMIT) for name in "ab"]
        if way == "wait":
            done, pending = await workflow.wait(handles, timeout=3)
            return [len(done), len(pending)]
        seen: list[Any] = []
        for next_done in workflow.as_completed(handles, timeout=3):
            try:
                seen.append(await next_done)
            except TimeoutError:
                seen.append("late")
        return seen


@pytest.mark.parametrize(("way", "expected"), [("wait", [1, 1]), ("as_completed", ["B", "late"])])
def test_waiting_for_several_can_be_limited(way: str, expected: list[Any]) -> None:
    driver = Driver(WaitsBounded, way)
    assert kinds(driver.commands())[-1] == "StartTimer"
    driver.history.complete_activity("2", "B")
    driver.commands()
    driver.history.fire_timer("1")
    assert result_of(driver.commands()) == expected


@pytest.mark.parametrize("way", ["wait", "as_completed"])
def test_the_limit_is_cancelled_when_all_are_done(way: str) -> None:
    driver = Driver(WaitsBounded, way)
    driver.commands()
    driver.history.complete_activity("1", "A")
    driver.history.complete_activity("2", "B")
    assert kinds(driver.commands()) == ["CancelTimer", "CompleteWorkflowExecution"]


def test_locks_semaphores_queues_and_events_work() -> None:
    async def body() -> list[str]:
        log: list[str] = []
        lock, semaphore = asyncio.Lock(), asyncio.Semaphore(2)
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        event = asyncio.Event()

        async def worker(name: str) -> None:
            async with semaphore:
                await asyncio.sleep(0)
                async with lock:
                    log.append(name)
                    await asyncio.sleep(0)
            await queue.put(name)

        async def reader() -> None:
            for _ in range(3):
                log.append(f"got {await queue.get()}")
            event.set()

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))
            group.create_task(reader())
        await event.wait()
        return log

    log = finishing(body)
    assert [entry for entry in log if len(entry) == 1] == ["a", "b", "c"]
    assert [entry for entry in log if len(entry) > 1] == ["got a", "got b", "got c"]


def test_tasks_in_sets_are_iterated_in_the_same_order_on_replay() -> None:
    @workflow.defn
    class Sets:
        @workflow.run
        async def run(self) -> list[str]:
            tasks = {asyncio.create_task(asyncio.sleep(0), name=f"t{number}") for number in range(20)}
            done, _ = await asyncio.wait(tasks)
            # The driver compares what this returns with a replay, where tasks are other objects.
            return [task.get_name() for task in done]

    assert len(result_of(Driver(Sets).commands())) == 20


def test_calls_of_the_loop_run_in_order() -> None:
    async def body() -> list[Any]:
        loop = asyncio.get_running_loop()
        log: list[Any] = []
        loop.call_soon(log.append, 1)
        loop.call_later(0, log.append, 2)
        loop.call_at(loop.time() - 5, log.append, 3)
        loop.call_soon(log.append, 4).cancel()
        await asyncio.sleep(0)
        return [*log, loop.is_running(), loop.is_closed(), loop.get_debug()]

    assert finishing(body) == [1, 2, 3, True, False, False]


def test_everything_else_of_the_loop_is_refused_with_a_reason() -> None:
    @workflow.defn
    class DoesIO:
        @workflow.run
        async def run(self) -> None:
            await asyncio.get_running_loop().run_in_executor(None, print)

    failed = Driver(DoesIO).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "run_in_executor() is not available in a workflow" in failed.failure.message
    names = [name for name, value in vars(asyncio.AbstractEventLoop).items() if callable(value)]
    own = [name for base in WorkflowLoop.__mro__[:-2] for name in vars(base)]
    assert not [name for name in names if name not in own and not name.startswith("__")]


@pytest.mark.parametrize(
    ("delay", "expected"), [(0.0001, 1), (0.001, 1), (0.0011, 2), (5.0, 5_000), (5.0000002, 5_000), (1e-9, 1)]
)
def test_delays_are_whole_milliseconds_rounded_up_but_for_float_noise(delay: float, expected: int) -> None:
    assert milliseconds_of(delay) == expected


def test_a_workflow_may_run_while_another_loop_runs() -> None:
    async def outer() -> Any:
        inner = finishing(lambda: asyncio.sleep(0, "inner"))
        return inner, asyncio.get_running_loop().is_running()

    assert asyncio.run(outer()) == ("inner", True)
