"""The workflow code of the simulation: one workflow that carries out a plan, and its activities.

A plan is a list of operations, each a list whose first element names it; see :mod:`tests.sim.plans` for what they are
and what each must come to. Everything here is ordinary user code.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.common import Priority, RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, ChildWorkflowError, is_cancelled_exception

_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), backoff_coefficient=1.5, maximum_interval=timedelta(seconds=5)
)
#: What activities really did: (workflow id, key) → how often. For counting doubled executions.
executions: dict[tuple[str, str], int] = {}


@activity.defn
async def work(key: str, spec: dict[str, Any]) -> str:
    """Do as ``spec`` says: fail some times, hang once, beat, take time."""
    info = activity.info()
    where = (info.workflow_id or "", f"{key}#{info.attempt}")
    executions[where] = executions.get(where, 0) + 1
    if spec.get("bad"):
        raise ApplicationError(f"no {key}", non_retryable=True)
    if info.attempt <= spec.get("hang", 0):
        await asyncio.sleep(100_000)
    for _ in range(spec.get("beats", 0)):
        activity.heartbeat(key, info.attempt)
        await asyncio.sleep(spec.get("pause_ms", 20) / 1000)
    if spec.get("ms"):
        await asyncio.sleep(spec["ms"] / 1000)
    if info.attempt <= spec.get("fail", 0):
        raise RuntimeError(f"not yet: {key}")
    return f"done:{key}"


@activity.defn
async def quick(key: str, fail: int) -> str:
    """A local activity."""
    if activity.info().attempt <= fail:
        raise RuntimeError(f"not yet: {key}")
    return f"local:{key}"


@workflow.defn
class Program:
    """Carries out a plan."""

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.updates: list[str] = []
        self.out: list[Any] = []

    @workflow.run
    async def run(self, plan: dict[str, Any]) -> dict[str, Any]:
        self.signals = [*plan.get("signals", []), *self.signals]
        self.out = list(plan.get("out", []))
        ops = plan["ops"]
        for index, op in enumerate(ops):
            if op[0] == "again":
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new({"ops": ops[index + 1 :], "out": self.out, "signals": self.signals})
            self.out.append(await self._do(op))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return {"out": self.out, "signals": self.signals, "updates": self.updates}

    @workflow.signal
    def note(self, value: str) -> None:
        self.signals.append(value)

    @workflow.update
    async def bump(self, value: str) -> int:
        self.updates.append(value)
        if value.endswith("5"):
            await asyncio.sleep(0.05)
        return len(self.updates)

    @bump.validator
    def _check(self, value: str) -> None:
        if not value:
            raise ValueError("empty")

    @workflow.query
    def progress(self) -> int:
        return len(self.out)

    async def _do(self, op: list[Any]) -> Any:
        return await getattr(self, f"_do_{op[0]}")(*op[1:])

    async def _do_act(self, key: str, spec: dict[str, Any]) -> str:
        def after(name: str) -> timedelta | None:
            return timedelta(milliseconds=spec[name]) if name in spec else None

        try:
            return await workflow.execute_activity(
                work,
                args=[key, spec],
                start_to_close_timeout=after("stc_ms") or timedelta(minutes=10),
                heartbeat_timeout=after("hb_ms"),
                schedule_to_close_timeout=after("total_ms"),
                retry_policy=_RETRY,
                start_delay=after("delay_ms"),
                priority=Priority(fairness_key="even" if key[-1] in "02468" else "odd"),
            )
        except ActivityError:
            return f"failed:{key}"

    async def _do_sleep(self, ms: int) -> str:
        before = workflow.now()
        await asyncio.sleep(ms / 1000)
        waited_ms = (workflow.now() - before) / timedelta(milliseconds=1)
        return "slept" if waited_ms >= ms else f"woke after {waited_ms} of {ms} ms"

    async def _do_par(self, ops: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*(self._do(op) for op in ops)))

    async def _do_race(self, key: str, ms: int) -> str:
        """An activity against a timer that always wins: the activity is cancelled."""
        task = asyncio.ensure_future(self._do_act(key, {"hang": 1_000_000, "hb_ms": 600_000}))
        await asyncio.sleep(ms / 1000)
        task.cancel()
        try:
            await task
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
        return f"raced:{key}"

    async def _do_local(self, key: str, fail: int) -> str:
        return await workflow.execute_local_activity(
            quick, args=[key, fail], start_to_close_timeout=timedelta(seconds=5), retry_policy=_RETRY
        )

    async def _do_child(self, key: str, plan: dict[str, Any]) -> Any:
        try:
            result = await workflow.execute_child_workflow(Program.run, plan, id=f"{workflow.info().workflow_id}.{key}")
            return result["out"]
        except ChildWorkflowError:
            return f"childfailed:{key}"

    async def _do_childsignal(self, key: str, plan: dict[str, Any]) -> Any:
        child = await workflow.start_child_workflow(Program.run, plan, id=f"{workflow.info().workflow_id}.{key}")
        await child.signal(Program.note, f"from-parent-{key}")
        return (await child)["out"]

    async def _do_childcancel(self, key: str) -> str:
        child = await workflow.start_child_workflow(
            Program.run, {"ops": [["forever"]]}, id=f"{workflow.info().workflow_id}.{key}"
        )
        await asyncio.sleep(0.05)
        child.cancel()
        try:
            return (await child)["out"][0]
        except ChildWorkflowError as error:
            return "stopped" if is_cancelled_exception(error) else repr(error)

    async def _do_signals(self, count: int) -> str:
        await workflow.wait_condition(lambda: len(set(self.signals)) >= count)
        return f"signals:{count}"

    async def _do_updates(self, count: int) -> str:
        await workflow.wait_condition(lambda: len(set(self.updates)) >= count)
        return f"updates:{count}"

    async def _do_forever(self) -> str:
        """Until it is cancelled; then there is something to clean up."""
        try:
            await asyncio.sleep(1_000_000)
        except asyncio.CancelledError:
            await self._do_act("cleanup", {})
            return "stopped"
        return "never"

    async def _do_fail(self, key: str) -> str:
        raise ApplicationError(f"broken:{key}", non_retryable=True)
