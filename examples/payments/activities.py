"""The activities of a payment: one call to the bank each.

Every activity may run more than once (after a fault, a lost reply, a killed worker); the bank's idempotency keys make
that harmless. Registered by worker.py, called from workflows.py.
"""

from __future__ import annotations

from examples.payments.bank_client import BankClient, BankRefusedError, BankUnavailableError
from examples.payments.models import Payment, Step
from perdure import activity
from perdure.exceptions import ApplicationError


class PaymentActivities:
    """The bank's steps as activities.

    Each returns the bank's reference. Each raises an ApplicationError: one that is not retried where the bank refused
    for good (its type is the bank's code), one that is retried where the bank failed for now.

    Args:
        bank: The client all of them share.
    """

    def __init__(self, bank: BankClient) -> None:
        self._bank = bank

    @activity.defn
    async def screen(self, payment: Payment) -> str:
        """Checks the creditor against the sanctions list."""
        return await self._call(Step.SCREEN, payment)

    @activity.defn
    async def reserve(self, payment: Payment) -> str:
        """Sets the amount aside on the debtor's account."""
        return await self._call(Step.RESERVE, payment)

    @activity.defn
    async def transfer(self, payment: Payment) -> str:
        """Moves the reserved amount to the creditor's account."""
        return await self._call(Step.TRANSFER, payment)

    @activity.defn
    async def notify(self, payment: Payment) -> str:
        """Tells the creditor that the money arrived."""
        return await self._call(Step.NOTIFY, payment)

    @activity.defn
    async def refund(self, payment: Payment) -> str:
        """Undoes the transfer: the amount is reserved again."""
        return await self._call(Step.REFUND, payment)

    @activity.defn
    async def release(self, payment: Payment) -> str:
        """Undoes the reservation."""
        return await self._call(Step.RELEASE, payment)

    async def _call(self, step: Step, payment: Payment) -> str:
        try:
            return await self._bank.call(step, payment)
        except BankRefusedError as refused:
            raise ApplicationError(str(refused), type=refused.code, non_retryable=True) from refused
        except BankUnavailableError as unavailable:
            raise ApplicationError(str(unavailable), type="BankUnavailable") from unavailable
