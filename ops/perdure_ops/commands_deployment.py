"""``perdure worker deployment …``: which version of workers gets new work, and which may be stopped.

This module is loaded by every ``perdure`` command, so it stays cheap; :mod:`perdure_ops.deployments` does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat, iso, print_done, print_fields, print_rows

if TYPE_CHECKING:
    from perdure._connection import Connection
    from perdure_ops.deployments import Deployment, Deployments
    from perdure_schemas.records import DeploymentRouting

    #: Counts, when asked, the open runs that are pinned to each version.
    OpenRuns = Callable[[], dict[str, int]]
    Work = Callable[[Connection, Deployments, OpenRuns], None]

_LIST_COLUMNS = ("deployment", "current", "ramping", "percentage", "versions")
_VERSION_COLUMNS = ("build_id", "status", "open_pinned_runs", "retired", "task_queues")

app = typer.Typer(no_args_is_help=True, help="Workers.")
deployment_app = typer.Typer(no_args_is_help=True, help="Versions of workers, and which of them gets new work.")
app.add_typer(deployment_app, name="deployment")

Name = Annotated[str, typer.Option("--name", "--deployment-name", "-d", metavar="NAME", help="Deployment name.")]
BuildId = Annotated[str, typer.Option("--build-id", metavar="ID", help="Build id of the version.")]
OptionalBuildId = Annotated[
    str | None, typer.Option("--build-id", metavar="ID", help="Build id of the version.", show_default=False)
]
Unversioned = Annotated[bool, typer.Option("--unversioned", help="Workers without a version, instead of a build id.")]
AnyQueues = Annotated[
    bool,
    typer.Option(
        "--ignore-missing-task-queues", help="Even if the version does not serve all task queues of the current one."
    ),
]


@deployment_app.command("list")
def list_deployments(
    address: Address = DEFAULT_ADDRESS, namespace: Namespace = DEFAULT_NAMESPACE, output: Output = OutputFormat.TABLE
) -> None:
    """List the worker deployments.

    Example: perdure worker deployment list
    """

    def show(_connection: Connection, deployments: Deployments, _open_runs: OpenRuns) -> None:
        print_rows([_row(deployment) for deployment in deployments.values()], output, _LIST_COLUMNS)

    _with_deployments(address, namespace, show)


@deployment_app.command()
def describe(
    name: Name,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the versions of a deployment: what each is for, and how many open runs are pinned to it.

    A DRAINED version may be stopped. One is DRAINING while open runs are pinned to it.

    Example: perdure worker deployment describe --name orders
    """

    def show(_connection: Connection, deployments: Deployments, open_runs: OpenRuns) -> None:
        deployment = _existing(deployments, name)
        versions = _version_rows(deployment, open_runs())
        fields = _row(deployment) | {"unrouted_partitions": deployment.behind}
        if output is not OutputFormat.TABLE:
            print_fields(fields | {"versions": versions}, output)
            return
        if not deployment.behind:
            fields.pop("unrouted_partitions")
        print_fields(fields, output)
        print()
        print_rows(versions, output, _VERSION_COLUMNS)

    _with_deployments(address, namespace, show)


