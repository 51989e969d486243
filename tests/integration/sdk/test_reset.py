"""Reset: a new run takes the old one's history up to a workflow task, and goes on differently from there."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from perdure.exceptions import TerminatedError
from perdure.worker import Replayer, Worker
from perdure_ops import cli
from perdure_runtime.embedded import EmbeddedLog

LIMIT = timedelta(seconds=20)
calls: list[str] = []


@activity.defn
async def note(step: str) -> str:
    calls.append(step)
    return step


@workflow.defn
class Steps:
    def __init__(self) -> None:
        self.approvals: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        first = await workflow.execute_activity(note, f"first {workflow.uuid4()}", start_to_close_timeout=LIMIT)
        await workflow.wait_condition(lambda: bool(self.approvals))
        second = await workflow.execute_activity(note, "second", start_to_close_timeout=LIMIT)
        await workflow.wait_condition(lambda: len(self.approvals) > 1)
        return [first, second, *self.approvals]

    @workflow.signal
    def approve(self, by: str) -> None:
        self.approvals.append(by)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(("workflow", "reset", "--reason", "test", *arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


async def _address(client: Client) -> str:
    log = (await client.connection()).log
    assert isinstance(log, EmbeddedLog)
    return f"127.0.0.1:{log.serve('127.0.0.1', 0).port}"


async def test_an_open_run_goes_on_from_an_earlier_point(
    embedded_client: Client, task_queue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.clear()
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        old = await client.start_workflow(Steps.run, id="w", task_queue=task_queue)
        while len(calls) < 1:
            await asyncio.sleep(0.01)
        await old.signal(Steps.approve, "ann")
        while len(calls) < 2:
            await asyncio.sleep(0.01)
        options = ("-w", "w", "--address", await _address(client), "-o", "json")
        assert await asyncio.to_thread(run, *options, "--type", "FirstWorkflowTask") == 0
        new_run_id = json.loads(capsys.readouterr().out)["run_id"]
        with pytest.raises(WorkflowFailureError) as caught:
            await old.result()
        assert isinstance(caught.value.cause, TerminatedError)
        new = client.get_workflow_handle_for(Steps.run, "w", run_id=new_run_id)
        await new.signal(Steps.approve, "bob")
        first, second, *approvals = await new.result()
        assert (second, approvals) == ("second", ["ann", "bob"])
        # The workflow's random numbers are those of the first run.
        assert sorted(calls) == sorted([first, "second", first, "second"])
        history = await new.fetch_history()
    assert [event.event_id for event in history.events] == list(range(1, len(history.events) + 1))
    await Replayer(workflows=[Steps]).replay_workflow(history)


async def test_a_closed_run_is_reset_without_running_finished_activities_again(
    embedded_client: Client, task_queue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.clear()
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Steps], activities=[note]):
        handle = await client.start_workflow(Steps.run, id="w", task_queue=task_queue)
        await handle.signal(Steps.approve, "ann")
        await handle.signal(Steps.approve, "bob")
        result = await handle.result()
        assert len(calls) == 2
        options = ("-w", "w", "--address", await _address(client), "-o", "json")
        assert await asyncio.to_thread(run, *options) == 0
        new_run_id = json.loads(capsys.readouterr().out)["run_id"]
        assert await client.get_workflow_handle("w", run_id=new_run_id).result() == result
        assert len(calls) == 2
        assert (await handle.describe()).run_id == new_run_id
        old = await client.get_workflow_handle("w", run_id=handle.result_run_id).describe()
        assert old.status is WorkflowExecutionStatus.COMPLETED
        for arguments, message in (
            (("--event-id", "2"), "not the completion of a workflow task"),
            (("--type", "Somewhere"), "no point to reset to"),
            (("-r", handle.result_run_id or ""), "not the newest"),
        ):
            assert await asyncio.to_thread(run, *options, *arguments) == 1
            assert message in capsys.readouterr().err
