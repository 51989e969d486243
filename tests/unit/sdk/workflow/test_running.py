"""What a workflow does step by step: activities, timers, conditions, and the result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from perdure import activity, exceptions, workflow
from perdure.common import Priority, RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, RetryState, TimeoutType
from perdure_schemas import records as r
from tests.support.history_builder import Driver, kinds, payloads, result_of, values

LIMIT = timedelta(seconds=5)


@dataclass
class Order:
    order_id: str
    amount: int


@activity.defn
async def reserve(order: Order) -> Order:
    raise NotImplementedError("only its name and types are used")


@activity.defn(name="send-mail")
def notify(to: str, text: str) -> None:
    raise NotImplementedError("only its name and types are used")


class Bank:
    @activity.defn
    async def transfer(self, order: Order) -> str:
        raise NotImplementedError("only its name and types are used")


@activity.defn
class Refund:
    async def __call__(self, amount: int) -> int:
        raise NotImplementedError("only its name and types are used")


@workflow.defn
class OneActivity:
    @workflow.run
    async def run(self, order: Order) -> str:
        reserved = await workflow.execute_activity(reserve, order, start_to_close_timeout=LIMIT)
        assert isinstance(reserved, Order)
        return f"{reserved.order_id}:{reserved.amount}"


def test_an_activity_is_scheduled_and_its_typed_result_returned() -> None:
    driver = Driver(OneActivity, Order("a", 1))
    (command,) = driver.commands()
    assert isinstance(command, r.ScheduleActivityTask)
    options = command.options
    assert (options.activity_id, options.activity_type, options.task_queue) == ("1", "reserve", "queue")
    assert options.start_to_close_timeout_ms == 5_000
    assert options.schedule_to_close_timeout_ms is None
    assert options.retry_policy == r.RetryPolicy()
    assert values(options.input) == [{"order_id": "a", "amount": 1}]
    driver.history.complete_activity("1", {"order_id": "b", "amount": 2})
    assert result_of(driver.commands()) == "b:2"


def test_a_completion_says_what_it_saw_and_which_logic_it_uses() -> None:
    driver = Driver(OneActivity, Order("a", 1))
    first = driver.step()
    assert (first.scheduled_event_id, first.last_event_id, first.attempt) == (2, 2, 1)
    assert first.sticky_worker_id == "worker-1"
    assert first.sdk_flags == [1]
    driver.history.complete_activity("1", {"order_id": "b", "amount": 2})
    assert driver.step().sdk_flags == []


@workflow.defn
class AllOptions:
    @workflow.run
    async def run(self) -> None:
        config = workflow.ActivityConfig(
            task_queue="other",
            schedule_to_close_timeout=timedelta(minutes=1),
            schedule_to_start_timeout=timedelta(seconds=2),
            heartbeat_timeout=timedelta(milliseconds=500),
            retry_policy=RetryPolicy(maximum_attempts=3),
            activity_id="mine",
            summary="a line",
            priority=Priority(priority_key=1, fairness_key="tenant", fairness_weight=2.0),
        )
        await workflow.execute_activity(notify, args=["a@b", "hi"], **config)
        await workflow.execute_activity("unknown here", 1, result_type=int, start_to_close_timeout=LIMIT)
        await workflow.execute_activity_method(Bank.transfer, Order("a", 1), start_to_close_timeout=LIMIT)
        await workflow.execute_activity_class(Refund, 3, start_to_close_timeout=LIMIT)
        handle = workflow.start_activity_method(Bank.transfer, Order("b", 1), start_to_close_timeout=LIMIT)
        other = workflow.start_activity_class(Refund, 4, start_to_close_timeout=LIMIT)
        await asyncio.gather(handle, other)


def test_activity_options_and_ways_to_name_an_activity() -> None:
    driver = Driver(AllOptions)
    (first,) = driver.commands()
    assert isinstance(first, r.ScheduleActivityTask)
    assert first.options == r.ActivityOptions(
        activity_id="mine",
        activity_type="send-mail",
        task_queue="other",
        input=payloads("a@b", "hi"),
        schedule_to_close_timeout_ms=60_000,
        schedule_to_start_timeout_ms=2_000,
        heartbeat_timeout_ms=500,
        retry_policy=r.RetryPolicy(maximum_attempts=3),
        priority=1,
        fairness_key="tenant",
        fairness_weight=2.0,
        summary=payloads("a line")[0],
    )
    names = []
    for activity_id, result in (("mine", None), ("2", 1), ("3", "done")):
        driver.history.complete_activity(activity_id, result)
        (command,) = driver.commands()
        assert isinstance(command, r.ScheduleActivityTask)
        names.append(command.options.activity_type)
    assert names == ["unknown here", "transfer", "Refund"]
    driver.history.complete_activity("4", 1)
    assert [c.options.activity_id for c in driver.commands() if isinstance(c, r.ScheduleActivityTask)] == ["5", "6"]
    driver.history.complete_activity("6", 4)
    driver.history.complete_activity("5", "done")
    assert result_of(driver.commands()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "start_to_close_timeout or schedule_to_close_timeout"),
        ({"start_to_close_timeout": timedelta(seconds=-1)}, "start_to_close_timeout"),
        ({"start_to_close_timeout": 5}, "timedelta"),
        ({"start_to_close_timeout": LIMIT, "args": [1], "arg": 2}, "not both"),
    ],
)
def test_wrong_activity_options_say_what_is_wrong(options: dict[str, object], message: str) -> None:
    @workflow.defn(name="wrong-options")
    class Wrong:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity("any", **options)  # type: ignore[call-overload]

    failed = Driver(Wrong).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert message in failed.failure.message


def test_a_function_that_is_no_activity_is_refused() -> None:
    async def plain() -> None: ...

    @workflow.defn
    class CallsPlain:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(plain, start_to_close_timeout=LIMIT)

    failed = Driver(CallsPlain).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "@activity.defn" in failed.failure.message


@workflow.defn
class Careful:
    @workflow.run
    async def run(self) -> list[object]:
        try:
            await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        except ActivityError as error:
            cause = error.cause
            assert isinstance(cause, (ApplicationError, exceptions.TimeoutError))
            return [error.activity_id, error.activity_type, error.retry_state, type(cause).__name__, cause.type]
        return []


def test_a_failed_activity_raises_an_activity_error_with_its_cause() -> None:
    driver = Driver(Careful)
    driver.commands()
    driver.history.fail_activity("1", "out of stock", "NoStock")
    state = RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert result_of(driver.commands()) == ["1", "step", state, "ApplicationError", "NoStock"]


def test_a_timed_out_activity_raises_an_activity_error_caused_by_a_timeout() -> None:
    driver = Driver(Careful)
    driver.commands()
    driver.history.time_out_activity("1", r.TimeoutType.HEARTBEAT)
    assert result_of(driver.commands()) == ["1", "step", RetryState.TIMEOUT, "TimeoutError", TimeoutType.HEARTBEAT]


# --- timers -----------------------------------------------------------------------------------------------------------


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> list[float]:
        begin = workflow.time()
        await asyncio.sleep(5)
        await workflow.sleep(timedelta(milliseconds=1.2), summary="a nap")
        await asyncio.sleep(0)
        await workflow.sleep(0)
        await workflow.sleep(-3)
        return [begin, workflow.time()]


def test_sleeps_are_durable_timers_in_whole_milliseconds_and_zero_is_none() -> None:
    driver = Driver(Sleeper)
    begin = driver.history.clock_ms
    assert driver.commands() == [r.StartTimer(timer_id="1", start_to_fire_timeout_ms=5_000)]
    driver.history.pass_time(5_000)
    driver.history.fire_timer("1")
    assert driver.commands() == [r.StartTimer(timer_id="2", start_to_fire_timeout_ms=2, summary=payloads("a nap")[0])]
    driver.history.pass_time(2)
    driver.history.fire_timer("2")
    assert result_of(driver.commands()) == [begin / 1000, (begin + 5_002) / 1000]


@workflow.defn
class TimeLimits:
    @workflow.run
    async def run(self, way: str) -> str:
        try:
            if way == "wait_for":
                await asyncio.wait_for(asyncio.Event().wait(), timeout=5)
            elif way == "timeout":
                async with asyncio.timeout(5):
                    await asyncio.Event().wait()
            else:
                await workflow.wait_condition(lambda: False, timeout=timedelta(seconds=5), timeout_summary="s")
        except TimeoutError:
            return "too late"
        return "in time"


@pytest.mark.parametrize("way", ["wait_for", "timeout", "wait_condition"])
def test_time_limits_are_durable_timers_that_raise(way: str) -> None:
    driver = Driver(TimeLimits, way)
    (timer,) = driver.commands()
    assert isinstance(timer, r.StartTimer)
    assert timer.start_to_fire_timeout_ms == 5_000
    driver.history.pass_time(5_000)
    driver.history.fire_timer("1")
    assert result_of(driver.commands()) == "too late"


@workflow.defn
class InTime:
    @workflow.run
    async def run(self, way: str) -> str:
        step = workflow.execute_activity("step", result_type=str, start_to_close_timeout=LIMIT)
        if way == "wait_for":
            return str(await asyncio.wait_for(step, timeout=5))
        async with asyncio.timeout(5):
            return str(await step)


@pytest.mark.parametrize("way", ["wait_for", "timeout"])
def test_what_is_done_in_time_cancels_the_timer(way: str) -> None:
    driver = Driver(InTime, way)
    assert sorted(kinds(driver.commands())) == ["ScheduleActivityTask", "StartTimer"]
    driver.history.complete_activity("1", "done")
    commands = driver.commands()
    assert commands[0] == r.CancelTimer(timer_id="1")
    assert result_of(commands) == "done"


@workflow.defn
class LateActivity:
    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.wait_for(workflow.execute_activity("slow", start_to_close_timeout=LIMIT), timeout=1)
        except ActivityError as error:
            return type(error.cause).__name__
        return "in time"


def test_an_activity_that_misses_wait_for_is_cancelled_and_says_so() -> None:
    driver = Driver(LateActivity)
    driver.commands()
    driver.history.fire_timer("1")
    commands = driver.commands()
    assert kinds(commands) == ["RequestCancelActivityTask", "CompleteWorkflowExecution"]
    assert result_of(commands) == "CancelledError"


def test_a_timer_cancelled_in_the_step_that_started_it_never_reaches_the_engine() -> None:
    @workflow.defn
    class Fickle:
        @workflow.run
        async def run(self) -> None:
            handle = asyncio.get_running_loop().call_later(5, lambda: None)
            handle.cancel()
            task = asyncio.create_task(asyncio.sleep(3))
            await asyncio.sleep(0)
            task.cancel()
            await workflow.wait([task])

    assert kinds(Driver(Fickle).commands()) == ["CompleteWorkflowExecution"]


# --- conditions -------------------------------------------------------------------------------------------------------


@workflow.defn
class Turnstile:
    """Each waiter takes the one token there is: waking all of them at once would let several through."""

    def __init__(self) -> None:
        self.free = False
        self.order: list[int] = []

    @workflow.run
    async def run(self) -> list[int]:
        tasks = [asyncio.create_task(self.enter(number)) for number in range(4)]
        await asyncio.gather(*tasks)
        return self.order

    async def enter(self, number: int) -> None:
        await workflow.wait_condition(lambda: self.free)
        self.free = False
        self.order.append(number)

    @workflow.signal
    def token(self) -> None:
        assert not self.free
        self.free = True


def test_conditions_are_met_one_at_a_time_in_the_order_of_waiting() -> None:
    driver = Driver(Turnstile)
    driver.commands()
    for _ in range(3):
        driver.history.signal("token")
        assert driver.commands() == []
    driver.history.signal("token")
    assert result_of(driver.commands()) == [0, 1, 2, 3]


def test_a_condition_that_is_met_already_starts_no_timer() -> None:
    @workflow.defn
    class Ready:
        @workflow.run
        async def run(self) -> str:
            await workflow.wait_condition(lambda: True, timeout=10)
            try:
                await workflow.wait_condition(lambda: False, timeout=0)
            except TimeoutError:
                return "at once"
            return "no"

    commands = Driver(Ready).commands()
    assert kinds(commands) == ["CompleteWorkflowExecution"]
    assert result_of(commands) == "at once"


def test_a_condition_that_fails_or_writes_raises_where_it_is_waited_for() -> None:
    @workflow.defn
    class BadConditions:
        def __init__(self) -> None:
            self.go = False

        @workflow.run
        async def run(self) -> list[str]:
            names = []
            for condition in (self.divides, self.schedules):
                try:
                    await workflow.wait_condition(condition)
                except Exception as error:
                    names.append(type(error).__name__)
            return names

        def divides(self) -> bool:
            return bool(self.go and 1 // 0)

        def schedules(self) -> bool:
            workflow.start_activity("any", start_to_close_timeout=LIMIT)
            return True

        @workflow.signal
        def start(self) -> None:
            self.go = True

    driver = Driver(BadConditions)
    assert driver.commands() == []
    driver.history.signal("start")
    assert result_of(driver.commands()) == ["ZeroDivisionError", "ReadOnlyContextError"]
