"""Flow control of a task queue: how many tasks of one fairness key may run at once, how many may go in a second.

A :class:`Flow` exists for a task queue and a kind of tasks only while something is set for them, and counts over all
their workers, of whatever version. Tasks *run* while they are leased: from their dispatch until history takes them
away, their client completes them, or their worker is lost. So nothing can leak: a count is that of leases, which the
log and the workers' heartbeats settle.

Invariants: ``running`` of a gate is the number of leases of its key; a lane stands in ``aside`` exactly if it says so
itself. Whoever opens a key dispatches what waits there: see ``free_slot`` in :mod:`perdure_matching.core.placing`, and
:mod:`perdure_matching.core.flowing`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from perdure_matching.core.rates import RateLimit
from perdure_schemas import limits
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig

if TYPE_CHECKING:
    from perdure_matching.core.fair_queue import Lane
    from perdure_matching.core.model import TaskQueue

__all__ = ["Flow", "Gate", "clamp_weight"]

_PRUNED_FROM = 1_024


def clamp_weight(weight: float) -> float:
    """A fairness weight within its bounds; what is no positive number counts as 1."""
    if not weight > 0:
        return 1.0
    return min(max(weight, limits.FAIRNESS_WEIGHT_MIN), limits.FAIRNESS_WEIGHT_MAX)


class Gate:
    """One fairness key that is limited.

    Attributes:
        concurrency: how many of its tasks may run at once; ``None``: any number.
        running: how many do.
        shut: nothing of it may go at all.
        throttled: it has to wait for its next token.
        waits: how often it had to, so that wake-ups of earlier waits are known as void.
    """

    __slots__ = ("concurrency", "flow", "key", "rate", "running", "shut", "throttled", "waits")

    def __init__(self, flow: Flow, key: str) -> None:
        self.flow = flow
        self.key = key
        self.concurrency: int | None = None
        self.running = 0
        self.rate = RateLimit()
        self.shut = False
        self.throttled = False
        self.waits = 0

    @property
    def closed(self) -> bool:
        """Whether none of its tasks may go now."""
        full = self.concurrency is not None and self.running >= self.concurrency
        return full or self.throttled or self.shut


class Flow:
    """What is set for the tasks of one kind in a task queue, and how it stands.

    Args:
        name: the task queue.
        kind: index of the kind of slot its tasks take.

    Attributes:
        throttled: the whole queue has to wait for its next token.
        waits: as for a gate.
        queues: the parts of the task queue, one for each version of workers, by key.
    """

    __slots__ = (
        "_prune_at",
        "_shut_by_default",
        "aside",
        "config",
        "gates",
        "keys",
        "kind",
        "name",
        "queues",
        "rate",
        "shut",
        "throttled",
        "waits",
    )

    def __init__(self, name: str, kind: int) -> None:
        self.name = name
        self.kind = kind
        self.config = TaskQueueConfig(task_queue=name, task_type="", time_ms=0)
        self.keys: dict[str, FairnessKeyConfig] = {}
        self.rate = RateLimit()
        self.shut = False
        self.throttled = False
        self.waits = 0
        #: Whether nothing may go of a key of which nothing is known.
        self._shut_by_default = False
        self.gates: dict[str, Gate] = {}
        self.aside: dict[str, list[Lane]] = {}
        self.queues: dict[str, TaskQueue] = {}
        self._prune_at = _PRUNED_FROM

    @property
    def stopped(self) -> bool:
        """Whether no task of the queue may go now."""
        return self.throttled or self.shut

    def closed(self, key: str) -> bool:
        """Whether no task of a fairness key may go now, whatever is with the queue."""
        gate = self.gates.get(key)
        return self._shut_by_default if gate is None else gate.closed

    def admits(self, key: str) -> bool:
        """Whether a task of a fairness key may go now."""
        return not (self.stopped or self.closed(key))

    def weight_of(self, key: str, weight: float) -> float:
        """The weight that was set for a key; else that of its task."""
        own = self.keys.get(key)
        return weight if own is None or own.weight is None else clamp_weight(own.weight)

    def counts(self, key: str) -> bool:
        """Whether it matters how many tasks of a key run."""
        own = self.keys.get(key)
        return self.config.key_concurrency_default is not None or (own is not None and own.concurrency is not None)

    # --- what runs ------------------------------------------------------------------------------------------------

    def began(self, key: str, weight: float, now_ms: int) -> None:
        """A task of a key was leased."""
        gate = self._gate(key, weight, now_ms)
        if gate is not None:
            gate.running += 1

    def ended(self, key: str) -> None:
        """A task of a key is not leased any more."""
        gate = self.gates.get(key)
        if gate is not None:
            gate.running -= 1

    def limited(self, key: str) -> tuple[Flow | Gate, ...]:
        """What has to have a token for each task of a key."""
        gate = self.gates.get(key)
        return (self,) if gate is None else (self, gate)

    # --- lanes of closed keys -------------------------------------------------------------------------------------

    def put_aside(self, lane: Lane) -> None:
        """A lane with tasks came to its turn, and its key is closed."""
        lane.aside = True
        self.aside.setdefault(lane.key, []).append(lane)

    def take_back(self, lane: Lane) -> None:
        """Nothing waits in a lane any more that was put aside."""
        lane.aside = False
        lanes = self.aside[lane.key]
        lanes.remove(lane)
        if not lanes:
            del self.aside[lane.key]

    def reopen(self, key: str) -> bool:
        """A key may be open again: its lanes get their turns; whether there were any."""
        if key not in self.aside or self.closed(key):
            return False
        for lane in self.aside.pop(key):
            lane.queue.resume(lane)
        return True

    # --- settings -------------------------------------------------------------------------------------------------

    def configure(self, config: TaskQueueConfig, now_ms: int) -> None:
        """Follow other settings. Its queues and leases are the caller's business: see :meth:`began`, ``use``."""
        self.config = config
        self.keys = {own.fairness_key: own for own in config.keys[: limits.FLOW_KEYS_MAX]}
        self.shut = config.queue_rate is not None and config.queue_rate <= 0
        self.rate.set(config.queue_rate or 0.0, now_ms)
        self._shut_by_default = any(
            default is not None and default <= 0
            for default in (config.key_rate_default, config.key_concurrency_default)
        )
        self.aside.clear()
        before, self.gates = self.gates, {}
        for key, gate in before.items():
            gate.running = 0
            if self._is_limited(key):
                self.gates[key] = gate
            else:
                gate.throttled = False  # its wake-up is void now
        for key, own in self.keys.items():
            self._gate(key, 1.0 if own.weight is None else own.weight, now_ms)

    def _is_limited(self, key: str) -> bool:
        config, own = self.config, self.keys.get(key)
        if config.key_rate_default is not None or config.key_concurrency_default is not None:
            return True
        return own is not None and (own.rate is not None or own.concurrency is not None)

    def _gate(self, key: str, weight: float, now_ms: int) -> Gate | None:
        if not self._is_limited(key):
            return None
        gate = self.gates.get(key)
        if gate is None:
            if len(self.gates) >= self._prune_at:
                self.gates = {key: gate for key, gate in self.gates.items() if self._is_needed(gate)}
                self._prune_at = max(_PRUNED_FROM, 2 * len(self.gates))
            gate = self.gates[key] = Gate(self, key)
        own, config = self.keys.get(key), self.config
        gate.concurrency = config.key_concurrency_default
        if own is not None and own.concurrency is not None:
            gate.concurrency = own.concurrency
        rate = None if own is None else own.rate
        if rate is None and config.key_rate_default is not None:
            rate = config.key_rate_default * self.weight_of(key, weight)
        gate.shut = rate is not None and rate <= 0
        gate.rate.set(0.0 if rate is None or not math.isfinite(rate) else rate, now_ms)
        return gate

    def _is_needed(self, gate: Gate) -> bool:
        return bool(gate.running or gate.throttled or gate.shut or gate.key in self.aside or gate.key in self.keys)
