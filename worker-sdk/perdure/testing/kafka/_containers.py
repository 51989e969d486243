"""A Kafka broker in a container: Apache Kafka's own image, by ``testcontainers``.

Called by :class:`perdure.testing.kafka.KafkaEnvironment`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator

from perdure.testing.kafka._native import KAFKA_VERSION, broker_properties, free_port, wait_until_serving

_ENGINE_ANSWER_S = 5


@contextlib.contextmanager
def container_broker() -> Iterator[str]:
    """The bootstrap server of a broker on a loopback port (clients must see the port that the broker advertises)."""
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


def container_engine_answers() -> bool:
    """Whether containers can be started here."""
    docker = shutil.which("docker")
    if docker is None or importlib.util.find_spec("testcontainers") is None:
        return False
    try:
        result = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=_ENGINE_ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0
