"""The poll: politely, through outages and new runs, until something changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from examples.polling import workflow as polling_workflow
from examples.polling.source import Polling, Source
from examples.polling.workflow import JITTER, TASK_QUEUE, Change, WaitForChange, Watch
from perdure.client import WorkflowHandle
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from perdure_schemas.records import TimerStarted

Waiting = WorkflowHandle[WaitForChange, Change]


@pytest.fixture
def source() -> Source:
    return Source("old")


@pytest_asyncio.fixture
async def waiting(
    skipping: WorkflowEnvironment, source: Source, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Waiting]:
    monkeypatch.setattr(polling_workflow, "POLLS_PER_RUN", 25)
    polling = Polling({"page": source})
    async with Worker(skipping.client, task_queue=TASK_QUEUE, workflows=[WaitForChange], activities=[polling.poll]):
        yield await skipping.client.start_workflow(
            WaitForChange.run, Watch("page", "old"), id="watch", task_queue=TASK_QUEUE
        )


async def test_a_change_is_seen_by_a_later_run(skipping: WorkflowEnvironment, source: Source, waiting: Waiting) -> None:
    await skipping.sleep(timedelta(minutes=60))
    # Sixty and one polls without jitter: one at the start.
    assert 61 / (1 + JITTER) - 1 <= source.polls <= 61 / (1 - JITTER) + 1
    source.value = "new"
    assert await waiting.result() == Change("new", source.polls)
    assert (await waiting.describe()).run_id != waiting.first_execution_run_id


async def test_pauses_vary_within_the_jitter(skipping: WorkflowEnvironment, source: Source, waiting: Waiting) -> None:
    await skipping.sleep(timedelta(minutes=12))
    source.value = "new"
    await waiting.result()
    timers = [event.attributes for event in (await waiting.fetch_history()).events]
    pauses_s = [timer.start_to_fire_timeout_ms / 1000 for timer in timers if isinstance(timer, TimerStarted)]
    assert len(set(pauses_s)) > 5
    assert all(60 * (1 - JITTER) <= pause_s <= 60 * (1 + JITTER) + 0.001 for pause_s in pauses_s)


async def test_a_source_that_is_down_is_asked_less_often(
    skipping: WorkflowEnvironment, source: Source, waiting: Waiting
) -> None:
    source.down = True
    await skipping.sleep(timedelta(hours=10))
    # The pauses double from one minute on: six polls until an hour is reached, then one an hour.
    assert 8 <= source.polls <= 20
    source.down, source.value = False, "new"
    assert (await waiting.result()).value == "new"
