"""``perdure workflow …``: the options of the commands that start, ask and stop workflows.

What they do stands in :mod:`perdure_ops.workflow_actions`; this module is loaded by every ``perdure`` command, so it
stays cheap. Names of commands and options are those of Temporal's command line where it has them.
"""

from __future__ import annotations

from typing import Annotated

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

app = typer.Typer(help="Start, list, ask and stop workflows.", no_args_is_help=True, rich_markup_mode=None)

Type = Annotated[str, typer.Option("--type", metavar="NAME", help="Workflow type.")]
TaskQueue = Annotated[str, typer.Option("--task-queue", "-t", metavar="NAME", help="Task queue of its workers.")]
NewWorkflowId = Annotated[
    str | None, typer.Option("--workflow-id", "-w", metavar="ID", help="Workflow id; a random one if not given.")
]
ExecutionTimeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Limit for all runs together, for example 1h30m.")
]
RunTimeout = Annotated[str | None, typer.Option(metavar="DURATION", help="Limit for one run.")]
TaskTimeout = Annotated[str | None, typer.Option(metavar="DURATION", help="Limit for one workflow task.")]
IdReusePolicy = Annotated[
    str | None, typer.Option(metavar="POLICY", help="If a closed run exists: AllowDuplicate, RejectDuplicate …")
]
IdConflictPolicy = Annotated[
    str | None, typer.Option(metavar="POLICY", help="If a running one exists: Fail, UseExisting, TerminateExisting.")
]
Memo = Annotated[
    list[str] | None,
    typer.Option("--memo", metavar="KEY=JSON", help="A note to keep with the run.", show_default=False),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]


