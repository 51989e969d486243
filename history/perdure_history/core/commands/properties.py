"""Memo and search attributes: checked where a run starts or continues, and set while it runs.

Search attributes are payloads that name their type in their metadata; the engine keeps them and never reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.policy import Policy
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import ModifyWorkflowProperties, Payload, UpsertWorkflowSearchAttributes

__all__ = ["modify", "properties_fault", "upsert"]


def properties_fault(what: str, values: Mapping[str, Payload], policy: Policy) -> str:
    """What is wrong with a memo or with search attributes; empty if nothing is."""
    for name in values:
        if not name or len(name) > policy.name_chars_max:
            return f"the {what} has the key {name[:100]!r}; it must have 1 to {policy.name_chars_max} characters"
    too_large = payloads_too_large(policy, list(values.values()))
    return f"the {what}: {too_large}" if too_large else ""


def upsert(_run: RunState, command: UpsertWorkflowSearchAttributes, completed_id: int, _: Context) -> Steps:
    """Set and remove search attributes."""
    yield records.UpsertWorkflowSearchAttributesEvent(
        search_attributes=command.search_attributes,
        removed=command.removed,
        workflow_task_completed_event_id=completed_id,
    )


def modify(_run: RunState, command: ModifyWorkflowProperties, completed_id: int, _: Context) -> Steps:
    """Set and remove values of the memo."""
    yield records.WorkflowPropertiesModified(
        upserted_memo=command.upserted_memo,
        removed_memo=command.removed_memo,
        workflow_task_completed_event_id=completed_id,
    )
