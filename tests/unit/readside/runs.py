"""Runs to list, and an index that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from perdure_readside.index import Change, ExecutionIndex
from perdure_schemas import codec
from perdure_schemas.records import ExecutionSummary, ParentExecution, Payload, WorkflowStatus

TOPIC = "perdure.default.executions"


def attribute(kind: str, value: Any) -> Payload:
    """A search attribute as clients write it."""
    return Payload(metadata={"encoding": b"json/plain", "type": kind.encode()}, data=json.dumps(value).encode())


def run(run_id: str, **fields: Any) -> ExecutionSummary:
    """A running workflow, as far as ``fields`` do not say otherwise."""
    defaults: dict[str, Any] = {
        "workflow_id": f"w-{run_id}",
        "first_execution_run_id": run_id,
        "workflow_type": "Order",
        "task_queue": "orders",
        "status": WorkflowStatus.RUNNING,
        "start_time_ms": 1_000,
        "execution_time_ms": fields.get("start_time_ms", 1_000),
        "history_length": 3,
        "version": 1,
    }
    return ExecutionSummary(run_id=run_id, **(defaults | fields))


def parent(workflow_id: str) -> ParentExecution:
    """The parent of a child run."""
    return ParentExecution(
        workflow_id=workflow_id, run_id="p", initiated_event_id=5, root_workflow_id=workflow_id, root_run_id="p"
    )


def put(index: ExecutionIndex, *summaries: ExecutionSummary, partition: int = 0, position: int = 1) -> None:
    """Fold summaries."""
    values = {summary.run_id: codec.encode(summary) for summary in summaries}
    index.apply([Change(partition, values, position, b"")])


def index_of(summaries: Iterable[ExecutionSummary]) -> ExecutionIndex:
    """An index in memory."""
    index = ExecutionIndex(None, TOPIC)
    put(index, *summaries)
    return index


def listed(index: ExecutionIndex, text: str, page_size: int = 1_000) -> list[str]:
    """The run ids that a filter gives, over all pages."""
    found: list[str] = []
    token = b""
    while True:
        page = index.page(text, page_size, token)
        found += [codec.decode_as(value, ExecutionSummary).run_id for value in page.summaries]
        token = page.next_page_token
        if not token:
            return found
