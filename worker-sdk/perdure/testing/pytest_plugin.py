"""Fixtures for pytest, there as soon as Perdure is installed: an engine for each test, in this process.

``workflow_environment`` runs in real time, ``time_skipping_environment`` skips what only waits, and ``perdure_client``
is a client of the latter. ``kafka_environment`` is an engine with topics of yours beside it. ::

    async def test_greeting(perdure_client):
        async with Worker(perdure_client, task_queue="q", workflows=[Greeting], activities=[greet]):
            assert await perdure_client.execute_workflow(Greeting.run, "you", id="g", task_queue="q") == "hello you"

Invariants: the fixtures are synchronous, so any plugin for async tests will do (pytest-asyncio, anyio), and a test that
calls ``asyncio.run`` itself, too; nothing of the engine is imported before a fixture is used. Called by pytest, through
the entry point ``pytest11``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.testing import WorkflowEnvironment
    from perdure.testing.kafka import KafkaEnvironment

_T = TypeVar("_T")


@pytest.fixture
def workflow_environment() -> Iterator[WorkflowEnvironment]:
    """An engine in this process, in real time; see ``WorkflowEnvironment.start_local``."""
    from perdure.testing import WorkflowEnvironment

    with _running(WorkflowEnvironment.start_local()) as environment:
        yield environment


@pytest.fixture
def time_skipping_environment() -> Iterator[WorkflowEnvironment]:
    """An engine in this process whose clock skips; see ``WorkflowEnvironment.start_time_skipping``."""
    from perdure.testing import WorkflowEnvironment

    with _running(WorkflowEnvironment.start_time_skipping()) as environment:
        yield environment


@pytest.fixture
def perdure_client(time_skipping_environment: WorkflowEnvironment) -> Client:
    """A client of the engine whose clock skips."""
    return time_skipping_environment.client


@pytest.fixture(scope="session")
def kafka_test_broker() -> Iterator[str]:
    """The bootstrap server of a broker for the session, empty for none.

    ``PERDURE_TEST_KAFKA`` names a kind (``container``, ``native``, ``embedded``), or a running broker (``host:port``).
    """
    from perdure.testing.kafka._environment import broker

    wanted: Any = os.environ.get("PERDURE_TEST_KAFKA", "auto")
    if ":" in wanted:
        yield wanted
    else:
        with broker(wanted) as bootstrap:
            yield bootstrap


@pytest.fixture
def kafka_environment(kafka_test_broker: str) -> Iterator[KafkaEnvironment]:
    """An engine on the session's broker, or in memory; see :class:`perdure.testing.kafka.KafkaEnvironment`."""
    from perdure.testing.kafka import KafkaEnvironment

    start = KafkaEnvironment.start("embedded", bootstrap=kafka_test_broker or None)
    with _running(start) as environment:
        yield environment


class _Environment(Protocol):
    async def shutdown(self) -> None: ...


_E = TypeVar("_E", bound=_Environment)


@contextmanager
def _running(start: Coroutine[Any, Any, _E]) -> Iterator[_E]:
    environment = _run(start)
    try:
        yield environment
    finally:
        _run(environment.shutdown())


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end on a loop of its own; ``asyncio.run`` would take the thread's current loop from other plugins."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
