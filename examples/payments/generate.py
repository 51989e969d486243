"""Writes a payment batch (pain.001.001.09) of any size, the same bytes for the same count and seed.

`python -m examples.payments.generate --count 1000 --seed 1 --out FILE`

The payments use the accounts that the bank's opening books (data/bank.json) name, so a fixed share of them fails for
good at each step: sanctioned creditors at screening, payers without money at the reservation, closed accounts at the
transfer, creditors who cannot be told at the notification. Pure but for the command line; also called by the demo for
`--count`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from examples.payments.iban import iban_with_check_digits
from examples.payments.pain001 import NAMESPACE

COUNT_MAX = 100_000
BLOCK_PAYMENTS_MAX = 250
AMOUNT_CENTS_MIN = 100
AMOUNT_CENTS_MAX = 500_000

# The share of the payments that is made to fail at each step, in thousandths.
SANCTIONED_PERMILLE = 20
POOR_PERMILLE = 20
CLOSED_PERMILLE = 20
UNREACHABLE_PERMILLE = 10

_FIRST = (
    "Adler",
    "Birke",
    "Ceder",
    "Delta",
    "Erle",
    "Fjord",
    "Ginster",
    "Hafen",
    "Insel",
    "Jura",
    "Kiefer",
    "Linde",
    "Möwe",
)
_TRADE = ("Bakery", "Books", "Cycles", "Foods", "Glass", "Logistics", "Metals", "Optics", "Paper", "Tools", "Wine")
_FORM = ("GmbH", "S.A.", "& Sons", "B.V.", "Oy", "Ltd")


@dataclass(frozen=True)
class Cast:
    """The accounts and names that a generated batch uses, as the opening books know them."""

    rich: list[str]
    poor: list[str]
    closed: list[str]
    unreachable: list[str]
    sanctioned_names: list[str]


def opening_books() -> dict[str, object]:
    """The bank's opening books for generated batches: what data/bank.json holds."""
    cast = fixed_cast()
    balances_cents = dict.fromkeys(cast.rich, 100_000_000_000) | dict.fromkeys(cast.poor, AMOUNT_CENTS_MIN - 1)
    return {
        "balances_cents": balances_cents,
        "other_balance_cents": 1_000_000_000,
        "sanctioned_names": cast.sanctioned_names,
        "closed_accounts": cast.closed,
        "unreachable_accounts": cast.unreachable,
    }


def fixed_cast() -> Cast:
    """The accounts with a part to play. They never change, so one set of opening books serves every generated batch."""
    return Cast(
        rich=[iban_with_check_digits("DE", f"5001051700000010{number:02d}") for number in range(1, 5)],
        poor=[iban_with_check_digits("DE", f"5001051700000020{number:02d}") for number in range(1, 3)],
        closed=[iban_with_check_digits("AT", f"19043002345730{number:02d}") for number in range(1, 6)],
        unreachable=[iban_with_check_digits("BE", f"5390075470{number:02d}") for number in range(1, 6)],
        sanctioned_names=["Embargo Arms Example Ltd", "Frozen Assets Example S.A.", "Listed Person Example"],
    )


