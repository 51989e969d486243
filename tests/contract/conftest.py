"""The log under test: every contract test runs once for each adapter of the ``Log`` port."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.kafka.shared_reader import SharedReader, SharedReaders
from perdure_runtime.log import Log
from perdure_runtime.remote import RemoteLog
from perdure_schemas.topics import COMMANDS, TopicSpec

#: Quick enough for tests; the broker of the tests allows it.
KAFKA_OPTIONS = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "200"}

LogFactory = Callable[[], Log]
TopicFactory = Callable[..., str]


class KafkaLogWithSharedReaders(KafkaLog):
    """Its readers are those of an engine that runs all roles on one thread."""

    def reader(self, name: str) -> SharedReader:  # type: ignore[override]
        return SharedReaders(super().reader(name)).reader(name)


@pytest.fixture(
    params=[
        "memory",
        "disk",
        "socket",
        pytest.param("kafka", marks=pytest.mark.kafka),
        pytest.param("kafka-shared", marks=pytest.mark.kafka),
    ]
)
def log_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogFactory]:
    """Gives handles on one and the same log, as other processes would have them (the embedded log: the same handle)."""
    opened: list[Log] = []
    if request.param.startswith("kafka"):
        adapter = KafkaLog if request.param == "kafka" else KafkaLogWithSharedReaders
        bootstrap = request.getfixturevalue("kafka_bootstrap")

        def open_log() -> Log:
            opened.append(adapter(bootstrap, KAFKA_OPTIONS))
            return opened[-1]

        yield open_log
    else:
        with_server = request.param == "socket"
        embedded = EmbeddedLog(None if request.param == "memory" else tmp_path / "log")
        server = embedded.serve("127.0.0.1", 0) if with_server else None

        def open_log() -> Log:
            if server is None:
                return embedded
            opened.append(RemoteLog("127.0.0.1", server.port))
            return opened[-1]

        yield open_log
        opened.append(embedded)
    for log in opened:
        log.close()


@pytest.fixture
def log(log_factory: LogFactory) -> Log:
    """One handle on the log under test."""
    return log_factory()


@pytest.fixture
def new_topic(log: Log) -> TopicFactory:
    """Creates a topic with a name of its own: ``new_topic(partitions=1, spec=COMMANDS)``."""
    prefix = f"contract-{uuid.uuid4().hex[:10]}"
    numbers = itertools.count()

    def create(partitions: int = 1, spec: TopicSpec = COMMANDS) -> str:
        name = f"{prefix}-{next(numbers)}"
        log.create_topics({name: spec}, partitions)
        return name

    return create
