"""One workflow per subscription, asleep for most of its life."""

from __future__ import annotations

from calendar import monthrange
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from examples.subscription.billing import Billing, Charge
from perdure import workflow
from perdure.exceptions import ActivityError, ApplicationError

TASK_QUEUE = "subscriptions"
PLANS = {"basic": 900, "pro": 2900}  # cents a month
TRIAL = timedelta(days=14)
#: After a declined card: when to try again. Then the subscription ends.
DUNNING = (timedelta(days=3), timedelta(days=5), timedelta(days=7))
#: A run of a few months keeps its history short, and lets new code in at a seam.
CHARGES_PER_RUN = 6
WITHIN = timedelta(seconds=30)


@dataclass
class Account:
    """All there is to know about a subscription; a run hands it to the next one.

    Attributes:
        customer: Who.
        plan: What.
        first_charge: When the trial ends; the charges follow on that day of each month. Set by the first run.
        charges: How many there were.
        cancelled: Whether the customer wants no more. It stands here because the next run does not get the signals of
            this one again.
    """

    customer: str
    plan: str
    first_charge: datetime | None = None
    charges: int = 0
    cancelled: bool = False


@workflow.defn
class Subscription:
    """Returns why it ended: ``"cancelled"`` or ``"unpaid"``."""

    @workflow.init
    def __init__(self, account: Account) -> None:
        self._account = account
        self._card_changed = False

    @workflow.run
    async def run(self, account: Account) -> str:
        if account.first_charge is None:
            account.first_charge = workflow.now() + TRIAL
        for _ in range(CHARGES_PER_RUN):
            due = months_after(account.first_charge, account.charges)
            # Who cancels keeps what is paid for, so the end comes on the day of the next charge.
            await workflow.sleep(due - workflow.now())
            if account.cancelled:
                return "cancelled"
            if not await self._charge(due):
                return "unpaid"
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._account)

    async def _charge(self, due: datetime) -> bool:
        """Charge the card for a month. A declined one is tried again later, or when the customer gives another."""
        if await self._is_paid(due):
            return True
        for patience in DUNNING:
            await self._write("your card was declined")
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: self._card_changed, timeout=patience)
            if await self._is_paid(due):
                return True
        await self._write("your subscription has ended")
        return False

    async def _is_paid(self, due: datetime) -> bool:
        account = self._account
        invoice = f"{workflow.info().workflow_id}/{account.charges + 1}"
        charge = Charge(invoice, account.customer, PLANS[account.plan], due)
        self._card_changed = False
        try:
            # An outage of the provider is retried behind this call. A declined card is not, so it comes here.
            await workflow.execute_activity_method(Billing.charge, charge, start_to_close_timeout=WITHIN)
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == "CardDeclined":
                return False
            raise
        account.charges += 1
        return True

    async def _write(self, letter: str) -> None:
        await workflow.execute_activity_method(
            Billing.write_to, args=[self._account.customer, letter], start_to_close_timeout=WITHIN
        )

    @workflow.update
    def change_plan(self, plan: str) -> str:
        """Returns what it was before. The next charge is the first at the new price."""
        before, self._account.plan = self._account.plan, plan
        return before

    @change_plan.validator
    def _check_plan(self, plan: str) -> None:
        if plan not in PLANS:
            raise ApplicationError(f"there is no plan {plan!r}; there are {', '.join(PLANS)}")
        if plan == self._account.plan:
            raise ApplicationError(f"the plan is {plan} already")

    @workflow.signal
    def cancel(self) -> None:
        self._account.cancelled = True

    @workflow.signal
    def card_changed(self) -> None:
        self._card_changed = True

    @workflow.query
    def account(self) -> Account:
        return self._account


def months_after(first: datetime, months: int) -> datetime:
    """The same day so many months later, or the last day of a month that is too short."""
    year, month = divmod(first.month - 1 + months, 12)
    year, month = first.year + year, month + 1
    return first.replace(year=year, month=month, day=min(first.day, monthrange(year, month)[1]))
