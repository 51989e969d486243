"""Fixtures for pytest, there as soon as Perdure is installed: an engine for each test, in this process.

``workflow_environment`` runs in real time, ``time_skipping_environment`` skips what only waits, and ``perdure_client``
is a client of the latter. ::

    async def test_greeting(perdure_client):
        async with Worker(perdure_client, task_queue="q", workflows=[Greeting], activities=[greet]):
            assert await perdure_client.execute_workflow(Greeting.run, "you", id="g", task_queue="q") == "hello you"

Invariants: the fixtures are synchronous, so any plugin for async tests will do (pytest-asyncio, anyio), and a test that
calls ``asyncio.run`` itself, too; nothing of the engine is imported before a fixture is used. Called by pytest, through
the entry point ``pytest11``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.testing import WorkflowEnvironment

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


@contextmanager
def _running(start: Coroutine[Any, Any, WorkflowEnvironment]) -> Iterator[WorkflowEnvironment]:
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
