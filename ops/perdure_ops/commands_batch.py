"""``perdure batch …``: do something to every run that a list filter holds for.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in ``perdure_ops.batches``.
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
    Yes,
)
from perdure_ops.output import OutputFormat

if TYPE_CHECKING:
    from perdure_ops.batches import Request

app = typer.Typer(
    help="Do something to every run that a list filter holds for.", no_args_is_help=True, rich_markup_mode=None
)

Query = Annotated[str, typer.Option("--query", "-q", metavar="FILTER", help="The list filter.")]
Rps = Annotated[float, typer.Option(min=0.01, metavar="N", help="At most so many requests in a second.")]
Resume = Annotated[
    str | None,
    typer.Option(metavar="BATCH", help="Go on with a batch that was interrupted; nothing is done twice."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show which runs it would be.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the histories.")]
_RPS = 50.0


@app.command()
def signal(
    query: Query,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the signal.")],
    input: Input = None,
    input_file: InputFile = None,
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    codec_endpoint: CodecEndpoint = None,
    codec_auth: CodecAuth = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Send a signal to every open run.

    Example: perdure batch signal -q "WorkflowType = 'Order'" --name approve -i '{"by": "ann"}' --rps 10
    """
    import asyncio

    from perdure.converter import DataConverter
    from perdure_ops import workflow_actions as actions
    from perdure_ops.batches import Request, batch_of, run_batch
    from perdure_schemas.records import SignalInput, SignalWorkflow

    args = actions.parse_inputs(input or [], input_file or [])
    codec = actions.remote_codec(codec_endpoint, namespace, codec_auth)
    payloads = asyncio.run(DataConverter(payload_codec=codec).encode(args))
    body = SignalWorkflow(signal=SignalInput(signal_name=name, input=payloads))
    batch = batch_of(query, rps, resume, dry_run=dry_run, assume_yes=yes)
    run_batch(address, namespace, batch, Request("signal", lambda _: body), output, codec)


@app.command()
def cancel(
    query: Query,
    reason: Reason = "",
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Ask every open run to stop.

    Example: perdure batch cancel -q "WorkflowType = 'Order'" --reason "campaign is over" --dry-run
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import CancelWorkflow

    request = Request("cancel", lambda _: CancelWorkflow(reason=reason))
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


@app.command()
def terminate(
    query: Query,
    reason: Reason = "",
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Close every open run now, without asking its code.

    Example: perdure batch terminate -q "Stuck = true AND WorkflowType = 'Order'" --reason "will not be mended"
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import TerminateWorkflow

    request = Request("terminate", lambda _: TerminateWorkflow(reason=reason))
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


@app.command()
def pause(
    query: Query,
    reason: Reason = "",
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Hand out no task of any open run until it is unpaused.

    Example: perdure batch pause -q "Region = 'eu'" --reason "the bank is down"
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import PauseWorkflow

    request = Request("pause", lambda _: PauseWorkflow(reason=reason))
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


@app.command()
def unpause(
    query: Query,
    reason: Reason = "",
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Let every paused run go on.

    Example: perdure batch unpause -q "Region = 'eu'" --rps 5
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import UnpauseWorkflow

    request = Request("unpause", lambda _: UnpauseWorkflow(reason=reason))
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


@app.command()
def reset(
    query: Query,
    reason: Reason,
    type: Annotated[
        str, typer.Option("--type", "-t", metavar="POINT", help="FirstWorkflowTask or LastWorkflowTask.")
    ] = "LastWorkflowTask",
    reapply_signals: Annotated[
        bool, typer.Option(help="Whether signals that came after that point are delivered again.")
    ] = True,
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Begin a new run of every workflow with the history of its newest one up to a workflow task; open or closed.

    Example: perdure batch reset -q "WorkflowType = 'Order' AND ExecutionStatus = 'Failed'" --reason "bug in pricing"
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import ResetWorkflow

    request = Request(
        "reset",
        lambda own_id: ResetWorkflow(run_id=own_id, point=type, reason=reason, reapply_signals=reapply_signals),
        open_only=False,
        newest_only=True,
    )
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


@app.command()
def delete(
    query: Query,
    reason: Reason = "",
    rps: Rps = _RPS,
    resume: Resume = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Remove every run with its history; open ones are terminated first.

    Example: perdure batch delete -q "CloseTime < '2025-01-01T00:00:00Z'" --rps 20
    """
    from perdure_ops.batches import Request
    from perdure_schemas.records import DeleteWorkflow

    request = Request("delete", lambda _: DeleteWorkflow(reason=reason), open_only=False)
    _run(request, query, rps, resume, dry_run, yes, address, namespace, output)


def _run(
    request: Request,
    query: str,
    rps: float,
    resume: str | None,
    dry_run: bool,
    yes: bool,
    address: str,
    namespace: str,
    output: OutputFormat,
) -> None:
    from perdure_ops.batches import batch_of, run_batch

    batch = batch_of(query, rps, resume, dry_run=dry_run, assume_yes=yes)
    run_batch(address, namespace, batch, request, output, None)
