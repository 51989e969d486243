"""Bounds that are checked before anything is sent, so that an error names what is too large where it was made.

Called by the client and the worker. The numbers are in :mod:`perdure_schemas.limits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perdure_schemas.limits import (
    MEMO_BYTES_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    REASON_CHARS_MAX,
    SEARCH_ATTRIBUTE_BYTES_MAX,
    SEARCH_ATTRIBUTES_BYTES_MAX,
    SEARCH_ATTRIBUTES_MAX,
    STATIC_TEXT_BYTES_MAX,
    WORKFLOW_ID_CHARS_MAX,
)
from perdure_schemas.records import Payload


class PayloadTooLargeError(ValueError):
    """The values of one call are larger than the platform takes."""


def payload_bytes(payloads: Iterable[Payload]) -> int:
    """The size of payloads: data and metadata."""
    return sum(
        len(payload.data) + sum(len(key) + len(value) for key, value in payload.metadata.items())
        for payload in payloads
    )


def check_payloads(payloads: Iterable[Payload], what: str, bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse payloads that are too large together.

    Raises:
        PayloadTooLargeError: they are; the message names ``what`` and the bound.
    """
    size = payload_bytes(payloads)
    if size > bytes_max:
        raise PayloadTooLargeError(
            f"{what} has {size} bytes; {bytes_max} are allowed. Send a reference to the data instead"
        )


def check_memo(memo: Mapping[str, Payload], what: str) -> None:
    """Refuse a memo that is too large, or has a key that is none.

    Raises:
        ValueError: it is; the message names ``what`` and the bound.
    """
    for name in memo:
        check_name(name, f"a key of {what}")
    _check_size(sum(len(name) + len(value.data) for name, value in memo.items()), what, MEMO_BYTES_MAX)


def check_search_attributes(attributes: Mapping[str, Payload]) -> None:
    """Refuse search attributes that are too many or too large.

    Raises:
        ValueError: they are; the message names the bound.
    """
    if len(attributes) > SEARCH_ATTRIBUTES_MAX:
        raise ValueError(f"there are {len(attributes)} search attributes; {SEARCH_ATTRIBUTES_MAX} are allowed")
    for name, value in attributes.items():
        check_name(name, "name of a search attribute")
        _check_size(len(value.data), f"the search attribute {name[:100]!r}", SEARCH_ATTRIBUTE_BYTES_MAX)
    total = sum(len(name) + len(value.data) for name, value in attributes.items())
    _check_size(total, "all search attributes together", SEARCH_ATTRIBUTES_BYTES_MAX)


def check_static_text(text: Payload, what: str) -> None:
    """Refuse a static summary or static details that are too large.

    Raises:
        PayloadTooLargeError: they are.
    """
    _check_size(len(text.data), what, STATIC_TEXT_BYTES_MAX)


def check_reason(reason: str) -> None:
    """Refuse a reason that is too long.

    Raises:
        ValueError: it is.
    """
    if len(reason) > REASON_CHARS_MAX:
        raise ValueError(f"the reason has {len(reason)} characters; {REASON_CHARS_MAX} are allowed")


def _check_size(size: int, what: str, bytes_max: int) -> None:
    if size > bytes_max:
        raise PayloadTooLargeError(f"{what} has {size} bytes; {bytes_max} are allowed")


def check_workflow_id(workflow_id: str) -> None:
    """Refuse a workflow id that is empty, too long or no text.

    Raises:
        TypeError, ValueError: it is.
    """
    _check_text(workflow_id, "workflow id", WORKFLOW_ID_CHARS_MAX)


def check_name(name: str, what: str) -> None:
    """Refuse a name that is empty, too long or no text; ``what`` it names is for the message.

    Raises:
        TypeError, ValueError: it is.
    """
    _check_text(name, what, NAME_CHARS_MAX)


def _check_text(text: str, what: str, chars_max: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"the {what} must be text, not {type(text).__name__}")
    if not text:
        raise ValueError(f"the {what} is empty")
    if len(text) > chars_max:
        raise ValueError(f"the {what} has {len(text)} characters; {chars_max} are allowed")
