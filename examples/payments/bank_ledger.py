"""The example bank's ledger: a SQLite file with accounts, double-entry rows and idempotency keys.

Invariants: every posting is two rows that add up to zero; a call and the answer kept for its idempotency key are one
transaction, so a key acts once; the rows are only ever added. One process writes (the bank, one call at a time under a
lock). Others read the file with bank_statement.py.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any

from examples.payments.bank_books import Books
from examples.payments.bank_faults import Fate, Faults
from examples.payments.models import Payment, Step

CAPITAL_ACCOUNT = "bank:capital"
"""The other side of every opening balance."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, balance_cents INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    entry_id INTEGER PRIMARY KEY, posting_id INTEGER NOT NULL, kind TEXT NOT NULL, payment_id TEXT NOT NULL,
    account TEXT NOT NULL, amount_cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reservations (payment_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transfers (payment_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notifications (payment_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, body_digest BLOB NOT NULL, status INTEGER NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    call_id INTEGER PRIMARY KEY, key TEXT NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL, fate TEXT NOT NULL,
    acted INTEGER NOT NULL, UNIQUE (key, attempt));
"""


class RefusalError(Exception):
    """The bank will not do what was asked, now or later. `code` is for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """The bank's answer to a call: the HTTP status, the JSON text, and what the fault injection made of the call."""

    status: int
    text: str
    fate: Fate = Fate.ANSWERED


def held_account(debtor_iban: str) -> str:
    """The account that holds what is reserved on a debtor's account."""
    return f"{debtor_iban}:held"


class Ledger:
    """The bank's books, open for writing.

    Args:
        path: The SQLite file; made where it does not exist, gone on with where it does.
        books: The opening books.
        faults: Which calls to fail.
    """

    def __init__(self, path: Path, books: Books, faults: Faults) -> None:
        self._books = books
        self._faults = faults
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # The demo never cuts the bank's power, and in WAL mode NORMAL still survives the death of the process.
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        self._postings = self._number("SELECT coalesce(max(posting_id), 0) FROM entries")
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            for account in books.balances_cents:
                self._open_account(account)
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Closes the file after the call in progress."""
        with self._lock:
            self._database.close()

    def call(self, step: Step, key: str, payment: Payment) -> Answer:
        """Handles one call: the same key gives the same answer and acts once.

        Returns:
            200 where it was done, 422 where it is refused for good, 409 where the key was used for another call,
            503 where fault injection struck before the call was looked at.
        """
        digest = blake2b(repr((step.value, payment)).encode(), digest_size=16).digest()
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                answer = self._call(step, key, digest, payment)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            return answer

    def _call(self, step: Step, key: str, digest: bytes, payment: Payment) -> Answer:
        attempt = self._number("SELECT count(*) FROM calls WHERE key = ?", key) + 1
        fate = self._faults.fate(key, attempt)
        if fate is Fate.UNAVAILABLE:
            self._note(key, step, attempt, fate, acted=False)
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _json(error="the bank is not available now"), fate)
        known = self._one("SELECT body_digest, status, answer FROM answers WHERE key = ?", key)
        self._note(key, step, attempt, fate, acted=known is None)
        if known is not None:
            body_digest, status, text = known
            if body_digest != digest:
                return Answer(HTTPStatus.CONFLICT, _json(error=f"key {key!r} was used for another call"), fate)
            return Answer(status, text, fate)
        try:
            status, text = HTTPStatus.OK, _json(reference=self._act(step, payment))
        except RefusalError as refusal:
            status, text = HTTPStatus.UNPROCESSABLE_ENTITY, _json(code=refusal.code, reason=refusal.reason)
        self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (key, digest, status, text))
        return Answer(status, text, fate)

    def _act(self, step: Step, payment: Payment) -> str:
        """Does what a step asks and returns a reference. A RefusalError is raised before anything is written."""
        match step:
            case Step.SCREEN:
                return self._screen(payment)
            case Step.RESERVE:
                return self._reserve(payment)
            case Step.TRANSFER:
                return self._transfer(payment)
            case Step.NOTIFY:
                return self._notify(payment)
            case Step.REFUND:
                return self._refund(payment)
            case Step.RELEASE:
                return self._release(payment)

    def _screen(self, payment: Payment) -> str:
        if self._books.is_sanctioned(payment.creditor_name):
            raise RefusalError("Sanctioned", f"creditor {payment.creditor_name!r} is on the sanctions list")
        return "clear"

    def _reserve(self, payment: Payment) -> str:
        if self._state("reservations", payment) is not None:
            raise RefusalError(
                "ReservationExists", "there was a reservation for this payment, or it was released beforehand"
            )
        if payment.debtor_iban in self._books.closed_accounts:
            raise RefusalError("AccountClosed", f"the debtor's account {payment.debtor_iban} is closed")
        if self._open_account(payment.debtor_iban) < payment.amount_cents:
            raise RefusalError("InsufficientFunds", f"account {payment.debtor_iban} does not cover the amount")
        self._set_state("reservations", payment, "held")
        return self._post(Step.RESERVE, payment, payment.debtor_iban, held_account(payment.debtor_iban))

    def _transfer(self, payment: Payment) -> str:
        if self._state("transfers", payment) is not None:
            raise RefusalError("TransferExists", "there was a transfer for this payment, or it was refunded beforehand")
        if self._state("reservations", payment) != "held":
            raise RefusalError("NoReservation", "no money is reserved for this payment")
        if payment.creditor_iban in self._books.closed_accounts:
            raise RefusalError("AccountClosed", f"the creditor's account {payment.creditor_iban} is closed")
        self._open_account(payment.creditor_iban)
        self._set_state("reservations", payment, "captured")
        self._set_state("transfers", payment, "done")
        return self._post(Step.TRANSFER, payment, held_account(payment.debtor_iban), payment.creditor_iban)

    def _notify(self, payment: Payment) -> str:
        if self._state("transfers", payment) != "done":
            raise RefusalError("NoTransfer", "there is no transfer to tell the creditor about")
        if payment.creditor_iban in self._books.unreachable_accounts:
            raise RefusalError("CreditorUnreachable", f"the owner of {payment.creditor_iban} cannot be notified")
        self._database.execute("INSERT INTO notifications VALUES (?)", (payment.payment_id,))
        return "notified"

    def _refund(self, payment: Payment) -> str:
        state = self._state("transfers", payment)
        if state == "done":
            self._set_state("reservations", payment, "held")
            self._set_state("transfers", payment, "refunded")
            return self._post(Step.REFUND, payment, payment.creditor_iban, held_account(payment.debtor_iban))
        if state is None:
            # The transfer's own call may still be on its way; the mark makes it too late.
            self._set_state("transfers", payment, "void")
        return "nothing to refund"

    def _release(self, payment: Payment) -> str:
        state = self._state("reservations", payment)
        if state == "captured":
            raise RefusalError("Captured", "the reserved money was transferred; refund it first")
        if state == "held":
            self._set_state("reservations", payment, "released")
            return self._post(Step.RELEASE, payment, held_account(payment.debtor_iban), payment.debtor_iban)
        if state is None:
            self._set_state("reservations", payment, "void")
        return "nothing to release"

    def _open_account(self, account: str) -> int:
        """The balance of an account; one that was never seen is opened with its opening balance."""
        row = self._one("SELECT balance_cents FROM accounts WHERE account = ?", account)
        if row is not None:
            balance_cents: int = row[0]
            return balance_cents
        opening_cents = self._books.balances_cents.get(account, self._books.other_balance_cents)
        self._post_rows("opening", "", CAPITAL_ACCOUNT, account, opening_cents)
        return opening_cents

    def _post(self, step: Step, payment: Payment, source: str, target: str) -> str:
        return self._post_rows(step.value, payment.payment_id, source, target, payment.amount_cents)

    def _post_rows(self, kind: str, payment_id: str, source: str, target: str, amount_cents: int) -> str:
        self._postings += 1
        for account, signed_cents in ((source, -amount_cents), (target, amount_cents)):
            self._database.execute(
                "INSERT INTO entries (posting_id, kind, payment_id, account, amount_cents) VALUES (?, ?, ?, ?, ?)",
                (self._postings, kind, payment_id, account, signed_cents),
            )
            self._database.execute(
                "INSERT INTO accounts VALUES (?, ?)"
                " ON CONFLICT (account) DO UPDATE SET balance_cents = balance_cents + excluded.balance_cents",
                (account, signed_cents),
            )
        return f"posting-{self._postings}"

    def _state(self, table: str, payment: Payment) -> str | None:
        row = self._one(f"SELECT state FROM {table} WHERE payment_id = ?", payment.payment_id)
        return None if row is None else str(row[0])

    def _set_state(self, table: str, payment: Payment, state: str) -> None:
        self._database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (payment.payment_id, state))

    def _note(self, key: str, step: Step, attempt: int, fate: Fate, *, acted: bool) -> None:
        self._database.execute(
            "INSERT INTO calls (key, step, attempt, fate, acted) VALUES (?, ?, ?, ?, ?)",
            (key, step, attempt, fate, acted),
        )

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
        return row

    def _number(self, statement: str, *values: object) -> int:
        number: int = self._database.execute(statement, values).fetchone()[0]
        return number


def _json(**values: str) -> str:
    return json.dumps(values)
