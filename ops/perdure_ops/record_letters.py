"""``perdure dlq … --topic``: the dead letters of a user's topic, which triggers could not process.

The rules stand in :mod:`perdure.kafka._letters`; here is what is printed and asked. Called by ``perdure dlq``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from perdure.kafka._letters import Letter, letters_of, letters_topic, put_back
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, iso, print_fields, print_rows
from perdure_runtime.connect import open_log
from perdure_runtime.log import Log

_COLUMNS = ("id", "time", "trigger", "reason", "replayed")
_REASON_CHARS = 200


def list_letters(topic: str, address: str, limit: int, output: OutputFormat) -> None:
    """Print the newest dead letters of a topic."""
    with _open(address) as log:
        found = letters_of(log, topic)[-limit:]
    if not found and output is OutputFormat.TABLE:
        print(f"no dead letters in {letters_topic(topic)}")
        return
    rows = [_row(letter) for letter in found]
    if output is OutputFormat.TABLE:
        rows = [{**row, "reason": row["reason"][:_REASON_CHARS]} for row in rows]
    print_rows(rows, output, _COLUMNS)


def show(letter_id: str, topic: str, address: str, output: OutputFormat) -> None:
    """Print one dead letter.

    Raises:
        CliError: there is none with this id.
    """
    with _open(address) as log:
        letter = _chosen(log, topic, [letter_id])[0]
    fields = _row(letter) | {
        "group": letter.group,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "origin": str(letter.origin),
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "headers": {name: value.decode(errors="backslashreplace") for name, value in letter.headers},
        "value": None if letter.value is None else letter.value.decode(errors="backslashreplace"),
    }
    print_fields(fields, output)


def replay(
    letter_ids: Sequence[str],
    topic: str,
    address: str,
    *,
    every: bool,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """Put records back to their topic, for the triggers that failed.

    Raises:
        CliError: nothing or an unknown letter is named, or it was not wanted after all.
    """
    if bool(letter_ids) == every:
        raise CliError(f"name the letters to replay (see `perdure dlq list --topic {topic}`), or give --all")
    with _open(address) as log:
        chosen = _chosen(log, topic, None if every else letter_ids)
        wanted = [letter for letter in chosen if not letter.replayed and not letter.is_cut]
        print_rows([_row(letter) for letter in chosen], output, _COLUMNS)
        if dry_run or not wanted:
            text = f"{len(wanted)} of {len(chosen)} would be put back" if dry_run else "nothing to put back"
            typer.echo(text, err=output is not OutputFormat.TABLE)
            return
        if not assume_yes and not typer.confirm(f"Put {len(wanted)} records back?", err=True):
            raise CliError("nothing was put back")
        typer.echo(f"{put_back(log, wanted)} records put back", err=output is not OutputFormat.TABLE)


def _chosen(log: Log, topic: str, letter_ids: Sequence[str] | None) -> list[Letter]:
    found = {letter.id: letter for letter in letters_of(log, topic)}
    missing = sorted(set(letter_ids or ()) - set(found))
    if missing:
        raise CliError(
            f"{letters_topic(topic)} has no dead letter {', '.join(missing)};"
            f" `perdure dlq list --topic {topic}` shows them"
        )
    return [found[letter_id] for letter_id in letter_ids] if letter_ids is not None else list(found.values())


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "time": iso(letter.timestamp_ms),
        "trigger": letter.trigger,
        "reason": letter.reason,
        "replayed": letter.replayed,
    }


@contextmanager
def _open(address: str) -> Iterator[Log]:
    log = open_log(address)
    try:
        yield log
    finally:
        log.close()
