"""The workflows that run while faults happen: started at an even pace, with a client that never gives up.

Called by :mod:`tests.chaos.run`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from perdure.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode
from tests.e2e.faults.program import FAMILY_SIGNALS, FAMILY_UPDATE, TASK_QUEUE, Family, Growing, Steps

#: One workflow in so many is a family: a chain of two runs with a child, signals and an update.
FAMILY_EVERY = 10
IN_FLIGHT_MAX = 200
_RETRY_PAUSE_S = 0.5
_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)


class Load:
    """Workflows and what became of them.

    Attributes:
        steps: results by workflow id.
        families: by workflow id, the first run's id and the result.
        resent: families some of whose signals were sent again because nobody answered; they may have come twice.
        errors: what the client was told meanwhile, and how often.
        longest_stall_s: the longest time between two completions while something was to complete.
        slowest_s: the longest time from a workflow's start to its result.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.steps: dict[str, list[int]] = {}
        self.families: dict[str, tuple[str, Growing]] = {}
        self.resent: set[str] = set()
        self.errors: Counter[str] = Counter()
        self.longest_stall_s = 0.0
        self.slowest_s = 0.0
        self._last_s = 0.0
        self._in_flight = 0

    async def run(self, count: int, seconds: float) -> None:
        """Start ``count`` workflows evenly within ``seconds``, and wait for all of them."""
        begun_s = self._last_s = time.monotonic()
        limit = asyncio.Semaphore(IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, begun_s + number * seconds / count - time.monotonic()))
                await limit.acquire()
                task = group.create_task(self._one(number))
                task.add_done_callback(lambda _: limit.release())

    @property
    def completed(self) -> int:
        """How many workflows have a result."""
        return len(self.steps) + len(self.families)

    async def _one(self, number: int) -> None:
        begun_s = time.monotonic()
        if self._in_flight == 0:
            self._last_s = begun_s
        self._in_flight += 1
        if number % FAMILY_EVERY == FAMILY_EVERY - 1:
            await self._family(f"family-{number}")
        else:
            await self.one_of_steps(f"steps-{number}")
        now_s = time.monotonic()
        self._in_flight -= 1
        self.longest_stall_s = max(self.longest_stall_s, now_s - self._last_s)
        self.slowest_s = max(self.slowest_s, now_s - begun_s)
        self._last_s = now_s

    async def one_of_steps(self, workflow_id: str) -> None:
        """Run one workflow of activities, whatever happens."""
        handle = await self._start(Steps.run, workflow_id, workflow_id)
        self.steps[workflow_id] = await self._insist(handle.result)

    async def _family(self, workflow_id: str) -> None:
        handle = await self._start(Family.run, Growing(workflow_id), workflow_id)
        # A client that follows the chain: signals and the update are for whatever run is open.
        current = self._client.get_workflow_handle_for(Family.run, workflow_id)
        for signal in FAMILY_SIGNALS:
            await self._insist(lambda signal=signal: current.signal(Family.add, signal), workflow_id)
        answer = await self._insist(lambda: current.execute_update(Family.change, FAMILY_UPDATE, id="change"))
        assert answer == FAMILY_UPDATE * 2, f"{workflow_id}: the update returned {answer}"
        result = await self._insist(current.result)
        first_run_id = handle.first_execution_run_id
        if first_run_id is None:  # only a start that was answered tells it
            self.resent.add(workflow_id)
        self.families[workflow_id] = (first_run_id or "", result)

    async def _start(self, run: Any, argument: Any, workflow_id: str) -> Any:
        async def start() -> Any:
            try:
                return await self._client.start_workflow(
                    run,
                    argument,
                    id=workflow_id,
                    task_queue=TASK_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                )
            except WorkflowAlreadyStartedError:  # by an earlier attempt whose answer was lost; it is closed already
                return self._client.get_workflow_handle_for(run, workflow_id)

        return await self._insist(start)

    async def _insist(self, call: Any, resent: str = "") -> Any:
        """Call again while the platform cannot be reached."""
        while True:
            try:
                return await call()
            except WorkflowUpdateRPCTimeoutOrCancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                self.errors["update timed out"] += 1
            except RPCError as error:
                if error.status not in _AWAY:
                    raise
                self.errors[error.status.name] += 1
                if resent:
                    self.resent.add(resent)
            await asyncio.sleep(_RETRY_PAUSE_S)
