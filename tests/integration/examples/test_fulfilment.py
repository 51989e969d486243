"""The order: shipped at once, or when a person has said so; those who do not answer are passed over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from examples.fulfilment.warehouse import Warehouse
from examples.fulfilment.workflow import CLERKS, TASK_QUEUE, Decision, Fulfilment, Order, Stage, Status
from perdure.client import WorkflowHandle
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

CHEAP, DEAR = Order("o-1", "tea", 1_000), Order("o-2", "piano", 9_000)


def _worker(env: WorkflowEnvironment, warehouse: Warehouse) -> Worker:
    activities = [warehouse.risk_of, warehouse.ask, warehouse.pack]
    return Worker(env.client, task_queue=TASK_QUEUE, workflows=[Fulfilment], activities=activities)


async def _start(env: WorkflowEnvironment, order: Order) -> WorkflowHandle[Fulfilment, Status]:
    return await env.client.start_workflow(Fulfilment.run, order, id=order.id, task_queue=TASK_QUEUE)


@asynccontextmanager
async def _ordered(
    env: WorkflowEnvironment, warehouse: Warehouse, order: Order
) -> AsyncIterator[WorkflowHandle[Fulfilment, Status]]:
    async with _worker(env, warehouse):
        yield await _start(env, order)


async def test_an_ordinary_order_needs_nobody(skipping: WorkflowEnvironment) -> None:
    warehouse = Warehouse()
    async with _ordered(skipping, warehouse, CHEAP) as order:
        assert await order.result() == Status(Stage.SHIPPED, "", "parcel 1 with tea")
    assert not warehouse.asked


async def test_an_odd_order_waits_and_escalates(skipping: WorkflowEnvironment) -> None:
    warehouse = Warehouse()
    async with _ordered(skipping, warehouse, DEAR) as order:
        for hours, clerk in ((1, CLERKS[0]), (4, CLERKS[1]), (4, CLERKS[2]), (24, CLERKS[2])):
            await skipping.sleep(timedelta(hours=hours))
            assert await order.query(Fulfilment.status) == Status(Stage.WAITING_FOR_DECISION, clerk)
        await order.signal(Fulfilment.decide, Decision(True, "head of sales"))
        assert (await order.result()).stage == Stage.SHIPPED
    assert warehouse.asked == [(clerk, DEAR.id) for clerk in CLERKS]
    assert warehouse.parcels == {DEAR.id: "parcel 1 with piano"}


@pytest.mark.parametrize("accepted", [True, False])
async def test_the_first_decision_counts(skipping: WorkflowEnvironment, accepted: bool) -> None:
    warehouse = Warehouse()
    order = await _start(skipping, DEAR)
    # Both are there before anybody works on it: after the first one it may end at once.
    await order.signal(Fulfilment.decide, Decision(accepted, "clerk"))
    await order.signal(Fulfilment.decide, Decision(not accepted, "supervisor"))
    async with _worker(skipping, warehouse):
        status = await order.result()
    assert status.stage == (Stage.SHIPPED if accepted else Stage.REJECTED)
    assert bool(warehouse.parcels) == accepted
