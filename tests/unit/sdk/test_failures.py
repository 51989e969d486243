"""Exceptions to recorded failures and back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import exceptions
from perdure.converter import (
    DefaultFailureConverterWithEncodedAttributes,
    FailureConverter,
    PayloadConverter,
)
from perdure.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    RetryState,
    ServerError,
    TemporalError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from perdure_schemas.records import Failure, FailureKind

ACTIVITY_FIELDS: dict[str, Any] = {
    "scheduled_event_id": 5,
    "identity": "me",
    "activity_type": "pay",
    "activity_id": "1",
    "retry_state": RetryState.MAXIMUM_ATTEMPTS_REACHED,
}
CHILD_FIELDS: dict[str, Any] = {
    "workflow_id": "w",
    "run_id": "r",
    "workflow_type": "t",
    "retry_state": RetryState.TIMEOUT,
}


def to_failure(error: BaseException) -> Failure:
    return FailureConverter.default.to_failure(error, PayloadConverter.default)


def from_failure(failure: Failure) -> BaseException:
    return FailureConverter.default.from_failure(failure, PayloadConverter.default)


def round_trip(error: BaseException) -> Any:
    back = from_failure(to_failure(error))
    assert type(back) is type(error)
    assert isinstance(back, FailureError)
    assert back.failure is not None
    return back


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_application_errors_keep_all_they_say() -> None:
    back = round_trip(
        ApplicationError(
            "broken",
            1,
            {"a": 2},
            type="Broken",
            non_retryable=True,
            next_retry_delay=timedelta(seconds=1.5),
            category=ApplicationErrorCategory.BENIGN,
        )
    )
    assert back.message == "broken"
    assert str(back) == "Broken: broken"
    assert list(back.details) == [1, {"a": 2}]
    assert (back.type, back.non_retryable) == ("Broken", True)
    assert back.next_retry_delay == timedelta(seconds=1.5)
    assert back.category is ApplicationErrorCategory.BENIGN


def test_defaults_of_application_errors_survive() -> None:
    back = round_trip(ApplicationError("broken"))
    assert (back.type, back.non_retryable, back.next_retry_delay, list(back.details)) == (None, False, None, [])
    assert back.category is ApplicationErrorCategory.UNSPECIFIED


def test_an_ordinary_exception_becomes_an_application_error_of_its_type() -> None:
    back = from_failure(to_failure(raised(ValueError("no"))))
    assert isinstance(back, ApplicationError)
    assert (back.message, back.type, back.non_retryable) == ("no", "ValueError", False)
    assert any("test_failures.py" in note for note in back.__notes__)


def test_the_other_kinds_survive() -> None:
    assert list(round_trip(CancelledError("stop", 1)).details) == [1]
    assert list(round_trip(TerminatedError("end", 2)).details) == [2]
    assert round_trip(ServerError("no", non_retryable=True)).non_retryable
    timeout = round_trip(TimeoutError("late", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[3]))
    assert (timeout.type, list(timeout.last_heartbeat_details)) == (TimeoutType.HEARTBEAT, [3])
    activity = round_trip(ActivityError("failed", **ACTIVITY_FIELDS))
    assert {name: getattr(activity, name) for name in ACTIVITY_FIELDS} == ACTIVITY_FIELDS
    child = round_trip(
        ChildWorkflowError("failed", namespace="n", initiated_event_id=7, started_event_id=8, **CHILD_FIELDS)
    )
    assert {name: getattr(child, name) for name in CHILD_FIELDS} == CHILD_FIELDS
    assert child.initiated_event_id == 7


def test_causes_travel_along() -> None:
    inner = raised(ValueError("inner"))
    back = round_trip(raised(ApplicationError("outer"), inner))
    assert isinstance(back.cause, ApplicationError)
    assert back.cause.type == "ValueError"


def test_a_loop_of_causes_ends() -> None:
    first, second = ApplicationError("first"), ApplicationError("second")
    first.__cause__, second.__cause__ = second, first
    depth, failure = 0, to_failure(first)
    while failure.cause is not None:
        depth, failure = depth + 1, failure.cause
    assert 2 <= depth <= 50


def test_a_failure_from_the_log_goes_back_as_it_was() -> None:
    failure = Failure(kind=FailureKind.APPLICATION, message="m", type="T", source="elsewhere", stack_trace="s")
    assert to_failure(from_failure(failure)) is failure


def test_asyncio_cancellation_is_a_cancellation() -> None:
    assert to_failure(asyncio.CancelledError()).kind is FailureKind.CANCELED


def test_long_texts_are_cut_in_the_middle() -> None:
    failure = to_failure(ApplicationError("a" * 100_000 + "end"))
    assert len(failure.message) < 20_000
    assert failure.message.endswith("end")


def test_attributes_can_be_hidden_from_the_log() -> None:
    converter = DefaultFailureConverterWithEncodedAttributes()
    failure = converter.to_failure(raised(ApplicationError("secret")), PayloadConverter.default)
    assert failure.message == "Encoded failure"
    assert failure.stack_trace == ""
    assert failure.encoded_attributes is not None
    back = converter.from_failure(failure, PayloadConverter.default)
    assert isinstance(back, ApplicationError)
    assert back.message == "secret"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncio.CancelledError(), True),
        (CancelledError(), True),
        (raised(ActivityError("a", **ACTIVITY_FIELDS), CancelledError()), True),
        (raised(ActivityError("a", **ACTIVITY_FIELDS), ApplicationError("b")), False),
        (ApplicationError("b"), False),
    ],
)
def test_what_counts_as_a_cancellation(error: BaseException, expected: bool) -> None:
    assert is_cancelled_exception(error) is expected


def test_every_error_has_the_known_base_and_a_cause() -> None:
    for name in exceptions.__all__:
        thing = getattr(exceptions, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, TemporalError)
    inner = ValueError()
    error = raised(WorkflowAlreadyStartedError("w", "t", run_id="r"), inner)
    assert isinstance(error, WorkflowAlreadyStartedError)
    assert error.cause is inner
    assert (error.workflow_id, error.workflow_type, error.run_id) == ("w", "t", "r")
