"""What commands print: tables for people, JSON for programs. Called by the commands.

Results go to stdout, everything else to stderr, so that output can be piped. On a pipe tables are neither coloured nor
wrapped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any

#: Wider than any line, so that nothing is wrapped on a pipe.
_WIDTH_UNWRAPPED = 100_000


class OutputFormat(StrEnum):
    """``table`` is for people, ``json`` one document, ``jsonl`` one document in each line."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def iso(moment: datetime | int | None) -> str:
    """A time in UTC as ISO 8601 with milliseconds; milliseconds since the epoch are taken, too. Empty for ``None``."""
    if moment is None:
        return ""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of any value; what JSON does not know is written as text."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def print_fields(fields: Mapping[str, Any], output: OutputFormat) -> None:
    """Print one thing: its fields below each other, without those that are empty, or as a JSON object with all."""
    if output is not OutputFormat.TABLE:
        print(to_json(fields, indent=2 if output is OutputFormat.JSON else None))
        return
    shown = {name: _cell(value) for name, value in fields.items() if value is not None and value != ""}
    width = max((len(name) for name in shown), default=0)
    for name, text in shown.items():
        print(f"{name:<{width}}  {text}")


def print_done(text: str, output: OutputFormat, **about: Any) -> None:
    """Print what was done: a sentence for people, what it was done to for programs."""
    if output is OutputFormat.TABLE:
        print(text)
    else:
        print_fields({**about, "done": text}, output)


def print_rows(rows: Sequence[Mapping[str, Any]], output: OutputFormat, columns: Sequence[str]) -> None:
    """Print many things of one kind: a table with ``columns``, a JSON list, or a JSON object in each line."""
    if output is OutputFormat.JSON:
        print(to_json(list(rows), indent=2))
    elif output is OutputFormat.JSONL:
        for row in rows:
            print(to_json(row))
    else:
        _print_table(rows, columns)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_UNWRAPPED, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Enum):
        return value.name
    return to_json(value)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show on a terminal's stderr that something long is on its way; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
