"""Tests of services that live on Kafka: a broker, an engine and a client in one line, or all of it in memory.

::

    async with await KafkaEnvironment.start() as env:
        await env.create_topic("orders")
        await env.produce("orders", {"id": "o-1"}, key="o-1")
        ...
        (shipment,) = await env.records("shipments", 1)

See :class:`KafkaEnvironment`. The pytest fixture ``kafka_environment`` gives one to each test; the broker is shared.
"""

from perdure.testing.kafka._environment import KafkaEnvironment
from perdure.testing.kafka._native import BrokerUnavailableError

__all__ = ["BrokerUnavailableError", "KafkaEnvironment"]
