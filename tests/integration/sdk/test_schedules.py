"""Schedules as users see them: made, fired by hand and by the clock, changed, listed, removed; and through restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from perdure import client as client_module
from perdure import workflow
from perdure.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    RPCError,
    RPCStatusCode,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from perdure.common import (
    Payload,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from perdure_runtime.embedded import EmbeddedLog
from perdure_schemas.topics import TopicNames
from tests.support.auditing import assert_sound
from tests.support.platform import running_engine

DEADLINE_S = 60.0
#: Years ahead of any clock, so that nothing fires by itself.
FAR = datetime(2090, 1, 1, tzinfo=UTC)
OWNER = SearchAttributeKey.for_keyword("Owner")


@workflow.defn
class Report:
    @workflow.run
    async def run(self, name: str) -> str:
        before = workflow.get_last_completion_result(str) if workflow.has_last_completion_result() else "nothing"
        return f"{name} after {before}"


@workflow.defn
class Waits:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


def action(task_queue: str, **fields: Any) -> ScheduleActionStartWorkflow:
    return ScheduleActionStartWorkflow(Report.run, "report", id=f"r-{task_queue}", task_queue=task_queue, **fields)


def far_calendar() -> ScheduleSpec:
    """Every day at 6:30 in Zurich, from 2090 on."""
    six = ScheduleCalendarSpec(hour=(ScheduleRange(6),), minute=(ScheduleRange(30),), comment="early")
    return ScheduleSpec(calendars=[six], start_at=FAR, time_zone_name="Europe/Zurich")


async def until(handle: ScheduleHandle, holds: Callable[[ScheduleDescription], bool]) -> ScheduleDescription:
    """The description, once something holds of it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            described = await handle.describe()
            if holds(described):
                return described
            await asyncio.sleep(0.05)


async def scheduled_by(client: Client, schedule_id: str, count: int) -> list[str]:
    """The ids of the workflows that a schedule has started, once there are so many: starts may be on their way."""
    found: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found = [run.id async for run in client.list_workflows(f"ScheduledById = '{schedule_id}'")]
    return found


def started(described: ScheduleDescription) -> list[str]:
    found = []
    for fire in described.info.recent_actions:
        assert isinstance(fire.action, ScheduleActionExecutionStartWorkflow)
        found.append(fire.action.workflow_id)
    return found


async def test_a_schedule_is_made_fired_by_hand_changed_listed_and_removed(client: Client, task_queue: str) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[Report]):
        made = action(task_queue, retry_policy=RetryPolicy(maximum_attempts=2), memo={"team": "blue"})
        handle = await client.create_schedule(
            task_queue,
            Schedule(action=made, spec=far_calendar(), state=ScheduleState(note="new")),
            trigger_immediately=True,
            memo={"why": "audit"},
            search_attributes=TypedSearchAttributes([SearchAttributePair(OWNER, "ops")]),
        )
        with pytest.raises(ScheduleAlreadyRunningError):
            await client.create_schedule(task_queue, Schedule(action=made, spec=far_calendar()))
        (first,) = started(await until(handle, lambda found: found.info.num_actions == 1))
        assert first.startswith(f"r-{task_queue}-")
        result = await client.get_workflow_handle(first, result_type=str).result()
        assert result == "report after nothing"
        await until(handle, lambda found: not found.info.running_actions)

        backfill = ScheduleBackfill(FAR, FAR + timedelta(days=2), ScheduleOverlapPolicy.BUFFER_ALL)
        await handle.backfill(backfill)
        described = await until(handle, lambda found: found.info.num_actions == 3 and not found.info.running_actions)
        days = [f"r-{task_queue}-2090-01-0{day}T05:30:00Z" for day in (1, 2)]
        assert started(described)[1:] == days
        second = await client.get_workflow_handle(days[0], result_type=str).result()
        assert second == "report after report after nothing"

        assert await described.memo() == {"why": "audit"}
        assert described.typed_search_attributes[OWNER] == "ops"
        assert described.schedule.spec == far_calendar()
        assert described.info.next_action_times[0] == datetime(2090, 1, 1, 5, 30, tzinfo=UTC)
        times = await handle.matching_times(FAR, FAR + timedelta(days=1))
        assert times == [datetime(2090, 1, 1, 5, 30, tzinfo=UTC)]

        calls: list[str] = []

        async def change(found: ScheduleUpdateInput) -> ScheduleUpdate:
            calls.append("called")
            if len(calls) == 1:  # somebody else is faster
                await handle.update(_with_note("faster"))
            elif len(calls) == 2:
                await handle.pause(note="meanwhile")
            schedule = found.description.schedule
            assert isinstance(schedule.action, ScheduleActionStartWorkflow)
            assert isinstance(schedule.action.args[0], Payload)
            schedule.policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.CANCEL_OTHER, pause_on_failure=True)
            return ScheduleUpdate(schedule)

        await handle.update(change)
        described = await handle.describe()
        assert (described.schedule.state.paused, described.schedule.state.note) == (True, "meanwhile")
        await handle.pause(note="closed")
        described = await handle.describe()
        assert len(calls) == 3
        assert described.schedule.policy == SchedulePolicy(
            ScheduleOverlapPolicy.CANCEL_OTHER, timedelta(days=365), pause_on_failure=True
        )
        assert (described.schedule.state.paused, described.schedule.state.note) == (True, "closed")
        await handle.update(lambda _found: None)

        paused = f"ScheduleId = '{task_queue}' AND TemporalSchedulePaused = true"
        (listed,) = [entry async for entry in await client.list_schedules(paused, page_size=1)]
        assert listed.id == task_queue
        assert listed.schedule is not None
        assert listed.info is not None
        assert (listed.schedule.state.paused, listed.schedule.state.note) == (True, "closed")
        assert listed.info.next_action_times[0] == datetime(2090, 1, 1, 5, 30, tzinfo=UTC)
        assert await listed.memo_value("why") == "audit"
        found = await scheduled_by(client, task_queue, 3)
        assert sorted(found) == sorted([first, *days])

        await handle.unpause()
        await handle.trigger()
        described = await until(handle, lambda found: found.info.num_actions == 4)
        third = await client.get_workflow_handle(started(described)[-1], result_type=str).result()
        assert third.startswith("report after report after"), "the payloads of the arguments are as they were"
        await handle.delete()
        with pytest.raises(RPCError) as gone:
            await handle.describe()
        assert gone.value.status is RPCStatusCode.NOT_FOUND


