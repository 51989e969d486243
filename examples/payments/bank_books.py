"""The example bank's opening books: who has how much, who is sanctioned, which accounts are closed or cannot be told.

Read once from a JSON file when the bank starts (data/bank.json serves every generated batch).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Books:
    """The opening books.

    Attributes:
        balances_cents: The opening balance by account.
        other_balance_cents: The opening balance of an account that pays and is not named above.
        sanctioned_names: Creditor names that screening refuses, compared without case and repeated spaces.
        closed_accounts: Accounts that can neither pay nor be paid.
        unreachable_accounts: Creditors who cannot be notified.
    """

    balances_cents: dict[str, int] = field(default_factory=dict)
    other_balance_cents: int = 0
    sanctioned_names: frozenset[str] = frozenset()
    closed_accounts: frozenset[str] = frozenset()
    unreachable_accounts: frozenset[str] = frozenset()

    def is_sanctioned(self, name: str) -> bool:
        """Whether screening refuses a creditor of this name."""
        return _folded(name) in {_folded(sanctioned) for sanctioned in self.sanctioned_names}


def read_books(path: Path) -> Books:
    """Reads opening books from a JSON file.

    Raises:
        ValueError: The file is not JSON, or a value has the wrong type; the message names it.
        OSError: The file cannot be read.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: the opening books must be a JSON object")
    unknown = set(values) - set(Books.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{path}: unknown entry {sorted(unknown)[0]!r}")
    balances_cents = values.get("balances_cents", {})
    if not isinstance(balances_cents, dict) or not all(_is_amount(cents) for cents in balances_cents.values()):
        raise ValueError(f"{path}: 'balances_cents' must map accounts to whole cents of 0 or more")
    if not _is_amount(values.get("other_balance_cents", 0)):
        raise ValueError(f"{path}: 'other_balance_cents' must be whole cents of 0 or more")
    return Books(
        balances_cents=balances_cents,
        other_balance_cents=values.get("other_balance_cents", 0),
        sanctioned_names=_texts(path, values, "sanctioned_names"),
        closed_accounts=_texts(path, values, "closed_accounts"),
        unreachable_accounts=_texts(path, values, "unreachable_accounts"),
    )


def _texts(path: Path, values: dict[str, Any], name: str) -> frozenset[str]:
    texts = values.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: {name!r} must be a list of texts")
    return frozenset(texts)


def _is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
