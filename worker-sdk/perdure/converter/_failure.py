"""Exceptions to recorded failures and back.

Invariants: a failure that came from the log and was turned into an exception goes back as it was; the chain of
``__cause__`` is kept, cut where it loops or is very long; texts are bounded, so that a runaway stack trace never makes
a record too large. Called by the client, the worker and the workflow runtime.
"""

from __future__ import annotations

import asyncio
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from perdure import exceptions
from perdure.common import to_milliseconds
from perdure.converter._payload import PayloadConverter
from perdure_schemas import records
from perdure_schemas.limits import (
    FAILURE_CAUSES_MAX,
    FAILURE_CHAIN_MAX,
    FAILURE_MESSAGE_CHARS_MAX,
    FAILURE_STACK_TRACE_CHARS_MAX,
)
from perdure_schemas.records import Failure, FailureKind, Payload

_SOURCE = "perdure"


class FailureConverter(ABC):
    """Turns exceptions into failures and back. Failures are immutable, so :meth:`to_failure` returns one."""

    default: ClassVar[FailureConverter]

    @abstractmethod
    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter) -> Failure:
        """The failure to record for an exception.

        Raises:
            Exception: one of its details cannot be encoded.
        """

    @abstractmethod
    def from_failure(self, failure: Failure, payload_converter: PayloadConverter) -> BaseException:
        """The exception a recorded failure stands for, with its causes.

        Raises:
            Exception: one of its details cannot be decoded; what the payload converter raised.
        """


class DefaultFailureConverter(FailureConverter):
    """The converter used when none is given.

    Args:
        encode_common_attributes: Move message and stack trace into a payload, so that a codec can encrypt them.
    """

    def __init__(self, *, encode_common_attributes: bool = False) -> None:
        self._encode_common_attributes = encode_common_attributes

    @property
    def encodes_common_attributes(self) -> bool:
        """Whether message and stack trace are hidden in a payload."""
        return self._encode_common_attributes

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter) -> Failure:
        """See the base class."""
        return _cut(self._to_failure(exception, payload_converter, FAILURE_CAUSES_MAX))

    def from_failure(self, failure: Failure, payload_converter: PayloadConverter) -> BaseException:
        """See the base class."""
        message, stack_trace = failure.message, failure.stack_trace
        if failure.encoded_attributes is not None:
            try:
                hidden = payload_converter.from_payload(failure.encoded_attributes)
                message = hidden.get("message", message)
                stack_trace = hidden.get("stack_trace", stack_trace)
            except Exception as error:
                # Unreadable here, for want of a key perhaps: the error is still worth more than none.
                stack_trace = f"(the hidden message and stack trace cannot be read: {error})"
        exception = _exception_of(failure, message, payload_converter)
        exception._failure = failure
        if stack_trace:
            exception.add_note(f"Recorded stack trace:\n{stack_trace}")
        if failure.cause is not None:
            exception.__cause__ = self.from_failure(failure.cause, payload_converter)
        return exception

    def _to_failure(self, exception: BaseException, converter: PayloadConverter, causes_left: int) -> Failure:
        if isinstance(exception, exceptions.FailureError) and exception.failure is not None:
            return exception.failure
        cause = exception.__cause__
        fields = _fields_of(exception, converter)
        fields["message"] = _bounded(fields["message"], FAILURE_MESSAGE_CHARS_MAX)
        fields["stack_trace"] = _bounded(
            "".join(traceback.format_tb(exception.__traceback__)), FAILURE_STACK_TRACE_CHARS_MAX
        )
        if self._encode_common_attributes:
            fields["encoded_attributes"] = converter.to_payload(
                {"message": fields["message"], "stack_trace": fields["stack_trace"]}
            )
            fields |= {"message": "Encoded failure", "stack_trace": ""}
        if cause is not None and causes_left > 0:
            fields["cause"] = self._to_failure(cause, converter, causes_left - 1)
        return Failure(source=_SOURCE, **fields)


