"""A worker that lost its inbox for a while, or lacks the history for a task."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perdure import workflow
from perdure.client import Client
from perdure.worker import _dispatch
from perdure_runtime.log import LogUnavailableError
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    ErrorCode,
    Event,
    EventAttributes,
    FetchHistory,
    HistoryPage,
    Rejected,
    WorkflowExecutionSignaled,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskCompletedEvent,
    WorkflowTaskFailed,
    WorkflowTaskScheduled,
)
from tests.unit.sdk.fakes import FakeEngine, activity_task, run_task
from tests.unit.sdk.test_worker import STARTED, Echo, completion, history, payload, running, workflow_task


async def test_a_history_with_gaps_is_answered_at_once(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, workflow_task(records=[]))
        # The page leaves the first event out, and says that there is no more.
        engine.reply(await engine.command(), HistoryPage(run_id="r", records=[history(STARTED[1])]))
        body = await completion(engine, WorkflowTaskFailed)
        assert "the fetched history has gaps" in body.failure.message


async def test_a_history_that_cannot_be_had_is_answered_at_once(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, workflow_task(records=[]))
        rejected = Rejected(code=ErrorCode.QUARANTINED, message="the run is quarantined")
        engine.reply(await engine.command(), rejected)
        body = await completion(engine, WorkflowTaskFailed)
        assert "the run is quarantined" in body.failure.message


async def test_what_was_dispatched_while_the_inbox_was_away_is_taken(
    engine: FakeEngine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dispatch, "_REOPEN_DELAY_S", 0.01)
    inboxes: list[Any] = []
    original = engine.log.reader

    def reader(name: str) -> Any:
        made = original(name)
        if name == "worker-inbox":
            inboxes.append(made)
        return made

    monkeypatch.setattr(engine.log, "reader", reader)
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("double", payload(1)), task_id="first"))
        assert (await engine.command()).command_id == "first"

        def fail(records_max: int, timeout_s: float) -> Any:
            # Before the error is seen, more is dispatched.
            engine.dispatch(worker, run_task(activity_task("double", payload(2)), task_id="meanwhile"))
            raise LogUnavailableError("the connection broke")

        inboxes[0].poll, woken = fail, inboxes[0]
        woken.wake()
        assert (await engine.command()).command_id == "meanwhile"
        engine.dispatch(worker, run_task(activity_task("double", payload(3)), task_id="later"))
        assert (await engine.command()).command_id == "later", "and nothing twice"
        assert len(inboxes) == 2


@workflow.defn
class Waits:
    """Runs until it is signalled."""

    def __init__(self) -> None:
        self.woken = False

    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.wait_condition(lambda: self.woken)
        return text

    @workflow.signal
    def wake(self) -> None:
        self.woken = True


def _event(event_id: int, attributes: EventAttributes) -> Event:
    return Event(event_id=event_id, event_time_ms=1, attributes=attributes)


async def test_a_run_that_leaves_the_cache_while_its_history_is_fetched_is_fetched_from_its_start(
    engine: FakeEngine, client: Client
) -> None:
    started = [replace(STARTED[0], attributes=replace(STARTED[0].attributes, workflow_type="Waits")), STARTED[1]]
    later = [
        _event(3, WorkflowTaskCompletedEvent(scheduled_event_id=2, last_event_id=2, started_time_ms=1)),
        _event(4, WorkflowExecutionSignaled(signal_name="wake", command_id="s")),
        _event(5, WorkflowTaskScheduled(task_queue="q", start_to_close_timeout_ms=1)),
    ]
    first = workflow_task(workflow_type="Waits", records=[history(*started)])
    second = run_task(
        WorkflowTask(
            workflow_type="Waits", scheduled_event_id=5, attempt=1, first_event_id=5, last_event_id=5,
            history=[history(later[2])],
        ),
        task_id="t2", kind="workflow",
    )  # fmt: skip
    other = replace(first, task_id="other", run_id="r2")
    async with running(engine, client, workflows=[Waits], max_cached_workflows=1) as (_, worker):
        engine.dispatch(worker, first)
        assert (await completion(engine, WorkflowTaskCompleted)).commands == []
        engine.dispatch(worker, second)
        asked = await engine.command()
        assert asked.body == FetchHistory(first_event_id=3)
        engine.dispatch(worker, other)
        assert (await engine.command()).command_id == "other"
        engine.reply(asked, HistoryPage(run_id="r", records=[history(*later)]))
        again = await engine.command()
        assert again.body == FetchHistory(first_event_id=1)
        engine.reply(again, HistoryPage(run_id="r", records=[history(*started, *later)]))
        body = await completion(engine, WorkflowTaskCompleted)
        assert body.commands == [CompleteWorkflowExecution(result=[payload("hi")])]


async def test_a_failed_task_for_updates_says_which_it_is(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        task = WorkflowTask(
            workflow_type="Echo", scheduled_event_id=2, attempt=1, first_event_id=1, last_event_id=2, history=[],
            speculative_id="13.61",
        )  # fmt: skip
        engine.dispatch(worker, run_task(task, kind="workflow"))
        engine.reply(await engine.command(), Rejected(code=ErrorCode.QUARANTINED, message="the run is quarantined"))
        assert (await completion(engine, WorkflowTaskFailed)).speculative_id == "13.61"
