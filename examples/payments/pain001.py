"""Reads an ISO 20022 customer credit transfer initiation (pain.001.001.09) and checks the whole of it.

A batch is taken as a whole or refused as a whole: every check runs, every problem is listed with its line, and one
problem is enough to refuse the file. Amounts are parsed as decimal text into integer cents; no float is ever made.
Reading the file is the only I/O. Called by the demo before any workflow starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from examples.payments.iban import iban_problem
from examples.payments.models import Batch, Payment
from examples.payments.xml_lines import Element, XmlRefusedError, read_xml

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
FILE_BYTES_MAX = 128 * 1024 * 1024
AMOUNT_CENTS_MAX = 99_999_999_999
"""999,999,999.99 euros, the most one SEPA credit transfer carries."""

_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,100})?")
_COUNT = re.compile(r"[0-9]{1,15}")
# The character set of the EPC's SEPA guidelines for references.
_REFERENCE = re.compile(r"[A-Za-z0-9/\-?:().,'+ ]{1,35}")
_NAME_LENGTH_MAX = 140


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file: the line (from 1; 0 where the file has none) and the reason."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


class BatchRefusedError(Exception):
    """The file is refused as a whole; nothing of it may be paid.

    Attributes:
        problems: Everything that is wrong, by line.
    """

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problem(s); the first: {problems[0]}")
        self.problems = sorted(problems)


def read_batch_file(path: Path) -> Batch:
    """Reads and checks a batch file.

    Raises:
        BatchRefusedError: The file cannot be read, or anything in it is wrong.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise BatchRefusedError(
                [Problem(0, f"the file is larger than {FILE_BYTES_MAX // 1024**2} MB; split the batch")]
            )
        document = path.read_bytes()
    except OSError as error:
        raise BatchRefusedError([Problem(0, f"the file cannot be read: {error.strerror}")]) from None
    return read_batch(document)


def read_batch(document: bytes) -> Batch:
    """Parses and checks a batch.

    Raises:
        BatchRefusedError: Anything in it is wrong; `problems` lists all of it.
    """
    try:
        root = read_xml(document)
    except XmlRefusedError as refused:
        raise BatchRefusedError([Problem(refused.line, refused.reason)]) from None
    reader = _Reader()
    batch = reader.batch(root)
    if reader.problems or batch is None:
        raise BatchRefusedError(reader.problems)
    return batch


