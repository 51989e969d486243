"""``perdure dlq …``: look at what the engine could not process, and give it another chance after a fix.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in ``perdure_ops.dlq``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output, Yes
from perdure_ops.output import OutputFormat

app = typer.Typer(
    help="List, show and replay dead letters: records that could not be processed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="The letter's id, as `perdure dlq list` shows it.")]

Topic = Annotated[
    str, typer.Option("--topic", help="The dead letters of this topic of yours, instead of the engine's own.")
]


@app.command("list")
def list_letters(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    topic: Topic = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List dead letters, oldest first.

    Example: perdure dlq list --topic orders -o jsonl
    """
    if topic:
        from perdure_ops import record_letters

        record_letters.list_letters(topic, address, limit, output)
        return
    from perdure_ops import dlq

    dlq.list_letters(address, namespace, limit, output)


@app.command()
def show(
    letter_id: LetterId,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    topic: Topic = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a dead letter with the record it is about, decoded where that is possible.

    Example: perdure dlq show perdure.default.commands/3/1042
    """
    if topic:
        from perdure_ops import record_letters

        record_letters.show(letter_id, topic, address, output)
        return
    from perdure_ops import dlq

    dlq.show(letter_id, address, namespace, output)


@app.command()
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Which ones.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    topic: Topic = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Put records back to their topics, behind what is there. Asks first; one that is back already is not repeated.

    Release a quarantined run before (`perdure workflow release`), or its messages end here again.

    Example: perdure dlq replay perdure.default.commands/3/1042 --dry-run
    """
    if topic:
        from perdure_ops import record_letters

        record_letters.replay(
            letter_ids or [], topic, address, every=every, dry_run=dry_run, assume_yes=yes, output=output
        )
        return
    from perdure_ops import dlq

    dlq.replay(letter_ids or [], address, namespace, every=every, dry_run=dry_run, assume_yes=yes, output=output)
