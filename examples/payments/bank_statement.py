"""Reads what the bank's ledger says, as plain values, straight from its file and not through the bank.

Called by the demo for the reconciliation; the values are what reconcile.py judges.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from examples.payments.bank_faults import Fate


@dataclass(frozen=True)
class Entry:
    """One row of the double-entry ledger. `kind` is a step that moves money, or `opening`."""

    posting_id: int
    kind: str
    payment_id: str
    account: str
    amount_cents: int


@dataclass(frozen=True)
class CallCounts:
    """How the bank was called: all calls, those repeated with a known key, and the faults that were injected."""

    calls: int = 0
    repeated: int = 0
    unavailable: int = 0
    replies_dropped: int = 0


@dataclass(frozen=True)
class Statement:
    """Everything the bank's ledger holds.

    Attributes:
        entries: The ledger rows in the order they were written.
        balances_cents: The balance the bank keeps for each account.
        reservations: The state of each reservation (held, captured, released, void) by payment.
        transfers: The state of each transfer (done, refunded, void) by payment.
        notified: The payments whose creditor was told.
        calls: How the bank was called.
    """

    entries: list[Entry] = field(default_factory=list)
    balances_cents: dict[str, int] = field(default_factory=dict)
    reservations: dict[str, str] = field(default_factory=dict)
    transfers: dict[str, str] = field(default_factory=dict)
    notified: set[str] = field(default_factory=set)
    calls: CallCounts = CallCounts()


def read_statement(path: Path) -> Statement:
    """Reads a ledger file in one transaction.

    Raises:
        sqlite3.Error: The file does not exist or is not a ledger.
    """
    # isolation_level None and an explicit BEGIN: one snapshot for all the queries, also while the bank still runs.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")
        fates = Counter(dict(database.execute("SELECT fate, count(*) FROM calls GROUP BY fate").fetchall()))
        (repeated,) = database.execute("SELECT count(*) FROM calls WHERE attempt > 1").fetchone()
        columns = "posting_id, kind, payment_id, account, amount_cents"
        return Statement(
            entries=[Entry(*row) for row in database.execute(f"SELECT {columns} FROM entries ORDER BY entry_id")],
            balances_cents=dict(database.execute("SELECT account, balance_cents FROM accounts").fetchall()),
            reservations=dict(database.execute("SELECT payment_id, state FROM reservations").fetchall()),
            transfers=dict(database.execute("SELECT payment_id, state FROM transfers").fetchall()),
            notified={payment_id for (payment_id,) in database.execute("SELECT payment_id FROM notifications")},
            calls=CallCounts(
                calls=fates.total(),
                repeated=repeated,
                unavailable=fates[Fate.UNAVAILABLE],
                replies_dropped=fates[Fate.REPLY_DROPPED],
            ),
        )
