"""What the tests of triggers share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from perdure.client import Client
from perdure_runtime.log import Log, NewRecord
from perdure_schemas.topics import Cleanup, TopicNames, TopicSpec
from tests.support.platform import embedded_platform

PATIENCE_S = 60.0


class Topics:
    """Topics of a test's own, on any log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._producer = log.producer("test")

    def create(self, partitions: int = 1) -> str:
        name = f"orders-{uuid.uuid4().hex[:8]}"
        self.log.create_topics({name: TopicSpec(name, "key", "text", Cleanup.DELETE, (), (), ())}, partitions)
        return name

    def append(self, topic: str, *records: tuple[str | None, bytes | None], **more: Any) -> None:
        """Append (key, value) pairs to partition 0, or to ``partition``; with ``headers`` and ``timestamp_ms``."""
        partition = more.pop("partition", 0)
        wanted = [
            NewRecord(topic, partition, None if key is None else key.encode(), value, **more) for key, value in records
        ]
        ack = self._producer.append(wanted)
        assert ack.wait(PATIENCE_S)
        assert ack.error() is None

    def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict(self.log.describe_group(group, topic).committed)

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(scope="module")
def shared_platform() -> Iterator[tuple[Log, TopicNames]]:
    """One embedded engine for the tests of a module: they use topics, groups and ids of their own."""
    with embedded_platform() as running:
        yield running


@pytest_asyncio.fixture
async def shared_client(shared_platform: tuple[Log, TopicNames]) -> AsyncIterator[Client]:
    log, names = shared_platform
    client = Client.from_log(log, namespace=names.namespace)
    yield client
    await client.close()


@pytest.fixture
def topics(shared_platform: tuple[Log, TopicNames]) -> Iterator[Topics]:
    found = Topics(shared_platform[0])
    yield found
    found.close()


async def started_with(client: Client, ids: Sequence[str]) -> list[Any]:
    """The arguments that workflows were started with, by their ids."""
    found = []
    for workflow_id in ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        attributes: Any = history.events[0].attributes
        found += await client.data_converter.decode(attributes.input)
    return found


async def signals_of(client: Client, workflow_id: str) -> list[Any]:
    """The arguments of the signals of a workflow's run, in order."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    found = []
    for event in history.events:
        if type(event.attributes).__name__ == "WorkflowExecutionSignaled":
            found += await client.data_converter.decode(event.attributes.input)  # type: ignore[union-attr]
    return found