class _Reader:
    """Walks the document once. Every check adds to `problems` and goes on, so that one run finds all of them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._line_by_end_to_end_id: dict[str, int] = {}

    def batch(self, root: Element) -> Batch | None:
        if root.name != "Document" or root.namespace != NAMESPACE:
            found = (
                f"{root.name!r} in namespace {root.namespace!r}"
                if root.namespace
                else f"{root.name!r} without namespace"
            )
            self._problem(root, f"the root element must be 'Document' in namespace {NAMESPACE!r}; found {found}")
            return None
        initiation = self._one(root, "CstmrCdtTrfInitn")
        header = self._one(initiation, "GrpHdr")
        if initiation is None or header is None:
            return None
        message_id = self._reference(header, "MsgId") or ""
        blocks = initiation.all("PmtInf")
        if not blocks:
            self._problem(initiation, "'CstmrCdtTrfInitn' has no 'PmtInf': the batch holds no payments")
        amounts: list[int | None] = []
        payments: list[Payment] = []
        for block in blocks:
            block_amounts: list[int | None] = []
            for payment_amount, payment in self._block(block, message_id):
                block_amounts.append(payment_amount)
                if payment is not None:
                    payments.append(payment)
            self._controls(block, "payment block", block_amounts, sum_required=False)
            amounts += block_amounts
        self._controls(header, "batch", amounts, sum_required=True)
        return Batch(message_id, payments)

    def _block(self, block: Element, message_id: str) -> Iterator[tuple[int | None, Payment | None]]:
        """Yields each transaction's amount (None where it is wrong) and payment (None where anything is wrong)."""
        method = self._text(block, "PmtMtd")
        if method is not None and method != "TRF":
            self._problem(block, f"payment method {method!r} is not supported; only credit transfers ('TRF') are")
        self._text(self._one(block, "Dbtr"), "Nm")
        debtor_iban = self._iban(block, "DbtrAcct")
        transactions = block.all("CdtTrfTxInf")
        if not transactions:
            self._problem(block, "the payment block has no 'CdtTrfTxInf'")
        for transaction in transactions:
            end_to_end_id = self._end_to_end_id(transaction)
            amount_cents = self._amount(transaction)
            creditor_name = self._name(transaction)
            creditor_iban = self._iban(transaction, "CdtrAcct")
            payment = None
            if end_to_end_id and amount_cents and creditor_name and creditor_iban and debtor_iban:
                payment = Payment(
                    payment_id=f"{message_id}:{end_to_end_id}",
                    end_to_end_id=end_to_end_id,
                    debtor_iban=debtor_iban,
                    creditor_name=creditor_name,
                    creditor_iban=creditor_iban,
                    amount_cents=amount_cents,
                )
            yield amount_cents, payment

    def _controls(self, holder: Element, what: str, amounts: list[int | None], *, sum_required: bool) -> None:
        """Checks NbOfTxs and CtrlSum of the group header or of a payment block against its transactions."""
        count = self._text(holder, "NbOfTxs") if sum_required or holder.all("NbOfTxs") else None
        if count is not None:
            if _COUNT.fullmatch(count) is None:
                self._problem(holder.all("NbOfTxs")[0], f"'NbOfTxs' is {count!r}, not a number")
            elif int(count) != len(amounts):
                self._problem(
                    holder.all("NbOfTxs")[0],
                    f"'NbOfTxs' says {int(count)}, but the {what} has {len(amounts)} transactions",
                )
        control = self._text(holder, "CtrlSum") if sum_required or holder.all("CtrlSum") else None
        if control is None:
            return
        line = holder.all("CtrlSum")[0]
        if _DECIMAL.fullmatch(control) is None:
            self._problem(line, f"'CtrlSum' is {control!r}, not a decimal number")
            return
        known = [amount for amount in amounts if amount is not None]
        # A wrong amount is a problem of its own; a sum over the others would only add noise.
        if len(known) == len(amounts) and Decimal(control) != Decimal(sum(known)).scaleb(-2):
            self._problem(
                line, f"'CtrlSum' says {control}, but the {what}'s amounts add up to {_decimal_text(sum(known))}"
            )

    def _end_to_end_id(self, transaction: Element) -> str | None:
        identification = self._one(transaction, "PmtId")
        end_to_end_id = self._reference(identification, "EndToEndId")
        if identification is None or end_to_end_id is None:
            return None
        line = identification.all("EndToEndId")[0].line
        first_line = self._line_by_end_to_end_id.get(end_to_end_id)
        if first_line is not None:
            self.problems.append(Problem(line, f"EndToEndId {end_to_end_id!r} was used already on line {first_line}"))
            return None
        self._line_by_end_to_end_id[end_to_end_id] = line
        return end_to_end_id

    def _amount(self, transaction: Element) -> int | None:
        amount = self._one(transaction, "Amt")
        instructed = self._one(amount, "InstdAmt")
        if instructed is None:
            return None
        currency = instructed.attributes.get("Ccy")
        if currency is None:
            self._problem(instructed, "'InstdAmt' has no currency (attribute 'Ccy')")
        elif currency != "EUR":
            self._problem(instructed, f"currency {currency!r} is refused; only EUR is accepted")
        reason, cents = parse_amount(instructed.text)
        if reason:
            self._problem(instructed, reason)
        return cents

    def _name(self, transaction: Element) -> str | None:
        name = self._text(self._one(transaction, "Cdtr"), "Nm")
        if name is not None and len(name) > _NAME_LENGTH_MAX:
            self._problem(
                transaction.all("Cdtr")[0], f"the creditor's name is longer than {_NAME_LENGTH_MAX} characters"
            )
            return None
        return name

    def _iban(self, holder: Element, account_name: str) -> str | None:
        identification = self._one(self._one(holder, account_name), "Id")
        iban = self._text(identification, "IBAN")
        if identification is None or iban is None:
            return None
        reason = iban_problem(iban)
        if reason is not None:
            self._problem(identification.all("IBAN")[0], f"{account_name}: {reason}")
            return None
        return iban

    def _reference(self, holder: Element | None, name: str) -> str | None:
        text = self._text(holder, name)
        if holder is not None and text is not None and _REFERENCE.fullmatch(text) is None:
            self._problem(holder.all(name)[0], f"{name!r} {text!r} is not 1 to 35 characters of the SEPA character set")
            return None
        return text

    def _text(self, holder: Element | None, name: str) -> str | None:
        element = self._one(holder, name)
        if element is None:
            return None
        if not element.text:
            self._problem(element, f"{name!r} is empty")
            return None
        return element.text

    def _one(self, holder: Element | None, name: str) -> Element | None:
        """The one child of that name. A missing holder was reported where it was missed."""
        if holder is None:
            return None
        found = holder.all(name)
        if len(found) == 1:
            return found[0]
        if found:
            self._problem(found[1], f"{name!r} stands {len(found)} times in {holder.name!r}; it must stand once")
        else:
            self._problem(holder, f"{name!r} is missing in {holder.name!r}")
        return None

    def _problem(self, element: Element, reason: str) -> None:
        self.problems.append(Problem(element.line, reason))


def parse_amount(text: str) -> tuple[str, int | None]:
    """Parses an amount in euros into cents.

    Returns:
        An empty reason and the cents, or the reason it is refused and None.
    """
    if not text:
        return "the amount is missing", None
    if _DECIMAL.fullmatch(text) is None:
        return f"amount {text!r} is not a decimal number (digits, with a point before the cents)", None
    if Decimal(text) <= 0:
        return f"amount {text!r} is not more than zero", None
    if len(text.partition(".")[2]) > 2:
        return f"amount {text!r} has more than two decimals", None
    cents = int(Decimal(text).scaleb(2))
    if cents > AMOUNT_CENTS_MAX:
        return f"amount {text!r} is more than {_decimal_text(AMOUNT_CENTS_MAX)}", None
    return "", cents


def _decimal_text(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
