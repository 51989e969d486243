"""The activities. What they would ask and tell other systems is kept in lists here."""

from __future__ import annotations

from perdure import activity


class Warehouse:
    """The world around an order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.parcels: dict[str, str] = {}

    @activity.defn
    async def risk_of(self, amount: int) -> int:
        """From 0 to 100."""
        return min(amount // 100, 100)

    @activity.defn
    async def ask(self, clerk: str, order_id: str) -> None:
        self.asked.append((clerk, order_id))

    @activity.defn
    async def pack(self, order_id: str, item: str) -> str:
        """Returns the parcel's number; the same one if the order was packed before."""
        return self.parcels.setdefault(order_id, f"parcel {len(self.parcels) + 1} with {item}")
