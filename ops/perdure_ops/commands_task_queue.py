"""``perdure task-queue describe`` and ``perdure worker list``: who serves which queue, and what waits there.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in
``perdure_ops.task_queues``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat

app = typer.Typer(help="Look at task queues.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _task_queue() -> None:
    """Look at task queues."""


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The task queue.")],
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what waits in a task queue and since when, how many tasks come and go in a second, and its workers.

    Rates are means over the last minute. What is held back is paused, or completed from outside.

    Example: perdure task-queue describe orders
    """
    from perdure_ops import task_queues

    task_queues.describe_queue(address, namespace, name, output)


def list_workers(
    task_queue: Annotated[
        str | None, typer.Option("--task-queue", "-t", metavar="NAME", help="Only those of this task queue.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the workers that were heard of in the last minute: their slots, and how many tasks they hold.

    Example: perdure worker list -t orders -o jsonl
    """
    from perdure_ops import task_queues

    task_queues.list_workers(address, namespace, task_queue, output)
