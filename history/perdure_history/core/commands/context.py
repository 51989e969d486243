"""What a command handler gets to know besides the run and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from perdure_history.core.effects import Effect
from perdure_history.core.policy import Policy
from perdure_schemas.records import Event, EventAttributes, Payload, WorkflowExecutionStarted

__all__ = ["Context", "Steps", "no_events", "no_history", "payloads_too_large", "reason_too_long"]

#: An event that stands already, in another run, comes as a whole: it keeps its time.
Steps = Iterator[EventAttributes | Event | Effect]


def no_history(run_id: str) -> WorkflowExecutionStarted:
    """For decisions that need no history.

    Raises:
        LookupError: always.
    """
    raise LookupError(f"the history of run {run_id} is not at hand")


def no_events(run_id: str) -> list[Event]:
    """As :func:`no_history`.

    Raises:
        LookupError: always.
    """
    raise LookupError(f"the history of run {run_id} is not at hand")


class Context(msgspec.Struct, frozen=True, gc=False):
    """The circumstances of a decision; all of them follow from the log.

    Attributes:
        now_ms: the time of the decision: the command's timestamp, but never before the run's newest event.
        epoch: the owner's epoch.
        offset: the command's offset.
        repeated: whether the run has taken a signal with this command id before.
        started_of: the first event of a run, from its history.
        events_of: all numbered events of a run, from its history.
        since_epoch: the oldest epoch whose owner may have sent the effects of this very decision.
    """

    now_ms: int
    epoch: int
    offset: int
    repeated: bool
    policy: Policy
    started_of: Callable[[str], WorkflowExecutionStarted] = no_history
    events_of: Callable[[str], list[Event]] = no_events
    since_epoch: int = -1


def payloads_too_large(policy: Policy, payloads: Iterable[Payload]) -> str:
    """What to say when the payloads of one call are too large together; empty if they are not."""
    size_bytes = 0
    for payload in payloads:
        size_bytes += len(payload.data)
    if size_bytes <= policy.payload_bytes_max:
        return ""
    return (
        f"payloads of {size_bytes} bytes are larger than the limit of {policy.payload_bytes_max} bytes for one call;"
        " pass a reference to the data instead"
    )


def reason_too_long(policy: Policy, reason: str) -> str:
    """What to say when somebody gives a reason that is too long; empty if it is not."""
    if len(reason) <= policy.reason_chars_max:
        return ""
    return f"the reason has {len(reason)} characters; {policy.reason_chars_max} are allowed"
