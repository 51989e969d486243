"""What must hold of every history, whatever was killed; written against the public client only."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from perdure.client import Client, WorkflowHistory
from tests.e2e.faults.program import EXPECTED, FAMILY_STEPS, Growing, family_result

TERMINAL_ACTIVITY = {
    "ActivityTaskCompletedEvent",
    "ActivityTaskFailedEvent",
    "ActivityTaskTimedOut",
    "ActivityTaskCanceledEvent",
}


CHILD_ENDS = {
    "ChildWorkflowExecutionCompleted",
    "ChildWorkflowExecutionFailed",
    "ChildWorkflowExecutionCanceled",
    "ChildWorkflowExecutionTimedOut",
    "ChildWorkflowExecutionTerminated",
}


def _one_end_each(history: WorkflowHistory, begin: str, ends: set[str], reference: str) -> None:
    """Every ``begin`` has exactly one of the ``ends``, which names it in its field ``reference``."""
    begun = set()
    ended: Counter[int] = Counter()
    for event in history.events:
        kind = type(event.attributes).__name__
        if kind == begin:
            begun.add(event.event_id)
        elif kind in ends:
            ended[getattr(event.attributes, reference)] += 1
    assert set(ended) == begun, f"{history.workflow_id}: {begin} {begun}, ended {dict(ended)}"
    assert set(ended.values()) <= {1}, f"{history.workflow_id}: ended more than once: {dict(ended)}"


def kinds_of(history: WorkflowHistory) -> Counter[str]:
    """How often each kind of event is in a history."""
    return Counter(type(event.attributes).__name__ for event in history.events)


async def check_history(
    client: Client, workflow_id: str, *, run_id: str | None = None, last: str = "WorkflowExecutionCompleted"
) -> WorkflowHistory:
    """Event ids gapless, one end for each activity and each child, nothing after the close, which is a ``last``."""
    history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    ids = [event.event_id for event in history.events]
    assert ids == list(range(1, len(ids) + 1)), f"{workflow_id}: event ids {ids}"
    _one_end_each(history, "ActivityTaskScheduled", TERMINAL_ACTIVITY, "scheduled_event_id")
    _one_end_each(history, "StartChildWorkflowExecutionInitiated", CHILD_ENDS, "initiated_event_id")
    found = type(history.events[-1].attributes).__name__
    assert found == last, f"{workflow_id} ends with {found}"
    return history


async def check_family(client: Client, workflow_id: str, first_run_id: str) -> None:
    """The chain of two runs and the child: each sound, each part in it once."""
    first = await check_history(client, workflow_id, run_id=first_run_id, last="WorkflowExecutionContinuedAsNew")
    second = await check_history(client, workflow_id)
    assert first.events[-1].attributes.new_run_id == second.run_id != first_run_id
    assert second.events[0].attributes.continued_run_id == first_run_id
    child = await check_history(client, f"{workflow_id}/child")
    assert child.events[0].attributes.parent.run_id == second.run_id
    both = kinds_of(first) + kinds_of(second)
    assert both["MarkerRecorded"] == 1
    assert both["StartChildWorkflowExecutionInitiated"] == 1
    assert both["WorkflowExecutionSignaled"] == 2
    assert both["WorkflowExecutionUpdateAccepted"] == both["WorkflowExecutionUpdateCompleted"] == 1


async def check_families(client: Client, results: dict[str, tuple[str, Growing]], oracle: Path) -> None:
    """All families returned what they had to, all histories are sound, everything really ran."""
    wrong = {workflow_id: found for workflow_id, (_, found) in results.items() if found != family_result(workflow_id)}
    assert not wrong, f"wrong results: {wrong}"
    limit = asyncio.Semaphore(20)

    async def one(workflow_id: str) -> None:
        async with limit:
            await check_family(client, workflow_id, results[workflow_id][0])

    await asyncio.gather(*map(one, results))
    ran = {tuple(line.split(" ")[:2]) for line in oracle.read_text().split("\n")[:-1]}
    missing = {(workflow_id, str(number)) for workflow_id in results for number in range(FAMILY_STEPS)} - ran
    assert not missing, f"steps that have a result but never ran: {missing}"


async def check_all(client: Client, results: dict[str, list[int]], oracle: Path) -> Counter[str]:
    """All results right, all histories sound, everything really ran. Returns counts of what the oracle saw."""
    wrong = {workflow_id: result for workflow_id, result in results.items() if result != EXPECTED}
    assert not wrong, f"wrong results: {wrong}"
    limit = asyncio.Semaphore(20)

    async def one(workflow_id: str) -> None:
        async with limit:
            await check_history(client, workflow_id)

    await asyncio.gather(*map(one, results))
    attempts = Counter(oracle.read_text().split("\n")[:-1])
    steps = {tuple(line.split(" ")[:2]) for line in attempts}
    missing = {(w, str(n)) for w in results for n in range(len(EXPECTED))} - steps
    assert not missing, f"steps that have a result but never ran: {missing}"
    return Counter(steps=len(steps), executions=attempts.total(), doubled=attempts.total() - len(attempts))
