"""Fixtures that every tier may use."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import settings

from perdure.client import Client
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.support.auditing import assert_sound
from tests.support.kafka_broker import BrokerUnavailableError, NativeBroker, session_bootstrap
from tests.support.platform import embedded_platform, kafka_platform
from tests.support.skipping import skip_without_broker

# How long one example takes says something about the machine only.
settings.register_profile("perdure", deadline=None)
settings.load_profile("perdure")


def pytest_configure() -> None:
    """Threads that another test has left must not complain, in the output of this one, of streams that are closed."""
    logging.raiseExceptions = False


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """The bootstrap servers of a broker that all tests of the session share: use names of your own in it."""
    try:
        session = session_bootstrap()
        bootstrap = session.__enter__()
    except BrokerUnavailableError as error:
        skip_without_broker(error)
    else:
        try:
            yield bootstrap
        finally:
            session.__exit__(None, None, None)


@pytest.fixture
def kafka_namespace() -> str:
    """A name that no other test uses: for topics, groups and namespaces on the shared broker."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def kafka_broker() -> Iterator[NativeBroker]:
    """A broker of the test's own, started natively, that it may suspend, kill and start again."""
    broker = None
    try:
        broker = NativeBroker()
        broker.start()
        yield broker
    except BrokerUnavailableError as error:
        skip_without_broker(error)
    finally:
        if broker is not None:
            broker.close()


@pytest.fixture(scope="session")
def kafka_engine(kafka_bootstrap: str) -> Iterator[tuple[Log, TopicNames]]:
    """An engine on Kafka that all tests of the session share."""
    with kafka_platform(kafka_bootstrap) as running:
        yield running


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def platform(request: pytest.FixtureRequest) -> Iterator[tuple[Log, TopicNames]]:
    """The log and the topics of a running engine: on the embedded log, and again on Kafka."""
    if request.param == "kafka":
        yield request.getfixturevalue("kafka_engine")
    else:
        with embedded_platform() as running:
            yield running
            _audit(request, *running)


@pytest_asyncio.fixture
async def client(platform: tuple[Log, TopicNames]) -> AsyncIterator[Client]:
    """A client of a running engine, on each log."""
    log, names = platform
    client = Client.from_log(log, namespace=names.namespace)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def embedded_client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client of a running engine on the embedded log only: for what does not depend on the log."""
    with embedded_platform() as (log, names):
        client = Client.from_log(log, namespace=names.namespace)
        yield client
        await client.close()
        _audit(request, log, names)


def _audit(request: pytest.FixtureRequest, log: Log, names: TopicNames) -> None:
    """What a test left in the log must be sound, unless it wrote nonsense into it on purpose."""
    if request.node.get_closest_marker("writes_nonsense") is None:
        assert_sound(log, names)


@pytest.fixture
def task_queue() -> str:
    """A task queue that no other test uses; also good as a stem for workflow ids."""
    return f"q{uuid.uuid4().hex[:10]}"