def _with_note(note: str) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def change(found: ScheduleUpdateInput) -> ScheduleUpdate:
        found.description.schedule.state.note = note
        return ScheduleUpdate(found.description.schedule)

    return change


async def test_the_clock_fires_and_what_runs_makes_room(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    each_second = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(seconds=1))])
    waits = ScheduleActionStartWorkflow(Waits.run, id="w", task_queue=task_queue)
    async with Worker(client, task_queue=task_queue, workflows=[Waits]):
        policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.TERMINATE_OTHER)
        handle = await client.create_schedule("s", Schedule(waits, each_second, policy))
        await until(handle, lambda found: found.info.num_actions >= 2)
        await handle.pause()
        for left in (await handle.describe()).info.running_actions:
            assert isinstance(left, ScheduleActionExecutionStartWorkflow)
            try:
                await client.get_workflow_handle(left.workflow_id).terminate()
            except RPCError as error:  # the schedule has just done it
                assert error.status is RPCStatusCode.NOT_FOUND
        described = await until(handle, lambda found: not found.info.running_actions)
        await handle.delete()
    ended = [run async for run in client.list_workflows("WorkflowType = 'Waits'")]
    assert len(ended) == described.info.num_actions
    assert {run.status.name for run in ended if run.status is not None} == {"TERMINATED"}


async def test_each_fire_is_one_run_through_engines_that_end_over_ticks() -> None:
    log = EmbeddedLog(None)
    names = TopicNames(partitions=2)
    client = Client.from_log(log, namespace=names.namespace, names=names)
    each_second = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(seconds=1))])
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    report = ScheduleActionStartWorkflow(Report.run, "x", id="r", task_queue="q")
    handle = client.get_schedule_handle("s")
    actions = 0
    try:
        for life in range(4):
            with running_engine(log, names):
                if not life:
                    await client.create_schedule("s", Schedule(report, each_second, policy))
                described = await until(handle, lambda found, before=actions: found.info.num_actions > before)
                actions = described.info.num_actions
                if life == 3:
                    await handle.pause()
                    described = await handle.describe()
                    found = await scheduled_by(client, "s", described.info.num_actions)
            # Nobody is there at the next tick, or just after it.
            await asyncio.sleep(0.7)
        info = described.info
        covered = described.raw_description.progress.covered_ms // 1_000
        first = described.raw_description.progress.created_ms // 1_000 + 1
        expected = [
            datetime.fromtimestamp(second, UTC).strftime("r-%Y-%m-%dT%H:%M:%SZ") for second in range(first, covered + 1)
        ]
        assert sorted(found) == expected
        assert info.num_actions == len(expected)
        assert (info.num_actions_missed_catchup_window, info.num_actions_skipped_overlap) == (0, 0)
        assert_sound(log, names)
    finally:
        await client.close()
        log.close()


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping() as environment:
        yield environment


