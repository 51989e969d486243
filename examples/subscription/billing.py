"""The activities, and a payment provider in memory that stands in for the real one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from perdure import activity
from perdure.exceptions import ApplicationError


@dataclass
class Charge:
    """One month's price.

    Attributes:
        invoice: Names the charge: asked for twice, it is made once.
        customer: Whose card.
        cents: How much.
        due: For the month that begins then.
    """

    invoice: str
    customer: str
    cents: int
    due: datetime


class Provider:
    """Charges cards, but for those in ``declined``, and sends letters."""

    def __init__(self) -> None:
        self.declined: set[str] = set()
        self.charges: dict[str, Charge] = {}
        self.letters: list[tuple[str, str]] = []


class Billing:
    """What a subscription asks the world for."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @activity.defn
    async def charge(self, charge: Charge) -> None:
        if charge.customer in self._provider.declined:
            # Not retried here: the workflow decides what happens. Any other error is retried.
            raise ApplicationError(f"{charge.customer}: declined", type="CardDeclined", non_retryable=True)
        self._provider.charges.setdefault(charge.invoice, charge)

    @activity.defn
    async def write_to(self, customer: str, letter: str) -> None:
        self._provider.letters.append((customer, letter))
