"""``perdure workflow reset``: its options, and what it does.

This module is loaded by every ``perdure`` command, so it stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output, RunId, WorkflowId
from perdure_ops.output import OutputFormat

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure_schemas.records import ResetWorkflow

_TIMEOUT_S = 30.0

EventId = Annotated[
    int,
    typer.Option(
        "--event-id",
        "-e",
        min=0,
        metavar="ID",
        help="The WorkflowTaskCompleted event to decide anew.",
        show_default=False,
    ),
]
Point = Annotated[
    str,
    typer.Option("--type", "-t", metavar="POINT", help="FirstWorkflowTask or LastWorkflowTask, without --event-id."),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
Reapply = Annotated[bool, typer.Option(help="Whether signals that came after that point are delivered again.")]


def reset(
    workflow_id: WorkflowId,
    reason: Reason,
    event_id: EventId = 0,
    type: Point = "LastWorkflowTask",
    reapply_signals: Reapply = True,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Begin a new run with the history of the newest one up to a workflow task, and decide that one anew.

    If the old run is open, it is terminated. Activities that had finished by then are not run again.

    Example: perdure workflow reset -w order-17 --type LastWorkflowTask --reason "bug in pricing"
    """
    import uuid

    from perdure_ops import workflow_actions as actions
    from perdure_schemas.records import ResetWorkflow

    body = ResetWorkflow(
        run_id=str(uuid.uuid4()), event_id=event_id, point=type, reason=reason, reapply_signals=reapply_signals
    )
    actions.run(address, namespace, lambda client: _reset(client, workflow_id, run_id, body, output))


async def _reset(
    client: Client, workflow_id: str, run_id: str | None, body: ResetWorkflow, output: OutputFormat
) -> None:
    from perdure_ops.errors import CliError
    from perdure_ops.output import print_fields
    from perdure_schemas.records import Rejected

    connection = await client.connection()
    what = f"the reset of workflow {workflow_id!r}"
    answer = await connection.ask(workflow_id, run_id or "", body, _TIMEOUT_S, what)
    if isinstance(answer, Rejected):
        raise CliError(f"workflow {workflow_id!r} was not reset: {answer.message}")
    print_fields({"workflow_id": workflow_id, "run_id": body.run_id}, output)
