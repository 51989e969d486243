"""``perdure workflow trace``: a workflow and its children as a tree, each with how far it is. Changes nothing.

Children are found in histories, so closed ones are shown, too, as long as they are kept. Called by its command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from perdure.client import Client
from perdure.service import RPCError, RPCStatusCode
from perdure_ops.history_view import pending_activity_row
from perdure_ops.output import OutputFormat, iso, print_fields, progress
from perdure_schemas.records import ChildWorkflowExecutionStarted, Described

__all__ = ["Node", "trace"]


@dataclass
class Node:
    """One run of the tree; ``status`` is ``GONE`` if it is not kept any more."""

    workflow_id: str
    run_id: str
    workflow_type: str = ""
    status: str = "GONE"
    started: str = ""
    closed: str = ""
    events: int = 0
    pending: list[dict[str, Any]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    #: How many children are not shown, because they are deeper than was asked for.
    hidden: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The tree as data."""
        return {
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "type": self.workflow_type,
            "status": self.status,
            "started": self.started,
            "closed": self.closed,
            "history_events": self.events,
            "pending_activities": self.pending,
            "children": [child.as_dict() for child in self.children],
            "children_not_shown": self.hidden,
        }

    def lines(self, first: str = "", rest: str = "") -> Iterator[str]:
        """The tree as text, one line for each run and pending activity."""
        yield f"{first}{self.status} {self.workflow_type} {self.workflow_id} ({self.events} events)"
        below = [f"activity {one['type']}: {one['state']}, attempt {one['attempt']}" for one in self.pending]
        below += [f"… {self.hidden} children, see --depth"] if self.hidden else []
        for number, text in enumerate(below):
            last = number == len(below) - 1 and not self.children
            yield f"{rest}{'└─' if last else '├─'} {text}"
        for number, child in enumerate(self.children):
            last = number == len(self.children) - 1
            yield from child.lines(f"{rest}{'└─' if last else '├─'} ", f"{rest}{'   ' if last else '│  '}")


async def trace(client: Client, workflow_id: str, run_id: str | None, depth: int, output: OutputFormat) -> None:
    """Print the tree.

    Parameters:
        depth: how many levels of children are shown.

    Raises:
        RPCError: there is no such workflow.
    """
    with progress("following the children"):
        root = await _node(client, workflow_id, run_id, depth)
    if output is OutputFormat.TABLE:
        print("\n".join(root.lines()))
    else:
        print_fields(root.as_dict(), output)


async def _node(client: Client, workflow_id: str, run_id: str | None, depth: int) -> Node:
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    described: Described = (await handle.describe()).raw_description
    summary = described.summary
    node = Node(
        workflow_id,
        summary.run_id,
        summary.workflow_type,
        summary.status.value,
        iso(summary.start_time_ms),
        iso(summary.close_time_ms),
        summary.history_length,
        [pending_activity_row(activity) for activity in described.pending_activities],
    )
    history = await client.get_workflow_handle(workflow_id, run_id=summary.run_id).fetch_history()
    started = [one.attributes for one in history.events if isinstance(one.attributes, ChildWorkflowExecutionStarted)]
    if depth <= 0:
        node.hidden = len(started)
        return node
    for child in started:
        try:
            node.children.append(await _node(client, child.workflow_id, child.run_id, depth - 1))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            node.children.append(Node(child.workflow_id, child.run_id, child.workflow_type))
    return node
