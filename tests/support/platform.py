"""A whole platform in the test's process, on either log: for tests of what users see.

The embedded engine is in memory and starts in milliseconds, one for each test; the Kafka engine is shared by a session,
so tests use workflow ids and task queues of their own. Called by the fixtures in ``tests/conftest.py``.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_readside.service import ReadSide
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log
from perdure_runtime.relay.service import Relay
from perdure_schemas.topics import TopicNames

READY_TIMEOUT_S = 30.0


@contextlib.contextmanager
def running_engine(log: Log, names: TopicNames) -> Iterator[Engine]:
    """An engine with all roles on a log, ready, a read side and a relay; stopped at the end."""
    with (
        engine_without_relay(log, names) as engine,
        reading(log, names),
        relaying(log, names),
    ):
        yield engine


@contextlib.contextmanager
def engine_without_relay(log: Log, names: TopicNames) -> Iterator[Engine]:
    """An engine with all roles on a log, ready, and nothing beside it; stopped at the end."""
    create_platform_topics(log, names)
    with tempfile.TemporaryDirectory(prefix="perdure-test-") as folder:
        roles = make_roles(ROLE_NAMES, names)
        engine = Engine(log, names, Path(folder), roles, instance=f"test-{uuid.uuid4().hex[:8]}")
        engine.start()
        try:
            if not engine.wait_ready(READY_TIMEOUT_S):
                raise RuntimeError(f"the engine is not ready: {engine.failure()}")
            yield engine
        finally:
            engine.stop()


@contextlib.contextmanager
def reading(log: Log, names: TopicNames) -> Iterator[ReadSide]:
    """A read side that answers lists and counts, with its index in memory."""
    side = ReadSide(log, names, None, instance=f"test-{uuid.uuid4().hex[:8]}")
    side.start()
    try:
        yield side
    finally:
        side.stop()


@contextlib.contextmanager
def relaying(log: Log, names: TopicNames) -> Iterator[Relay]:
    """A relay that writes what workflows emit."""
    relay = Relay(log, names, instance=f"test-{uuid.uuid4().hex[:8]}")
    relay.start()
    try:
        if not relay.wait_ready(READY_TIMEOUT_S):
            raise RuntimeError("the relay is not ready")
        yield relay
    finally:
        relay.stop()


@contextlib.contextmanager
def embedded_platform() -> Iterator[tuple[Log, TopicNames]]:
    """An engine on an embedded log in memory."""
    log = EmbeddedLog(None)
    names = TopicNames(partitions=2)
    try:
        with running_engine(log, names):
            yield log, names
    finally:
        log.close()


@contextlib.contextmanager
def kafka_platform(bootstrap: str) -> Iterator[tuple[Log, TopicNames]]:
    """An engine on a Kafka broker, with topics of its own."""
    log = KafkaLog(bootstrap, {})
    names = TopicNames(namespace=f"p{uuid.uuid4().hex[:10]}", partitions=2)
    try:
        with running_engine(log, names):
            yield log, names
    finally:
        log.close()
