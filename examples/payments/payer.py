"""Pays a batch: one workflow per payment, a bounded number at a time, through engine outages.

Starting a workflow is safe to repeat, because its id is the payment's: a start whose answer was lost finds the
workflow that it made. Called by the demo.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from examples.payments.models import Batch, Payment, PaymentResult
from examples.payments.run_directory import RunDirectory
from examples.payments.workflows import PaymentWorkflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode

RETRY_AFTER_S = 0.25
# What an engine that is down or starting answers; anything else is an error of this program.
_PASSING = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.ABORTED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
}


@dataclass
class Paid:
    """What came back from the workflows: results, and the failures of workflows that returned none, by payment id."""

    results: dict[str, PaymentResult] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    client_retries: int = 0
    last_error: str = ""


class Payer:
    """Pays one batch.

    Args:
        client: The engine.
        run: Names the workflows and the task queue.
        in_flight_max: How many workflows may be open at the same time.
        on_end: Called after each payment's end.
    """

    def __init__(self, client: Client, run: RunDirectory, *, in_flight_max: int, on_end: Callable[[], None]) -> None:
        self._client = client
        self._run = run
        self._in_flight_max = in_flight_max
        self._on_end = on_end
        self.paid = Paid()

    async def pay(self, batch: Batch) -> None:
        """Starts a workflow for every payment and waits for all of them. What came back is in `paid`."""
        payments = iter(batch.payments)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._in_flight_max, len(batch.payments))):
                group.create_task(self._pay_next(payments))

    async def _pay_next(self, payments: Iterator[Payment]) -> None:
        for payment in payments:
            try:
                self.paid.results[payment.payment_id] = await self._pay_one(payment)
            except WorkflowFailureError as failure:
                self.paid.failures[payment.payment_id] = f"its workflow failed: {failure.cause or failure}"
            self._on_end()

    async def _pay_one(self, payment: Payment) -> PaymentResult:
        while True:
            try:
                return await self._start_and_wait(payment)
            except (RPCError, OSError) as error:
                if isinstance(error, RPCError) and error.status not in _PASSING:
                    raise
                self.paid.client_retries += 1
                self.paid.last_error = f"{type(error).__name__}: {error}"
            await asyncio.sleep(RETRY_AFTER_S)

    async def _start_and_wait(self, payment: Payment) -> PaymentResult:
        workflow_id = self._run.workflow_id(payment.end_to_end_id)
        try:
            handle = await self._client.start_workflow(
                PaymentWorkflow.run,
                payment,
                id=workflow_id,
                task_queue=self._run.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        except WorkflowAlreadyStartedError:
            handle = self._client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id)
        return await handle.result()
