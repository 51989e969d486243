"""The checks at the end of a simulation: what clients saw against the model, and the topics against the invariants.

Called by the simulation when all is quiet: every workflow finished, every partition live, every checkpoint written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure_history.service import HistoryRole
from perdure_ops.audit import Audit
from perdure_runtime.handler import ACKNOWLEDGED_KEY
from perdure_runtime.log import TopicPartition
from tests.sim.driver import Outcome
from tests.sim.mortal import Process
from tests.sim.plans import PlannedFailureError, expected
from tests.sim.processes import make_role
from tests.sim.store import Disk, SimStore

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


def judge(simulation: Simulation) -> list[str]:
    """All breaches of a run that came to its end."""
    cluster = simulation.cluster
    names, log = cluster.names, cluster.log
    breaches = [f"bug: {error!r}" for error in cluster.bugs]
    for outcome in simulation.outcomes.values():
        breaches += check_outcome(outcome)
    for client in [*cluster.clients.values(), *cluster.workers.values()]:
        breaches += [f"loop: {context.get('exception') or context['message']!r}" for context in client.loop.errors]
    logs = [("", log.everything())]
    if log.stats["compactions"]:
        logs.append(("compacted ", log.compacted()))
    for what, found in logs:
        audit = Audit(names)
        for record in found:
            audit.take(record)
        for breach in audit.finish():
            where = f"{what}{breach.topic}[{breach.partition}]@{breach.offset}"
            breaches.append(f"{breach.check}: {where}: {breach.message} (run {breach.run_id} of {breach.workflow_id})")
        counts = audit.counts()
        left = {name: getattr(counts, name) for name in ("runs_open", "tasks_outstanding", "timers_outstanding")}
        if any(left.values()):
            breaches.append(f"outstanding: {what}in the end there are {left}")
        simulation.events = max(simulation.events, counts.events)
    letters = {record.key or b"": record for record in log.read(names.dead_letters)}
    for key in letters.keys() - simulation.poisoned:
        breaches.append(f"dead letter: {key!r} {(letters[key].value or b'')[-200:]!r}")
    breaches += [f"dead letter: there is none for {key!r}" for key in simulation.poisoned - letters.keys()]
    breaches += compare_states(simulation)
    return breaches


def check_outcome(outcome: Outcome) -> list[str]:
    """What clients saw of one workflow against its model."""
    plan = outcome.plan
    name = plan.workflow_id
    found = [f"complaint: {name}: {complaint}" for complaint in outcome.complaints]
    if outcome.result is None:
        if outcome.terminated and outcome.failure and outcome.failure.startswith("Terminated"):
            return found
        try:
            expected(plan.plan["ops"])
        except PlannedFailureError as failed:
            if outcome.failure != f"ApplicationError: {failed}":
                found.append(f"result: {name} failed with {outcome.failure!r}, expected {failed}")
            return found
        found.append(f"result: {name} failed with {outcome.failure!r}")
        return found
    try:
        wanted = expected(plan.plan["ops"])
    except PlannedFailureError as failed:
        return [*found, f"result: {name} returned {outcome.result}, expected a failure {failed}"]
    if outcome.result["out"] != wanted:
        found.append(f"result: {name} is {outcome.result['out']}, expected {wanted}")
    found += _check_messages(outcome, outcome.result)
    return found


def _check_messages(outcome: Outcome, result: dict[str, Any]) -> list[str]:
    name = outcome.plan.workflow_id
    found = []
    signals = result["signals"]
    if len(signals) != len(set(signals)):
        found.append(f"signals: {name} took one twice: {signals}")
    if not set(signals) <= outcome.sent:
        found.append(f"signals: {name} took {set(signals) - outcome.sent}, which nobody sent")
    if outcome.plan.signals and not {v for v in outcome.confirmed if v.startswith("s")} <= set(signals):
        lost = sorted(outcome.confirmed - set(signals))
        if len({v.partition(".")[0] for v in signals}) < len(outcome.plan.signals):
            found.append(f"signals: {name} lost {lost}, which were confirmed")
    updates = result["updates"]
    if len(updates) != len(set(updates)):
        found.append(f"updates: {name} took one twice: {updates}")
    for value, position in outcome.updates.items():
        if value not in updates:
            found.append(f"updates: {name} lost {value}, which was confirmed")
        elif not 1 <= position <= len(updates):
            found.append(f"updates: {name} answered {position} to {value}")
    return found


# --- state ------------------------------------------------------------------------------------------------------------


def compare_states(simulation: Simulation) -> list[str]:
    """The live state of every partition against one that is folded from the compacted topics alone, key by key."""
    cluster = simulation.cluster
    found: list[str] = []
    for engine in cluster.engines.values():
        for role_name, actor in engine.actors.items():
            processor, store = actor.processor, actor.store
            if processor is None or store is None or not engine.process.alive:
                continue
            for partition in processor.partitions:
                owned = processor._owned[partition]
                assert owned.handler is not None
                owned.handler.checkpoint()
                live = dict(store.partition(partition).scan(b""))
                rebuilt = rebuild(simulation, role_name, partition)
                found += compare(role_name, partition, live, rebuilt)
    return found


def rebuild(simulation: Simulation, role_name: str, partition: int) -> dict[bytes, bytes]:
    """The state of a partition, folded from its topic alone."""
    world, cluster = simulation.world, simulation.cluster
    role = make_role(role_name, cluster.names, world.clock_ms)
    process = Process(world, "rebuilder")
    store = SimStore(Disk(), process, role_name)
    part = store.partition(partition)
    handler = role.open(partition, part, 1 << 60 if isinstance(role, HistoryRole) else None)
    for record in cluster.log.partitions[TopicPartition(role.restored_topic, partition)].records:
        handler.fold(record)
    if isinstance(role, HistoryRole):
        handler._runs.flush()  # type: ignore[attr-defined]
    else:
        handler.checkpoint()
    return dict(part.scan(b""))


def compare(role_name: str, partition: int, live: dict[bytes, bytes], rebuilt: dict[bytes, bytes]) -> list[str]:
    """Differences that must not be."""
    passed_over = {ACKNOWLEDGED_KEY, b"p", b"m"}
    found = []
    for key in sorted(live.keys() | rebuilt.keys()):
        if key in passed_over or (role_name == "matching" and key.startswith(b"w/")):
            continue
        if live.get(key) != rebuilt.get(key):
            what = "only live" if key not in rebuilt else "only rebuilt" if key not in live else "different"
            found.append(f"state: {role_name}[{partition}] {key!r} is {what}: {live.get(key)!r} / {rebuilt.get(key)!r}")
    return found