def generate_batch(count: int, seed: int) -> str:
    """Writes a batch of `count` payments (1 to 100,000).

    Raises:
        ValueError: The count is out of its range.
    """
    if not 1 <= count <= COUNT_MAX:
        raise ValueError(f"the count must be 1 to {COUNT_MAX:,}, not {count}")
    chance = random.Random(f"perdure payments {seed}")
    cast = fixed_cast()
    blocks = _blocks(cast, _parts(count, chance), chance)
    lines_by_block = [
        (debtor, [_transaction(*row) for row in rows], sum(row[1] for row in rows)) for debtor, rows in blocks
    ]
    total_cents = sum(cents for _, _, cents in lines_by_block)
    document = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn>',
        f"<GrpHdr><MsgId>EXAMPLE-{count}-{seed}</MsgId><CreDtTm>2026-01-15T09:00:00</CreDtTm><NbOfTxs>{count}</NbOfTxs>"
        f"<CtrlSum>{_amount(total_cents)}</CtrlSum><InitgPty><Nm>Example Wholesale AG</Nm></InitgPty></GrpHdr>",
    ]
    for number, (debtor, lines, cents) in enumerate(lines_by_block, 1):
        document.append(
            f"<PmtInf><PmtInfId>BLOCK-{number}</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>{len(lines)}</NbOfTxs>"
            f"<CtrlSum>{_amount(cents)}</CtrlSum><ReqdExctnDt><Dt>2026-01-16</Dt></ReqdExctnDt>"
            f"<Dbtr><Nm>Example Wholesale AG</Nm></Dbtr><DbtrAcct><Id><IBAN>{debtor}</IBAN></Id></DbtrAcct>"
            "<DbtrAgt><FinInstnId><BICFI>EXMPDEFFXXX</BICFI></FinInstnId></DbtrAgt>"
        )
        document += lines
        document.append("</PmtInf>")
    document.append("</CstmrCdtTrfInitn></Document>")
    return "\n".join(document) + "\n"


def _parts(count: int, chance: random.Random) -> list[str]:
    """Which part each payment plays. From 20 payments on, every part is played at least once."""
    parts = []
    shares = {
        "sanctioned": SANCTIONED_PERMILLE,
        "poor": POOR_PERMILLE,
        "closed": CLOSED_PERMILLE,
        "unreachable": UNREACHABLE_PERMILLE,
    }
    for part, permille in shares.items():
        parts += [part] * max(count * permille // 1000, 1 if count >= 20 else 0)
    parts += ["plain"] * (count - len(parts))
    chance.shuffle(parts)
    return parts


def _blocks(
    cast: Cast, parts: list[str], chance: random.Random
) -> Iterator[tuple[str, list[tuple[int, int, str, str]]]]:
    """Yields each payment block: the debtor's account, and (number, cents, creditor's name and account) by payment."""
    rows_by_debtor: dict[str, list[tuple[int, int, str, str]]] = {}
    for number, part in enumerate(parts, 1):
        debtor = chance.choice(cast.poor if part == "poor" else cast.rich)
        name = f"{chance.choice(_FIRST)} {chance.choice(_TRADE)} {chance.choice(_FORM)}"
        account = iban_with_check_digits("NL", f"EXMP{chance.randrange(10**10):010d}")
        if part == "sanctioned":
            name = chance.choice(cast.sanctioned_names)
        elif part == "closed":
            account = chance.choice(cast.closed)
        elif part == "unreachable":
            account = chance.choice(cast.unreachable)
        cents = chance.randint(AMOUNT_CENTS_MIN, AMOUNT_CENTS_MAX)
        rows_by_debtor.setdefault(debtor, []).append((number, cents, name, account))
    for debtor in sorted(rows_by_debtor):
        rows = rows_by_debtor[debtor]
        for start in range(0, len(rows), BLOCK_PAYMENTS_MAX):
            yield debtor, rows[start : start + BLOCK_PAYMENTS_MAX]


def _transaction(number: int, cents: int, name: str, account: str) -> str:
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>INV-{number:06d}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="EUR">{_amount(cents)}</InstdAmt></Amt><Cdtr><Nm>{escape(name)}</Nm></Cdtr>'
        f"<CdtrAcct><Id><IBAN>{account}</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
    )


def _amount(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.payments.generate", description="Write a payment batch.")
    parser.add_argument("--count", type=int, default=1000, help=f"payments, 1 to {COUNT_MAX:,} (1000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed and count give the same file (1)")
    parser.add_argument("--out", type=Path, help="the file to write (standard output)")
    parser.add_argument("--books", type=Path, help="also write the bank's opening books to this file")
    options = parser.parse_args(arguments)
    try:
        document = generate_batch(options.count, options.seed)
    except ValueError as error:
        parser.error(str(error))
    if options.out is None:
        sys.stdout.write(document)
    else:
        options.out.write_text(document, encoding="utf-8")
    if options.books is not None:
        options.books.write_text(json.dumps(opening_books(), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
