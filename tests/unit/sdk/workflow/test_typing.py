"""A strict type checker infers the results of activities from their functions, and finds wrong arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[4]

SOURCE = """
from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from perdure import activity, workflow


@dataclass
class Order:
    id: str


@activity.defn
async def none_async() -> int:
    return 1


@activity.defn
def none_sync() -> str:
    return ""


@activity.defn
async def one_async(order: Order) -> float:
    return 1.0


@activity.defn
def one_sync(order: Order) -> bytes:
    return b""


@activity.defn
async def two_async(a: int, b: str) -> bool:
    return True


class Bank:
    @activity.defn
    async def ping(self) -> int:
        return 1

    @activity.defn
    def pay(self, order: Order) -> str:
        return ""

    @activity.defn
    async def move(self, a: int, b: int) -> bytes:
        return b""


@activity.defn
class Refund:
    async def __call__(self, order: Order) -> int:
        return 1


T = timedelta(seconds=1)


@workflow.defn
class Sums:
    @workflow.run
    async def run(self, a: int, b: int) -> int:
        return a + b


@workflow.defn(name="typed", failure_exception_types=[ValueError])
class Typed:
    @workflow.init
    def __init__(self, order: Order) -> None:
        self.order = order

    @workflow.run
    async def run(self, order: Order) -> None:
        assert_type(await workflow.execute_activity(none_async, start_to_close_timeout=T), int)
        assert_type(await workflow.execute_activity(none_sync, start_to_close_timeout=T), str)
        assert_type(await workflow.execute_activity(one_async, order, start_to_close_timeout=T), float)
        assert_type(await workflow.execute_activity(one_sync, order, start_to_close_timeout=T), bytes)
        assert_type(await workflow.execute_activity(two_async, args=[1, "a"], start_to_close_timeout=T), bool)
        assert_type(await workflow.execute_activity("x", 1, result_type=str, start_to_close_timeout=T), Any)
        handle = workflow.start_activity(one_async, order, start_to_close_timeout=T)
        assert_type(handle, workflow.ActivityHandle[float])
        tasks: list[asyncio.Task[float]] = [handle]
        assert_type(await workflow.execute_activity_method(Bank.ping, start_to_close_timeout=T), int)
        assert_type(await workflow.execute_activity_method(Bank.pay, order, start_to_close_timeout=T), str)
        assert_type(await workflow.execute_activity_method(Bank.move, args=[1, 2], start_to_close_timeout=T), bytes)
        assert_type(await workflow.execute_activity_class(Refund, order, start_to_close_timeout=T), int)
        assert_type(await workflow.execute_local_activity(none_sync, start_to_close_timeout=T), str)
        assert_type(await workflow.execute_local_activity(one_async, order, start_to_close_timeout=T), float)
        assert_type(await workflow.execute_local_activity(two_async, args=[1, "a"], start_to_close_timeout=T), bool)
        assert_type(await workflow.execute_local_activity("x", 1, result_type=str, start_to_close_timeout=T), Any)
        assert_type(await workflow.execute_local_activity_method(Bank.pay, order, start_to_close_timeout=T), str)
        assert_type(await workflow.execute_local_activity_class(Refund, order, start_to_close_timeout=T), int)
        local = workflow.start_local_activity(one_sync, order, start_to_close_timeout=T)
        assert_type(local, workflow.LocalActivityHandle[bytes])
        config = workflow.ActivityConfig(start_to_close_timeout=T)
        assert_type(await workflow.execute_activity(one_async, order, **config), float)
        assert_type(await workflow.wait(tasks), tuple[list[asyncio.Task[float]], list[asyncio.Task[float]]])
        assert_type(workflow.memo_value("k", type_hint=int), int)
        assert_type([await one for one in workflow.as_completed(tasks)], list[float])
        await workflow.execute_activity(one_async, 5, start_to_close_timeout=T)  # type: ignore[arg-type]
        await workflow.execute_activity(one_async, order, start_to_close_timeout=5)  # type: ignore[call-overload]

    async def others(self, order: Order) -> None:
        assert_type(await workflow.execute_child_workflow(Typed.run, order, id="x", run_timeout=T), None)
        assert_type(await workflow.execute_child_workflow(Sums.run, args=[1, 2]), int)
        child = await workflow.start_child_workflow(Sums.run, args=[1, 2])
        assert_type(child, workflow.ChildWorkflowHandle[Sums, int])
        assert_type(await child, int)
        futures: list[asyncio.Task[int]] = [child]
        assert_type(await workflow.execute_child_workflow("x", 1, result_type=str), Any)
        assert_type(workflow.get_external_workflow_handle_for(Typed.run, "x"), workflow.ExternalWorkflowHandle[Typed])
        await workflow.execute_child_workflow(Typed.run, 5)  # type: ignore[misc]

    @workflow.signal
    async def sig(self, number: int) -> None:
        assert_type(number, int)

    @workflow.query(name="other")
    def qry(self) -> int:
        return 1


