"""``perdure workflow update …``: send an update to a workflow, and see how one stands.

What it does is the client's; this module is loaded by every ``perdure`` command, so it stays cheap.
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
    Input,
    InputFile,
    Namespace,
    Output,
    RunId,
    WorkflowId,
)
from perdure_ops.output import OutputFormat

if TYPE_CHECKING:
    from perdure.client import Client

app = typer.Typer(help="Send an update, and see how one stands.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the update.")]
NewUpdateId = Annotated[
    str | None, typer.Option("--update-id", metavar="ID", help="The update's id; a random one if not given.")
]
UpdateId = Annotated[str, typer.Option("--update-id", metavar="ID", help="The update's id.")]


@app.command()
def execute(
    workflow_id: WorkflowId,
    name: Name,
    input: Input = None,
    input_file: InputFile = None,
    update_id: NewUpdateId = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Send an update, wait for it, and print its result. Fails if the update does.

    Example: perdure workflow update execute -w order-17 --name add_item -i '"A1"'
    """
    from perdure_ops import workflow_actions as actions
    from perdure_ops.output import print_fields, progress, to_json

    args = actions.parse_inputs(input or [], input_file or [])

    async def act(client: Client) -> None:
        with progress(f"waiting for update {name!r}"):
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            value = await handle.execute_update(name, args=args, id=update_id)
        if output is OutputFormat.TABLE:
            print(to_json(value))
        else:
            print_fields({"workflow_id": workflow_id, "result": value}, output)

    actions.run(address, namespace, act, actions.remote_codec(codec_endpoint, namespace, codec_auth))


@app.command()
def start(
    workflow_id: WorkflowId,
    name: Name,
    input: Input = None,
    input_file: InputFile = None,
    update_id: NewUpdateId = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Send an update and wait until the workflow has accepted it; prints its id.

    Example: perdure workflow update start -w order-17 --name approve
    """
    from perdure.client import WorkflowUpdateStage
    from perdure_ops import workflow_actions as actions
    from perdure_ops.output import print_fields, progress

    args = actions.parse_inputs(input or [], input_file or [])

    async def act(client: Client) -> None:
        with progress(f"waiting for {workflow_id} to accept {name!r}"):
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            update = await handle.start_update(
                name, args=args, id=update_id, wait_for_stage=WorkflowUpdateStage.ACCEPTED
            )
        if output is OutputFormat.TABLE:
            print(update.id)
        else:
            print_fields({"workflow_id": workflow_id, "update_id": update.id}, output)

    actions.run(address, namespace, act, actions.remote_codec(codec_endpoint, namespace, codec_auth))


@app.command()
def describe(
    workflow_id: WorkflowId,
    update_id: UpdateId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show how far an update is: accepted, or completed with its result or failure. Does not wait for its end.

    Example: perdure workflow update describe -w order-17 --update-id 5b1c
    """
    from perdure_ops import workflow_actions as actions

    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(
        address,
        namespace,
        lambda client: actions.describe_update(client, workflow_id, run_id, update_id, output),
        codec,
    )


@app.command()
def result(
    workflow_id: WorkflowId,
    update_id: UpdateId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Wait for an update that was accepted, and print its result. Fails if the update does.

    Example: perdure workflow update result -w order-17 --update-id 5b1c
    """
    from perdure_ops import workflow_actions as actions
    from perdure_ops.output import print_fields, progress, to_json

    async def act(client: Client) -> None:
        with progress(f"waiting for update {update_id!r}"):
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            value = await handle.get_update_handle(update_id).result()
        if output is OutputFormat.TABLE:
            print(to_json(value))
        else:
            print_fields({"workflow_id": workflow_id, "update_id": update_id, "result": value}, output)

    actions.run(address, namespace, act, actions.remote_codec(codec_endpoint, namespace, codec_auth))
