"""Run the service: ``python -m examples.order_service kafka://localhost:9092``."""

from __future__ import annotations

import asyncio
import sys

from examples.order_service.service import running
from perdure.client import Client
from perdure_runtime.connect import KafkaAddress, parse_address


async def main(address: str) -> None:
    if not isinstance(parse_address(address), KafkaAddress):
        sys.exit(f"the service needs Kafka, not {address!r}: give kafka://host:port")
    async with running(await Client.connect(address)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.order_service kafka://host:port")
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
