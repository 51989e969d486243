"""``perdure sql``: its options. What it does stands in ``perdure_ops.sql``; this module stays cheap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat


def sql(
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="A SELECT; - reads it from stdin.")],
    events: Annotated[bool, typer.Option("--events", help="Read the histories, even if none is named.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Stop the statement after so long.")
    ] = 10.0,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show at most so many rows.")] = 10_000,
    index: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the index is kept; in ~/.cache/perdure if not given.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Read runs and their events with SQL (that of SQLite). Changes nothing.

    Tables: executions (workflow_id, run_id, workflow_type, task_queue, status, start_time, close_time, duration_s …),
    search_attributes (workflow_id, run_id, name, value), events (workflow_id, run_id, event_id, time, type, details).
    The last one takes a reading of all histories.

    Example: perdure sql "SELECT workflow_type, count(*) AS runs, avg(duration_s) FROM executions GROUP BY 1"
    """
    from perdure_ops import sql as reading

    text = sys.stdin.read() if statement == "-" else statement
    reading.query(
        address, namespace, reading.Statement(text, timeout, limit), events=events, index_file=index, output=output
    )
