"""Brokers started natively, as :mod:`perdure.testing.kafka` has them; here under the name the tests use."""

from perdure.testing.kafka._native import (
    KAFKA_VERSION,
    BrokerUnavailableError,
    NativeBroker,
    NativeCluster,
    broker_properties,
    free_port,
    java,
    kafka_jars,
    kafka_tool,
    wait_until_serving,
)

__all__ = [
    "KAFKA_VERSION",
    "BrokerUnavailableError",
    "NativeBroker",
    "NativeCluster",
    "broker_properties",
    "free_port",
    "java",
    "kafka_jars",
    "kafka_tool",
    "wait_until_serving",
]
