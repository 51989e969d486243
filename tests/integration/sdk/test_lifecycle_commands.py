"""``perdure workflow signal-with-start|stack|fork|delete|update …|describe`` against a running engine and worker."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_ops import cli
from perdure_runtime.embedded import EmbeddedLog


@workflow.defn
class Cart:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self.closed = False
        self.released = False

    @workflow.run
    async def run(self, name: str) -> list[Any]:
        workflow.set_current_details(f"cart of {name}")
        await workflow.wait_condition(lambda: self.closed)
        return self.items

    @workflow.signal
    def add(self, item: Any) -> None:
        self.items.append(item)
        self.closed = item == "close"

    @workflow.signal
    def release(self) -> None:
        self.released = True

    @workflow.update
    def put(self, item: str) -> int:
        if item == "poison":
            raise ApplicationError("not that", type="Refused")
        self.items.append(item)
        return len(self.items)

    @workflow.update
    async def slow(self) -> str:
        await workflow.wait_condition(lambda: self.released)
        return "released"


Run = Callable[..., Any]


@pytest.fixture
def run(embedded_client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of workflows; gives its exit code, stdout and stderr."""
    # The engine logs in this process, maybe into a stream that an earlier test's command has left closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    async def run(*arguments: str) -> tuple[int, str, str]:
        log = (await embedded_client.connection()).log
        assert isinstance(log, EmbeddedLog)
        address = f"127.0.0.1:{log.serve('127.0.0.1', 0).port}"

        def in_thread() -> int:
            with pytest.raises(SystemExit) as ended:
                cli.main(("workflow", *arguments, "--address", address))
            assert isinstance(ended.value.code, int)
            return ended.value.code

        code = await asyncio.to_thread(in_thread)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


async def _ok(run: Run, *arguments: str) -> str:
    code, out, err = await run(*arguments)
    assert code == 0, err
    return str(out)


async def _refused(run: Run, *arguments: str) -> str:
    code, out, err = await run(*arguments)
    assert (code, out) == (1, ""), out
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return str(err)


async def test_signal_with_start_starts_once(embedded_client: Client, run: Run, task_queue: str) -> None:
    common = (
        "signal-with-start", "--type", "Cart", "-t", task_queue, "-w", "c", "-i", '"ann"', "--signal-name", "add",
        "-o", "json",
    )  # fmt: skip
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Cart]):
        first = json.loads(await _ok(run, *common, "--signal-input", '{"sku": 1}'))
        second = json.loads(await _ok(run, *common, "--signal-input", '"close"'))
        assert first["run_id"] == second["run_id"]
        assert await embedded_client.get_workflow_handle("c").result() == [{"sku": 1}, "close"]
        third = json.loads(await _ok(run, *common, "--signal-input", '"close"'))
        assert third["run_id"] != first["run_id"]
    assert "--signal-input number 1 is not JSON" in await _refused(run, *common, "--signal-input", "{nope")
    refused = await _refused(run, *common, "--signal-input", "1", "--id-reuse-policy", "Perhaps")
    assert "'Perhaps' is none of" in refused
    code, _, err = await run("signal-with-start", "--type", "Cart", "-t", "q", "-w", "c")
    assert code == 2
    assert "--signal-name" in err


async def test_stack_shows_where_the_code_waits(embedded_client: Client, run: Run, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Cart]):
        await embedded_client.start_workflow(Cart.run, "ann", id="c", task_queue=task_queue)
        text = await _ok(run, "stack", "-w", "c")
        assert "in Cart.run" in text
        assert "wait_condition" in text
        assert "not found" in await _refused(run, "stack", "-w", "nobody")


async def test_updates_are_sent_described_and_waited_for(embedded_client: Client, run: Run, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Cart]):
        handle = await client.start_workflow(Cart.run, "ann", id="c", task_queue=task_queue)
        put = ("update", "execute", "-w", "c", "--name", "put", "--update-id", "p")
        assert await _ok(run, *put, "-i", '"A1"') == "1\n"
        assert await _ok(run, *put, "-i", '"A1"') == "1\n", "the same id is the same update"
        assert "not that" in await _refused(run, "update", "execute", "-w", "c", "--name", "put", "-i", '"poison"')
        assert await _ok(run, "update", "start", "-w", "c", "--name", "slow", "--update-id", "s") == "s\n"
        describe = ("update", "describe", "-w", "c", "-o", "json", "--update-id")
        described = json.loads(await _ok(run, *describe, "s"))
        assert (described["update_id"], described["stage"], "result" in described) == ("s", "ACCEPTED", False)
        await handle.signal(Cart.release)
        assert json.loads(await _ok(run, "update", "result", "-w", "c", "--update-id", "s")) == "released"
        described = json.loads(await _ok(run, *describe, "s"))
        assert (described["stage"], described["result"]) == ("COMPLETED", "released")
        assert "has accepted no update 'x'" in await _refused(run, *describe, "x")
        assert "not found" in await _refused(run, "update", "describe", "-w", "nobody", "--update-id", "s")
        assert "not JSON" in await _refused(run, *put, "-i", "{")


async def test_fork_and_delete(embedded_client: Client, run: Run, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Cart]):
        await client.start_workflow(Cart.run, "ann", id="c", task_queue=task_queue)
        await _ok(run, "stack", "-w", "c")  # its first workflow task is done
        forked = json.loads(
            await _ok(run, "fork", "-w", "c", "--new-workflow-id", "copy", "--event-id", "3", "-o", "json")
        )
        copy = client.get_workflow_handle("copy")
        assert (await copy.describe()).run_id == forked["run_id"]
        await copy.signal(Cart.add, "close")
        assert await copy.result() == ["close"]
        wrong = await _refused(run, "fork", "-w", "c", "--new-workflow-id", "other", "--event-id", "2")
        assert "event 2 is not the completion of a workflow task; those are: 3" in wrong
        assert "from 1 on" in await _refused(run, "fork", "-w", "c", "--new-workflow-id", "o", "--event-id", "0")
        assert "of its own" in await _refused(run, "fork", "-w", "c", "--new-workflow-id", "c")
        assert "not found" in await _refused(run, "fork", "-w", "nobody", "--new-workflow-id", "other")

        assert await _ok(run, "delete", "-w", "copy", "--reason", "law") == "copy deleted\n"
        assert await _ok(run, "delete", "-w", "c") == "c deleted\n"
        for workflow_id in ("copy", "c", "nobody"):
            assert "not found" in await _refused(run, "delete", "-w", workflow_id)
            assert "not found" in await _refused(run, "describe", "-w", workflow_id)


async def test_describe_shows_what_people_are_told(embedded_client: Client, run: Run, task_queue: str) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=[Cart]):
        await client.start_workflow(
            Cart.run, "ann", id="c", task_queue=task_queue, static_summary="a cart", static_details="of a test"
        )
        await _ok(run, "stack", "-w", "c")
        described = json.loads(await _ok(run, "describe", "-w", "c", "-o", "json"))
    assert described["static_summary"] == "a cart"
    assert described["static_details"] == "of a test"
    assert described["current_details"] == "cart of ann"


@pytest.mark.parametrize(
    "command",
    [("signal-with-start",), ("stack",), ("fork",), ("delete",), ("update", "describe"), ("update", "execute")],
)
def test_help_has_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(("workflow", *command, "--help"))
    assert ended.value.code == 0
    assert f"perdure workflow {' '.join(command)}" in " ".join(capsys.readouterr().out.split())
