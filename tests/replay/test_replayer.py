"""The replayer tells code that still fits a history from code that does not, and JSON keeps all that it needs."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.client import Client, WorkflowHistory
from perdure.worker import Replayer, Worker
from tests.replay.golden_workflows import ACTIVITIES, WORKFLOWS, Cancelled, Waits
from tests.replay.record import path_of


@workflow.defn(name="Waits")
class WaitsOtherwise:
    """The code after a change that nobody guarded."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("greet", "you", start_to_close_timeout=timedelta(seconds=20))


@workflow.defn(name="Waits")
class WaitsBroken:
    @workflow.run
    async def run(self) -> None:
        raise RuntimeError("a bug")


def _history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, path_of(name).read_text())


async def test_changed_code_is_found_out() -> None:
    with pytest.raises(workflow.NondeterminismError, match=r"(?i)timer"):
        await Replayer(workflows=[WaitsOtherwise]).replay_workflow(_history("waits"))


async def test_failures_are_collected_by_run() -> None:
    waits, compensates = _history("waits"), _history("compensates")
    results = await Replayer(workflows=[WaitsBroken]).replay_workflows(
        [waits, compensates], raise_on_replay_failure=False
    )
    assert results.replay_failures.keys() == {waits.run_id, compensates.run_id}
    assert "a bug" in str(results.replay_failures[waits.run_id])
    assert "Compensates" in str(results.replay_failures[compensates.run_id])
    results = await Replayer(workflows=WORKFLOWS).replay_workflows([waits, compensates])
    assert results.replay_failures == {}


async def test_results_come_one_by_one() -> None:
    async with Replayer(workflows=[Waits]).workflow_replay_iterator(
        [_history("waits"), _history("cancelled")]
    ) as found:
        results = [(result.history.workflow_id, result.replay_failure is None) async for result in found]
    assert results == [("waits", True), ("cancelled", False)]


async def test_a_history_with_a_gap_is_refused() -> None:
    whole = _history("waits")
    gap = WorkflowHistory(whole.workflow_id, [*whole.events[:2], *whole.events[3:]], whole.run_id)
    with pytest.raises(Exception, match="gap"):
        await Replayer(workflows=WORKFLOWS).replay_workflow(gap)
    with pytest.raises(ValueError, match="no events"):
        await Replayer(workflows=WORKFLOWS).replay_workflow(WorkflowHistory("w", [], ""))


def test_json_is_stable_and_checked() -> None:
    text = path_of("waits").read_text()
    history = WorkflowHistory.from_json("waits", text)
    assert json.loads(history.to_json()) == history.to_json_dict()
    assert WorkflowHistory.from_json("waits", history.to_json_dict()) == history
    with pytest.raises(ValueError, match="no workflow history"):
        WorkflowHistory.from_json("waits", '{"events": [{"event_id": "x"}]}')


async def test_live_histories_are_replayed(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=WORKFLOWS, activities=ACTIVITIES):
        running = await client.start_workflow(Waits.run, id="running", task_queue=task_queue)
        assert await running.query(Waits.current) == ""
        cancelled = await client.start_workflow(Cancelled.run, id="cancelled", task_queue=task_queue)
        await cancelled.cancel()
        assert await cancelled.result() == "clean"
    results = await Replayer(workflows=WORKFLOWS).replay_workflows(client.list_workflows().map_histories())
    assert results.replay_failures == {}
    replayer = Replayer(workflows=[WaitsOtherwise, Cancelled])
    results = await replayer.replay_workflows(client.list_workflows().map_histories(), raise_on_replay_failure=False)
    assert len(results.replay_failures) == 1
