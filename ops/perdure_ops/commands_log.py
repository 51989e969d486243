"""``perdure partitions`` and ``perdure lag``: look at the log as operators do. They change nothing.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in
``perdure_ops.partition_view``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat


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
