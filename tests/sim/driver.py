"""What clients do to a workflow, with real clients that try again, and what each workflow came to.

Called by the simulation; the coroutines run on a client process's virtual event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from perdure._ids import new_run_id
from perdure.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.exceptions import TerminatedError, WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas.records import ErrorCode, PauseWorkflow, Rejected, ResetWorkflow, UnpauseWorkflow
from tests.sim.plans import Plan
from tests.sim.program import Program

TASK_QUEUE = "sim"


@dataclass
class Outcome:
    """What clients saw of one workflow."""

    plan: Plan
    result: dict[str, Any] | None = None
    failure: str | None = None
    #: Values that were sent, and those whose sending was confirmed.
    sent: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    updates: dict[str, int] = field(default_factory=dict)
    cancelled: bool = False
    terminated: bool = False
    resets: int = 0
    finished: bool = False
    complaints: list[str] = field(default_factory=list)
    #: How many clients have driven it so far: one that was killed is followed by another one.
    drivers: int = 0


class Driver:
    """Does all that is planned to one workflow."""

    def __init__(self, client: Client, plan: Plan, outcome: Outcome, task_queue: str = TASK_QUEUE) -> None:
        self._client = client
        self._task_queue = task_queue
        self._plan = plan
        self._outcome = outcome
        outcome.drivers += 1
        self._number = outcome.drivers
        self._reset_run_id = ""
        self._handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(plan.workflow_id)

    async def run(self) -> None:
        """Start the workflow, do what is planned, and wait for its result."""
        plan, outcome = self._plan, self._outcome
        await asyncio.sleep(plan.start_ms / 1000)
        if plan.waits_from_start and plan.is_left_alone:
            await self._result(self._execute)
            outcome.finished = True
            return
        await self._start()
        others = [asyncio.ensure_future(self._signal(number, at)) for number, at in enumerate(plan.signals)]
        others += [asyncio.ensure_future(self._update(number, at)) for number, at in enumerate(plan.updates)]
        others += [asyncio.ensure_future(self._query(at)) for at in plan.queries]
        for at, action in (
            (plan.cancel_ms, self._cancel),
            (plan.reset_ms, self._reset),
            (plan.terminate_ms, self._terminate),
            (plan.pause_ms, self._pause),
        ):
            if at is not None:
                others.append(asyncio.ensure_future(self._later(at, action)))
        await self._result()
        await asyncio.gather(*others)
        if self._reset_run_id not in ("", "none"):
            await self._result()  # a closed run may have been reset, and another one goes on from there
        outcome.finished = True

    async def _later(self, delay_ms: int, action: Any) -> None:
        await asyncio.sleep(delay_ms / 1000)
        await self._until_answered(action)

    async def _until_answered(self, action: Any) -> Any:
        """Repeat an action until the engine has answered; ``None`` if the workflow is gone by then."""
        while True:
            try:
                return await action()
            except RPCError as error:
                if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
                    return None
                if error.status not in _AGAIN:
                    self._outcome.complaints.append(f"{action.__name__}: {error.status.name}: {error.message}")
                    return None
                await asyncio.sleep(0.5)

    def _start_options(self) -> dict[str, Any]:
        """A start that is repeated, by this client or the next, finds the same workflow."""
        return {
            "id": self._plan.workflow_id,
            "task_queue": self._task_queue,
            "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        }

    async def _start(self) -> None:
        for attempt in range(10_000):
            signal: dict[str, Any] = {}
            if self._plan.start_signal:
                value = f"s0.{self._number}.{attempt}"
                self._outcome.sent.add(value)
                signal = {"start_signal": "note", "start_signal_args": [value]}
            try:
                await self._client.start_workflow(Program.run, self._plan.plan, **self._start_options(), **signal)
                return
            except WorkflowAlreadyStartedError:
                return
            except RPCError as error:
                if error.status not in _AGAIN:
                    self._outcome.complaints.append(f"start: {error.status.name}: {error.message}")
                    return
                await asyncio.sleep(0.5)

    async def _execute(self) -> Any:
        """Start and wait with one request."""
        return await self._client.execute_workflow(Program.run, self._plan.plan, **self._start_options())

    async def _result(self, ask: Callable[[], Awaitable[Any]] | None = None) -> None:
        outcome = self._outcome
        ask = ask or self._handle.result
        while True:
            try:
                outcome.result = await ask()
                return
            except WorkflowAlreadyStartedError:
                ask = self._handle.result
            except WorkflowFailureError as error:
                cause = error.cause
                if isinstance(cause, TerminatedError) and self._plan.reset_ms is not None and outcome.resets < 2:
                    outcome.resets += 1  # that was the run that was reset
                    await asyncio.sleep(0.2)
                    continue
                outcome.failure = f"{type(cause).__name__}: {getattr(cause, 'message', cause)}"
                return
            except RPCError as error:
                if error.status not in _AGAIN:
                    outcome.complaints.append(f"result: {error.status.name}: {error.message}")
                    return
                await asyncio.sleep(0.5)

    async def _signal(self, number: int, at_ms: int) -> None:
        await asyncio.sleep(at_ms / 1000)
        for attempt in range(10_000):
            value = f"s{number}.{self._number}.{attempt}"
            self._outcome.sent.add(value)
            try:
                await self._handle.signal(Program.note, value)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return
                if error.status not in _AGAIN:
                    self._outcome.complaints.append(f"signal: {error.status.name}: {error.message}")
                    return
                await asyncio.sleep(0.3)
            else:
                self._outcome.confirmed.add(value)
                return

    async def _update(self, number: int, at_ms: int) -> None:
        await asyncio.sleep(at_ms / 1000)
        value = f"u{number}"
        update_id = f"update-{number}"
        self._outcome.sent.add(value)
        while True:
            try:
                self._outcome.updates[value] = await self._handle.execute_update(Program.bump, value, id=update_id)
                return
            except WorkflowUpdateFailedError as error:
                self._outcome.complaints.append(f"update {value} failed: {error.cause!r}")
                return
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return
                if error.status not in _AGAIN:
                    self._outcome.complaints.append(f"update: {error.status.name}: {error.message}")
                    return
                await asyncio.sleep(0.3)

    async def _query(self, at_ms: int) -> None:
        await asyncio.sleep(at_ms / 1000)

        async def ask() -> None:
            try:
                count = await self._handle.query(Program.progress)
            except WorkflowQueryFailedError:
                return
            if not 0 <= count < 1_000:
                self._outcome.complaints.append(f"a query says {count}")

        await self._until_answered(ask)

    async def _cancel(self) -> None:
        await self._handle.cancel()
        self._outcome.cancelled = True

    async def _terminate(self) -> None:
        self._outcome.terminated = True  # it may work even if its answer is lost
        await self._handle.terminate(reason="planned")

    async def _ask(self, body: Any) -> Any:
        """A request that has no method of the client's.

        Raises:
            RPCError: as the client's methods do.
        """
        answer = await self._client._connection.ask(self._plan.workflow_id, "", body, 30.0, "a request")  # type: ignore[union-attr]
        if isinstance(answer, Rejected) and answer.code not in _SETTLED:
            self._outcome.complaints.append(f"{type(body).__name__}: {answer.code}: {answer.message}")
        return answer

    async def _pause(self) -> None:
        await self._ask(PauseWorkflow(reason="planned"))
        await asyncio.sleep(1.0)
        await self._until_answered(lambda: self._ask(UnpauseWorkflow()))

    async def _reset(self) -> None:
        if self._reset_run_id == "":
            self._reset_run_id = new_run_id()
        answer = await self._ask(ResetWorkflow(run_id=self._reset_run_id, point="FirstWorkflowTask", reason="planned"))
        if isinstance(answer, Rejected):
            self._reset_run_id = "none"


#: What is no wonder: the workflow is closed, or has not come far enough to be reset.
_SETTLED = (ErrorCode.NOT_FOUND, ErrorCode.FAILED_PRECONDITION, ErrorCode.INVALID_ARGUMENT)
_AGAIN = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
