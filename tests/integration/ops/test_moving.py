"""``perdure dump --workflow-id`` and ``perdure load``: a workflow goes on elsewhere, once."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.client import Client, WorkflowHistory
from perdure.worker import Replayer
from perdure_ops import moving
from perdure_runtime.embedded import EmbeddedLog
from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE, Basket, make_worker
from tests.support.platform import embedded_platform


@pytest.fixture
def workflow_id() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def dumped(run: Run, workflow_id: str, tmp_path: Path) -> Path:
    """An open workflow with two items in it, in a file."""
    run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    for item in ("1", "2"):
        run.ok("workflow", "signal", "-w", workflow_id, "--name", "add", "-i", item)
    # Answered when the code has seen both.
    run.ok("workflow", "query", "-w", workflow_id, "--name", "__stack_trace")
    file = tmp_path / "workflow.json"
    assert workflow_id in run.ok("dump", str(file), "-w", workflow_id)
    return file


async def test_a_workflow_goes_on_in_another_cluster(
    run: Run, workflow_id: str, dumped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with embedded_platform() as (log, names):
        server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
        client = Client.from_log(log, namespace=names.namespace, names=names)
        there = Run(f"127.0.0.1:{server.port}", names.namespace, capsys)
        load = ("load", str(dumped), "--yes", "-o", "json")
        async with make_worker(client):
            loaded = json.loads((await asyncio.to_thread(there, *load))[1])
            again = json.loads((await asyncio.to_thread(there, *load))[1])
            assert (loaded["workflow_id"], loaded["type"]) == (workflow_id, "Basket")
            assert again["run_id"] == loaded["run_id"]
            handle = client.get_workflow_handle(workflow_id)
            await handle.signal("add", 3)
            await handle.signal("close")
            assert await handle.result() == [1, 2, 3]
        assert [one.id async for one in client.list_workflows("")] == [workflow_id]
        await client.close()
        server.close()
    # Where it comes from nothing has changed.
    described = await asyncio.to_thread(run.ok, "workflow", "describe", "-w", workflow_id, "-o", "json")
    assert json.loads(described)["status"] == "RUNNING"


def test_beside_a_running_one_it_needs_another_id(run: Run, workflow_id: str, dumped: Path) -> None:
    tried = json.loads(run.ok("load", str(dumped), "--dry-run", "-o", "json"))
    assert tried["from"].split("/")[1] == workflow_id
    assert "is running already" in run.fails("load", str(dumped), "--yes")
    other_id = f"{workflow_id}-copy"
    run.ok("load", str(dumped), "-w", other_id, "--yes")
    for item, id in ((3, other_id), (4, workflow_id)):
        run.ok("workflow", "signal", "-w", id, "--name", "add", "-i", str(item))
        run.ok("workflow", "signal", "-w", id, "--name", "close")
        assert json.loads(run.ok("workflow", "result", "-w", id)) == [1, 2, item]


async def test_a_file_is_one_that_a_replayer_reads(workflow_id: str, dumped: Path) -> None:
    history = WorkflowHistory.from_json(workflow_id, await asyncio.to_thread(dumped.read_text))
    await Replayer(workflows=[Basket]).replay_workflow(history)


def test_it_asks_and_overwrites_nothing(
    run: Run, workflow_id: str, dumped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "exists; choose another name" in run.fails("dump", str(dumped), "-w", workflow_id)
    run.ok("dump", str(dumped), "-w", workflow_id, "--force")
    monkeypatch.setattr(moving.typer, "confirm", lambda *_, **__: False)
    assert "nothing was loaded" in run.fails("load", str(dumped), "-w", "elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "is no dump of a workflow"),
        ({"version": 9}, "is of version 9"),
        ({"workflow_id": 1}, "does not say which workflow"),
        ({"events": [{"event_id": 1}]}, "this is no workflow history"),
        ({"events": []}, "does not begin with the start"),
    ],
)
def test_a_damaged_file_is_said(run: Run, dumped: Path, change: dict[str, Any], said: str) -> None:
    dumped.write_text(json.dumps(json.loads(dumped.read_text()) | change))
    assert said in run.fails("load", str(dumped), "--yes")


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    assert "cannot be read" in run.fails("load", str(tmp_path / "none"), "--yes")
    (tmp_path / "text").write_text("no")
    assert "is no JSON" in run.fails("load", str(tmp_path / "text"), "--yes")
    assert "none" in run.fails("dump", str(tmp_path / "out"), "-w", "none")
    run.fails("load", code=2)
