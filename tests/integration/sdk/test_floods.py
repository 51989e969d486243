"""Against a running engine: a flood of signals to a workflow whose worker is away, and histories of many pages."""

from __future__ import annotations

import asyncio

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_schemas.limits import SUGGESTED_EVENTS_MAX

SIGNALS = 10_000
AT_ONCE = 500


@workflow.defn
class Counts:
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.suggested = False

    @workflow.run
    async def run(self, count: int) -> tuple[list[int], bool]:
        await workflow.wait_condition(lambda: len(self.seen) == count)
        return self.seen, workflow.info().is_continue_as_new_suggested()

    @workflow.signal
    def add(self, number: int) -> None:
        self.seen.append(number)


async def test_a_flood_of_signals_waits_for_the_worker_and_is_delivered(
    embedded_client: Client, task_queue: str
) -> None:
    handle = await embedded_client.start_workflow(Counts.run, SIGNALS, id=task_queue, task_queue=task_queue)
    for begin in range(0, SIGNALS, AT_ONCE):
        await asyncio.gather(*(handle.signal(Counts.add, number) for number in range(begin, begin + AT_ONCE)))
    described = await handle.describe()
    assert described.history_length == SIGNALS + 2  # the start, one task, and no more for all the signals
    history = await handle.fetch_history()  # page by page
    assert [event.event_id for event in history.events] == list(range(1, SIGNALS + 3))
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Counts]):
        seen, suggested = await asyncio.wait_for(handle.result(), 120)
    assert sorted(seen) == list(range(SIGNALS))
    assert SIGNALS > SUGGESTED_EVENTS_MAX
    assert suggested
