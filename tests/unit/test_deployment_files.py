"""``docker-compose.yml`` and ``Dockerfile``: that the services fit together and start what really exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from perdure_ops.cli import app
from perdure_runtime.connect import KafkaAddress, parse_address
from tests.support.kafka_native import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
BROKERS = ("kafka-1", "kafka-2", "kafka-3")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def option(command: list[str], name: str) -> str:
    [value] = [argument.partition("=")[2] for argument in command if argument.startswith(f"--{name}=")]
    return value


def test_the_brokers_are_those_the_tests_use(compose: dict[str, Any]) -> None:
    assert {compose["services"][broker]["image"] for broker in BROKERS} == {f"apache/kafka:{KAFKA_VERSION}"}


def test_the_cluster_survives_one_broker(compose: dict[str, Any]) -> None:
    for broker in BROKERS:
        environment = compose["services"][broker]["environment"]
        factors = {name: value for name, value in environment.items() if name.endswith("REPLICATION_FACTOR")}
        assert set(factors.values()) == {3}, factors
        assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"


def test_every_broker_has_an_identity_of_its_own_and_knows_the_others(compose: dict[str, Any]) -> None:
    environments = {broker: compose["services"][broker]["environment"] for broker in BROKERS}
    voters = {f"{environment['KAFKA_NODE_ID']}@{broker}:9093" for broker, environment in environments.items()}
    for broker, environment in environments.items():
        service = compose["services"][broker]
        assert set(environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")) == voters
        assert len(environment["CLUSTER_ID"]) == 22
        [(bind, host_port, inside)] = [port.split(":") for port in service["ports"]]
        assert bind == "127.0.0.1"
        assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"INTERNAL://{broker}:9092,HOST://localhost:{host_port}"
        assert f"HOST://:{inside}" in environment["KAFKA_LISTENERS"]
        [(volume, folder)] = [volume.split(":") for volume in service["volumes"]]
        assert volume in compose["volumes"]
        assert environment["KAFKA_LOG_DIRS"] == folder


def test_the_engine_is_started_with_options_that_exist(compose: dict[str, Any]) -> None:
    name, *arguments = compose["services"]["engine"]["command"]
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument.partition("=")[0] for argument in arguments} <= known
    assert 'ENTRYPOINT ["perdure"]' in (ROOT / "Dockerfile").read_text()


def test_the_engine_finds_the_brokers_and_replicates_as_they_do(compose: dict[str, Any]) -> None:
    engine = compose["services"]["engine"]
    address = parse_address(option(engine["command"], "address"))
    assert address == KafkaAddress(",".join(f"{broker}:9092" for broker in BROKERS), {})
    assert option(engine["command"], "replication") == "3"
    assert set(engine["depends_on"]) == set(BROKERS)
    port = option(engine["command"], "http-port")
    assert all(published.endswith(f":{port}") for published in engine["ports"])
    assert f"EXPOSE {port}" in (ROOT / "Dockerfile").read_text()


def test_the_image_has_the_python_that_is_required_and_all_that_is_packaged() -> None:
    required = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert required is not None
    assert f"FROM python:{required[1]}-slim" in (ROOT / "Dockerfile").read_text()
    ignored = set((ROOT / ".dockerignore").read_text().split())
    packages = re.findall(r'^    "([\w-]+)/perdure', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(packages) == 8
    assert not ignored & {*packages, "README.md", "LICENSE", "pyproject.toml"}
