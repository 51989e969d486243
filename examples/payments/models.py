"""The values that cross process boundaries in the payments example.

They are plain dataclasses of strings and integers, so that the default JSON converter carries them between the
client, the workflow and the activities. Money is always an integer number of cents. Used by every other module of the
example.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Step(StrEnum):
    """A call to the bank. The value is the path of the bank's endpoint and the end of the idempotency key."""

    SCREEN = "screen"
    RESERVE = "reserve"
    TRANSFER = "transfer"
    NOTIFY = "notify"
    REFUND = "refund"
    RELEASE = "release"


class Outcome(StrEnum):
    """How a payment ended."""

    SETTLED = "settled"
    """The money moved and the creditor was told."""
    REFUSED = "refused"
    """The bank said no before anything was reserved, so nothing had to be undone."""
    COMPENSATED = "compensated"
    """A later step failed for good and every earlier one was undone."""


@dataclass(frozen=True)
class Payment:
    """One credit transfer of a batch.

    Attributes:
        payment_id: The payment's identity at the bank: the batch's message id and the end-to-end id.
        end_to_end_id: The payer's reference, unique in its batch.
        debtor_iban: The account that pays.
        creditor_name: The name that screening checks.
        creditor_iban: The account that is paid.
        amount_cents: The amount in euro cents, more than zero.
    """

    payment_id: str
    end_to_end_id: str
    debtor_iban: str
    creditor_name: str
    creditor_iban: str
    amount_cents: int


@dataclass(frozen=True)
class PaymentResult:
    """What a payment's workflow returns.

    Attributes:
        payment_id: The payment this is the result of.
        outcome: How it ended.
        failed_step: The step that failed for good; empty for a settled payment.
        reason: The bank's reason; empty for a settled payment.
        undone: The compensating steps that ran, in the order they ran.
    """

    payment_id: str
    outcome: Outcome
    failed_step: str = ""
    reason: str = ""
    undone: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """A batch file that passed every check.

    Attributes:
        message_id: The file's MsgId.
        payments: The payments in file order.
    """

    message_id: str
    payments: list[Payment]

    @property
    def total_cents(self) -> int:
        """The sum of all payments in euro cents; it equals the file's control sum."""
        return sum(payment.amount_cents for payment in self.payments)


def euros(amount_cents: int) -> str:
    """Writes an amount of cents as euros, for example 123456 as `1,234.56`."""
    sign = "-" if amount_cents < 0 else ""
    return f"{sign}{abs(amount_cents) // 100:,}.{abs(amount_cents) % 100:02d}"