@deployment_app.command("set-current-version")
def set_current_version(
    name: Name,
    build_id: OptionalBuildId = None,
    unversioned: Unversioned = False,
    ignore_missing_task_queues: AnyQueues = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Lead new runs, and the next workflow task of auto-upgrade runs, to a version.

    Pinned runs stay with theirs. If the version was ramping, it is not any more.

    Example: perdure worker deployment set-current-version --name orders --build-id 2024-06-01
    """
    chosen = _chosen(build_id, unversioned)

    def change(deployment: Deployment, now_ms: int) -> DeploymentRouting:
        from perdure_ops.deployments import with_current

        return with_current(deployment, chosen, any_queues=ignore_missing_task_queues, now_ms=now_ms)

    _change(address, namespace, name, change, f"{_shown(chosen)} is current in {name}", output)


@deployment_app.command("set-ramping-version")
def set_ramping_version(
    name: Name,
    build_id: OptionalBuildId = None,
    percentage: Annotated[
        float, typer.Option(metavar="NUMBER", help="How many of 100 workflows go to it, chosen by workflow id.")
    ] = 0.0,
    unversioned: Unversioned = False,
    delete: Annotated[bool, typer.Option("--delete", help="Let no version be ramping.")] = False,
    ignore_missing_task_queues: AnyQueues = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Lead a part of the workflows to a version, to try it out.

    Example: perdure worker deployment set-ramping-version --name orders --build-id 2024-06-01 --percentage 5
    """
    if delete and (build_id or unversioned):
        raise typer.BadParameter("give either --delete or a version, not both")
    chosen = None if delete else _chosen(build_id, unversioned)

    def change(deployment: Deployment, now_ms: int) -> DeploymentRouting:
        from perdure_ops.deployments import with_ramping

        return with_ramping(deployment, chosen, percentage, any_queues=ignore_missing_task_queues, now_ms=now_ms)

    done = f"nothing is ramping in {name}" if chosen is None else f"{_shown(chosen)} gets {percentage:g} % in {name}"
    _change(address, namespace, name, change, done, output)


@deployment_app.command("delete-version")
def delete_version(
    name: Name,
    build_id: BuildId,
    skip_drainage: Annotated[
        bool, typer.Option("--skip-drainage", help="Even if open runs are pinned to it; they wait for its workers.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Forget a version that gets no work any more. Stop its workers before: a living one makes it known again.

    Example: perdure worker deployment delete-version --name orders --build-id 2024-05-01
    """

    def delete(connection: Connection, deployments: Deployments, open_runs: OpenRuns) -> None:
        from perdure_ops import deployments as actions
        from perdure_ops.errors import CliError

        deployment = _existing(deployments, name)
        if build_id not in deployment.versions:
            raise CliError(f"deployment {name!r} has no version with build id {build_id!r}; see describe")
        status = deployment.status(build_id, open_runs())
        if status in (actions.VersionStatus.CURRENT, actions.VersionStatus.RAMPING):
            raise CliError(f"build id {build_id!r} is {status.lower()} in {name!r}: make another one that before")
        if status is actions.VersionStatus.DRAINING and not skip_drainage:
            raise CliError(
                f"open runs are pinned to build id {build_id!r}: wait until it is drained, or use --skip-drainage"
            )
        actions.delete_version(connection.log, connection.names, deployment, build_id)
        print_done(f"{build_id} deleted from {name}", output, deployment=name, build_id=build_id)

    _with_deployments(address, namespace, delete)


# --- steps ----------------------------------------------------------------------------------------------------------


def _chosen(build_id: str | None, unversioned: bool) -> str:
    if unversioned == bool(build_id):
        raise typer.BadParameter("give either --build-id or --unversioned")
    return build_id or ""


def _shown(build_id: str) -> str:
    return build_id or "(unversioned)"


def _existing(deployments: Deployments, name: str) -> Deployment:
    from perdure_ops.errors import CliError

    deployment = deployments.get(name)
    if deployment is None:
        known = ", ".join(deployments) or "none"
        raise CliError(f"there is no deployment {name!r}; there are: {known}. It is there once a worker of it started")
    return deployment


def _row(deployment: Deployment) -> dict[str, Any]:
    routing = deployment.routing
    ramping = None if routing is None else routing.ramping_build_id
    return {
        "deployment": deployment.name,
        "current": _shown("" if routing is None else routing.current_build_id),
        "ramping": None if ramping is None else _shown(ramping),
        "percentage": None if routing is None or ramping is None else f"{routing.ramping_percentage:g}",
        "changed": None if routing is None else iso(routing.time_ms),
        "changed_by": None if routing is None else routing.identity,
        "versions": ", ".join(sorted(deployment.versions)),
    }


def _version_rows(deployment: Deployment, open_runs: dict[str, int]) -> list[dict[str, Any]]:
    from perdure_schemas.keys import version_name

    retired = {} if deployment.routing is None else deployment.routing.retired_ms
    return [
        {
            "build_id": build_id,
            "status": deployment.status(build_id, open_runs).value,
            "open_pinned_runs": open_runs.get(version_name(deployment.name, build_id), 0),
            "retired": iso(retired.get(build_id)),
            "task_queues": ", ".join(sorted(queues)),
        }
        for build_id, queues in sorted(deployment.versions.items())
    ]


def _change(
    address: str,
    namespace: str,
    name: str,
    change: Callable[[Deployment, int], DeploymentRouting],
    done: str,
    output: OutputFormat,
) -> None:
    def work(connection: Connection, deployments: Deployments, _open_runs: OpenRuns) -> None:
        from msgspec.structs import replace

        from perdure_ops.deployments import write_routing

        routing = change(_existing(deployments, name), connection.now_ms())
        write_routing(connection.log, connection.names, replace(routing, identity=connection.identity))
        print_done(done, output, deployment=name)

    _with_deployments(address, namespace, work)


def _with_deployments(address: str, namespace: str, work: Work) -> None:
    import asyncio

    from perdure.client import Client
    from perdure_ops import workflow_actions as actions
    from perdure_ops.deployments import open_pinned_runs, read_deployments

    async def run(client: Client) -> None:
        connection = await client.connection()
        loop = asyncio.get_running_loop()

        def open_runs() -> dict[str, int]:
            return asyncio.run_coroutine_threadsafe(open_pinned_runs(client), loop).result()

        await asyncio.to_thread(lambda: work(connection, read_deployments(connection.log, connection.names), open_runs))

    actions.run(address, namespace, run)
