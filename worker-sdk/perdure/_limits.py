"""Bounds that are checked before anything is sent, so that an error names what is too large where it was made.

Called by the client and the worker. The numbers are in :mod:`perdure_schemas.limits`.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure_schemas.limits import NAME_CHARS_MAX, PAYLOAD_BYTES_MAX, WORKFLOW_ID_CHARS_MAX
from perdure_schemas.records import Payload


class PayloadTooLargeError(ValueError):
    """The values of one call are larger than the platform takes."""


def payload_bytes(payloads: Iterable[Payload]) -> int:
    """The size of payloads: data and metadata."""
    return sum(
        len(payload.data) + sum(len(key) + len(value) for key, value in payload.metadata.items())
        for payload in payloads
    )


def check_payloads(payloads: Iterable[Payload], what: str) -> None:
    """Refuse payloads that are too large together.

    Raises:
        PayloadTooLargeError: they are; the message names ``what`` and the bound.
    """
    size = payload_bytes(payloads)
    if size > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(
            f"{what} has {size} bytes; {PAYLOAD_BYTES_MAX} are allowed. Send a reference to the data instead"
        )


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
