"""``perdure reassign plan|execute|verify`` and ``perdure rebuild-state``: where data is, on brokers and on disks.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in
``perdure_ops.reassigning`` and ``state_folders``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_NAMESPACE, Namespace, Output, Yes
from perdure_ops.output import OutputFormat

reassign_app = typer.Typer(
    help="Move the replicas of a namespace's topics between brokers.", no_args_is_help=True, rich_markup_mode=None
)

KafkaAddress = Annotated[
    str, typer.Option(envvar="PERDURE_ADDRESS", metavar="ADDRESS", help="kafka://BROKER:PORT,… of the Kafka cluster.")
]
PlanFile = Annotated[Path, typer.Argument(metavar="FILE", help="A plan in the JSON form of Kafka's own tool.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]


@reassign_app.command()
def plan(
    address: KafkaAddress,
    brokers: Annotated[
        str, typer.Option(metavar="ID,…", help="The brokers to use; all that there are if not given.")
    ] = "",
    replication: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Replicas of each partition; as now if not given.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Write the plan there.")] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Plan where replicas should be, so that all brokers have as much to keep and to lead. Changes nothing.

    -o json is the form that Kafka's kafka-reassign-partitions.sh takes.

    Example: perdure reassign plan --address kafka://b1:9092 --brokers 1,2,3 --replication 3 --file plan.json
    """
    from perdure_ops import reassigning

    reassigning.plan(address, namespace, _ids(brokers), replication, file, output)


@reassign_app.command()
def execute(
    file: PlanFile,
    address: KafkaAddress,
    tool: Annotated[
        str | None,
        typer.Option(
            envvar="PERDURE_KAFKA_REASSIGN_TOOL", metavar="PATH", help="Kafka's kafka-reassign-partitions.sh."
        ),
    ] = None,
    throttle: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="Move at most so much in a second.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Have Kafka's own tool carry out a plan. What is in its place is left alone, so it may be repeated.

    The tool's options for secured clusters come from the file that PERDURE_KAFKA_ADMIN_PROPERTIES names.

    Example: perdure reassign execute plan.json --address kafka://b1:9092 --throttle 50000000
    """
    from perdure_ops import reassigning

    reassigning.execute(address, file, tool, throttle, dry_run=dry_run, assume_yes=yes, output=output)


@reassign_app.command()
def verify(file: PlanFile, address: KafkaAddress, output: Output = OutputFormat.TABLE) -> None:
    """Show how far a plan is carried out. Ends with 0 if all of it is, with 1 if not.

    Example: perdure reassign verify plan.json --address kafka://b1:9092
    """
    from perdure_ops import reassigning

    reassigning.verify(address, file, output)


def rebuild_state(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The engine's state folder, or one in it.")],
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="history, matching, timers or readside; all if none.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Delete the state of an engine that is stopped: the next start folds it from the log again. Nothing is lost.

    Example: perdure rebuild-state .perdure/server --role history --dry-run
    """
    from perdure_ops import state_folders

    state_folders.rebuild(folder, role or [], dry_run=dry_run, assume_yes=yes, output=output)


def _ids(text: str) -> list[int]:
    """Broker ids.

    Raises:
        CliError: one is no number.
    """
    from perdure_ops.errors import CliError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise CliError(f"--brokers: {text!r} is no list of broker ids, for example 1,2,3", exit_code=2) from error