class DefaultFailureConverterWithEncodedAttributes(DefaultFailureConverter):
    """The default converter, with message and stack trace moved into a payload that a codec can encrypt."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


FailureConverter.default = DefaultFailureConverter()


def loggable(error: BaseException, converter: FailureConverter) -> BaseException | None:
    """What a log may say of an error: all of it, or nothing where its message is hidden from the log of events, too.

    Args:
        error: The error.
        converter: The failure converter in use.
    """
    return None if getattr(converter, "encodes_common_attributes", False) else error


def _cut(failure: Failure) -> Failure:
    """The failure without what is too far down its chain of causes: failures of workflows and their children add up."""
    chain: list[Failure] = []
    link: Failure | None = failure
    while link is not None and len(chain) <= FAILURE_CHAIN_MAX:
        chain.append(link)
        link = link.cause
    if link is None:
        return failure
    kept = msgspec.structs.replace(chain.pop(), cause=None)
    while chain:
        kept = msgspec.structs.replace(chain.pop(), cause=kept)
    return kept


def _bounded(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _encoded(details: Sequence[Any], converter: PayloadConverter) -> list[Payload]:
    return converter.to_payloads(details) if details else []


def _fields_of(exception: BaseException, converter: PayloadConverter) -> dict[str, Any]:
    match exception:
        case exceptions.ApplicationError():
            delay = exception.next_retry_delay
            return {
                "kind": FailureKind.APPLICATION,
                "message": exception.message,
                "type": exception.type or "",
                "non_retryable": exception.non_retryable,
                "details": _encoded(exception.details, converter),
                "next_retry_delay_ms": None if delay is None else to_milliseconds(delay, "next_retry_delay"),
                "category": exception.category.name if exception.category else "",
            }
        case exceptions.CancelledError():
            return {
                "kind": FailureKind.CANCELED,
                "message": exception.message,
                "details": _encoded(exception.details, converter),
            }
        case asyncio.CancelledError():
            return {"kind": FailureKind.CANCELED, "message": str(exception) or "Cancelled"}
        case exceptions.TerminatedError():
            return {
                "kind": FailureKind.TERMINATED,
                "message": exception.message,
                "details": _encoded(exception.details, converter),
            }
        case exceptions.TimeoutError():
            return {
                "kind": FailureKind.TIMEOUT,
                "message": exception.message,
                "timeout_type": None if exception.type is None else records.TimeoutType(exception.type.name),
                "last_heartbeat_details": _encoded(exception.last_heartbeat_details, converter),
            }
        case exceptions.ServerError():
            return {
                "kind": FailureKind.SERVER,
                "message": exception.message,
                "non_retryable": exception.non_retryable,
            }
        case exceptions.ActivityError():
            return {
                "kind": FailureKind.ACTIVITY,
                "message": exception.message,
                "scheduled_event_id": exception.scheduled_event_id,
                "identity": exception.identity,
                "activity_type": exception.activity_type,
                "activity_id": exception.activity_id,
                "retry_state": _recorded_retry_state(exception.retry_state),
            }
        case exceptions.ChildWorkflowError():
            return {
                "kind": FailureKind.CHILD_WORKFLOW,
                "message": exception.message,
                "workflow_id": exception.workflow_id,
                "run_id": exception.run_id,
                "workflow_type": exception.workflow_type,
                "scheduled_event_id": exception.initiated_event_id,
                "retry_state": _recorded_retry_state(exception.retry_state),
            }
        case _:
            return {"kind": FailureKind.APPLICATION, "message": str(exception), "type": type(exception).__name__}


def _exception_of(failure: Failure, message: str, converter: PayloadConverter) -> exceptions.FailureError:
    match failure.kind:
        case FailureKind.APPLICATION:
            delay_ms = failure.next_retry_delay_ms
            return exceptions.ApplicationError(
                message,
                *_decoded(failure.details, converter),
                type=failure.type or None,
                non_retryable=failure.non_retryable,
                next_retry_delay=None if delay_ms is None else timedelta(milliseconds=delay_ms),
                category=(
                    exceptions.ApplicationErrorCategory.BENIGN
                    if failure.category == "BENIGN"
                    else exceptions.ApplicationErrorCategory.UNSPECIFIED
                ),
            )
        case FailureKind.CANCELED:
            return exceptions.CancelledError(message or "Cancelled", *_decoded(failure.details, converter))
        case FailureKind.TERMINATED:
            return exceptions.TerminatedError(message or "Terminated", *_decoded(failure.details, converter))
        case FailureKind.TIMEOUT:
            kind = failure.timeout_type
            return exceptions.TimeoutError(
                message or "Timeout",
                type=None if kind is None else exceptions.TimeoutType[kind.name],
                last_heartbeat_details=_decoded(failure.last_heartbeat_details, converter),
            )
        case FailureKind.SERVER:
            return exceptions.ServerError(message, non_retryable=failure.non_retryable)
        case FailureKind.ACTIVITY:
            return exceptions.ActivityError(
                message or "Activity task failed",
                scheduled_event_id=failure.scheduled_event_id,
                identity=failure.identity,
                activity_type=failure.activity_type,
                activity_id=failure.activity_id,
                retry_state=_retry_state(failure.retry_state),
            )
        case FailureKind.CHILD_WORKFLOW:
            return exceptions.ChildWorkflowError(
                message or "Child workflow execution failed",
                namespace="",
                workflow_id=failure.workflow_id,
                run_id=failure.run_id,
                workflow_type=failure.workflow_type,
                initiated_event_id=failure.scheduled_event_id,
                started_event_id=0,
                retry_state=_retry_state(failure.retry_state),
            )


def _decoded(details: Sequence[Payload], converter: PayloadConverter) -> list[Any]:
    return converter.from_payloads(details) if details else []


def _recorded_retry_state(state: exceptions.RetryState | None) -> records.RetryState | None:
    # INTERNAL_SERVER_ERROR has no counterpart in the log: nothing in the engine ends a retry for that reason.
    return (
        records.RetryState[state.name] if state is not None and state.name in records.RetryState.__members__ else None
    )


def _retry_state(state: records.RetryState | None) -> exceptions.RetryState | None:
    return None if state is None else exceptions.RetryState[state.name]
