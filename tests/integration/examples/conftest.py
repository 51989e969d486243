"""An engine of a test's own whose time skips: a year of an example takes no time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from perdure.testing import WorkflowEnvironment


@pytest_asyncio.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """An environment that skips time."""
    async with await WorkflowEnvironment.start_time_skipping() as environment:
        yield environment
