"""The payments example: the bank's idempotency, faults and ledger, over real HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from examples.payments.bank import BankServer
from examples.payments.bank_books import Books, read_books
from examples.payments.bank_client import BankClient, BankRefusedError, BankUnavailableError
from examples.payments.bank_faults import Fate, Faults
from examples.payments.bank_ledger import Answer, Ledger, held_account
from examples.payments.bank_statement import Statement, read_statement
from examples.payments.models import Payment, Step

PAYMENT = Payment("M:1", "1", "DEBTOR", "Creditor", "CREDITOR", 1000)
BOOKS = Books(
    balances_cents={"DEBTOR": 5000, "POOR": 999},
    other_balance_cents=100,
    sanctioned_names=frozenset({"Bad  Name"}),
    closed_accounts=frozenset({"CLOSED"}),
    unreachable_accounts=frozenset({"UNREACHABLE"}),
)
FORWARD = (Step.SCREEN, Step.RESERVE, Step.TRANSFER, Step.NOTIFY)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db", BOOKS, Faults())
    yield opened
    opened.close()


def call(ledger: Ledger, step: Step, payment: Payment = PAYMENT, key: str = "") -> Answer:
    return ledger.call(step, key or f"{payment.payment_id}/{step}", payment)


def refusal_code(answer: Answer) -> str:
    assert answer.status == 422
    return str(json.loads(answer.text)["code"])


@contextmanager
def served(path: Path, faults: Faults) -> Iterator[str]:
    ledger = Ledger(path, BOOKS, faults)
    server = BankServer(("127.0.0.1", 0), ledger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        ledger.close()


def first_fated(fate: Fate, faults: Faults, *, then: Fate) -> Payment:
    """A payment whose reservation meets `fate` at the first try and `then` at the second."""
    for number in range(10_000):
        payment = replace(PAYMENT, payment_id=f"M:{number}")
        key = f"{payment.payment_id}/reserve"
        if (faults.fate(key, 1), faults.fate(key, 2)) == (fate, then):
            return payment
    raise AssertionError("no such payment")


def movements(statement: Statement) -> list[tuple[str, str, int]]:
    return [(entry.kind, entry.account, entry.amount_cents) for entry in statement.entries if entry.payment_id]


def test_the_whole_way_moves_the_money_once(ledger: Ledger, tmp_path: Path) -> None:
    assert [call(ledger, step).status for step in FORWARD] == [200] * 4
    statement = read_statement(tmp_path / "ledger.db")
    held = held_account("DEBTOR")
    assert movements(statement) == [
        ("reserve", "DEBTOR", -1000),
        ("reserve", held, 1000),
        ("transfer", held, -1000),
        ("transfer", "CREDITOR", 1000),
    ]
    assert statement.balances_cents["DEBTOR"] == 4000
    assert statement.balances_cents["CREDITOR"] == 100 + 1000
    assert statement.balances_cents[held] == 0
    assert sum(statement.balances_cents.values()) == 0
    assert statement.notified == {"M:1"}


def test_the_way_back_restores_every_balance(ledger: Ledger, tmp_path: Path) -> None:
    for step in (Step.RESERVE, Step.TRANSFER, Step.REFUND, Step.RELEASE):
        assert call(ledger, step).status == 200
    statement = read_statement(tmp_path / "ledger.db")
    assert statement.balances_cents["DEBTOR"] == 5000
    assert statement.balances_cents["CREDITOR"] == 100
    assert statement.balances_cents[held_account("DEBTOR")] == 0
    assert (statement.reservations, statement.transfers) == ({"M:1": "released"}, {"M:1": "refunded"})


def test_a_repeated_call_gives_the_same_answer_and_acts_once(ledger: Ledger, tmp_path: Path) -> None:
    first = call(ledger, Step.RESERVE)
    assert call(ledger, Step.RESERVE) == first
    statement = read_statement(tmp_path / "ledger.db")
    assert len(movements(statement)) == 2
    assert (statement.calls.calls, statement.calls.repeated) == (2, 1)


def test_a_refusal_is_repeated_as_well(ledger: Ledger) -> None:
    early = call(ledger, Step.TRANSFER)
    assert refusal_code(early) == "NoReservation"
    call(ledger, Step.RESERVE)
    assert call(ledger, Step.TRANSFER) == early


def test_a_key_used_for_another_call_is_a_conflict(ledger: Ledger, tmp_path: Path) -> None:
    call(ledger, Step.RESERVE, key="k")
    assert call(ledger, Step.RESERVE, replace(PAYMENT, amount_cents=1001), key="k").status == 409
    assert call(ledger, Step.SCREEN, key="k").status == 409
    assert len(movements(read_statement(tmp_path / "ledger.db"))) == 2


@pytest.mark.parametrize(
    ("changes", "steps", "code"),
    [
        ({"creditor_name": "bad name"}, [Step.SCREEN], "Sanctioned"),
        ({"debtor_iban": "POOR"}, [Step.RESERVE], "InsufficientFunds"),
        ({"debtor_iban": "UNKNOWN"}, [Step.RESERVE], "InsufficientFunds"),
        ({"debtor_iban": "CLOSED"}, [Step.RESERVE], "AccountClosed"),
        ({"creditor_iban": "CLOSED"}, [Step.RESERVE, Step.TRANSFER], "AccountClosed"),
        ({"creditor_iban": "UNREACHABLE"}, [Step.RESERVE, Step.TRANSFER, Step.NOTIFY], "CreditorUnreachable"),
        ({}, [Step.TRANSFER], "NoReservation"),
        ({}, [Step.RESERVE, Step.NOTIFY], "NoTransfer"),
        ({}, [Step.RESERVE, Step.TRANSFER, Step.RELEASE], "Captured"),
        ({}, [Step.RELEASE, Step.RESERVE], "ReservationExists"),
        ({}, [Step.RESERVE, Step.REFUND, Step.TRANSFER], "TransferExists"),
    ],
)
def test_the_last_step_is_refused_for_good(
    ledger: Ledger, changes: dict[str, Any], steps: list[Step], code: str
) -> None:
    payment = replace(PAYMENT, **changes)
    *before, last = [call(ledger, step, payment) for step in steps]
    assert all(answer.status == 200 for answer in before)
    assert refusal_code(last) == code


def test_undoing_what_never_happened_moves_nothing(ledger: Ledger, tmp_path: Path) -> None:
    assert call(ledger, Step.REFUND).status == 200
    assert call(ledger, Step.RELEASE).status == 200
    assert movements(read_statement(tmp_path / "ledger.db")) == []


def test_a_ledger_goes_on_after_a_restart(tmp_path: Path) -> None:
    for step in FORWARD:
        opened = Ledger(tmp_path / "ledger.db", BOOKS, Faults())
        assert call(opened, step).status == 200
        opened.close()
    statement = read_statement(tmp_path / "ledger.db")
    assert len({entry.posting_id for entry in statement.entries}) * 2 == len(statement.entries)
    assert sum(statement.balances_cents.values()) == 0


def test_fates_depend_on_seed_key_and_attempt_alone() -> None:
    faults = Faults(seed=5, unavailable_share=0.2, drop_share=0.1)
    fates = [faults.fate(f"key-{number}", 1) for number in range(5000)]
    assert fates == [faults.fate(f"key-{number}", 1) for number in range(5000)]
    assert 0.17 < fates.count(Fate.UNAVAILABLE) / 5000 < 0.23
    assert 0.08 < fates.count(Fate.REPLY_DROPPED) / 5000 < 0.12
    other_seed = Faults(seed=6, unavailable_share=0.2, drop_share=0.1)
    assert fates != [other_seed.fate(f"key-{number}", 1) for number in range(5000)]
    assert fates != [faults.fate(f"key-{number}", 2) for number in range(5000)]


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.0, -0.1), (0.5, 0.5)])
def test_shares_that_let_nothing_through_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"at most 0\.9 together"):
        Faults(1, *shares)


async def test_a_retry_after_a_dropped_reply_acts_once(tmp_path: Path) -> None:
    faults = Faults(drop_share=0.3)
    payment = first_fated(Fate.REPLY_DROPPED, faults, then=Fate.ANSWERED)
    with served(tmp_path / "ledger.db", faults) as url:
        async with BankClient(url, connections_max=2) as bank:
            with pytest.raises(BankUnavailableError):
                await bank.call(Step.RESERVE, payment)
            # The bank has acted although no answer came.
            assert len(movements(read_statement(tmp_path / "ledger.db"))) == 2
            assert (await bank.call(Step.RESERVE, payment)).startswith("posting-")
    statement = read_statement(tmp_path / "ledger.db")
    assert len(movements(statement)) == 2
    assert (statement.calls.replies_dropped, statement.calls.repeated) == (1, 1)


async def test_a_503_comes_before_the_bank_acts(tmp_path: Path) -> None:
    faults = Faults(unavailable_share=0.3)
    payment = first_fated(Fate.UNAVAILABLE, faults, then=Fate.ANSWERED)
    with served(tmp_path / "ledger.db", faults) as url:
        async with BankClient(url, connections_max=2) as bank:
            with pytest.raises(BankUnavailableError, match="503"):
                await bank.call(Step.RESERVE, payment)
            assert movements(read_statement(tmp_path / "ledger.db")) == []
            await bank.call(Step.RESERVE, payment)
    assert read_statement(tmp_path / "ledger.db").calls.unavailable == 1


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[BankClient]:
    with served(tmp_path / "ledger.db", Faults()) as url:
        async with BankClient(url, connections_max=4) as client:
            yield client


async def test_a_refusal_reaches_the_client_with_its_code(bank: BankClient) -> None:
    with pytest.raises(BankRefusedError, match="does not cover") as refused:
        await bank.call(Step.RESERVE, replace(PAYMENT, debtor_iban="POOR"))
    assert refused.value.code == "InsufficientFunds"


async def test_a_bank_that_is_gone_is_a_failure_for_now(tmp_path: Path) -> None:
    with served(tmp_path / "ledger.db", Faults()) as url:
        pass
    async with BankClient(url, connections_max=1) as bank:
        with pytest.raises(BankUnavailableError):
            await bank.call(Step.SCREEN, PAYMENT)


@pytest.mark.parametrize(
    ("path", "headers", "body", "reason"),
    [
        ("/steal", {"Idempotency-Key": "k"}, "{}", "unknown path"),
        ("/screen", {}, "{}", "Idempotency-Key"),
        ("/screen", {"Idempotency-Key": "k" * 201}, "{}", "Idempotency-Key"),
        ("/screen", {"Idempotency-Key": "k"}, "", "Content-Length"),
        ("/screen", {"Idempotency-Key": "k"}, "x" * 70_000, "Content-Length"),
        ("/screen", {"Idempotency-Key": "k"}, "{", "not JSON"),
        ("/screen", {"Idempotency-Key": "k"}, "{}", "exactly payment_id"),
        ("/screen", {"Idempotency-Key": "k"}, json.dumps(asdict(PAYMENT) | {"amount_cents": 1.5}), "whole number"),
        ("/screen", {"Idempotency-Key": "k"}, json.dumps(asdict(PAYMENT) | {"amount_cents": 0}), "above zero"),
        ("/screen", {"Idempotency-Key": "k"}, json.dumps(asdict(PAYMENT) | {"payment_id": ""}), "not empty"),
    ],
)
def test_a_wrong_call_is_answered_with_400_and_the_reason(
    tmp_path: Path, path: str, headers: dict[str, str], body: str, reason: str
) -> None:
    with served(tmp_path / "ledger.db", Faults()) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        assert response.status == 400
        assert reason in json.loads(response.read())["error"]
        connection.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"typo": 1}', "unknown entry 'typo'"),
        ('{"balances_cents": {"A": 1.5}}', "'balances_cents' must map accounts to whole cents"),
        ('{"other_balance_cents": -1}', "'other_balance_cents' must be whole cents"),
        ('{"closed_accounts": "A"}', "'closed_accounts' must be a list of texts"),
    ],
)
def test_wrong_opening_books_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "books.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_books(file)
