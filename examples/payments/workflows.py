"""The payment workflow: screen, reserve, transfer, notify, and the way back.

A saga. Each step that changes something has a step that undoes it; where a later step fails for good, the undoing
steps run in reverse order. A failure for now is retried by the engine and is not seen here. The code is
deterministic: all I/O is in activities.py. Registered by worker.py, started by the demo.
"""

from __future__ import annotations

from datetime import timedelta

from perdure import workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from examples.payments.activities import PaymentActivities
    from examples.payments.models import Outcome, Payment, PaymentResult, Step

ATTEMPT_TIMEOUT = timedelta(seconds=15)
RETRY_FOREVER = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=5)
)

_ACTIVITY = {
    Step.SCREEN: PaymentActivities.screen,
    Step.RESERVE: PaymentActivities.reserve,
    Step.TRANSFER: PaymentActivities.transfer,
    Step.NOTIFY: PaymentActivities.notify,
    Step.REFUND: PaymentActivities.refund,
    Step.RELEASE: PaymentActivities.release,
}
_STEPS = (Step.SCREEN, Step.RESERVE, Step.TRANSFER, Step.NOTIFY)
_UNDO = {Step.RESERVE: Step.RELEASE, Step.TRANSFER: Step.REFUND}


@workflow.defn
class PaymentWorkflow:
    """Settles one payment, or leaves no trace of it in the balances."""

    @workflow.run
    async def run(self, payment: Payment) -> PaymentResult:
        """Runs the payment to its end.

        Args:
            payment: The payment to settle.

        Returns:
            How it ended. A payment that the bank refuses is a result, not a failure of the workflow.
        """
        to_undo: list[Step] = []
        for step in _STEPS:
            # Noted before the step: if the workflow is cancelled in the middle of it, the bank may have acted.
            if step in _UNDO:
                to_undo.append(_UNDO[step])
            try:
                await self._do(step, payment)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    await self._undo(to_undo, payment)
                    raise
                if step in _UNDO:
                    # The bank refused this very step, so there is nothing of it to undo.
                    to_undo.pop()
                undone = await self._undo(to_undo, payment)
                outcome = Outcome.COMPENSATED if undone else Outcome.REFUSED
                return PaymentResult(payment.payment_id, outcome, step, _reason(error), undone)
        return PaymentResult(payment.payment_id, Outcome.SETTLED)

    async def _undo(self, steps: list[Step], payment: Payment) -> list[str]:
        for step in reversed(steps):
            await self._do(step, payment)
        return [step.value for step in reversed(steps)]

    async def _do(self, step: Step, payment: Payment) -> None:
        await workflow.execute_activity_method(
            _ACTIVITY[step], payment, start_to_close_timeout=ATTEMPT_TIMEOUT, retry_policy=RETRY_FOREVER
        )


def _reason(error: ActivityError) -> str:
    cause = error.cause
    return f"{cause.type}: {cause.message}" if isinstance(cause, ApplicationError) else str(cause)
