"""How large failures may be: one comes from user code, stands in several records, and must fit into each of them.

Called by the commands that take failures from workers.
"""

from __future__ import annotations

from perdure_schemas.limits import FAILURE_BYTES_MAX, FAILURE_CHAIN_MAX
from perdure_schemas.records import Failure

__all__ = ["bounded"]

_MESSAGE_CHARS_MAX = 8_000
_STACK_TRACE_CHARS_MAX = 32_000


def bounded(failure: Failure) -> Failure:
    """The failure itself; where it is too large what tells most of it, without details and causes, with cut texts."""
    size_bytes = 0
    causes = 0
    link: Failure | None = failure
    while link is not None and causes <= FAILURE_CHAIN_MAX:
        # A character has up to four bytes.
        size_bytes += 4 * (len(link.message) + len(link.stack_trace) + len(link.type) + len(link.source))
        size_bytes += sum(len(payload.data) for payload in link.details)
        size_bytes += sum(len(payload.data) for payload in link.last_heartbeat_details)
        if link.encoded_attributes is not None:
            size_bytes += len(link.encoded_attributes.data)
        causes += 1
        link = link.cause
    if size_bytes <= FAILURE_BYTES_MAX and link is None:
        return failure
    return Failure(
        kind=failure.kind,
        message=f"{failure.message[:_MESSAGE_CHARS_MAX]} [cut: the failure was too large]",
        stack_trace=failure.stack_trace[:_STACK_TRACE_CHARS_MAX],
        source=failure.source,
        type=failure.type[:_MESSAGE_CHARS_MAX],
        non_retryable=failure.non_retryable,
        next_retry_delay_ms=failure.next_retry_delay_ms,
        category=failure.category,
        timeout_type=failure.timeout_type,
        retry_state=failure.retry_state,
    )
