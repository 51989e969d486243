"""Pausing, resetting and changing activities, and pausing whole workflows, against a running engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.activity import ActivityCancellationDetails
from perdure.client import Client, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.worker import Replayer, Worker
from perdure_schemas.records import (
    CommandBody,
    Described,
    Done,
    PauseActivity,
    PauseWorkflow,
    ReplyBody,
    ResetActivity,
    UnpauseActivity,
    UnpauseWorkflow,
    UpdateActivityOptions,
)


class Bench:
    """Activities of which a test decides how they go."""

    def __init__(self) -> None:
        self.attempts: asyncio.Queue[int] = asyncio.Queue()
        self.told: asyncio.Queue[ActivityCancellationDetails | None] = asyncio.Queue()
        self.may_succeed = False

    @activity.defn
    async def fail_until_allowed(self) -> str:
        self.attempts.put_nowait(activity.info().attempt)
        if not self.may_succeed:
            raise RuntimeError("not yet")
        return "done"

    @activity.defn
    async def work_until_told(self) -> str:
        self.attempts.put_nowait(activity.info().attempt)
        if self.may_succeed:
            return f"done after {list(activity.info().heartbeat_details)}"
        activity.heartbeat("half")
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.told.put_nowait(activity.cancellation_details())
            raise
        return "never told"


@workflow.defn
class RunsOne:
    @workflow.run
    async def run(self, name: str, retry_s: float) -> str:
        return await workflow.execute_activity(
            name,
            activity_id="it",
            result_type=str,
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=retry_s), backoff_coefficient=1.0),
        )


@workflow.defn
class Counts:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.seen) == 2)
        await workflow.sleep(0.001)
        return self.seen

    @workflow.signal
    def note(self, text: str) -> None:
        self.seen.append(text)

    @workflow.query
    def count(self) -> int:
        return len(self.seen)


async def ask(handle: WorkflowHandle[Any, Any], client: Client, body: CommandBody) -> ReplyBody:
    connection = await client.connection()
    answer = await connection.ask(handle.id, "", body, 10.0, type(body).__name__)
    assert answer == Done(), answer
    return answer


async def described(handle: WorkflowHandle[Any, Any], until: Callable[[Described], bool]) -> Described:
    """Describe a run until it stands as is wanted; each answer comes from the engine."""
    while True:
        found = (await handle.describe()).raw_description
        if until(found):
            return found


async def test_a_paused_activity_is_not_retried_until_it_is_unpaused(client: Client, task_queue: str) -> None:
    bench = Bench()
    async with Worker(client, task_queue=task_queue, workflows=[RunsOne], activities=[bench.fail_until_allowed]):
        handle = await client.start_workflow(
            RunsOne.run, args=["fail_until_allowed", 3600], id=task_queue, task_queue=task_queue
        )
        assert await bench.attempts.get() == 1
        await described(handle, lambda run: run.pending_activities[0].next_attempt_time_ms is not None)
        await ask(handle, client, PauseActivity(activity_id="it", reason="later"))
        (pending,) = (await described(handle, lambda _: True)).pending_activities
        assert (pending.paused, pending.pause_reason) == (True, "later")
        await ask(handle, client, ResetActivity(activity_id="it", keep_paused=True))
        bench.may_succeed = True
        await ask(handle, client, UnpauseActivity(activity_id="it"))
        assert await handle.result() == "done"
        assert await bench.attempts.get() == 1, "its attempts were counted anew"


async def test_a_running_activity_is_told_of_the_pause(embedded_client: Client, task_queue: str) -> None:
    bench = Bench()
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[RunsOne], activities=[bench.work_until_told]):
        handle = await client.start_workflow(
            RunsOne.run, args=["work_until_told", 3600], id=task_queue, task_queue=task_queue
        )
        assert await bench.attempts.get() == 1
        await described(handle, lambda run: run.pending_activities[0].last_heartbeat_time_ms is not None)
        await ask(handle, client, PauseActivity(activity_id="it"))
        assert await bench.told.get() == ActivityCancellationDetails(paused=True)
        await described(handle, lambda run: run.pending_activities[0].started_time_ms is None)
        bench.may_succeed = True
        await ask(handle, client, UnpauseActivity(activity_id="it"))
        assert await handle.result() == "done after ['half']"
        assert await bench.attempts.get() == 1, "an attempt that stopped for the pause does not count"


async def test_a_running_activity_is_told_of_the_reset_and_begins_again(
    embedded_client: Client, task_queue: str
) -> None:
    bench = Bench()
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[RunsOne], activities=[bench.work_until_told]):
        handle = await client.start_workflow(
            RunsOne.run, args=["work_until_told", 3600], id=task_queue, task_queue=task_queue
        )
        assert await bench.attempts.get() == 1
        await described(handle, lambda run: run.pending_activities[0].last_heartbeat_time_ms is not None)
        bench.may_succeed = True
        await ask(handle, client, ResetActivity(activity_type="work_until_told", reset_heartbeats=True))
        assert await bench.told.get() == ActivityCancellationDetails(reset=True)
        assert await handle.result() == "done after []"
        assert await bench.attempts.get() == 1, "its attempts were counted anew"


async def test_an_activity_moves_to_another_task_queue(embedded_client: Client, task_queue: str) -> None:
    bench, client, other = Bench(), embedded_client, f"{task_queue}-other"
    bench.may_succeed = True
    async with Worker(client, task_queue=task_queue, workflows=[RunsOne]):
        handle = await client.start_workflow(
            RunsOne.run, args=["fail_until_allowed", 1], id=task_queue, task_queue=task_queue
        )
        await described(handle, lambda run: bool(run.pending_activities))
        await ask(handle, client, UpdateActivityOptions(activity_id="it", task_queue=other))
        async with Worker(client, task_queue=other, activities=[bench.fail_until_allowed]):
            assert await handle.result() == "done"


async def test_a_paused_workflow_goes_on_when_it_is_unpaused(client: Client, task_queue: str) -> None:
    async with Worker(client, task_queue=task_queue, workflows=[Counts]):
        handle = await client.start_workflow(Counts.run, id=task_queue, task_queue=task_queue)
        await handle.signal(Counts.note, "before")
        assert await handle.query(Counts.count) == 1
        await ask(handle, client, PauseWorkflow(reason="night"))
        await handle.signal(Counts.note, "while paused")
        found = (await handle.describe()).raw_description
        assert (found.summary.paused, found.pause_reason) == (True, "night")
        assert found.pending_workflow_task is None
        assert await handle.query(Counts.count) == 1, "its code has not seen the signal"
        await ask(handle, client, UnpauseWorkflow())
        assert await handle.result() == ["before", "while paused"]
        history = await handle.fetch_history()
    result = await Replayer(workflows=[Counts]).replay_workflow(history)
    assert result.replay_failure is None


async def test_a_workflow_paused_before_a_worker_came(embedded_client: Client, task_queue: str) -> None:
    bench, client = Bench(), embedded_client
    bench.may_succeed = True
    handle = await client.start_workflow(
        RunsOne.run, args=["fail_until_allowed", 1], id=task_queue, task_queue=task_queue
    )
    await ask(handle, client, PauseWorkflow())
    other = await client.start_workflow(
        RunsOne.run, args=["fail_until_allowed", 1], id=f"{task_queue}-2", task_queue=task_queue
    )
    async with Worker(client, task_queue=task_queue, workflows=[RunsOne], activities=[bench.fail_until_allowed]):
        assert await other.result() == "done"
        assert bench.attempts.qsize() == 1
        found = (await handle.describe()).raw_description
        assert found.summary.history_length == 3, "started, scheduled, paused"
        await ask(handle, client, UnpauseWorkflow())
        assert await handle.result() == "done"
