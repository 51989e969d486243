"""Run the service: ``python -m examples.order_service kafka://localhost:9092``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from confluent_kafka import Producer

from examples.order_service.service import running
from perdure.client import Client
from perdure_runtime.connect import KafkaAddress, parse_address


async def main(address: str) -> None:
    parsed = parse_address(address)
    if not isinstance(parsed, KafkaAddress):
        sys.exit(f"the service needs Kafka, not {address!r}: give kafka://host:port")
    producer = Producer({**parsed.options, "bootstrap.servers": parsed.bootstrap, "enable.idempotence": True})

    async def publish(topic: str, key: str, value: Any) -> None:
        producer.produce(topic, json.dumps(value).encode(), key.encode())
        if await asyncio.to_thread(producer.flush, 30):
            raise RuntimeError(f"{topic} did not take the record for {key}")

    client = await Client.connect(address)
    async with running(client, publish):
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.order_service kafka://host:port")
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
