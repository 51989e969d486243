"""The service that is killed: triggers and a worker in one process.

Each record starts an ``Order`` and signals the ``Device`` of its key. ``python -m tests.e2e.triggers.service ADDRESS
NAMESPACE TOPIC GROUP INSTANCE``.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from perdure import workflow
from perdure.client import Client
from perdure.kafka import Record, RecordTriggers, on_record
from perdure.worker import Worker

TASK_QUEUE = "orders"
NOBODY = "nobody"


@workflow.defn
class Order:
    """One order."""

    @workflow.run
    async def run(self, number: int) -> int:
        """Return its number."""
        return number


async def main(address: str, namespace: str, topic: str, group: str, instance: str) -> None:
    @on_record(topic, workflow=Order.run, task_queue=TASK_QUEUE)
    def order(record: Record) -> int:
        number: int = record.value
        return number

    # Nobody runs the devices: their histories show what came in which order.
    @on_record(topic, workflow="Device", signal="measured", task_queue=NOBODY, id="device-{key}")
    def device(record: Record) -> int:
        number: int = record.value
        return number

    client = await Client.connect(address, namespace=namespace, connect_timeout=timedelta(minutes=2))
    triggers = RecordTriggers(client, triggers=[order, device], group=group, instance=instance)
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[Order]), triggers:
        print("service ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