async def test_a_schedule_fires_while_time_skips(skipping: WorkflowEnvironment) -> None:
    client = skipping.client
    hourly = ScheduleSpec(cron_expressions=["@hourly"])
    report = ScheduleActionStartWorkflow(Report.run, "x", id="r", task_queue="q")
    async with Worker(client, task_queue="q", workflows=[Report]):
        state = ScheduleState(limited_actions=True, remaining_actions=3)
        handle = await client.create_schedule("s", Schedule(report, hourly, state=state))
        await skipping.sleep(timedelta(hours=6))
        described = await until(handle, lambda found: not found.info.running_actions)
    assert (described.info.num_actions, described.schedule.state.remaining_actions) == (3, 0)
    times = [fire.scheduled_at for fire in described.info.recent_actions]
    assert [after - before for before, after in pairwise(times)] == [timedelta(hours=1)] * 2


async def test_bad_schedules_are_refused_with_what_is_wrong(embedded_client: Client) -> None:
    client = embedded_client
    report = ScheduleActionStartWorkflow("Report", id="r", task_queue="q")

    async def refused(schedule: Schedule, kind: type[Exception], message: str, **more: Any) -> None:
        with pytest.raises(kind, match=message):
            await client.create_schedule("s", schedule, **more)

    await refused(Schedule(report, ScheduleSpec(cron_expressions=["never"])), RPCError, "has 1 fields")
    await refused(Schedule(report, ScheduleSpec(start_at=datetime(2030, 1, 1))), ValueError, "no time zone")  # noqa: DTZ001
    limited = ScheduleState(limited_actions=True)
    await refused(Schedule(report, ScheduleSpec(), state=limited), ValueError, "no actions remain")
    remaining = ScheduleState(remaining_actions=1)
    await refused(Schedule(report, ScheduleSpec(), state=remaining), ValueError, "limited_actions is not")
    await refused(Schedule(report, ScheduleSpec()), NotImplementedError, "rpc_metadata", rpc_metadata={"a": "b"})
    with pytest.raises(ValueError, match="needs an id"):
        ScheduleActionStartWorkflow("Report", id="", task_queue="q")
    with pytest.raises(ValueError, match="needs a task_queue"):
        ScheduleActionStartWorkflow("Report", id="r", task_queue="")
    handle = client.get_schedule_handle("none")
    with pytest.raises(ValueError, match="at least one range"):
        await handle.backfill()
    with pytest.raises(RPCError, match="schedule 'none' not found"):
        await handle.trigger()
    with pytest.raises(ValueError, match="workflow id is empty"):
        await client.get_schedule_handle("").describe()
    with pytest.raises(RPCError, match="the filter ends too early"):
        [entry async for entry in await client.list_schedules("Owner =")]
    with pytest.raises(ValueError, match="page_size is 0"):
        await client.list_schedules(page_size=0)


class Points(OutboundInterceptor):
    """Notes every request about schedules."""

    seen: list[str]

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.endswith(("_schedule", "_schedules")):
            self.seen.append(name)
        return found


class PointsInterceptor(Interceptor):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        points = Points(next)
        points.seen = self.seen
        return points


async def test_every_request_goes_through_the_interceptors(embedded_client: Client) -> None:
    noted = PointsInterceptor()
    connection = await embedded_client.connection()
    client = Client.from_log(
        connection.log, namespace=embedded_client.namespace, names=connection.names, interceptors=[noted]
    )
    report = ScheduleActionStartWorkflow("Report", id="r", task_queue="q")
    handle = await client.create_schedule("s", Schedule(report, far_calendar()))
    steps: list[Awaitable[Any]] = [
        handle.pause(), handle.unpause(), handle.trigger(), handle.backfill(ScheduleBackfill(FAR, FAR)),
        handle.update(_with_note("x")), handle.describe(),
    ]  # fmt: skip
    for step in steps:
        await step
    assert [entry.id async for entry in await client.list_schedules()] == ["s"]
    await handle.delete()
    expected = ["create", "pause", "unpause", "trigger", "backfill", "update", "describe"]
    assert noted.seen == [*(f"{name}_schedule" for name in expected), "list_schedules", "delete_schedule"]
    inputs = {name for name in client_module.__all__ if name.endswith(("ScheduleInput", "SchedulesInput"))}
    assert len(inputs) == 9
    await client.close()
