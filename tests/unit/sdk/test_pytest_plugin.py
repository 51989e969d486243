"""The fixtures that come with the package."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from perdure import workflow
from perdure.client import Client
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


@workflow.defn
class Naps:
    @workflow.run
    async def run(self, seconds: float) -> str:
        await workflow.sleep(seconds)
        return "rested"


async def _nap(client: Client, seconds: float) -> str:
    async with Worker(client, task_queue="q", workflows=[Naps]):
        return await client.execute_workflow(Naps.run, seconds, id="n", task_queue="q")


async def test_the_client_is_one_of_an_engine_that_skips(
    perdure_client: Client, time_skipping_environment: WorkflowEnvironment
) -> None:
    assert time_skipping_environment.client is perdure_client
    assert time_skipping_environment.supports_time_skipping
    assert await _nap(perdure_client, 86_400.0) == "rested"


async def test_the_other_engine_runs_in_real_time(workflow_environment: WorkflowEnvironment) -> None:
    assert not workflow_environment.supports_time_skipping
    assert await _nap(workflow_environment.client, 0.01) == "rested"


def test_a_test_may_have_its_own_loop(perdure_client: Client) -> None:
    assert asyncio.run(_nap(perdure_client, 3600.0)) == "rested"


def test_the_plugin_imports_nothing_of_the_engine() -> None:
    code = "import sys, perdure.testing.pytest_plugin; print([m for m in sys.modules if m.startswith('perdure_')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
