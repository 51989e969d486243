"""Random plans, and what each must come to: the model that the real results are compared with. Pure.

=====================  ===========================================================================================
``act key spec``       an activity: ``done:key``, or ``failed:key`` if ``spec`` says that it fails for good
``sleep ms``           ``slept``
``par ops``            all at once; a list of results
``race key ms``        an activity that is cancelled by a timer: ``raced:key``
``local key fail``     a local activity: ``local:key``
``child key plan``     the child's results, or ``childfailed:key``
``childsignal``        a child that is signalled by its parent
``childcancel key``    a child that is cancelled by its parent: ``stopped``
``signals n``          until n signals have come
``updates n``          until n updates have come
``forever``            until somebody cancels: ``stopped``
``again``              continue as new with the rest
``fail key``           the workflow fails
=====================  ===========================================================================================
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

_LEAVES = ("act", "act", "act", "act", "sleep", "local", "race", "child", "childsignal", "childcancel", "par")


@dataclass
class Plan:
    """One workflow, what clients do to it, and what it must come to."""

    workflow_id: str
    plan: dict[str, Any]
    start_ms: int = 0
    #: How many signals and updates clients send; when, in ms after the start.
    signals: list[int] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)
    cancel_ms: int | None = None
    reset_ms: int | None = None
    terminate_ms: int | None = None
    pause_ms: int | None = None
    #: It is started by a signal.
    start_signal: bool = False
    queries: list[int] = field(default_factory=list)
    #: Where clients do nothing else to it: they start it and wait for its result with one request.
    waits_from_start: bool = True

    @property
    def is_left_alone(self) -> bool:
        """Whether clients only start it and wait for its result."""
        times = (self.cancel_ms, self.reset_ms, self.terminate_ms, self.pause_ms)
        return not (self.signals or self.updates or self.queries or self.start_signal) and times == (None,) * 4

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return steps_of(self.plan["ops"]) + len(self.signals) + len(self.updates)


class PlannedFailureError(Exception):
    """The workflow fails."""


def steps_of(ops: list[Any]) -> int:
    """How many steps operations have, those of children included."""
    count = 0
    for op in ops:
        count += 1
        if op[0] == "par":
            count += steps_of(op[1])
        elif op[0] in ("child", "childsignal"):
            count += steps_of(op[2]["ops"])
    return count


def _has_children(ops: list[Any]) -> bool:
    return any(op[0].startswith("child") or (op[0] == "par" and _has_children(op[1])) for op in ops)


def expected(ops: list[Any]) -> list[Any]:
    """What the operations come to.

    Raises:
        PlannedFailureError: the workflow fails.
    """
    return [_expected_of(op) for op in ops if op[0] != "again"]


def _expected_of(op: list[Any]) -> Any:
    kind = op[0]
    if kind == "act":
        spec = op[2]
        return f"failed:{op[1]}" if spec.get("bad") or "total_ms" in spec else f"done:{op[1]}"
    if kind == "par":
        return expected(op[1])
    if kind == "child":
        try:
            return expected(op[2]["ops"])
        except PlannedFailureError:
            return f"childfailed:{op[1]}"
    if kind == "childsignal":
        return expected(op[2]["ops"])
    if kind == "fail":
        raise PlannedFailureError(f"broken:{op[1]}")
    simple = {"sleep": "slept", "forever": "stopped", "childcancel": "stopped"}
    if kind in simple:
        return simple[kind]
    return {"race": "raced:{}", "local": "local:{}", "signals": "signals:{}", "updates": "updates:{}"}[kind].format(
        op[1]
    )


class Generator:
    """Makes plans from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"plans-{seed}")
        self._number = 0

    def plans(self, steps: int) -> list[Plan]:
        """Plans that have at least so many steps together."""
        found: list[Plan] = []
        total = 0
        while total < steps:
            plan = self.plan(len(found))
            total += plan.steps
            found.append(plan)
        return found

    def plan(self, number: int) -> Plan:
        """One plan."""
        rng = self._rng
        ops = self._ops(1 + int(rng.random() * 6), 0)
        one = Plan(f"wf-{number}", {"ops": ops}, start_ms=int(rng.random() * 3_000))
        one.waits_from_start = rng.random() < 0.5
        draw = rng.random()
        if draw < 0.25:
            count = 1 + int(rng.random() * 4)
            one.signals = [int(rng.random() * 4_000) for _ in range(count)]
            ops.insert(int(rng.random() * (len(ops) + 1)), ["signals", count])
        elif draw < 0.4:
            count = 1 + int(rng.random() * 4)
            one.updates = [int(rng.random() * 4_000) for _ in range(count)]
            ops.insert(int(rng.random() * (len(ops) + 1)), ["updates", count])
        elif draw < 0.5:
            one.cancel_ms = int(rng.random() * 5_000)
            ops[:] = [["forever"]]
        elif draw < 0.57:
            ops.append(["fail", self._key()])
        if not one.updates and one.cancel_ms is None and rng.random() < 0.25:
            for _ in range(1 + int(rng.random() * 2)):
                ops.insert(int(rng.random() * (len(ops) + 1)), ["again"])
        elif rng.random() < 0.15 and not one.updates and one.cancel_ms is None and not _has_children(ops):
            one.reset_ms = 500 + int(rng.random() * 4_000)
        elif rng.random() < 0.08:
            one.terminate_ms = int(rng.random() * 3_000)
        elif rng.random() < 0.1:
            one.pause_ms = int(rng.random() * 2_000)
        if rng.random() < 0.2:
            one.queries = [int(rng.random() * 5_000)]
        return one

    def _key(self) -> str:
        self._number += 1
        return f"k{self._number}"

    def _ops(self, count: int, depth: int) -> list[Any]:
        return [self._op(depth) for _ in range(count)]

    def _op(self, depth: int) -> list[Any]:
        rng = self._rng
        kind = rng.choice(_LEAVES)
        if depth >= 2 and kind in ("child", "childsignal", "par"):
            kind = "act"
        key = self._key()
        if kind == "act":
            return ["act", key, self._spec()]
        if kind == "sleep":
            return ["sleep", int(rng.choice((1, 20, 300, 2_000, 30_000)) * (0.5 + rng.random()))]
        if kind == "race":
            return ["race", key, 10 + int(rng.random() * 500)]
        if kind == "local":
            return ["local", key, 1 if rng.random() < 0.2 else 0]
        if kind == "childcancel":
            return ["childcancel", key]
        ops = self._ops(1 + int(rng.random() * 3), depth + 1)
        if kind == "par":
            return ["par", ops]
        if kind == "child":
            if rng.random() < 0.15:
                ops.append(["fail", self._key()])
            return ["child", key, {"ops": ops}]
        return ["childsignal", key, {"ops": [*ops, ["signals", 1]]}]

    def _spec(self) -> dict[str, Any]:
        rng = self._rng
        spec: dict[str, Any] = {}
        draw = rng.random()
        if draw < 0.35:
            pass
        elif draw < 0.5:
            spec["ms"] = int(rng.random() * 1_500)
        elif draw < 0.65:
            spec["fail"] = 1 + int(rng.random() * 3)
        elif draw < 0.75:
            spec.update(hang=1, stc_ms=300 + int(rng.random() * 2_000))
        elif draw < 0.85:
            spec.update(hang=1, hb_ms=500 + int(rng.random() * 2_000))
        elif draw < 0.93:
            spec.update(beats=1 + int(rng.random() * 5), hb_ms=5_000, pause_ms=50)
        elif draw < 0.97:
            spec["bad"] = True
        else:
            spec.update(fail=1_000_000, total_ms=800 + int(rng.random() * 3_000))
        if rng.random() < 0.1:
            spec["delay_ms"] = int(rng.random() * 700)
        return spec
