"""An engine at work, with most of what workflows can do: the audit of its whole log finds nothing. On both logs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.audit import AUDITED, Audit
from perdure_ops.audit.reading import TopicScan, settled_breaches
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.e2e.faults.program import (
    FAMILY_SIGNALS,
    FAMILY_UPDATE,
    Child,
    Family,
    Growing,
    Steps,
    family_result,
    perform,
)
from tests.support.auditing import SETTLE_S
from tests.support.platform import embedded_platform, kafka_platform

WORKFLOWS = 8


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def own_platform(request: pytest.FixtureRequest) -> Iterator[tuple[Log, TopicNames]]:
    """An engine whose log nobody else writes to."""
    if request.param == "kafka":
        with kafka_platform(request.getfixturevalue("kafka_bootstrap")) as running:
            yield running
    else:
        with embedded_platform() as running:
            yield running


async def family(client: Client, task_queue: str, number: int) -> None:
    workflow_id = f"{task_queue}-family-{number}"
    handle = await client.start_workflow(Family.run, Growing(workflow_id), id=workflow_id, task_queue=task_queue)
    for signal in FAMILY_SIGNALS:
        await handle.signal(Family.add, signal)
    current = client.get_workflow_handle_for(Family.run, workflow_id)
    assert await current.execute_update(Family.change, FAMILY_UPDATE) == FAMILY_UPDATE * 2
    assert await handle.result() == family_result(workflow_id)


async def steps(client: Client, task_queue: str, number: int) -> None:
    workflow_id = f"{task_queue}-steps-{number}"
    await client.execute_workflow(Steps.run, workflow_id, id=workflow_id, task_queue=task_queue)


async def left_open(client: Client, task_queue: str) -> None:
    """Runs that go on: one waits for a worker, one for its time, one is over by force."""
    nobody = f"{task_queue}-nobody"
    await client.start_workflow(Steps.run, nobody, id=nobody, task_queue=nobody)
    later = f"{task_queue}-later"
    await client.start_workflow(
        Steps.run, later, id=later, task_queue=task_queue, start_delay=timedelta(days=1), run_timeout=timedelta(days=2)
    )
    ended = await client.start_workflow(Steps.run, "ended", id=f"{task_queue}-ended", task_queue=nobody)
    await ended.terminate()


async def test_an_engine_at_work_is_sound(
    own_platform: tuple[Log, TopicNames], task_queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_ORACLE", str(tmp_path / "oracle.txt"))
    log, names = own_platform
    client = Client.from_log(log, namespace=names.namespace)
    async with Worker(client, task_queue=task_queue, workflows=[Steps, Family, Child], activities=[perform]):
        every = [kind(client, task_queue, number) for kind in (family, steps) for number in range(WORKFLOWS)]
        await asyncio.gather(*every, left_open(client, task_queue))
    await client.close()

    check = Audit(names)
    scan = TopicScan(log, names, AUDITED)
    try:
        for record in scan.to_end():
            check.take(record)
        assert settled_breaches(check, scan, SETTLE_S) == []
    finally:
        scan.close()
    counts = check.counts()
    # A family is two runs and a child.
    assert (counts.runs_open, counts.runs_closed) == (2, 4 * WORKFLOWS + 1)
    assert (counts.tasks_outstanding, counts.tasks_dead) == (1, 0)
    assert counts.tasks_scheduled == counts.tasks_done + counts.tasks_outstanding
    assert counts.timers_outstanding >= 1
    assert counts.records > 100
