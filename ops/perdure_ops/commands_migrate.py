"""``perdure migrate-partitions``. This module is loaded by every ``perdure`` command, so it stays cheap; what it does
stands in ``perdure_ops.migrate_partitions``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output, Yes
from perdure_ops.output import OutputFormat

__all__ = ["migrate_partitions"]


def migrate_partitions(
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="The new namespace.")],
    partitions: Annotated[int, typer.Option(min=1, metavar="N", help="How many partitions it gets.")],
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data folder of a stopped development server, instead of an address."),
    ] = None,
    replication: Annotated[
        int, typer.Option(metavar="N", help="Replicas of each new partition; -1: the brokers' default.")
    ] = -1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be copied.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Carry a namespace over to another number of partitions: to a new set of topics, under another namespace.

    Open workflows go on there with their timers, activities, children and schedules. Its engines must be stopped. The
    old topics are only read. What was interrupted goes on when the command is run again.

    Example: perdure migrate-partitions --address kafka://b1:9092 --namespace shop --to shop-64 --partitions 64
    """
    from perdure_ops.migrate_partitions import Request, migrate

    request = Request(namespace, to, partitions, replication)
    migrate(request, address, data, dry_run=dry_run, assume_yes=yes, output=output)
