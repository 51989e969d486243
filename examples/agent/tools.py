"""The tools: activities that the model may call by name."""

from __future__ import annotations

from perdure import activity
from perdure.exceptions import ApplicationError

#: A person has to approve a call of these.
DANGEROUS = {"refund"}


class Tools:
    """What the tools work on."""

    def __init__(self) -> None:
        self.orders = {"o1": 30, "o2": 45}
        self.refunded: dict[str, int] = {}

    @activity.defn
    async def weather(self, city: str) -> str:
        return f"it is sunny in {city}"

    @activity.defn
    async def refund(self, order: str) -> str:
        """Refund an order; the same order twice is one refund."""
        if order not in self.orders:
            raise ApplicationError(f"there is no order {order}", type="UnknownOrder", non_retryable=True)
        self.refunded[order] = self.orders[order]
        return f"{self.refunded[order]} was refunded for {order}"
