"""The whole service in one file: order records in, payment and shipment records out."""

from __future__ import annotations

import asyncio

from examples.order_service.service import TOPICS, Fulfilment, running
from perdure.testing.kafka import KafkaEnvironment


async def test_orders_are_paid_and_shipped(kafka_environment: KafkaEnvironment) -> None:
    env = kafka_environment
    await env.create_topic(*TOPICS, "orders.dlq")

    async with running(env.client):
        for number in range(5):
            order = {"id": f"o-{number}", "item": "tea", "amount_cents": 100 * number}
            await env.produce("orders", order, key=f"o-{number}")
        await env.produce("orders", {"id": "o-1", "item": "tea", "amount_cents": 100}, key="o-1")  # sent twice

        # The payment provider, which refuses o-4. (The order of nothing, o-0, was never asked for.)
        asked = await env.records("payments", 4)
        assert sorted(record.value["order"] for record in asked) == ["o-1", "o-2", "o-3", "o-4"]
        for record in asked:
            await env.produce("payment-results", {"paid": record.key_text != "o-4"}, key=record.key)

        shipped = await env.records("shipments", 3)
        assert sorted(record.value["id"] for record in shipped) == ["o-1", "o-2", "o-3"]

        handles = [env.client.get_workflow_handle_for(Fulfilment.run, f"order-o-{number}") for number in range(1, 5)]
        results = await asyncio.gather(*(handle.result() for handle in handles))
        assert results == ["shipped", "shipped", "shipped", "payment refused"]

        # Each went out once, however often the workflow's code ran.
        assert len(await env.records("payments", 4)) == 4
        (letter,) = await env.records("orders.dlq", 1)
        assert letter.value["id"] == "o-0"
        assert b"has the amount 0" in (letter.header("perdure-dlq-reason") or b"")
