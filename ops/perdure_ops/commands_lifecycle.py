"""``perdure workflow signal-with-start|stack|fork|delete``: their options, and what they do.

This module is loaded by every ``perdure`` command, so it stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_ops import commands_workflow as workflow
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

SignalName = Annotated[str, typer.Option("--signal-name", metavar="NAME", help="Name of the signal.")]
SignalInput = Annotated[
    list[str] | None,
    typer.Option(
        "--signal-input", metavar="JSON", help="An argument of the signal; repeat it for more.", show_default=False
    ),
]
NewId = Annotated[str, typer.Option("--new-workflow-id", metavar="ID", help="Id of the workflow that is made.")]
EventId = Annotated[
    int | None,
    typer.Option("--event-id", metavar="ID", help="The completion of a workflow task; the last one if not given."),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of workflows."""
    app.command("signal-with-start")(signal_with_start)
    app.command("stack")(stack)
    app.command("trace")(trace)
    app.command("fork")(fork)
    app.command("delete")(delete)


def signal_with_start(
    type: workflow.Type,
    task_queue: workflow.TaskQueue,
    workflow_id: WorkflowId,
    signal_name: SignalName,
    signal_input: SignalInput = None,
    input: Input = None,
    input_file: InputFile = None,
    execution_timeout: workflow.ExecutionTimeout = None,
    run_timeout: workflow.RunTimeout = None,
    task_timeout: workflow.TaskTimeout = None,
    id_reuse_policy: workflow.IdReusePolicy = None,
    memo: workflow.Memo = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Send a signal to a workflow, and start it first if it does not run.

    Example: perdure workflow signal-with-start --type Basket -t carts -w cart-9 --signal-name add --signal-input '"A1"'
    """
    from perdure_ops import workflow_actions as actions

    request = actions.StartRequest.parse(
        type, task_queue, workflow_id, input or [], input_file or [], execution_timeout, run_timeout, task_timeout,
        id_reuse_policy, None, memo or [],
    )  # fmt: skip
    signal_args = actions.parse_inputs(signal_input or [], [], "--signal-input")
    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(
        address,
        namespace,
        lambda client: actions.start(client, request, output, start_signal=signal_name, start_signal_args=signal_args),
        codec,
    )


def stack(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show where the code of a workflow stands: the stack of each of its tasks. Needs a running worker.

    Example: perdure workflow stack -w order-17
    """
    from perdure_ops import workflow_actions as actions
    from perdure_ops.output import print_fields, progress

    async def act(client: Client) -> None:
        with progress("waiting for a worker to answer"):
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            text = await handle.query("__stack_trace", result_type=str)
        shown = str(text).rstrip()
        if output is OutputFormat.TABLE:
            print(shown or "the workflow's code waits for nothing")
        else:
            print_fields({"workflow_id": workflow_id, "stack": shown}, output)

    actions.run(address, namespace, act, actions.remote_codec(codec_endpoint, namespace, codec_auth))


def trace(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    depth: Annotated[int, typer.Option(min=0, metavar="N", help="Show so many levels of children.")] = 5,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a workflow with all its children as a tree: how far each is, and the activities it waits for.

    Example: perdure workflow trace -w order-17 --depth 2
    """
    from perdure_ops import tracing
    from perdure_ops import workflow_actions as actions

    actions.run(address, namespace, lambda client: tracing.trace(client, workflow_id, run_id, depth, output))


def fork(
    workflow_id: WorkflowId,
    new_workflow_id: NewId,
    event_id: EventId = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Begin another workflow with the history of this one up to a step, and decide from there anew.

    This one is left alone. Activities that had finished by then are not run again; pending ones are run for both.

    Example: perdure workflow fork -w order-17 --new-workflow-id order-17-try --event-id 9
    """
    from perdure_ops import workflow_actions as actions
    from perdure_ops.errors import CliError
    from perdure_ops.output import print_fields

    async def act(client: Client) -> None:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            forked = await handle.fork(new_workflow_id, event_id=event_id)
        except ValueError as error:
            raise CliError(f"workflow {workflow_id!r} was not forked: {error}") from error
        print_fields({"workflow_id": forked.id, "run_id": forked.result_run_id}, output)

    actions.run(address, namespace, act)


def delete(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    reason: Reason = "",
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Remove a run of a workflow with its history; one that is running is terminated first.

    Example: perdure workflow delete -w order-17 --reason "holds data that has to go"
    """
    from perdure_ops import workflow_actions as actions
    from perdure_ops.output import print_done

    async def act(client: Client) -> None:
        await client.get_workflow_handle(workflow_id, run_id=run_id).delete(reason=reason)
        print_done(f"{workflow_id} deleted", output, workflow_id=workflow_id, run_id=run_id)

    actions.run(address, namespace, act)
