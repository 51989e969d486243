"""A worker that lost its inbox for a while, or lacks the history for a task."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.client import Client
from perdure.worker import _dispatch
from perdure_runtime.log import LogUnavailableError
from perdure_schemas.records import ErrorCode, HistoryPage, Rejected, WorkflowTaskFailed
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
