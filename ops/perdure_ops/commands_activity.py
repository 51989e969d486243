"""``perdure activity complete|fail``: end an activity that left its worker to be completed from outside.

Names of commands and options are those of Temporal's command line. What they do is the client's; this module is loaded
by every ``perdure`` command, so it stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_ops.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    Address,
    CodecAuth,
    CodecEndpoint,
    Namespace,
    Output,
    RunId,
    WorkflowId,
)
from perdure_ops.output import OutputFormat

if TYPE_CHECKING:
    from perdure.client import Client

app = typer.Typer(
    help="Complete, fail, pause and reset pending activities.", no_args_is_help=True, rich_markup_mode=None
)

ActivityId = Annotated[
    str, typer.Option("--activity-id", "-a", metavar="ID", help="The workflow's id for the activity.")
]


@app.command()
def complete(
    workflow_id: WorkflowId,
    activity_id: ActivityId,
    result: Annotated[str, typer.Option("--result", metavar="JSON", help="What it returned, as JSON.")] = "null",
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Complete an activity with a result.

    Example: perdure activity complete -w order-17 -a approve --result '{"by": "Ada"}'
    """
    from perdure_ops.output import print_done
    from perdure_ops.values import check_json
    from perdure_ops.workflow_actions import remote_codec, run

    value = check_json(result, "--result")

    async def act(client: Client) -> None:
        handle = client.get_async_activity_handle(workflow_id=workflow_id, run_id=run_id, activity_id=activity_id)
        await handle.complete(value)
        done = f"activity {activity_id} of {workflow_id} completed"
        print_done(done, output, workflow_id=workflow_id, activity_id=activity_id)

    run(address, namespace, act, remote_codec(codec_endpoint, namespace, codec_auth))


@app.command()
def fail(
    workflow_id: WorkflowId,
    activity_id: ActivityId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The message of the failure.")] = "",
    detail: Annotated[str | None, typer.Option("--detail", metavar="JSON", help="A detail of it, as JSON.")] = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Fail an activity; its retry policy applies.

    Example: perdure activity fail -w order-17 -a approve --reason "not approved"
    """
    from perdure.exceptions import ApplicationError
    from perdure_ops.output import print_done
    from perdure_ops.values import check_json
    from perdure_ops.workflow_actions import remote_codec, run

    details = [] if detail is None else [check_json(detail, "--detail")]

    async def act(client: Client) -> None:
        handle = client.get_async_activity_handle(workflow_id=workflow_id, run_id=run_id, activity_id=activity_id)
        await handle.fail(ApplicationError(reason, *details))
        done = f"activity {activity_id} of {workflow_id} failed"
        print_done(done, output, workflow_id=workflow_id, activity_id=activity_id)

    run(address, namespace, act, remote_codec(codec_endpoint, namespace, codec_auth))