assert_type(Typed(Order("a")).qry(), int)
"""

UPDATES = """
from __future__ import annotations
from typing import Any, assert_type
from perdure import workflow
from perdure.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateHandle,
    WorkflowUpdateStage,
)
from perdure.common import WorkflowIDConflictPolicy as P


@workflow.defn
class W:
    @workflow.run
    async def run(self, n: int) -> str:
        return ""

    @workflow.update
    def none(self) -> int:
        return 1

    @workflow.update(name="x")
    async def one(self, a: str) -> float:
        return 1.0

    @one.validator
    def check(self, a: str) -> None: ...

    @workflow.update
    async def two(self, a: str, b: int) -> bytes:
        return b""


async def main(client: Client) -> None:
    h = await client.start_workflow(W.run, 1, id="x", task_queue="q")
    assert_type(await h.execute_update(W.none), int)
    assert_type(await h.execute_update(W.one, "a"), float)
    assert_type(await h.execute_update(W.two, args=["a", 1]), bytes)
    assert_type(await h.execute_update("x", 1), Any)
    started = await h.start_update(W.one, "a", wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    assert_type(started, WorkflowUpdateHandle[float])
    assert_type(h.get_update_handle_for(W.one, "i"), WorkflowUpdateHandle[float])
    op = WithStartWorkflowOperation(W.run, 1, id="x", task_queue="q", id_conflict_policy=P.FAIL)
    assert_type(await op.workflow_handle(), WorkflowHandle[W, str])
    assert_type(await client.execute_update_with_start_workflow(W.none, start_workflow_operation=op), int)
    assert_type(await client.execute_update_with_start_workflow(W.one, "a", start_workflow_operation=op), float)
    await h.execute_update(W.one, 5)  # type: ignore[arg-type]
"""

#: Each line with a comment is wrong; the comment stands in what the checker says about it.
WRONG = """
from __future__ import annotations
from datetime import timedelta
from perdure import activity, workflow
from perdure.client import Client

T = timedelta(seconds=1)


@activity.defn
async def pay(cents: int) -> str:
    return ""


@workflow.defn
class Order:
    @workflow.run
    async def run(self, number: int) -> int:
        await workflow.execute_activity(pay, 5, start_to_close_timeout=T)
        await workflow.execute_activity(pay, "5", start_to_close_timeout=T)  # "execute_activity"
        await workflow.execute_local_activity(pay, "5", start_to_close_timeout=T)  # "execute_local_activity"
        external = workflow.get_external_workflow_handle_for(Order.run, "x")
        await external.signal(Order.add, "a")
        await external.signal(Order.add, 1)  # "signal"
        child = await workflow.start_child_workflow(Order.run, 1)
        await child.signal(Order.add, "a")
        await child.signal(Order.add, 1)  # "signal"
        paid: int = await workflow.execute_activity(pay, 5, start_to_close_timeout=T)  # "execute_activity"
        return paid

    @workflow.signal
    def add(self, article: str) -> None: ...

    @workflow.query
    def has(self, article: str) -> bool:
        return True

    @workflow.update
    async def change(self, article: str) -> bool:
        return True


async def main(client: Client) -> None:
    handle = await client.start_workflow(Order.run, 1, id="x", task_queue="q")
    await client.start_workflow(Order.run, "1", id="x", task_queue="q")  # "start_workflow"
    await client.execute_workflow(Order.run, "1", id="x", task_queue="q")  # "execute_workflow"
    text: str = await handle.result()  # incompatible types
    await handle.signal(Order.add, "a")
    await handle.signal(Order.add, 1)  # "signal"
    await handle.query(Order.has, 1)  # "query"
    await handle.execute_update(Order.change, 1)  # "execute_update"
    await handle.execute_update(pay, 1)  # "execute_update"
"""


@pytest.mark.slow
def test_a_strict_checker_knows_the_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "typed.py"
    file.write_text(SOURCE)
    report, errors, status = api.run(["--strict", "--config-file", "pyproject.toml", str(file)])
    assert status == 0, report + errors


@pytest.mark.slow
def test_a_strict_checker_knows_the_types_of_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "typed_updates.py"
    file.write_text(UPDATES)
    report, errors, status = api.run(["--strict", "--config-file", "pyproject.toml", str(file)])
    assert status == 0, report + errors


@pytest.mark.slow
def test_a_strict_checker_finds_each_wrong_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    report, errors, _ = api.run(["--strict", "--config-file", "pyproject.toml", str(file)])
    assert errors == ""
    said: dict[int, str] = {}
    for number, message in re.findall(r"wrong\.py:(\d+): error: (.*)", report):
        said[int(number)] = said.get(int(number), "") + message
    lines = WRONG.split("\n")
    wanted = {number: line.split("  # ")[1] for number, line in enumerate(lines, 1) if "  # " in line}
    assert said.keys() == wanted.keys(), report
    assert {number: text for number, text in wanted.items() if text not in said[number].lower()} == {}, report
