"""Compares a batch with what the bank's ledger says happened, and with what the workflows said.

Pure: values in, differences out. The judgement uses the bank's rows only; the workflows' results must then agree with
it. Called by the demo once the batch is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from examples.payments.bank_ledger import held_account
from examples.payments.bank_statement import Entry, Statement
from examples.payments.models import Batch, Outcome, Payment, PaymentResult, Step, euros

# What the money movements of a payment may look like, in order, and what each means.
_OUTCOME_BY_MOVEMENTS: dict[tuple[str, ...], Outcome] = {
    (): Outcome.REFUSED,
    (Step.RESERVE, Step.TRANSFER): Outcome.SETTLED,
    (Step.RESERVE, Step.RELEASE): Outcome.COMPENSATED,
    (Step.RESERVE, Step.TRANSFER, Step.REFUND, Step.RELEASE): Outcome.COMPENSATED,
}
_OPENING = "opening"


@dataclass(frozen=True)
class Difference:
    """One thing that does not reconcile: the payment or account it is about, and what is wrong."""

    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


@dataclass(frozen=True)
class Reconciliation:
    """The outcome of a comparison.

    Attributes:
        differences: Everything that does not reconcile; empty where all of it does.
        count_by_outcome: The number of payments by outcome, as the ledger has it.
        cents_by_outcome: Their amounts.
        held_cents: What is still reserved; zero where every payment has ended.
    """

    differences: list[Difference]
    count_by_outcome: dict[Outcome, int]
    cents_by_outcome: dict[Outcome, int]
    held_cents: int


@dataclass
class _Sums:
    count: Counter[Outcome] = field(default_factory=Counter)
    cents: Counter[Outcome] = field(default_factory=Counter)


def reconcile(batch: Batch, statement: Statement, results: Mapping[str, PaymentResult]) -> Reconciliation:
    """Compares a finished batch with the ledger.

    Args:
        batch: The batch that was to be paid.
        statement: The bank's ledger after the last payment ended.
        results: What each payment's workflow returned, by payment id. A payment whose workflow failed is left out.
    """
    differences: list[Difference] = []
    movements = _movements(statement.entries, differences)
    sums = _Sums()
    settled: list[Payment] = []
    for payment in batch.payments:
        outcome = _ledger_outcome(payment, movements.pop(payment.payment_id, []), statement, differences)
        if outcome is not None:
            sums.count[outcome] += 1
            sums.cents[outcome] += payment.amount_cents
        if outcome is Outcome.SETTLED:
            settled.append(payment)
        _compare_result(payment, outcome, results.get(payment.payment_id), differences)
    known = {payment.payment_id for payment in batch.payments}
    strangers = set(movements) | ((set(statement.reservations) | set(statement.transfers) | statement.notified) - known)
    differences += [
        Difference(payment_id, "is in the ledger, but not in the batch") for payment_id in sorted(strangers)
    ]
    held_cents = _compare_balances(statement, settled, differences)
    if sums.cents.total() != batch.total_cents:
        ended = euros(sums.cents.total())
        differences.append(
            Difference(
                "batch",
                f"payments of {ended} EUR have ended properly; the control sum is {euros(batch.total_cents)} EUR",
            )
        )
    return Reconciliation(differences, dict(sums.count), dict(sums.cents), held_cents)


def _movements(entries: Iterable[Entry], differences: list[Difference]) -> dict[str, list[list[Entry]]]:
    """The postings of each payment in order; a posting that does not add up to zero is a difference."""
    postings: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        postings[entry.posting_id].append(entry)
    movements: dict[str, list[list[Entry]]] = defaultdict(list)
    for posting_id, posting in postings.items():
        total_cents = sum(entry.amount_cents for entry in posting)
        if total_cents != 0:
            differences.append(
                Difference(f"posting {posting_id}", f"its rows add up to {euros(total_cents)} EUR, not to zero")
            )
        if posting[0].kind != _OPENING:
            movements[posting[0].payment_id].append(posting)
    return movements


def _ledger_outcome(
    payment: Payment, postings: list[list[Entry]], statement: Statement, differences: list[Difference]
) -> Outcome | None:
    """How the payment ended by the ledger, or None where it did not end as a payment may."""

    def differs(reason: str) -> None:
        differences.append(Difference(payment.payment_id, reason))

    for posting in postings:
        rows = {(entry.account, entry.amount_cents) for entry in posting}
        if len(posting) != 2 or rows != _expected_rows(posting[0].kind, payment):
            found = ", ".join(f"{entry.account} {euros(entry.amount_cents)}" for entry in posting)
            differs(
                f"its {posting[0].kind} moved the wrong money: {found}; "
                f"the payment is {euros(payment.amount_cents)} EUR"
            )
    kinds = tuple(posting[0].kind for posting in postings)
    repeated = [kind for kind, count in Counter(kinds).items() if count > 1]
    if repeated:
        differs(f"{', '.join(repeated)} happened more than once")
        return None
    outcome = _OUTCOME_BY_MOVEMENTS.get(kinds)
    if outcome is None:
        differs(f"it did not end: its movements are {' -> '.join(kinds)}")
        return None
    notified = payment.payment_id in statement.notified
    if notified != (outcome is Outcome.SETTLED):
        differs(f"it is {outcome}, but the creditor was {'' if notified else 'not '}notified")
        return None
    for what, states, expected in (
        (
            "reservation",
            statement.reservations,
            {Step.RESERVE: "held", Step.TRANSFER: "captured", Step.RELEASE: "released"},
        ),
        ("transfer", statement.transfers, {Step.TRANSFER: "done", Step.REFUND: "refunded"}),
    ):
        state = states.get(payment.payment_id, "void")
        state_expected = next((expected[kind] for kind in map(Step, reversed(kinds)) if kind in expected), "void")
        if state != state_expected:
            differs(f"its {what} is {state}, but its movements leave it {state_expected}")
    return outcome


def _expected_rows(kind: str, payment: Payment) -> set[tuple[str, int]]:
    held = held_account(payment.debtor_iban)
    source_and_target = {
        Step.RESERVE: (payment.debtor_iban, held),
        Step.TRANSFER: (held, payment.creditor_iban),
        Step.REFUND: (payment.creditor_iban, held),
        Step.RELEASE: (held, payment.debtor_iban),
    }
    if kind not in source_and_target:
        return set()
    source, target = source_and_target[Step(kind)]
    return {(source, -payment.amount_cents), (target, payment.amount_cents)}


def _compare_result(
    payment: Payment, outcome: Outcome | None, result: PaymentResult | None, differences: list[Difference]
) -> None:
    if result is None:
        differences.append(Difference(payment.payment_id, "its workflow returned no result"))
    elif outcome is not None and result.outcome != outcome:
        differences.append(
            Difference(payment.payment_id, f"its workflow says {result.outcome}, the bank's ledger says {outcome}")
        )


def _compare_balances(statement: Statement, settled: list[Payment], differences: list[Difference]) -> int:
    """Checks every account to the cent. Returns what is still reserved."""
    opening_cents: Counter[str] = Counter()
    closing_cents: Counter[str] = Counter()
    for entry in statement.entries:
        closing_cents[entry.account] += entry.amount_cents
        if entry.kind == _OPENING:
            opening_cents[entry.account] += entry.amount_cents
    expected_cents = Counter(opening_cents)
    held_accounts = set()
    for payment in settled:
        expected_cents[payment.debtor_iban] -= payment.amount_cents
        expected_cents[payment.creditor_iban] += payment.amount_cents
    for account in sorted(set(closing_cents) | set(statement.balances_cents)):
        if account.endswith(held_account("")):
            held_accounts.add(account)
        kept = statement.balances_cents.get(account, 0)
        if kept != closing_cents[account]:
            reason = (
                f"the bank keeps a balance of {euros(kept)} EUR, its rows add up to {euros(closing_cents[account])} EUR"
            )
            differences.append(Difference(account, reason))
        if closing_cents[account] != expected_cents[account]:
            reason = (
                f"it ends with {euros(closing_cents[account])} EUR; the opening balance and the settled payments "
                f"make {euros(expected_cents[account])} EUR"
            )
            differences.append(Difference(account, reason))
    return sum(closing_cents[account] for account in held_accounts)
