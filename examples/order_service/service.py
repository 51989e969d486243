"""The order service: a workflow for each order, with records as its only way in and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from perdure import workflow
from perdure.client import Client
from perdure.kafka import Json, Record, RecordTriggers, on_record
from perdure.worker import Worker

TASK_QUEUE = "orders"
TOPICS = ("orders", "payments", "payment-results", "shipments")
PAYMENT_TIMEOUT = timedelta(days=3)


@dataclass
class Order:
    """What a customer wants."""

    id: str
    item: str
    amount_cents: int


@dataclass
class PaymentResult:
    """What the payment provider says."""

    paid: bool


@workflow.defn
class Fulfilment:
    """From an order to its shipment, or to nothing if it is not paid."""

    def __init__(self) -> None:
        self._result: PaymentResult | None = None

    @workflow.run
    async def run(self, order: Order) -> str:
        workflow.emit("payments", order.id, {"order": order.id, "amount_cents": order.amount_cents})
        try:
            await workflow.wait_condition(lambda: self._result is not None, timeout=PAYMENT_TIMEOUT)
        except TimeoutError:
            return "not paid in time"
        assert self._result is not None
        if not self._result.paid:
            return "payment refused"
        workflow.emit("shipments", order.id, order)
        return "shipped"

    @workflow.signal
    def payment_answered(self, result: PaymentResult) -> None:
        self._result = result


@on_record(
    "orders", workflow=Fulfilment.run, task_queue=TASK_QUEUE, id="order-{key}", value=Json(Order), singleton="skip"
)
def order_placed(record: Record) -> Order:
    order: Order = record.value
    if order.amount_cents <= 0:
        raise ValueError(f"order {order.id} has the amount {order.amount_cents}")
    return order


@on_record("payment-results", signal=Fulfilment.payment_answered, id="order-{key}", value=Json(PaymentResult))
def payment_answered(record: Record) -> PaymentResult:
    result: PaymentResult = record.value
    return result


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[RecordTriggers]:
    """The service: a worker, and the triggers beside it.

    Args:
        client: A client of the engine; the topics stand on its log.
    """
    triggers = RecordTriggers(client, triggers=[order_placed, payment_answered], group="order-service")
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[Fulfilment]), triggers:
        yield triggers
