"""SIGKILL of each part at random moments of a run, on both logs, and what else goes wrong.

``PERDURE_SLOW_TESTS=1`` makes it 200 workflows and ten kills for each part; the chaos runs go further.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client
from tests.e2e.faults.check import check_all, check_families
from tests.e2e.faults.cluster import Cluster
from tests.e2e.faults.program import FAMILY_SIGNALS, FAMILY_UPDATE, TASK_QUEUE, Family, Growing, Steps

SLOW = "PERDURE_SLOW_TESTS" in os.environ
WORKFLOWS, KILLS = (200, 10) if SLOW else (40, 1)
IN_FLIGHT = 20
FAMILIES, FAMILY_KILLS = (60, 6) if SLOW else (20, 2)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Iterator[Any]:
    """``None`` for the embedded log, or a broker of the test's own that it may kill."""
    yield None if request.param == "embedded" else request.getfixturevalue("kafka_broker")


async def run_workflows(cluster: Cluster, events: dict[int, Callable[[], None]], count: int = WORKFLOWS) -> None:
    """Run workflows; when the n-th is started, ``events[n]`` happens. Then check everything."""
    client = await Client.connect(cluster.address, namespace=cluster.namespace)
    results: dict[str, list[int]] = {}
    numbers = iter(range(count))
    one_event = asyncio.Lock()

    async def lane() -> None:
        for number in numbers:
            if number in events:
                async with one_event:
                    await asyncio.to_thread(events[number])
            workflow_id = f"steps-{number}"
            results[workflow_id] = await client.execute_workflow(
                Steps.run, workflow_id, id=workflow_id, task_queue=TASK_QUEUE
            )

    try:
        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
        assert len(results) == count
        print("oracle:", dict(await check_all(client, results, cluster.oracle)))
        await asyncio.to_thread(cluster.audit)
    finally:
        await client.close()


def moments(what: Callable[[], None], seed: int) -> dict[int, Callable[[], None]]:
    """``what`` at random moments of the run."""
    return dict.fromkeys(random.Random(seed).sample(range(WORKFLOWS), KILLS), what)


@pytest.mark.parametrize("victim", ["worker", "engine"])
async def test_a_process_is_killed_again_and_again(broker: Any, victim: str, tmp_path: Path) -> None:
    with Cluster(tmp_path, broker) as cluster:
        process = cluster.workers[0] if victim == "worker" else cluster.engines[0]
        await run_workflows(cluster, moments(lambda: cluster.restart(process), seed=len(victim)))


@pytest.mark.kafka
async def test_the_broker_is_killed_again_and_again(kafka_broker: Any, tmp_path: Path) -> None:
    def kill_and_start() -> None:
        kafka_broker.kill()
        kafka_broker.start()

    with Cluster(tmp_path, kafka_broker) as cluster:
        await run_workflows(cluster, moments(kill_and_start, seed=3))


async def test_state_folders_are_deleted_mid_run(broker: Any, tmp_path: Path) -> None:
    with Cluster(tmp_path, broker) as cluster:
        await run_workflows(cluster, {WORKFLOWS // 3: cluster.delete_state, WORKFLOWS * 2 // 3: cluster.delete_state})


async def run_families(client: Client, kills: dict[int, Callable[[], None]]) -> dict[str, tuple[str, Growing]]:
    """Run families, each with its signals and its update; by workflow id: the first run's id, and the result."""
    results: dict[str, tuple[str, Growing]] = {}
    numbers = iter(range(FAMILIES))
    one_kill = asyncio.Lock()

    async def lane() -> None:
        for number in numbers:
            workflow_id = f"family-{number}"
            handle = await client.start_workflow(
                Family.run, Growing(workflow_id), id=workflow_id, task_queue=TASK_QUEUE
            )
            if number in kills:
                async with one_kill:
                    await asyncio.to_thread(kills[number])
            for signal in FAMILY_SIGNALS:
                await handle.signal(Family.add, signal)
            # A client that follows the chain: the update is for whatever run is open.
            current = client.get_workflow_handle_for(Family.run, workflow_id)
            assert await current.execute_update(Family.change, FAMILY_UPDATE) == FAMILY_UPDATE * 2
            assert handle.first_execution_run_id is not None
            results[workflow_id] = (handle.first_execution_run_id, await handle.result())

    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    return results


async def test_families_outlive_kills_of_engine_and_worker(broker: Any, tmp_path: Path) -> None:
    with Cluster(tmp_path, broker) as cluster:
        victims = [cluster.engines[0], cluster.workers[0]] * (FAMILY_KILLS // 2)
        chosen = sorted(random.Random(17).sample(range(FAMILIES), FAMILY_KILLS))
        kills = {
            number: functools.partial(cluster.restart, victim) for number, victim in zip(chosen, victims, strict=True)
        }
        client = await Client.connect(cluster.address, namespace=cluster.namespace)
        try:
            results = await run_families(client, kills)
            assert len(results) == FAMILIES
            await check_families(client, results, cluster.oracle)
            await asyncio.to_thread(cluster.audit)
        finally:
            await client.close()


@pytest.mark.kafka
async def test_i1_an_engine_that_sleeps_past_its_session_changes_nothing(kafka_broker: Any, tmp_path: Path) -> None:
    with Cluster(tmp_path, kafka_broker, engines=2) as cluster:
        sleeper = cluster.engines[0]

        async def wake_later() -> None:
            await asyncio.sleep(9)  # the session lasts six seconds
            sleeper.resume()

        waking = []
        loop = asyncio.get_running_loop()

        def suspend() -> None:
            sleeper.suspend()
            loop.call_soon_threadsafe(lambda: waking.append(asyncio.ensure_future(wake_later())))

        await run_workflows(cluster, {WORKFLOWS // 4: suspend, WORKFLOWS * 3 // 4: lambda: None})
        assert waking, "the engine was never stopped"
        await asyncio.gather(*waking)
        # It is back, and takes part again.
        await run_again(cluster)


async def run_again(cluster: Cluster) -> None:
    """A few more workflows, after everything."""
    client = await Client.connect(cluster.address, namespace=cluster.namespace)
    results = {}
    for number in range(10):
        workflow_id = f"again-{number}"
        results[workflow_id] = await client.execute_workflow(
            Steps.run, workflow_id, id=workflow_id, task_queue=TASK_QUEUE
        )
    await check_all(client, results, cluster.oracle)
    await client.close()
    await asyncio.to_thread(cluster.audit)
