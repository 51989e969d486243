"""Activities: how they are marked, and what their code can ask for, through the testing environment."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from perdure import activity
from perdure._activity_context import Definition
from perdure.activity import ActivityCancellationDetails
from perdure.common import RawValue
from perdure.exceptions import CancelledError
from perdure.testing import ActivityEnvironment


def test_a_function_is_marked_with_its_name_and_types() -> None:
    @activity.defn
    async def pay(amount: int, to: str = "x") -> bool:
        return True

    @activity.defn(name="other")
    def plain() -> None: ...

    definition = Definition.must_from_callable(pay)
    assert (definition.name, definition.is_async) == ("pay", True)
    assert (definition.arg_types, definition.ret_type) == ([int, str], bool)
    other = Definition.must_from_callable(plain)
    assert (other.name, other.is_async, other.arg_types, other.ret_type) == ("other", False, [], type(None))


def test_methods_and_callable_objects_are_activities_too() -> None:
    class Bank:
        def __init__(self, name: str) -> None:
            self.name = name

        @activity.defn
        async def transfer(self, amount: int) -> str:
            return f"{self.name} {amount}"

    @activity.defn
    class Callable:
        async def __call__(self, number: int) -> int:
            return number + 1

    bound = Definition.must_from_callable(Bank("a").transfer)
    assert (bound.name, bound.is_async, bound.arg_types) == ("transfer", True, [int])
    assert asyncio.run(bound.fn(5)) == "a 5"
    assert Definition.must_from_callable(Bank.transfer).name == "transfer"
    instance = Definition.must_from_callable(Callable())
    assert (instance.name, instance.is_async, instance.arg_types) == ("Callable", True, [int])


def test_what_cannot_be_an_activity_is_refused() -> None:
    with pytest.raises(TypeError, match="keyword-only"):

        @activity.defn
        def keyword(*, a: int) -> None: ...

    with pytest.raises(ValueError, match="no name of its own"):
        activity.defn(name="x", dynamic=True)
    with pytest.raises(TypeError, match="exactly one parameter"):

        @activity.defn(dynamic=True)
        def two(a: Sequence[RawValue], b: int) -> None: ...

    with pytest.raises(ValueError, match="twice"):

        @activity.defn
        @activity.defn
        def twice() -> None: ...

    with pytest.raises(TypeError, match=r"put @activity.defn before it"):
        Definition.must_from_callable(lambda: None)


def test_a_dynamic_activity_has_no_name() -> None:
    @activity.defn(dynamic=True)
    def anything(args: Sequence[RawValue]) -> None: ...

    assert Definition.must_from_callable(anything).name is None


def test_outside_of_an_activity_everything_raises() -> None:
    assert not activity.in_activity()
    calls: list[Any] = [
        activity.info,
        activity.heartbeat,
        activity.is_cancelled,
        activity.payload_converter,
        activity.client,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="not in activity context"):
            call()


def test_a_synchronous_activity_sees_its_context() -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(ActivityEnvironment.default_info(), activity_type="mine", attempt=3)
    beats: list[Any] = []
    environment.on_heartbeat = lambda *details: beats.append(details)

    def run(number: int) -> tuple[int, int, bool]:
        activity.heartbeat("half", number)
        return number, activity.info().attempt, activity.in_activity()

    assert environment.run(run, 5) == (5, 3, True)
    assert beats == [("half", 5)]
    assert not activity.in_activity()


async def test_an_async_activity_is_cancelled_with_details() -> None:
    environment = ActivityEnvironment()
    started = asyncio.Event()

    async def run() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            assert details is not None
            return f"{activity.is_cancelled()} {details.cancel_requested}"
        return "never"

    task = asyncio.ensure_future(environment.run(run))
    await started.wait()
    environment.cancel()
    environment.cancel(ActivityCancellationDetails(timed_out=True))
    assert await task == "True True"


async def test_an_async_activity_can_wait_for_cancellation_and_shutdown() -> None:
    environment = ActivityEnvironment()

    async def run() -> bool:
        await activity.wait_for_worker_shutdown()
        return activity.is_worker_shutdown()

    task = asyncio.ensure_future(environment.run(run))
    await asyncio.sleep(0)
    environment.worker_shutdown()
    assert await task


def run_in_thread(environment: ActivityEnvironment, fn: Any) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(environment.run(fn))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_cancellation_raises_in_the_thread_of_a_synchronous_activity() -> None:
    environment = ActivityEnvironment()
    started = threading.Event()

    def run() -> None:
        started.set()
        while True:
            activity.wait_for_cancelled_sync(0.001)

    thread, outcome = run_in_thread(environment, run)
    assert started.wait(10)
    environment.cancel()
    thread.join(10)
    assert isinstance(outcome[0], CancelledError)


def test_a_shield_holds_the_exception_back_until_its_end() -> None:
    environment = ActivityEnvironment()
    started = threading.Event()
    seen: list[str] = []

    def run() -> None:
        with activity.shield_thread_cancel_exception():
            with activity.shield_thread_cancel_exception():
                started.set()
                activity.wait_for_cancelled_sync(10)
                seen.append("inner")
            seen.append("outer")
        seen.append("behind")

    thread, outcome = run_in_thread(environment, run)
    assert started.wait(10)
    environment.cancel()
    thread.join(10)
    assert seen == ["inner", "outer"]
    assert isinstance(outcome[0], CancelledError)


def test_no_exception_is_raised_where_that_was_asked_for() -> None:
    environment = ActivityEnvironment()
    started = threading.Event()

    @activity.defn(no_thread_cancel_exception=True)
    def run() -> str:
        started.set()
        activity.wait_for_cancelled_sync(10)
        return "went on"

    thread, outcome = run_in_thread(environment, run)
    assert started.wait(10)
    environment.cancel()
    thread.join(10)
    assert outcome == ["went on"]


def test_leaving_an_activity_open_is_no_exception_that_code_would_catch() -> None:
    with pytest.raises(BaseException) as caught:
        activity.raise_complete_async()
    assert not isinstance(caught.value, Exception)


def test_the_logger_adds_the_activity(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.activity")
    activity.logger.info("outside")
    ActivityEnvironment().run(lambda: activity.logger.info("inside"))
    outside, inside = caplog.records
    assert outside.getMessage() == "outside"
    assert inside.getMessage().startswith("inside (")
    assert inside.__dict__["perdure_activity"]["activity_id"] == "test"
