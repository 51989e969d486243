"""The order service's own test, on the embedded log and on the session's broker, and what its environment promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from confluent_kafka.admin import AdminClient

from examples.order_service.service import TOPICS
from examples.order_service.test_orders import test_orders_are_paid_and_shipped
from perdure.testing.kafka import BrokerUnavailableError, KafkaEnvironment
from perdure.testing.kafka import _environment as environment_module
from perdure_runtime.log import LogError

__all__ = ["test_orders_are_paid_and_shipped"]


@pytest_asyncio.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def kafka_environment(request: pytest.FixtureRequest) -> AsyncIterator[KafkaEnvironment]:
    bootstrap = request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None
    async with await KafkaEnvironment.start("embedded", bootstrap=bootstrap) as environment:
        yield environment
    if bootstrap is not None:
        await asyncio.to_thread(_remove_from, bootstrap)


def _remove_from(bootstrap: str) -> None:
    """The example's names are fixed, and the broker may outlive this session."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    gone = [*admin.delete_topics([*TOPICS, "orders.dlq"]).values()]
    gone += admin.delete_consumer_groups(["order-service"]).values()
    for answer in gone:
        answer.result(30)


async def test_what_is_produced_can_be_read() -> None:
    async with await KafkaEnvironment.start("embedded") as env:
        await env.create_topic("t", partitions=3)
        await env.produce("t", {"n": 1}, key="k", headers={"h": b"x"}, partition=2)
        await env.produce("t", None, key=b"k")
        found = {record.partition: record for record in await env.records("t", 2)}
        assert found[2].value == {"n": 1}
        assert found[2].key_text == "k"
        assert found[2].header("h") == b"x"
        assert {record.value for partition, record in found.items() if partition != 2} == {None}
        assert env.bootstrap == ""


async def test_many_records_are_appended_in_order_and_followed(tmp_path: Path) -> None:
    async with await KafkaEnvironment.start("embedded", data=tmp_path / "log") as env:
        await env.create_topic("t", partitions=3)
        await env.produce_many("t", [(f"k{number % 2}", number) for number in range(10)])
        found: dict[str, list[int]] = {"k0": [], "k1": []}
        with pytest.raises(TimeoutError, match="no record after the first 10"):
            async for record in env.follow("t", timeout_s=0.1):
                found[record.key_text].append(record.value)
    assert found == {"k0": [0, 2, 4, 6, 8], "k1": [1, 3, 5, 7, 9]}
    with pytest.raises(ValueError, match="give kind 'embedded'"):
        await KafkaEnvironment.start("auto", data=tmp_path)


async def test_too_few_records_and_unknown_topics_are_said() -> None:
    async with await KafkaEnvironment.start("embedded") as env:
        await env.create_topic("t")
        with pytest.raises(TimeoutError, match="holds 0 records after"):
            await env.records("t", 1, timeout_s=0.1)
        with pytest.raises(LogError, match="no topic elsewhere"):
            await env.produce("elsewhere", "x")


async def test_a_kind_that_is_not_possible_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "container_engine_answers", lambda: False)
    with pytest.raises(BrokerUnavailableError, match="Docker"):
        await KafkaEnvironment.start("container")
    with pytest.raises(ValueError, match="give auto, container"):
        await KafkaEnvironment.start("docker")  # type: ignore[arg-type]
