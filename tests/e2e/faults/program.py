"""The workflows that run while processes are killed, and the worker process that runs them.

Each activity appends a line to a file, the oracle: what really ran, whatever the histories say.
``python -m tests.e2e.faults.program ADDRESS NAMESPACE ORACLE`` is the worker.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.worker import Worker

TASK_QUEUE = "faults"
STEPS = 3


@dataclass
class Step:
    """One step of one workflow."""

    workflow_id: str
    number: int


@activity.defn
async def perform(step: Step) -> int:
    """Note in the oracle that this attempt ran; fails on the first attempt of one step in seven."""
    info = activity.info()
    line = f"{step.workflow_id} {step.number} {info.attempt}\n"
    descriptor = os.open(os.environ["PERDURE_ORACLE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
    if info.attempt == 1 and sum(step.workflow_id.encode()) % 7 == step.number:
        raise RuntimeError("fails once")
    return step.number * 10


@workflow.defn
class Steps:
    """Some activities in sequence, a timer, and two at once."""

    @workflow.run
    async def run(self, workflow_id: str) -> list[int]:
        """Run them all; returns what they returned."""
        options = {
            "start_to_close_timeout": timedelta(seconds=30),
            "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        }
        results = [
            await workflow.execute_activity(perform, Step(workflow_id, number), **options) for number in range(STEPS)
        ]
        await workflow.sleep(0.05)
        pair = [
            workflow.execute_activity(perform, Step(workflow_id, number), **options)
            for number in range(STEPS, STEPS + 2)
        ]
        return results + list(await asyncio.gather(*pair))


EXPECTED = [number * 10 for number in range(STEPS + 2)]

#: What the client sends to each family, and the steps that its members take.
FAMILY_SIGNALS = [1, 2]
FAMILY_UPDATE = 5
FAMILY_STEPS = 3


@dataclass
class Growing:
    """What a family takes over into its next run."""

    workflow_id: str
    generation: int = 0
    results: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)


@workflow.defn
class Child:
    """A timer and an activity."""

    @workflow.run
    async def run(self, step: Step) -> int:
        """Returns what the activity returned."""
        await workflow.sleep(0.02)
        return await workflow.execute_activity(
            perform,
            step,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


@workflow.defn
class Family:
    """Two runs of one chain: a local activity, then a child, an activity, a timer; signals and an update meanwhile."""

    @workflow.init
    def __init__(self, state: Growing) -> None:
        self.state = state

    @workflow.run
    async def run(self, state: Growing) -> Growing:
        """The first run does its part and continues as new; the second one returns what came together in both."""
        workflow_id = state.workflow_id
        if state.generation == 0:
            state.results.append(
                await workflow.execute_local_activity(
                    perform,
                    Step(workflow_id, 0),
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20)),
                )
            )
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(replace(state, generation=1))
        own = workflow.execute_child_workflow(Child.run, Step(workflow_id, 1), id=f"{workflow_id}/child")
        other = workflow.execute_activity(
            perform,
            Step(workflow_id, 2),
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )
        state.results += await asyncio.gather(own, other)
        await workflow.sleep(0.05)
        await workflow.wait_condition(
            lambda: (
                len(state.signals) >= len(FAMILY_SIGNALS) and bool(state.updates) and workflow.all_handlers_finished()
            )
        )
        return state

    @workflow.signal
    def add(self, number: int) -> None:
        """Note a signal."""
        self.state.signals.append(number)

    @workflow.update
    async def change(self, number: int) -> int:
        """Note an update, wait a moment, and answer it."""
        self.state.updates.append(number)
        await workflow.sleep(0.02)
        return number * 2


@workflow.defn
class Ledger:
    """Takes updates until it is closed, each with an activity in its handler; returns what they booked."""

    def __init__(self) -> None:
        self.booked: list[int] = []
        self.closed = False

    @workflow.run
    async def run(self, workflow_id: str) -> list[int]:
        """Ends when it is closed and no update is being handled."""
        await workflow.wait_condition(lambda: self.closed and workflow.all_handlers_finished())
        return self.booked

    @workflow.update
    async def book(self, step: Step) -> int:
        """Perform a step; returns how many are booked."""
        await workflow.execute_activity(
            perform,
            step,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )
        self.booked.append(step.number)
        return len(self.booked)

    @book.validator
    def check(self, step: Step) -> None:
        """Refuse what is no step."""
        if step.number < 0:
            raise ValueError(f"there is no step {step.number}")

    @workflow.signal
    def close(self) -> None:
        """No more updates."""
        self.closed = True


def family_result(workflow_id: str) -> Growing:
    """What a family returns, whatever is killed: nothing lost, nothing doubled."""
    steps = [number * 10 for number in range(FAMILY_STEPS)]
    return Growing(workflow_id, 1, steps, list(FAMILY_SIGNALS), [FAMILY_UPDATE])


async def main(address: str, namespace: str) -> None:
    """Run the worker until the process is ended."""
    client = await Client.connect(address, namespace=namespace)
    worker = Worker(client, task_queue=TASK_QUEUE, workflows=[Steps, Family, Child, Ledger], activities=[perform])
    async with worker:
        print("worker ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    os.environ["PERDURE_ORACLE"] = str(Path(sys.argv[3]))
    asyncio.run(main(sys.argv[1], sys.argv[2]))
