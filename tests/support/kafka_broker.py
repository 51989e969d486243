"""Finds or starts the Kafka broker of a test session.

In this order: ``PERDURE_TEST_BOOTSTRAP``; a container, if an engine answers; a broker from Kafka's own jars
(:mod:`tests.support.kafka_native`). Called by the fixtures in ``tests/conftest.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.kafka_native import (
    KAFKA_VERSION,
    BrokerUnavailableError,
    NativeBroker,
    NativeCluster,
    broker_properties,
    free_port,
    wait_until_serving,
)

__all__ = ["BrokerUnavailableError", "NativeBroker", "NativeCluster", "broker_is_required", "session_bootstrap"]

_ENGINE_ANSWER_S = 5
_GIVEN_BROKER_ANSWER_S = 10


def broker_is_required() -> bool:
    """Whether a missing broker is a failure (CI) and not a reason to skip."""
    return os.environ.get("PERDURE_REQUIRE_KAFKA") == "1" or os.environ.get("CI", "").lower() in ("true", "1")


@contextlib.contextmanager
def session_bootstrap() -> Iterator[str]:
    """The bootstrap servers of a broker for the whole session.

    Raises:
        BrokerUnavailableError: there is none; the message says what was tried.
    """
    given = os.environ.get("PERDURE_TEST_BOOTSTRAP")
    if given:
        _check_given(given)
        yield given
    elif _container_engine_answers():
        with _container() as bootstrap:
            yield bootstrap
    else:
        with NativeBroker() as broker:
            yield broker.bootstrap


def _check_given(bootstrap: str) -> None:
    try:
        AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=_GIVEN_BROKER_ANSWER_S)
    except KafkaException as error:
        raise BrokerUnavailableError(f"nobody answers at PERDURE_TEST_BOOTSTRAP={bootstrap}: {error}") from None


@contextlib.contextmanager
def _container() -> Iterator[str]:
    """Apache Kafka's own image, on a loopback port (clients must see the port that the broker advertises)."""
    core = importlib.import_module("testcontainers.core.container")
    port = free_port()
    properties = broker_properties(node_id=1) | {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    }
    container = core.DockerContainer(f"apache/kafka:{KAFKA_VERSION}")
    for name, value in properties.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    container.ports = {9092: ("127.0.0.1", port)}
    with container:
        wait_until_serving(port)
        yield f"127.0.0.1:{port}"


def _container_engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        result = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=_ENGINE_ANSWER_S
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0
