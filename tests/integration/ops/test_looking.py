"""Commands that look: task queues, workers, trees of workflows, histories that grow."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from perdure.client import Client
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE
from tests.support.waiting import TIMEOUT_S, wait_for


@pytest.fixture
def workflow_id() -> str:
    return f"w-{uuid.uuid4().hex[:8]}"


def test_task_queue_describe(run: Run, workflow_id: str) -> None:
    for number in (1, 2):
        run.ok("workflow", "start", "--type", "Nobody", "-t", f"{workflow_id}-idle", "-w", f"{workflow_id}-{number}")
    described = json.loads(run.ok("task-queue", "describe", f"{workflow_id}-idle", "-o", "json"))
    (tasks,) = [row for row in described["types"] if row["type"] == "workflow"]
    assert (tasks["backlog"], tasks["running"], tasks["held_back"]) == (2, 0, 0)
    assert tasks["oldest_s"] >= 0
    assert tasks["added_per_s"] > 0
    assert described["workers"] == []
    run.ok("workflow", "pause", "-w", f"{workflow_id}-1", "-o", "json")

    def paused() -> bool:
        types = json.loads(run.ok("task-queue", "describe", f"{workflow_id}-idle", "-o", "json"))["types"]
        return [(row["backlog"], row["held_back"]) for row in types if row["type"] == "workflow"] == [(1, 1)]

    wait_for(paused)
    assert "tasks wait until one comes" in run.ok("task-queue", "describe", f"{workflow_id}-idle")
    table = run.ok("task-queue", "describe", TASK_QUEUE)
    assert table.splitlines()[0].split()[:2] == ["type", "backlog"]
    assert "1 worker:" in table
    for number in (1, 2):
        run.ok("workflow", "terminate", "-w", f"{workflow_id}-{number}")


def test_an_unknown_task_queue_is_an_error(run: Run) -> None:
    err = run.fails("task-queue", "describe", "nowhere")
    assert "nothing waits in task queue 'nowhere'" in err
    assert len(err.splitlines()) == 1
    assert run("task-queue", "describe")[0] == 2


def test_worker_list(run: Run) -> None:
    rows = [json.loads(line) for line in run.ok("worker", "list", "-o", "jsonl").splitlines()]
    assert [(row["task_queue"], row["state"]) for row in rows] == [(TASK_QUEUE, "running")]
    assert rows[0]["workflow_slots"] == rows[0]["activity_slots"] == 100
    assert run.ok("worker", "list", "-t", "other", "-o", "json") == "[]\n"
    assert TASK_QUEUE in run.ok("worker", "list", "-t", TASK_QUEUE)


def test_workflow_trace(run: Run, workflow_id: str) -> None:
    run.ok("workflow", "start", "--type", "Order", "-t", TASK_QUEUE, "-w", workflow_id)

    def tree() -> Any:
        found = json.loads(run.ok("workflow", "trace", "-w", workflow_id, "-o", "json"))
        pending = found["pending_activities"]
        return found if len(found["children"]) == 2 and pending and pending[0]["last_failure"] else None

    found = wait_for(tree)
    assert [child["workflow_id"] for child in found["children"]] == [f"{workflow_id}/1", f"{workflow_id}/2"]
    assert {child["status"] for child in found["children"]} == {"RUNNING"}
    assert found["pending_activities"][0]["type"] == "refuse"
    run.ok("workflow", "terminate", "-w", f"{workflow_id}/2")
    run.ok("workflow", "delete", "-w", f"{workflow_id}/2")
    lines = run.ok("workflow", "trace", "-w", workflow_id).splitlines()
    assert lines[0].startswith(f"RUNNING Order {workflow_id} (")
    assert lines[1].startswith("├─ activity refuse: waiting, attempt 2/")
    assert lines[2].startswith(f"├─ RUNNING Basket {workflow_id}/1")
    assert lines[3].startswith("└─ GONE Basket") or lines[3].startswith("└─ TERMINATED Basket")
    assert "2 children, see --depth" in run.ok("workflow", "trace", "-w", workflow_id, "--depth", "0")
    run.ok("workflow", "terminate", "-w", workflow_id)
    assert "none" in run.fails("workflow", "trace", "-w", "none")


async def test_workflow_show_follow(run: Run, shared: tuple[Log, TopicNames, str], workflow_id: str) -> None:
    log, names, _ = shared
    client = Client.from_log(log, namespace=names.namespace, names=names)
    handle = await client.start_workflow("Basket", id=workflow_id, task_queue=TASK_QUEUE)
    follow = ("workflow", "show", "-w", workflow_id, "--follow", "-o", "jsonl")
    following = asyncio.create_task(asyncio.to_thread(run, *follow))
    for item in range(3):
        await handle.signal("add", item)
    await handle.signal("close")
    assert await handle.result() == [0, 1, 2]
    code, out, err = await asyncio.wait_for(following, TIMEOUT_S)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["type"] == "WorkflowExecutionCompleted"
    # A closed one ends at once.
    code, out, err = await asyncio.to_thread(run, *follow[:-2])
    assert (code, len(out.splitlines())) == (0, len(rows)), err
    await client.close()


def test_following_as_one_document_is_refused(run: Run) -> None:
    assert "use -o jsonl" in run.fails("workflow", "show", "-w", "any", "--follow", "-o", "json")


@pytest.mark.parametrize("verb", ["signal", "cancel", "terminate", "pause", "unpause"])
def test_what_was_done_is_told_to_programs_too(run: Run, workflow_id: str, verb: str) -> None:
    run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    extra = ("--name", "close") if verb == "signal" else ()
    done = json.loads(run.ok("workflow", verb, "-w", workflow_id, *extra, "-o", "json"))
    assert done["workflow_id"] == workflow_id
    assert done["done"]
    assert workflow_id in run.fails("workflow", verb, "-w", f"{workflow_id}-none", *extra)
