"""The payments example: the reconciliation finds each kind of difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from examples.payments.bank_books import Books
from examples.payments.bank_faults import Faults
from examples.payments.bank_ledger import Ledger, held_account
from examples.payments.bank_statement import Entry, Statement, read_statement
from examples.payments.models import Batch, Outcome, Payment, PaymentResult, Step
from examples.payments.reconcile import Reconciliation, reconcile

BATCH = Batch("M", [Payment(f"M:{n}", str(n), "DEBTOR", "Creditor", f"CREDITOR-{n}", n * 100) for n in (1, 2, 3, 4)])
WAYS = {
    "M:1": [Step.SCREEN, Step.RESERVE, Step.TRANSFER, Step.NOTIFY],
    "M:2": [Step.SCREEN],
    "M:3": [Step.SCREEN, Step.RESERVE, Step.RELEASE],
    "M:4": [Step.SCREEN, Step.RESERVE, Step.TRANSFER, Step.REFUND, Step.RELEASE],
}
RESULTS = {
    "M:1": PaymentResult("M:1", Outcome.SETTLED),
    "M:2": PaymentResult("M:2", Outcome.REFUSED, "screen", "Sanctioned: no"),
    "M:3": PaymentResult("M:3", Outcome.COMPENSATED, "transfer", "AccountClosed: no", ["release"]),
    "M:4": PaymentResult("M:4", Outcome.COMPENSATED, "notify", "Unreachable: no", ["refund", "release"]),
}


def statement_of(path: Path, ways: dict[str, list[Step]], batch: Batch = BATCH) -> Statement:
    """What a real ledger says after these calls."""
    ledger = Ledger(path, Books(balances_cents={"DEBTOR": 10_000}, other_balance_cents=500), Faults())
    for payment in batch.payments:
        for step in ways.get(payment.payment_id, []):
            assert ledger.call(step, f"{payment.payment_id}/{step}", payment).status == 200
    ledger.close()
    return read_statement(path)


@pytest.fixture
def statement(tmp_path: Path) -> Statement:
    return statement_of(tmp_path / "ledger.db", WAYS)


def told(reconciliation: Reconciliation) -> str:
    return "\n".join(map(str, reconciliation.differences))


def test_a_right_ledger_has_no_differences(statement: Statement) -> None:
    reconciliation = reconcile(BATCH, statement, RESULTS)
    assert reconciliation.differences == []
    assert reconciliation.count_by_outcome == {Outcome.SETTLED: 1, Outcome.REFUSED: 1, Outcome.COMPENSATED: 2}
    assert reconciliation.cents_by_outcome == {Outcome.SETTLED: 100, Outcome.REFUSED: 200, Outcome.COMPENSATED: 700}
    assert reconciliation.held_cents == 0


def test_a_payment_that_never_ran_is_missing(tmp_path: Path) -> None:
    statement = statement_of(tmp_path / "ledger.db", WAYS | {"M:1": []})
    results = {key: result for key, result in RESULTS.items() if key != "M:1"}
    assert "M:1: its workflow returned no result" in told(reconcile(BATCH, statement, results))


def test_a_result_without_the_money_is_a_difference(tmp_path: Path) -> None:
    statement = statement_of(tmp_path / "ledger.db", WAYS | {"M:1": []})
    differences = told(reconcile(BATCH, statement, RESULTS))
    assert "M:1: its workflow says settled, the bank's ledger says refused" in differences


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ([Step.RESERVE], "it did not end: its movements are reserve"),
        ([Step.RESERVE, Step.TRANSFER, Step.REFUND], "it did not end: its movements are reserve -> transfer -> refund"),
        ([Step.RESERVE, Step.TRANSFER], "it is settled, but the creditor was not notified"),
        (
            [Step.RESERVE, Step.TRANSFER, Step.NOTIFY, Step.REFUND, Step.RELEASE],
            "compensated, but the creditor was notified",
        ),
    ],
)
def test_a_payment_left_half_way_is_a_difference(tmp_path: Path, way: list[Step], reason: str) -> None:
    reconciliation = reconcile(BATCH, statement_of(tmp_path / "ledger.db", WAYS | {"M:1": way}), RESULTS)
    assert reason in told(reconciliation)
    assert "batch: payments of" in told(reconciliation)


def test_money_left_reserved_is_counted(tmp_path: Path) -> None:
    statement = statement_of(tmp_path / "ledger.db", WAYS | {"M:3": [Step.RESERVE]})
    reconciliation = reconcile(BATCH, statement, RESULTS)
    assert reconciliation.held_cents == 300
    assert f"{held_account('DEBTOR')}: it ends with 3.00 EUR" in told(reconciliation)


def doubled(statement: Statement, kind: str, payment_id: str) -> Statement:
    """The ledger with one movement a second time, and the balances that follow from it."""
    again = [
        replace(entry, posting_id=1_000)
        for entry in statement.entries
        if (entry.kind, entry.payment_id) == (kind, payment_id)
    ]
    assert len(again) == 2
    balances_cents = dict(statement.balances_cents)
    for entry in again:
        balances_cents[entry.account] += entry.amount_cents
    return replace(statement, entries=statement.entries + again, balances_cents=balances_cents)


@pytest.mark.parametrize("kind", ["reserve", "transfer", "refund", "release"])
def test_a_movement_made_twice_is_a_difference(statement: Statement, kind: str) -> None:
    differences = told(reconcile(BATCH, doubled(statement, kind, "M:4"), RESULTS))
    assert f"M:4: {kind} happened more than once" in differences
    assert "the opening balance and the settled payments make" in differences


def with_entries(statement: Statement, entries: list[Entry]) -> Statement:
    balances_cents = dict.fromkeys(statement.balances_cents, 0)
    for entry in entries:
        balances_cents[entry.account] = balances_cents.get(entry.account, 0) + entry.amount_cents
    return replace(statement, entries=entries, balances_cents=balances_cents)


def test_a_wrong_amount_is_a_difference(statement: Statement) -> None:
    entries = [
        replace(entry, amount_cents=101 if entry.amount_cents > 0 else -101)
        if (entry.kind, entry.payment_id) == ("transfer", "M:1")
        else entry
        for entry in statement.entries
    ]
    differences = told(reconcile(BATCH, with_entries(statement, entries), RESULTS))
    assert "M:1: its transfer moved the wrong money" in differences
    assert "the payment is 1.00 EUR" in differences
    assert "CREDITOR-1: it ends with 6.01 EUR" in differences


def test_money_for_the_wrong_account_is_a_difference(statement: Statement) -> None:
    entries = [
        replace(entry, account="CREDITOR-4") if entry.account == "CREDITOR-1" and entry.kind == "transfer" else entry
        for entry in statement.entries
    ]
    differences = told(reconcile(BATCH, with_entries(statement, entries), RESULTS))
    assert "M:1: its transfer moved the wrong money" in differences
    assert "CREDITOR-1: it ends with" in differences
    assert "CREDITOR-4: it ends with" in differences


def test_a_posting_that_does_not_add_up_is_a_difference(statement: Statement) -> None:
    *kept, last = statement.entries
    entries = [*kept, replace(last, amount_cents=last.amount_cents - 1)]
    assert "its rows add up to -0.01 EUR, not to zero" in told(
        reconcile(BATCH, with_entries(statement, entries), RESULTS)
    )


def test_a_balance_that_is_not_its_rows_is_a_difference(statement: Statement) -> None:
    balances_cents = statement.balances_cents | {"CREDITOR-1": 601}
    differences = told(reconcile(BATCH, replace(statement, balances_cents=balances_cents), RESULTS))
    assert differences == "CREDITOR-1: the bank keeps a balance of 6.01 EUR, its rows add up to 6.00 EUR"


def test_a_payment_of_another_batch_is_a_difference(statement: Statement) -> None:
    shorter = Batch("M", BATCH.payments[1:])
    assert "M:1: is in the ledger, but not in the batch" in told(reconcile(shorter, statement, RESULTS))


@pytest.mark.parametrize("name", ["reservation", "transfer"])
def test_a_state_that_does_not_follow_from_the_movements_is_a_difference(statement: Statement, name: str) -> None:
    states = {"reservation": statement.reservations, "transfer": statement.transfers}[name]
    wrong = replace(statement, **{f"{name}s": states | {"M:1": "void"}})  # type: ignore[arg-type]
    assert f"M:1: its {name} is void, but its movements leave it" in told(reconcile(BATCH, wrong, RESULTS))


def test_a_workflow_that_says_otherwise_is_a_difference(statement: Statement) -> None:
    results = RESULTS | {"M:1": PaymentResult("M:1", Outcome.COMPENSATED)}
    assert told(reconcile(BATCH, statement, results)) == (
        "M:1: its workflow says compensated, the bank's ledger says settled"
    )
