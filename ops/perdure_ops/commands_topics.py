"""``perdure topics …``: what the platform needs of Kafka's topics, and what is there."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_ops.errors import CliError
from perdure_ops.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    Address,
    Namespace,
    Output,
    RegistryAuth,
    SubjectNaming,
    Yes,
)
from perdure_ops.output import OutputFormat

app = typer.Typer(
    help="Plan, make and describe the platform's Kafka topics.", no_args_is_help=True, rich_markup_mode=None
)

KafkaAddress = Annotated[
    str, typer.Option(envvar="PERDURE_ADDRESS", metavar="ADDRESS", help="kafka://BROKER:PORT,… of the Kafka cluster.")
]
Partitions = Annotated[
    int | None,
    typer.Option(help="Partitions of a new namespace; 16 if not given.", min=1, max=1024, show_default=False),
]
Replication = Annotated[int, typer.Option(help="Replication factor of new topics; -1: as the brokers are set up.")]


@app.command()
def plan(
    address: KafkaAddress,
    namespace: Namespace = DEFAULT_NAMESPACE,
    partitions: Partitions = None,
    replication: Replication = -1,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what ``apply`` would do, and change nothing.

    Example: perdure topics plan --address kafka://b1:9092 --partitions 32
    """
    from perdure_ops import topic_changes

    topic_changes.plan(address, namespace, partitions, replication, output)


@app.command()
def apply(
    address: KafkaAddress,
    namespace: Namespace = DEFAULT_NAMESPACE,
    partitions: Partitions = None,
    replication: Replication = -1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen, as plan does.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Create missing topics and correct the configuration of existing ones. Asks before it changes anything.

    Example: perdure topics apply --address kafka://b1:9092 --replication 3 --yes
    """
    from perdure_ops import topic_changes

    if dry_run:
        topic_changes.plan(address, namespace, partitions, replication, output)
    else:
        topic_changes.apply(address, namespace, partitions, replication, assume_yes=yes, output=output)


@app.command()
def describe(
    address: KafkaAddress, namespace: Namespace = DEFAULT_NAMESPACE, output: Output = OutputFormat.TABLE
) -> None:
    """Show the topics as they are, and how many offsets each keeps.

    Example: perdure topics describe --address kafka://b1:9092 -o json
    """
    from perdure_ops import topic_changes

    topic_changes.describe(address, namespace, output)


@app.command()
def consume(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="history, executions, … or work.<task queue>.")],
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    partition: Annotated[int | None, typer.Option(metavar="N", min=0, help="Only this partition.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Only what comes from now on, until stopped.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many records.")] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Print the records of one of the platform's topics, decoded, as they stand there.

    Void records are not marked; for events of histories, see perdure history tail.

    Example: perdure topics consume executions --partition 3 -o jsonl
    """
    from perdure_ops import topic_reading

    topic_reading.consume(address, namespace, topic, partition=partition, follow=follow, limit=limit, output=output)


@app.command("register-schemas")
def register_schemas(
    schema_registry: Annotated[
        str,
        typer.Option(
            "--schema-registry",
            envvar="PERDURE_SCHEMA_REGISTRY",
            metavar="URL",
            help="http://HOST:8081 of the registry.",
        ),
    ],
    namespace: Namespace = DEFAULT_NAMESPACE,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only of this topic, like history; repeat it for more. All if none.",
            show_default=False,
        ),
    ] = None,
    subjects: Annotated[
        SubjectNaming, typer.Option(help="What subjects are named after.")
    ] = SubjectNaming.TOPIC_RECORD,
    registry_auth: RegistryAuth = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be registered.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Register the schemas of the records in the topics, of all versions, with a schema registry.

    What is there stays, so it may be run after every upgrade. Nothing is registered unless the registry finds all of
    them compatible. Engines frame records with its ids if `perdure server` is given the registry, too.

    Example: perdure topics register-schemas --schema-registry http://registry:8081 --topic history --dry-run
    """
    from perdure_ops.registry_client import RegistryClient
    from perdure_ops.schema_registration import run, wanted_schemas
    from perdure_schemas.topics import TopicNames

    wanted = wanted_schemas(TopicNames(namespace=namespace), subjects, topic or ())
    run(RegistryClient(schema_registry, registry_auth), wanted, dry_run=dry_run, assume_yes=yes, output=output)


@app.command()
def acls(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND]...", help="engine, worker, client, operator; all if none.", show_default=False),
    ] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    principal: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=User:NAME", help="Whom Kafka knows a kind of process as.", show_default=False),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Print the ACLs that each kind of process needs, as commands of Kafka's kafka-acls.sh, or as JSON.

    They end with the namespace: no process needs anything of the cluster. A prefix also covers namespaces whose name
    begins with this one and a dot.

    Example: perdure topics acls engine -n prod --principal engine=User:perdure
    """
    from perdure_ops import acls as needed
    from perdure_ops.output import print_rows
    from perdure_schemas.topics import TopicNames

    unknown = sorted(set(kinds or ()) - {*needed.Principal})
    if unknown:
        raise CliError(f"no kind of process is called {', '.join(unknown)}: use {', '.join(needed.Principal)}")
    chosen = [kind for kind in needed.Principal if not kinds or kind in kinds]
    users = needed.parse_principals(principal or ())
    names = TopicNames(namespace=namespace)
    if output is OutputFormat.TABLE:
        print("\n".join(needed.as_commands(names, users, chosen)))
    else:
        print_rows(needed.as_rows(names, users, chosen), output, ())
