"""The service that is killed: triggers and a worker in one process.

Each record starts an ``Order``, which emits a receipt, and signals the ``Device`` of its key, which emits a shipment.
``python -m tests.e2e.triggers.service ADDRESS NAMESPACE TOPIC GROUP INSTANCE``; what is emitted goes to the topics
:func:`receipts_of` and :func:`shipments_of` name.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from perdure import workflow
from perdure.client import Client
from perdure.kafka import Arguments, Record, RecordTriggers, on_record
from perdure.worker import Worker

TASK_QUEUE = "orders"


def receipts_of(topic: str) -> str:
    """Where each order emits one record."""
    return f"{topic}-receipts"


def shipments_of(topic: str) -> str:
    """Where each device emits one record for each of its signals."""
    return f"{topic}-shipments"


@workflow.defn
class Order:
    """One order."""

    @workflow.run
    async def run(self, topic: str, number: int) -> int:
        """Emit a receipt; returns the number."""
        workflow.emit(receipts_of(topic), str(number), number)
        return number


@workflow.defn
class Device:
    """One device: it ships what it is told, in that order, for ever."""

    @workflow.init
    def __init__(self, topic: str, key: str) -> None:
        self._topic = shipments_of(topic)
        self._key = key

    @workflow.run
    async def run(self, topic: str, key: str) -> None:
        """Wait for signals."""
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def measured(self, number: int) -> None:
        """A record of this device."""
        workflow.emit(self._topic, self._key, number)


def key_of(record: Record) -> str:
    """The key of a record that has one."""
    assert record.key is not None
    return record.key.decode()


async def main(address: str, namespace: str, topic: str, group: str, instance: str) -> None:
    @on_record(topic, workflow=Order.run, task_queue=TASK_QUEUE)
    def order(record: Record) -> Arguments:
        return Arguments((topic, record.value))

    @on_record(
        topic,
        workflow=Device.run,
        signal=Device.measured,
        task_queue=TASK_QUEUE,
        id="device-{key}",
        start_args=lambda record: (topic, key_of(record)),
    )
    def device(record: Record) -> int:
        number: int = record.value
        return number

    client = await Client.connect(address, namespace=namespace, connect_timeout=timedelta(minutes=2))
    triggers = RecordTriggers(client, triggers=[order, device], group=group, instance=instance)
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[Order, Device]), triggers:
        print("service ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
