"""Batches of one partition: gathered, started one after the other, and checked against what the engine has of them.

A batch is named by its first record. After a crash the same first record begins a batch that may be cut otherwise, so
the run that exists says which records it has (its memo), and what is not in it begins the next batch. Invariant: every
record is in exactly one run. Called by the pipeline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.common import to_milliseconds
from perdure.kafka._definition import Trigger
from perdure.kafka._requests import BATCH_MEMO, Request, batch_request
from perdure.kafka.core import identity
from perdure.kafka.core.batching import Batcher, recut
from perdure.kafka.core.outcomes import retry_delay_s
from perdure.service import RPCError
from perdure_schemas.keys import requested_run_id

if TYPE_CHECKING:
    from perdure.kafka._pipeline import Item, Pipeline, Shell


class BatchLane:
    """See the module.

    Args:
        trigger: A trigger with a batch.
        shell: The runner.
        pipeline: Prepares and sends.
    """

    def __init__(self, trigger: Trigger, shell: Shell, pipeline: Pipeline) -> None:
        assert trigger.batch is not None
        self._trigger = trigger
        self._shell = shell
        self._pipeline = pipeline
        self._count_max = trigger.batch.count
        self._gathering: Batcher[Item] = Batcher(self._count_max, to_milliseconds(trigger.batch.wait, "wait"))
        self._ready: deque[list[Item]] = deque()
        self._runs = False
        #: Records up to here are in a run that an earlier consumer has started.
        self._done_to = -1

    @property
    def due_ms(self) -> int | None:
        """When the batch that is being gathered goes as it is."""
        return self._gathering.due_ms

    @property
    def idle(self) -> bool:
        """Whether it holds nothing."""
        return not self._runs and not self._ready and self._gathering.due_ms is None

    def accept(self, item: Item, now_ms: int) -> None:
        """Take in the partition's next record."""
        if item.record.offset <= self._done_to:
            item.settle()
            return
        self._go(self._gathering.add(item, now_ms))

    def let_through(self, now_ms: int) -> None:
        """Let the batch go that has waited long enough."""
        self._go(self._gathering.take_due(now_ms))

    def _go(self, batch: list[Item]) -> None:
        if batch:
            self._ready.append(batch)
            if not self._runs:
                self._runs = True
                self._shell.spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._ready:
                await self._start(self._ready.popleft())
        finally:
            self._runs = False

    async def _start(self, items: list[Item]) -> None:
        owned = items[0].owned
        requests: list[tuple[Item, Request]] = []
        for item in items:
            request = await self._pipeline.prepare(item)
            if request is not None:
                requests.append((item, request))
        if not requests:
            return
        first, last = items[0].record, items[-1].record
        batch = batch_request([request for _, request in requests], first, last)
        origin = identity.origin_of(first.topic, first.partition, first.offset, first.timestamp_ms, first.headers)
        batch.request_id = identity.request_id(self._shell.group, self._trigger.name, origin)
        batch.workflow_id = identity.workflow_id(self._shell.group, self._trigger.name, origin)
        good = [item for item, _ in requests]
        taken = await self._pipeline.send(good, batch)
        if taken:
            end = await self._end_of(batch, owned.active)
            if end is None:
                taken = None
            else:
                good = self._keep_apart(good, end)
        for item in good:
            item.settle(taken is not None)

    async def _end_of(self, batch: Request, active: bool) -> int | None:
        """The offset of the last record in the run that stands under the batch's name; ``None`` if nobody can tell."""
        run_id = requested_run_id(batch.workflow_id, batch.request_id)
        handle = self._shell.client.get_workflow_handle(batch.workflow_id, run_id=run_id)
        attempt = 0
        while active:
            try:
                description = await handle.describe()
                return int(await description.memo_value(BATCH_MEMO, type_hint=int))
            except RPCError:
                attempt += 1
                await asyncio.sleep(retry_delay_s(attempt))
        return None

    def _keep_apart(self, good: Sequence[Item], end: int) -> list[Item]:
        """Those in the run; the others begin the next batch."""
        self._done_to = max(self._done_to, end)
        left_over = [item for item in good if item.record.offset > end]
        if left_over:
            self._ready = deque(recut(left_over, list(self._ready), self._count_max))
        return [item for item in good if item.record.offset <= end]
