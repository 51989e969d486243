"""``perdure partitions``, ``lag``, ``history`` and ``doctor``: look at the log as operators do. They change nothing.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in
``perdure_ops.partition_view``, ``history_tail`` and ``doctoring``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat

history_app = typer.Typer(
    help="Read the topic of histories, record by record.", no_args_is_help=True, rich_markup_mode=None
)


@history_app.callback()
def _history() -> None:
    """Read the topic of histories, record by record."""


def partitions(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    count: Annotated[
        bool, typer.Option("--count/--no-count", help="Count open workflows; reads all of the topic executions.")
    ] = True,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show who owns which partition of each role, since when, how far it is behind, and its open workflows.

    Example: perdure partitions --address kafka://b1:9092
    """
    from perdure_ops import partition_view

    partition_view.partitions(address, namespace, count=count, output=output)


def lag(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    watch: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Look again so often, until interrupted.")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show how far each group is behind: in records as Kafka's tools count them, and the oldest one's age in seconds.

    Example: perdure lag --watch 5
    """
    from perdure_ops import partition_view

    partition_view.lag(address, namespace, watch, output)


@history_app.command()
def tail(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", "-w", metavar="ID", help="Only this workflow's.")
    ] = None,
    partition: Annotated[int | None, typer.Option(metavar="N", min=0, help="Only this partition.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="OFFSET|BEGIN|END", help="Where to begin; BEGIN, or END with --follow."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many lines.")] = None,
    kcat: Annotated[bool, typer.Option("--kcat", help="Also print to stderr how kcat reads the same records.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Print history events as they stand in the topic, one in each line; VOID marks what a deposed owner wrote.

    Records without events, tombstones and owner marks are shown, too. Compaction may have removed what is superseded.

    Example: perdure history tail --workflow-id order-17 --follow
    """
    from perdure_ops import history_tail

    request = history_tail.TailRequest(workflow_id, partition, start, limit, follow)
    history_tail.tail(address, namespace, request, kcat=kcat, output=output)


def doctor(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    age: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How old what waits may be before it is a finding.")
    ] = 60.0,
    audit_records: Annotated[
        int, typer.Option(metavar="N", min=0, help="Audit the log, too, if it holds no more records than that.")
    ] = 200_000,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a cluster at work has to be wrong to be wrong.")
    ] = 5.0,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Look for what is wrong with a namespace, and say why and what to do. Changes nothing.

    Topics and replicas, partitions without an owner, lag, stuck and quarantined runs, dead letters, queues without
    workers, late timers, and the audit. Ends with 0 if nothing is found, with 1 if something is, with 2 if it could
    not look.

    Example: perdure doctor --address kafka://b1:9092
    """
    from perdure_ops import doctoring

    doctoring.examine(address, namespace, age, audit_records, settle, output)
