"""What workflow code tells about its run: memo, search attributes, details for people.

Names, parameters and defaults are those of ``temporalio.workflow``. Called by user code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure._runtime.context import current_instance
from perdure._search_attributes import SearchAttributeUpdate, decode_search_attributes, encode_updates
from perdure_schemas.limits import STATIC_TEXT_BYTES_MAX
from perdure_schemas.records import ModifyWorkflowProperties, UpsertWorkflowSearchAttributes

__all__ = ["get_current_details", "set_current_details", "upsert_memo", "upsert_search_attributes"]


def upsert_memo(updates: Mapping[str, Any]) -> None:
    """Set values of the memo. Keys that are not named stay as they are.

    Args:
        updates: The values; ``None`` removes a key.
    """
    instance = current_instance()
    converter = instance.settings.payload_converter
    upserted = {key: converter.to_payload(value) for key, value in updates.items() if value is not None}
    removed = sorted(key for key, value in updates.items() if value is None)
    instance.add_command(ModifyWorkflowProperties(upserted_memo=upserted, removed_memo=removed))
    memo = {**instance.info.raw_memo, **upserted}
    instance.info = replace(instance.info, raw_memo={key: memo[key] for key in memo if key not in removed})


def upsert_search_attributes(attributes: Sequence[SearchAttributeUpdate[Any]]) -> None:
    """Set and remove search attributes. Those that are not named stay as they are.

    Args:
        attributes: The changes, made by ``value_set`` and ``value_unset`` of the keys.

    Raises:
        TypeError: something else is given, or a value does not have its key's type.
    """
    instance = current_instance()
    upserted, removed = encode_updates(attributes)
    instance.add_command(UpsertWorkflowSearchAttributes(search_attributes=upserted, removed=removed))
    typed = instance.info.typed_search_attributes.updated(*decode_search_attributes(upserted))
    kept = [pair for pair in typed if pair.key.name not in removed]
    instance.info = replace(instance.info, typed_search_attributes=type(typed)(kept))


def set_current_details(description: str) -> None:
    """Set what the run tells about itself now, in Markdown; other than the static details it may change any time.

    Args:
        description: The text.

    Raises:
        ValueError: it is too long.
    """
    size_bytes = len(description.encode())
    if size_bytes > STATIC_TEXT_BYTES_MAX:
        raise ValueError(f"the current details have {size_bytes} bytes; {STATIC_TEXT_BYTES_MAX} are allowed")
    instance = current_instance()
    instance.loop.require_writable("set the current details")
    instance.current_details = description


def get_current_details() -> str:
    """What :func:`set_current_details` set last; empty before."""
    return current_instance().current_details
