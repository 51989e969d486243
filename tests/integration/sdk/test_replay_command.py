"""``perdure workflow replay`` against files and against the runs of a namespace."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.worker import Worker
from perdure_ops import cli
from perdure_runtime.embedded import EmbeddedLog
from tests.replay.golden_workflows import ACTIVITIES, WORKFLOWS, Cancelled, Waits
from tests.replay.record import path_of

CODE = "tests.replay.golden_workflows"
CHANGED = "tests.replay.test_replayer:WaitsOtherwise"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(("workflow", "replay", *arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_files(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--file", str(path_of("waits")), "--file", str(path_of("cancelled"))]
    assert run("--module", CODE, *files, "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["type"], row["replays"]) for row in rows] == [("Waits", "yes"), ("Cancelled", "yes")]
    assert run("--module", CHANGED, *files, "-o", "json") == 1
    out, err = capsys.readouterr()
    assert "TimerStarted" in json.loads(out)[0]["difference"]
    assert "2 of 2 histories" in err


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    for arguments, message in (
        (("--module", "no.such"), "no module"),
        (("--module", f"{CODE}:Nothing"), "has no 'Nothing'"),
        (("--module", "tests.replay.record:FOLDER"), "no class"),
        (("--module", CODE, "--file", str(broken)), "no workflow history"),
        (("--module", CODE, "--type", "Other"), "no such workflow"),
    ):
        assert run(*arguments) == 1
        assert message in capsys.readouterr().err


async def test_live_runs(embedded_client: Client, task_queue: str, capsys: pytest.CaptureFixture[str]) -> None:
    client = embedded_client
    async with Worker(client, task_queue=task_queue, workflows=WORKFLOWS, activities=ACTIVITIES):
        for number in range(3):
            handle = await client.start_workflow(Cancelled.run, id=f"c{number}", task_queue=task_queue)
            await handle.cancel()
            await handle.result()
        waits = await client.start_workflow(Waits.run, id="w", task_queue=task_queue)
        assert await waits.query(Waits.current) == ""
    log = (await client.connection()).log
    assert isinstance(log, EmbeddedLog)
    server = log.serve("127.0.0.1", 0)
    address = f"127.0.0.1:{server.port}"
    assert await asyncio.to_thread(run, "--module", CODE, "--address", address, "-o", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    sampled = ("--module", CODE, "--address", address, "--type", "Cancelled", "--sample", "2", "-o", "json")
    assert await asyncio.to_thread(run, *sampled) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert await asyncio.to_thread(run, "--module", CHANGED, "--address", address, "-o", "json") == 1
    assert [row["workflow_id"] for row in json.loads(capsys.readouterr().out)] == ["w"]
