"""Memo and search attributes: checked where a run starts or continues, and set while it runs.

Search attributes are payloads that name their type in their metadata; the engine keeps them and never reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.policy import Policy
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import ModifyWorkflowProperties, Payload, UpsertWorkflowSearchAttributes

__all__ = ["memo_fault", "modify", "search_attributes_fault", "static_text_fault", "upsert"]


def memo_fault(memo: Mapping[str, Payload], policy: Policy) -> str:
    """What is wrong with a memo; empty if nothing is."""
    if not memo:
        return ""
    return _keys_fault("memo", memo, policy) or _size_fault("memo", memo, policy.memo_bytes_max)


def search_attributes_fault(attributes: Mapping[str, Payload], policy: Policy) -> str:
    """What is wrong with search attributes; empty if nothing is."""
    if not attributes:
        return ""
    if len(attributes) > policy.search_attributes_max:
        return f"there are {len(attributes)} search attributes; {policy.search_attributes_max} are allowed"
    for name, value in attributes.items():
        if len(value.data) > policy.search_attribute_bytes_max:
            return (
                f"the search attribute {name[:100]!r} has {len(value.data)} bytes;"
                f" {policy.search_attribute_bytes_max} are allowed"
            )
    what = "search attributes"
    return _keys_fault(what, attributes, policy) or _size_fault(what, attributes, policy.search_attributes_bytes_max)


def static_text_fault(summary: Payload | None, details: Payload | None, policy: Policy) -> str:
    """What is wrong with a run's static summary and details; empty if nothing is."""
    for what, text in (("static summary", summary), ("static details", details)):
        if text is not None and len(text.data) > policy.static_text_bytes_max:
            return f"the {what} has {len(text.data)} bytes; {policy.static_text_bytes_max} are allowed"
    return ""


def _keys_fault(what: str, values: Mapping[str, Payload], policy: Policy) -> str:
    for name in values:
        if not name or len(name) > policy.name_chars_max:
            return f"the {what} has the key {name[:100]!r}; it must have 1 to {policy.name_chars_max} characters"
    return ""


def _size_fault(what: str, values: Mapping[str, Payload], bytes_max: int) -> str:
    size_bytes = sum(len(name) + len(value.data) for name, value in values.items())
    return "" if size_bytes <= bytes_max else f"the {what} has {size_bytes} bytes; {bytes_max} are allowed"


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
