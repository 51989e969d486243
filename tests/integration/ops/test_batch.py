"""``perdure batch``: over a filter, as fast as allowed, and never twice."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from perdure.client import Client, WorkflowExecutionStatus
from perdure_ops import batches
from perdure_ops.batches import Target, carry_out, id_for, is_made_by, new_batch_id, started_ms
from perdure_runtime.log import Log
from perdure_schemas.records import Done, ErrorCode, Rejected, ReplyBody
from perdure_schemas.topics import TopicNames
from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE

COUNT = 5


@pytest.fixture
def stem() -> str:
    """Workflow ids of a test begin with it."""
    return f"b{uuid.uuid4().hex[:8]}"


@pytest.fixture
def started(run: Run, stem: str) -> list[str]:
    ids = [f"{stem}-{number}" for number in range(COUNT)]
    for workflow_id in ids:
        run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", workflow_id)
    return ids


def query_of(stem: str) -> tuple[str, str]:
    return "-q", f"WorkflowId STARTS_WITH '{stem}'"


def statuses(run: Run, stem: str) -> list[str]:
    return [row["status"] for row in json.loads(run.ok("workflow", "list", *query_of(stem), "-o", "json"))]


def test_a_signal_reaches_each_run_once_however_often_it_is_resumed(run: Run, stem: str, started: list[str]) -> None:
    tried = json.loads(run.ok("batch", "signal", *query_of(stem), "--name", "add", "--dry-run", "-o", "json"))
    assert sorted(row["workflow_id"] for row in tried) == started
    code, out, err = run("batch", "signal", *query_of(stem), "--name", "add", "-i", "1", "--yes", "-o", "json")
    first = json.loads(out)
    assert (code, first["matched"], first["done"], first["failed"]) == (0, COUNT, COUNT, 0), err
    assert first["batch_id"] in err
    resumed = ("batch", "signal", *query_of(stem), "--name", "add", "-i", "1", "--resume", first["batch_id"])
    again = json.loads(run.ok(*resumed, "-o", "json"))
    assert (again["batch_id"], again["done"]) == (first["batch_id"], COUNT)
    # One that starts later is none of its business.
    run.ok("workflow", "start", "--type", "Basket", "-t", TASK_QUEUE, "-w", f"{stem}-later")
    assert json.loads(run.ok(*resumed, "-o", "json"))["matched"] == COUNT
    run.ok("batch", "signal", *query_of(stem), "--name", "close", "--yes")
    assert [json.loads(run.ok("workflow", "result", "-w", workflow_id)) for workflow_id in started] == [[1]] * COUNT
    assert json.loads(run.ok("workflow", "result", "-w", f"{stem}-later")) == []


def test_pause_unpause_cancel_and_what_is_closed_is_passed_over(run: Run, stem: str, started: list[str]) -> None:
    run.ok("workflow", "terminate", "-w", started[0])
    for verb in ("pause", "unpause"):
        done = json.loads(run.ok("batch", verb, *query_of(stem), "--yes", "--reason", "test", "-o", "json"))
        assert (done["verb"], done["matched"], done["done"]) == (verb, COUNT - 1, COUNT - 1)
    assert f"would cancel {COUNT - 1} runs, and pass over 1" in run.ok("batch", "cancel", *query_of(stem), "--dry-run")
    assert json.loads(run.ok("batch", "cancel", *query_of(stem), "--yes", "-o", "json"))["done"] == COUNT - 1
    for workflow_id in started[1:]:
        assert "did not complete" in run.fails("workflow", "result", "-w", workflow_id)
    assert sorted(set(statuses(run, stem))) == ["CANCELED", "TERMINATED"]


def test_terminate_reset_and_delete(run: Run, stem: str, started: list[str]) -> None:
    # A reset needs a workflow task to decide anew.
    run.ok("batch", "signal", *query_of(stem), "--name", "add", "-i", "7", "--yes")
    for workflow_id in started:
        run.ok("workflow", "query", "-w", workflow_id, "--name", "__stack_trace")
    reset = ("batch", "reset", *query_of(stem), "--reason", "test", "--yes", "-o", "json")
    first = json.loads(run.ok(*reset))
    assert (first["matched"], first["done"]) == (COUNT, COUNT)
    assert sorted(statuses(run, stem)) == ["RUNNING"] * COUNT + ["TERMINATED"] * COUNT
    run.ok(*reset, "--resume", first["batch_id"])
    assert len(statuses(run, stem)) == 2 * COUNT
    assert json.loads(run.ok("batch", "terminate", *query_of(stem), "--yes", "-o", "json"))["done"] == COUNT
    deleted = json.loads(run.ok("batch", "delete", *query_of(stem), "--yes", "-o", "json"))
    assert (deleted["matched"], deleted["done"]) == (2 * COUNT, 2 * COUNT)
    assert statuses(run, stem) == []


def test_it_asks_before(run: Run, stem: str, started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(question: str, **_: Any) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(batches.typer, "confirm", confirm)
    assert "nothing was done" in run.fails("batch", "terminate", *query_of(stem))
    assert asked == [f"terminate {COUNT} runs?"]
    assert statuses(run, stem) == ["RUNNING"] * COUNT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-q", " "), "--query: give a list filter"),
        (("-q", "WorkflowType = 'X' ORDER BY StartTime"), "ORDER BY and GROUP BY mean nothing"),
        (("-q", "Nonsense ="), "filter"),
        (("-q", "WorkflowType = 'X'", "--resume", "b1"), "'b1' is no id of a batch"),
    ],
)
def test_wrong_use(run: Run, arguments: tuple[str, ...], said: str) -> None:
    err = run.fails("batch", "cancel", *arguments, "--yes")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_filter_and_a_rate_are_needed(run: Run) -> None:
    run.fails("batch", "cancel", "--yes", code=2)
    run.fails("batch", "cancel", "-q", "WorkflowType = 'X'", "--rps", "0", code=2)
    code, out, err = run("batch", "cancel", "-q", "WorkflowType = 'Nobody'", "--yes", "-o", "json")
    assert (code, json.loads(out)["matched"]) == (0, 0)
    assert "no run to cancel" in err


async def test_answers_are_told_apart() -> None:
    answers: dict[str, ReplyBody] = {
        "fine": Done(),
        "closed": Rejected(code=ErrorCode.NOT_FOUND, message="closed"),
        "wrong": Rejected(code=ErrorCode.INVALID_ARGUMENT, message="no such\npoint"),
    }

    async def ask(target: Target) -> ReplyBody:
        return answers[target.workflow_id]

    counts, failures = await carry_out([Target(name, "r", "T") for name in answers], ask, 1e6)
    assert counts == {"done": 1, "over": 1, "failed": 1}
    assert failures == [{"workflow_id": "wrong", "run_id": "r", "reason": "no such point"}]


async def test_requests_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine waits lie between ten requests, each as long as is left of a tenth of a second."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def ask(_: Target) -> ReplyBody:
        return Done()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await carry_out([Target(str(n), "r", "T") for n in range(10)], ask, 0.001)
    assert len(slept) == 9
    assert slept[0] <= 1000 < slept[-1] <= 9000


def test_an_id_says_when_the_batch_began_and_makes_the_ids_of_its_commands() -> None:
    batch_id = new_batch_id(1_700_000_000_123)
    assert started_ms(batch_id) == 1_700_000_000_123
    assert id_for(batch_id, "r1") == id_for(batch_id, "r1") != id_for(batch_id, "r2")
    other_id = new_batch_id(1_700_000_000_123)
    assert id_for(batch_id, "r1") != id_for(other_id, "r1")
    assert is_made_by(batch_id, id_for(batch_id, "r1"))
    assert not is_made_by(other_id, id_for(batch_id, "r1"))


async def test_a_batch_of_many(run: Run, shared: tuple[Log, TopicNames, str], stem: str) -> None:
    """More runs than a page of the list, and than may be asked at a time."""
    log, names, _ = shared
    client = Client.from_log(log, namespace=names.namespace, names=names)
    count = 150
    await asyncio.gather(
        *(client.start_workflow("Nobody", id=f"{stem}-{n}", task_queue=f"{stem}-idle") for n in range(count))
    )
    ended = await asyncio.to_thread(run, "batch", "terminate", *query_of(stem), "--rps", "5000", "--yes", "-o", "json")
    assert json.loads(ended[1])["done"] == count
    left = [one async for one in client.list_workflows(query_of(stem)[1])]
    assert {one.status for one in left} == {WorkflowExecutionStatus.TERMINATED}
    await client.close()
