"""Makes a failing run shorter: fewer faults, fewer workflows, fewer operations, as long as the same thing goes wrong.

Called by the command for a failing seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from msgspec import json

from tests.sim.faults import Fault
from tests.sim.plans import Plan
from tests.sim.simulation import Report, simulate

T = TypeVar("T")


def shrink(report: Report, runs_max: int = 60, run: Callable[..., Report] = simulate) -> Report:
    """The shortest run found within ``runs_max`` tries that violates the same, with its trace."""
    plans, faults = list(report.plans), list(report.faults)
    left = [runs_max]

    def fails(some_plans: Sequence[Plan], some_faults: Sequence[Fault]) -> bool:
        if left[0] <= 0 or not some_plans:
            return False
        left[0] -= 1
        return run(report.seed, plans=some_plans, faults=some_faults).kind == report.kind

    faults = _fewer(faults, lambda some: fails(plans, some))
    plans = _fewer(plans, lambda some: fails(some, faults))
    faults = _fewer(faults, lambda some: fails(plans, some))
    plans = _shorter(plans, lambda some: fails(some, faults))
    return run(report.seed, plans=plans, faults=faults, tracing=True)


def _fewer(things: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Leave out as many as possible: halves first, then smaller parts."""
    size = len(things)
    while size >= 1:
        start = 0
        while start < len(things):
            some = things[:start] + things[start + size :]
            if fails(some):
                things = some
            else:
                start += size
        size //= 2
    return things


def _shorter(plans: list[Plan], fails: Callable[[list[Plan]], bool]) -> list[Plan]:
    """Leave out operations of what is left."""
    for number in range(len(plans)):
        with_ops = partial(_with_ops, plans, number)
        plans = with_ops(_fewer(list(plans[number].plan["ops"]), lambda some, with_=with_ops: fails(with_(some))))
    return plans


def _with_ops(plans: list[Plan], number: int, ops: list[object]) -> list[Plan]:
    copy = replace(plans[number], plan={"ops": ops})
    return [*plans[:number], copy, *plans[number + 1 :]]


def describe(report: Report) -> str:
    """A failing run for people: what was violated, by which workflows and faults, and the trace."""
    lines = [f"seed {report.seed} violates:"]
    lines += [f"    {breach[:1_000]}" for breach in report.breaches[:8]]
    lines.append("with these workflows:")
    for plan in report.plans:
        sent = {name: value for name, value in vars(plan).items() if value and name not in ("workflow_id", "plan")}
        lines.append(f"    {plan.workflow_id}: {json.encode(plan.plan['ops']).decode()} {sent}")
    lines.append("and these faults:")
    lines += [f"    {fault}" for fault in report.faults] or ["    none"]
    lines.append("what happened:")
    lines += [f"    {at_ms:>8} ms  {text}" for at_ms, text in report.trace[-80:]]
    return "\n".join(lines)
