"""Updates outlive SIGKILLs of engine and worker: accepted ones complete, completed ones keep their outcome, one id is
one update."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client, WorkflowUpdateFailedError, WorkflowUpdateStage
from tests.e2e.faults.check import check_history, kinds_of
from tests.e2e.faults.cluster import Cluster
from tests.e2e.faults.program import TASK_QUEUE, Ledger, Step

LEDGERS = 3
UPDATES = 4
PATIENCE = timedelta(minutes=3)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Iterator[Any]:
    """``None`` for the embedded log, or a broker of the test's own."""
    yield None if request.param == "embedded" else request.getfixturevalue("kafka_broker")


async def _book_all(client: Client, workflow_id: str, kills: dict[int, Callable[[], None]]) -> list[int]:
    """Send each update three times under its id: accepted, then killed if it is time, then twice for its result."""
    handle = client.get_workflow_handle_for(Ledger.run, workflow_id)
    outcomes = []
    for number in range(UPDATES):
        step, update_id = Step(workflow_id, number), f"{workflow_id}-{number}"
        accepted = await handle.start_update(
            Ledger.book, step, id=update_id, wait_for_stage=WorkflowUpdateStage.ACCEPTED, rpc_timeout=PATIENCE
        )
        if number in kills:
            await asyncio.to_thread(kills[number])
        again, result = await asyncio.gather(
            handle.execute_update(Ledger.book, step, id=update_id, rpc_timeout=PATIENCE),
            accepted.result(rpc_timeout=PATIENCE),
        )
        assert again == result
        outcomes.append(result)
    return outcomes


async def test_updates_outlive_kills_of_engine_and_worker(broker: Any, tmp_path: Path) -> None:
    with Cluster(tmp_path, broker) as cluster:
        engine, worker = cluster.engines[0], cluster.workers[0]

        def kill_both() -> None:
            cluster.restart(engine)
            cluster.restart(worker)

        # One ledger sees the kills at chosen updates; the others have updates on their way at whatever moment that is.
        kills = {1: lambda: cluster.restart(engine), 3: lambda: cluster.restart(worker), 4: kill_both}
        client = await Client.connect(cluster.address, namespace=cluster.namespace)
        try:
            ids = [f"ledger-{number}" for number in range(LEDGERS)]
            for workflow_id in ids:
                await client.start_workflow(Ledger.run, workflow_id, id=workflow_id, task_queue=TASK_QUEUE)
            outcomes = await asyncio.gather(
                *(_book_all(client, workflow_id, kills if workflow_id == ids[0] else {}) for workflow_id in ids)
            )
            assert outcomes == [list(range(1, UPDATES + 1))] * LEDGERS
            for workflow_id in ids:
                await _check(client, workflow_id, engine_killed=lambda: cluster.restart(engine))
        finally:
            await client.close()
        ran = {tuple(line.split(" ")[:2]) for line in cluster.oracle.read_text().splitlines()}
        assert ran == {(workflow_id, str(number)) for workflow_id in ids for number in range(UPDATES)}


async def _check(client: Client, workflow_id: str, engine_killed: Callable[[], None]) -> None:
    """Close a ledger: each update stands in its history once, and its outcome outlives it and a further kill."""
    handle = client.get_workflow_handle_for(Ledger.run, workflow_id)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(Ledger.book, Step(workflow_id, -1), id="refused", rpc_timeout=PATIENCE)
    await handle.signal(Ledger.close)
    assert await handle.result() == list(range(UPDATES))
    history = await check_history(client, workflow_id)
    kinds = kinds_of(history)
    assert kinds["WorkflowExecutionUpdateAccepted"] == kinds["WorkflowExecutionUpdateCompleted"] == UPDATES
    accepted = Counter(
        event.attributes.request.update_id
        for event in history.events
        if type(event.attributes).__name__ == "WorkflowExecutionUpdateAccepted"
    )
    assert accepted == {f"{workflow_id}-{number}": 1 for number in range(UPDATES)}
    if workflow_id == "ledger-0":
        await asyncio.to_thread(engine_killed)
    late = handle.get_update_handle_for(Ledger.book, f"{workflow_id}-2")
    assert await late.result(rpc_timeout=PATIENCE) == 3
