"""Two orders, one of which a person has to look at: ``python -m examples.fulfilment``."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from examples.fulfilment.warehouse import Warehouse
from examples.fulfilment.workflow import TASK_QUEUE, Decision, Fulfilment, Order
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


async def main() -> None:
    warehouse = Warehouse()
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(
            env.client,
            task_queue=TASK_QUEUE,
            workflows=[Fulfilment],
            activities=[warehouse.risk_of, warehouse.ask, warehouse.pack],
        ),
    ):
        for order in (Order("o-1", "tea", 1_200), Order("o-2", "a piano", 9_000)):
            handle = await env.client.start_workflow(Fulfilment.run, order, id=order.id, task_queue=TASK_QUEUE)
            await env.sleep(timedelta(hours=5))
            print(order.id, await handle.query(Fulfilment.status))
        await handle.signal(Fulfilment.decide, Decision(True, "supervisor"))
        print(order.id, await handle.result())
    print(warehouse.asked)


if __name__ == "__main__":
    asyncio.run(main())
