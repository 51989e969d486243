"""What ``perdure workflow list`` and ``count`` do: ask the read side and print its answer. Called by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, print_rows, progress
from perdure_ops.workflow_actions import parse_status, run

if TYPE_CHECKING:
    from perdure.client import Client, WorkflowExecution

RUN_COLUMNS = ("status", "workflow_id", "run_id", "type", "task_queue", "started", "closed", "history_events")


def filter_of(query: str, status: str | None, workflow_type: str | None, *, stuck: bool) -> str:
    """The list filter that the options of ``list`` mean.

    Raises:
        CliError: a filter is given together with options that are one, or the status is none.
    """
    wanted = parse_status(status)
    if query and (status or workflow_type or stuck):
        raise CliError("--query stands alone: write the others into it, as ExecutionStatus, WorkflowType and Stuck")
    conditions = []
    if wanted is not None:
        conditions.append(f"ExecutionStatus = '{wanted.name}'")
    if workflow_type is not None:
        conditions.append("WorkflowType = '" + workflow_type.replace("'", "''") + "'")
    if stuck:
        conditions.append("Stuck = true")
    return query or " AND ".join(conditions)


def run_list(address: str, namespace: str, query: str, limit: int, output: OutputFormat) -> None:
    """Connect, list, print."""
    run(address, namespace, lambda client: _list(client, query, limit, output))


def run_count(address: str, namespace: str, query: str, output: OutputFormat) -> None:
    """Connect, count, print."""
    run(address, namespace, lambda client: _count(client, query, output))


async def _list(client: Client, query: str, limit: int, output: OutputFormat) -> None:
    with progress("listing workflows"):
        runs = client.list_workflows(query, limit=limit, page_size=min(limit, 1_000))
        rows = [_row(execution) async for execution in runs]
    print_rows(rows, output, (*RUN_COLUMNS, "stuck") if any(row["stuck"] for row in rows) else RUN_COLUMNS)


def _row(execution: WorkflowExecution) -> dict[str, Any]:
    return {
        "status": None if execution.status is None else execution.status.name,
        "workflow_id": execution.id,
        "run_id": execution.run_id,
        "type": execution.workflow_type,
        "task_queue": execution.task_queue,
        "started": execution.start_time,
        "closed": execution.close_time,
        "history_events": execution.history_length,
        "paused": execution.raw_info.paused,
        "stuck": execution.raw_info.stuck_reason,
    }


async def _count(client: Client, query: str, output: OutputFormat) -> None:
    with progress("counting workflows"):
        counted = await client.count_workflows(query)
    if not counted.groups:
        print_rows([{"count": counted.count}], output, ("count",))
        return
    rows = [{"count": group.count, "group": ", ".join(map(str, group.group_values))} for group in counted.groups]
    print_rows(rows, output, ("count", "group"))
