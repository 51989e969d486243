"""Limits of the task queue in a share of the seeds: set before anything runs, and changed while it does.

Activities are of the fairness keys ``even`` and ``odd``: see the program. What a limit holds back must not be lost, so
results and liveness are judged as ever. Besides, matching's own account must be right whatever has crashed: what it
counts as running are its leases, and of those that it gave out itself there are never more than the largest limit that
was ever set. (What workers are found to have at a takeover runs anyway.)
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from perdure_matching.core.state import MatchingState
from perdure_matching.service import MatchingPartition
from perdure_runtime.log import NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig
from tests.sim.driver import TASK_QUEUE

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

__all__ = ["check_limits", "limit_queue"]

_ACTIVITY = 1
_CHANGES_MAX = 3
_SHARE = 0.4


def limit_queue(simulation: Simulation, seed: int, limited: bool | None) -> bool:
    """Set limits in a share of the seeds, or as ``limited`` says; whether there are any."""
    rng = random.Random(f"limits-{seed}")
    if not (rng.random() < _SHARE if limited is None else limited):
        return False
    _write(simulation, _config(rng))
    for _ in range(rng.randrange(_CHANGES_MAX + 1)):
        config = _config(rng)
        simulation.world.later(rng.random() * 8_000, lambda config=config: _write(simulation, config))
    return True


def _config(rng: random.Random) -> TaskQueueConfig:
    """Each key has a limit, so that of each there is a largest one."""
    own = [FairnessKeyConfig(fairness_key="even", concurrency=rng.choice((1, 2)), weight=rng.choice((None, 3.0)))]
    return TaskQueueConfig(
        task_queue=TASK_QUEUE,
        task_type="activity",
        queue_rate=rng.choice((None, None, 20.0)),
        key_rate_default=rng.choice((None, None, 5.0)),
        key_concurrency_default=rng.choice((1, 2, 4)),
        keys=own if rng.random() < 0.5 else [],
        time_ms=1,
    )


def _write(simulation: Simulation, config: TaskQueueConfig) -> None:
    names = simulation.cluster.names
    where = TopicPartition(names.deployments, keys.partition_of(TASK_QUEUE, names.partitions))
    key = keys.queue_config_key(config.task_queue, config.task_type)
    simulation.cluster.log.put(where, [NewRecord(*where, key, codec.encode(config))])
    simulation.limits_set.append(config)


def check_limits(simulation: Simulation) -> list[str]:
    """What is wrong with the account of a living owner."""
    for engine in simulation.cluster.engines.values():
        processor = engine.actors["matching"].processor
        if processor is None or not engine.process.alive:
            continue
        for owned in processor._owned.values():
            handler = owned.handler
            if isinstance(handler, MatchingPartition) and handler.state.live and not handler.deposed:
                fault = _fault(simulation, handler.state)
                if fault:
                    return [f"limits: {engine.process.name}: {fault}"]
    return []


def _fault(simulation: Simulation, state: MatchingState) -> str:
    flow = state.flows.get((TASK_QUEUE, _ACTIVITY))
    if flow is None:
        return ""
    leases: dict[str, int] = {}
    given: dict[str, int] = {}
    for queue in state.queues.values():
        for worker in queue.workers.values():
            for task in worker.leases[_ACTIVITY].values():
                leases[task.fairness_key] = leases.get(task.fairness_key, 0) + 1
                given[task.fairness_key] = given.get(task.fairness_key, 0) + (task.dispatch_number > 0)
    for key, gate in flow.gates.items():
        if gate.running != leases.get(key, 0):
            return f"{gate.running} tasks of key {key!r} are said to run, and {leases.get(key, 0)} are leased"
        most = max(_limit(config, key) for config in simulation.limits_set)
        if given.get(key, 0) > most:
            return f"{given[key]} tasks of key {key!r} were given out, and never more than {most} were allowed"
    return ""


def _limit(config: TaskQueueConfig, key: str) -> int:
    for own in config.keys:
        if own.fairness_key == key and own.concurrency is not None:
            return own.concurrency
    assert config.key_concurrency_default is not None
    return config.key_concurrency_default