@app.command()
def start(
    type: Type,
    task_queue: TaskQueue,
    workflow_id: NewWorkflowId = None,
    input: Input = None,
    input_file: InputFile = None,
    execution_timeout: ExecutionTimeout = None,
    run_timeout: RunTimeout = None,
    task_timeout: TaskTimeout = None,
    id_reuse_policy: IdReusePolicy = None,
    id_conflict_policy: IdConflictPolicy = None,
    memo: Memo = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Start a workflow and do not wait for it.

    Example: perdure workflow start --type Order -t orders -w order-17 -i '{"sku": "A1"}'
    """
    from perdure_ops import workflow_actions as actions

    request = actions.StartRequest.parse(
        type, task_queue, workflow_id, input or [], input_file or [], execution_timeout, run_timeout, task_timeout,
        id_reuse_policy, id_conflict_policy, memo or [],
    )  # fmt: skip
    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(address, namespace, lambda client: actions.start(client, request, output), codec)


@app.command()
def execute(
    type: Type,
    task_queue: TaskQueue,
    workflow_id: NewWorkflowId = None,
    input: Input = None,
    input_file: InputFile = None,
    execution_timeout: ExecutionTimeout = None,
    run_timeout: RunTimeout = None,
    task_timeout: TaskTimeout = None,
    id_reuse_policy: IdReusePolicy = None,
    id_conflict_policy: IdConflictPolicy = None,
    memo: Memo = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Start a workflow, wait for it, and print its result. Fails if the workflow does.

    Example: perdure workflow execute --type Order -t orders -i '{"sku": "A1"}' -o json
    """
    from perdure_ops import workflow_actions as actions

    request = actions.StartRequest.parse(
        type, task_queue, workflow_id, input or [], input_file or [], execution_timeout, run_timeout, task_timeout,
        id_reuse_policy, id_conflict_policy, memo or [],
    )  # fmt: skip
    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(address, namespace, lambda client: actions.execute(client, request, output), codec)


@app.command()
def result(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Wait for a workflow and print its result. Fails if the workflow does.

    Example: perdure workflow result -w order-17
    """
    from perdure_ops import workflow_actions as actions

    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(address, namespace, lambda client: actions.result(client, workflow_id, run_id, output), codec)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only Running, Completed, Failed …")] = None,
    type: Annotated[str | None, typer.Option("--type", metavar="NAME", help="Only of this workflow type.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those whose code fails again and again.")] = False,
    query: Annotated[str, typer.Option("--query", "-q", metavar="FILTER", help="A list filter instead of these.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 100,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List workflow runs, the newest first unless the filter has an ORDER BY.

    Example: perdure workflow list -q "WorkflowType = 'Order' AND ExecutionStatus IN ('Failed', 'TimedOut')" -o jsonl
    """
    from perdure_ops import listing

    found = listing.filter_of(query, status, type, stuck=stuck)
    listing.run_list(address, namespace, found, limit, output)


@app.command()
def count(
    query: Annotated[
        str, typer.Option("--query", "-q", metavar="FILTER", help="A list filter; all runs without.")
    ] = "",
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Count workflow runs, in groups if the filter has a GROUP BY.

    Example: perdure workflow count -q "WorkflowType = 'Order' GROUP BY ExecutionStatus"
    """
    from perdure_ops import listing

    listing.run_count(address, namespace, query, output)


@app.command()
def describe(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show where a workflow stands and what it waits for, with the last failure of each pending activity.

    Example: perdure workflow describe -w order-17
    """
    from perdure_ops import workflow_actions as actions

    actions.run(address, namespace, lambda client: actions.describe(client, workflow_id, run_id, output))


@app.command()
def show(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until it is closed.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the history of a workflow; as JSON in the form that a replayer reads.

    Example: perdure workflow show -w order-17 --follow
    """
    from perdure_ops import workflow_actions as actions

    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    if follow:
        from perdure_ops import following

        following.check(output)
        actions.run(address, namespace, lambda client: following.follow(client, workflow_id, run_id, output), codec)
        return
    actions.run(address, namespace, lambda client: actions.show(client, workflow_id, run_id, output, codec), codec)


@app.command()
def signal(
    workflow_id: WorkflowId,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the signal.")],
    input: Input = None,
    input_file: InputFile = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Send a signal to a running workflow.

    Example: perdure workflow signal -w order-17 --name approve -i '{"by": "ann"}'
    """
    from perdure_ops import workflow_actions as actions

    args = actions.parse_inputs(input or [], input_file or [])
    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    actions.run(
        address, namespace, lambda client: actions.signal(client, workflow_id, run_id, name, args, output), codec
    )


@app.command()
def query(
    workflow_id: WorkflowId,
    name: Annotated[str, typer.Option("--name", "--type", metavar="NAME", help="Name of the query.")],
    input: Input = None,
    input_file: InputFile = None,
    reject_condition: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Refuse if not_open, or not_completed_cleanly.")
    ] = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Ask a workflow for a view of its state; needs a running worker.

    Example: perdure workflow query -w order-17 --name status
    """
    from perdure_ops import workflow_actions as actions

    args = actions.parse_inputs(input or [], input_file or [])
    condition = actions.parse_reject_condition(reject_condition)
    actions.run(
        address,
        namespace,
        lambda client: actions.query(client, workflow_id, run_id, name, args, condition, output),
        actions.remote_codec(codec_endpoint, namespace, codec_auth),
    )


@app.command()
def cancel(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    reason: Reason = "",
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Ask a running workflow to stop; its code decides how.

    Example: perdure workflow cancel -w order-17 --reason "customer called"
    """
    from perdure_ops import workflow_actions as actions

    actions.run(address, namespace, lambda client: actions.cancel(client, workflow_id, run_id, reason, output))


@app.command()
def terminate(
    workflow_id: WorkflowId,
    run_id: RunId = None,
    reason: Reason = "",
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Close a running workflow now, without asking its code.

    Example: perdure workflow terminate -w order-17 --reason "stuck since the upgrade"
    """
    from perdure_ops import workflow_actions as actions

    actions.run(address, namespace, lambda client: actions.terminate(client, workflow_id, run_id, reason, output))
