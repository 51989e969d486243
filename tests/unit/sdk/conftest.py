"""A played engine for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from perdure.client import Client
from tests.unit.sdk.fakes import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()
    yield fake
    fake.close()


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[Client]:
    made = Client.from_log(engine.log, identity="tester")
    yield made
    await made.close()
