"""What definitions may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from perdure import activity


@activity.defn
async def create_account(customer: str) -> str:
    return f"account of {customer}"


@activity.defn
async def credit_score(customer: str) -> int:
    return len(customer) * 10


@activity.defn
async def send(recipient: str, text: str) -> str:
    return f"to {recipient}: {text}"


#: By the names that definitions use.
ACTIVITIES: dict[str, Callable[..., Awaitable[Any]]] = {
    "create_account": create_account,
    "credit_score": credit_score,
    "send": send,
}
