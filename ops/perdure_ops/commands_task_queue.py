"""``perdure task-queue …`` and ``perdure worker list``: who serves which queue, what waits there, and how it flows.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in
``perdure_ops.task_queues`` and ``perdure_ops.queue_flow``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat

app = typer.Typer(help="Task queues: what waits, and how it flows.", no_args_is_help=True, rich_markup_mode=None)
config_app = typer.Typer(help="Rate limits, concurrency limits and weights.", no_args_is_help=True)
app.add_typer(config_app, name="config")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The task queue.")]
TaskType = Annotated[
    str, typer.Option("--task-type", metavar="TYPE", help="Tasks of which type: workflow or activity.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be set.")]
#: A limit of the whole queue, or the default of its keys.
Limit = str | None
#: Limits of single keys.
OfKeys = list[str] | None


@app.command()
def describe(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what waits in a task queue and since when, how many tasks come and go in a second, and its workers.

    Rates are means over the last minute. What is held back is paused, or completed from outside. With fairness keys or
    settings, each key: how many of its tasks wait and run, and how many a limit blocks.

    Example: perdure task-queue describe orders
    """
    from perdure_ops import task_queues

    task_queues.describe_queue(address, namespace, name, output)


@config_app.command("get")
def get_config(
    name: Name,
    task_type: Annotated[
        str | None, typer.Option("--task-type", metavar="TYPE", help="Only of this type: workflow or activity.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the limits and weights that are set for a task queue.

    Example: perdure task-queue config get orders
    """
    from perdure_ops import queue_flow

    queue_flow.show_config(address, namespace, name, task_type, output)


@config_app.command("set")
def set_config(
    name: Name,
    task_type: TaskType = "activity",
    queue_rps_limit: Annotated[Limit, typer.Option(metavar="NUMBER", help="Tasks a second of the queue.")] = None,
    fairness_key_rps_limit_default: Annotated[
        Limit, typer.Option(metavar="NUMBER", help="Tasks a second of each fairness key, times its weight.")
    ] = None,
    fairness_key_concurrency_default: Annotated[
        Limit, typer.Option(metavar="NUMBER", help="Activities of each fairness key that run at once.")
    ] = None,
    fairness_key_weight: Annotated[
        OfKeys, typer.Option(metavar="KEY=NUMBER", help="Weight of a key, whatever its tasks say. Repeatable.")
    ] = None,
    fairness_key_rps_limit: Annotated[
        OfKeys, typer.Option(metavar="KEY=NUMBER", help="Tasks a second of one key. Repeatable.")
    ] = None,
    fairness_key_concurrency: Annotated[
        OfKeys, typer.Option(metavar="KEY=NUMBER", help="Activities of one key that run at once. Repeatable.")
    ] = None,
    dry_run: DryRun = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Limit a task queue or its fairness keys, or set weights of keys, across all workers and at once.

    What is not named stays as it is. A limit of 0 stops; instead of a number, 'default' takes a setting back.

    Example: perdure task-queue config set orders --queue-rps-limit 50 --fairness-key-concurrency bank=2
    """
    from perdure_ops import queue_config, queue_flow

    wanted = queue_config.Wanted(
        queue_rps=queue_rps_limit,
        key_rps_default=fairness_key_rps_limit_default,
        key_concurrency_default=fairness_key_concurrency_default,
        key_weights=tuple(fairness_key_weight or ()),
        key_rps=tuple(fairness_key_rps_limit or ()),
        key_concurrency=tuple(fairness_key_concurrency or ()),
    )
    queue_flow.change_config(address, namespace, name, task_type, wanted, output, dry_run=dry_run)


@config_app.command("unset")
def unset_config(
    name: Name,
    task_type: TaskType = "activity",
    dry_run: DryRun = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Take back all limits and weights of a task queue: what they blocked goes at once.

    Example: perdure task-queue config unset orders
    """
    from perdure_ops import queue_flow

    queue_flow.unset_config(address, namespace, name, task_type, output, dry_run=dry_run)


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
