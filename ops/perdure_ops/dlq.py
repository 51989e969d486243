"""What ``perdure dlq`` does: reading, asking, printing. Called by its commands; the rules stand in ``dead_letters``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import typer

from perdure_ops.dead_letters import Action, Letter, Plan, letters_of, plan_replay, put_back, subject_of
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, iso, print_fields, print_rows
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames

__all__ = ["list_letters", "replay", "show"]

_LIST_COLUMNS = ("id", "time", "reason", "replay_of")
_PLAN_COLUMNS = ("id", "action", "reason")
_REASON_CHARS = 200


def list_letters(address: str, namespace: str, limit: int, output: OutputFormat) -> None:
    """Print the newest dead letters."""
    with _open(address, namespace) as (log, names):
        rows: deque[dict[str, Any]] = deque(maxlen=limit)
        for letter in letters_of(log, names):
            rows.append(_row(letter))
    found = sorted(rows, key=lambda row: str(row["time"]))
    if output is OutputFormat.TABLE:
        if not found:
            print(f"no dead letters in namespace {namespace}")
            return
        found = [{**row, "reason": _short(row["reason"])} for row in found]
    print_rows(found, output, _LIST_COLUMNS)


def show(letter_id: str, address: str, namespace: str, output: OutputFormat) -> None:
    """Print one dead letter.

    Raises:
        CliError: there is none with this id.
    """
    with _open(address, namespace) as (log, names):
        letter = _chosen(log, names, [letter_id])[0]
    content = letter.content
    record, fault = subject_of(content)
    fields = _row(letter) | {
        "key": None if content.key is None else content.key.decode(errors="backslashreplace"),
        "headers": {name: value.decode(errors="backslashreplace") for name, value in content.headers.items()},
        "value_bytes": None if content.value is None else len(content.value),
        "record_type": "" if record is None else type(record).__name__,
        "record": None if record is None else msgspec.to_builtins(record),
        "unreadable": fault,
        "value": None if record is not None or content.value is None else content.value.hex(),
    }
    print_fields(fields, output)


def replay(
    letter_ids: Sequence[str],
    address: str,
    namespace: str,
    *,
    every: bool,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """Put records back.

    Raises:
        CliError: nothing or an unknown letter is named, or the log did not take all of them.
    """
    if bool(letter_ids) == every:
        raise CliError("name the letters to replay (see `perdure dlq list`), or give --all")
    with _open(address, namespace) as (log, names):
        plans = plan_replay(log, names, _chosen(log, names, None if every else letter_ids))
        _print_plans(plans, output)
        count = sum(plan.action is Action.REPLAY for plan in plans)
        if dry_run or not count:
            _say(output, f"{count} of {len(plans)} would be put back" if dry_run else "nothing to put back")
            return
        if not assume_yes and not typer.confirm(f"Put {count} records back?", err=True):
            raise CliError("nothing was put back")
        _say(output, f"{put_back(log, plans)} records put back")


def _chosen(log: Log, names: TopicNames, letter_ids: Sequence[str] | None) -> list[Letter]:
    """The letters with these ids, or all; the newest of each."""
    wanted = None if letter_ids is None else set(letter_ids)
    found = {letter.id: letter for letter in letters_of(log, names) if wanted is None or letter.id in wanted}
    missing = sorted((wanted or set()) - set(found))
    if missing:
        raise CliError(
            f"namespace {names.namespace} has no dead letter {', '.join(missing)}; `perdure dlq list` shows them"
        )
    return list(found.values())


def _row(letter: Letter) -> dict[str, Any]:
    content = letter.content
    return {
        "id": letter.id,
        "topic": content.topic,
        "partition": content.partition,
        "offset": content.offset,
        "time": iso(content.time_ms),
        "reason": content.reason,
        "replay_of": letter.replay_of,
    }


def _print_plans(plans: Sequence[Plan], output: OutputFormat) -> None:
    rows = [{"id": plan.letter.id, "action": plan.action.value, "reason": _short(plan.reason)} for plan in plans]
    if rows or output is not OutputFormat.TABLE:
        print_rows(rows, output, _PLAN_COLUMNS)


def _say(output: OutputFormat, text: str) -> None:
    typer.echo(text, err=output is not OutputFormat.TABLE)


def _short(text: str) -> str:
    return text if len(text) <= _REASON_CHARS else f"{text[:_REASON_CHARS]}…"


@contextmanager
def _open(address: str, namespace: str) -> Iterator[tuple[Log, TopicNames]]:
    log = open_log(address)
    try:
        yield log, names_of(log, namespace)
    finally:
        log.close()
