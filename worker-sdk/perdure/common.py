"""Policies and small types shared by the client, the worker and workflow code.

Names, fields and defaults are those of the ``temporalio`` Python package. Invariant: what is in here is plain immutable
data; the functions that turn it into records of the log stand beside it and raise ``ValueError`` with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import ClassVar

from perdure._metric_meter import (
    MetricAttributes,
    MetricCommon,
    MetricCounter,
    MetricGauge,
    MetricGaugeFloat,
    MetricHistogram,
    MetricHistogramFloat,
    MetricHistogramTimedelta,
    MetricMeter,
)
from perdure._search_attributes import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)
from perdure._versioning import (
    AutoUpgradeVersioningOverride,
    PinnedVersioningOverride,
    VersioningBehavior,
    VersioningOverride,
    WorkerDeploymentVersion,
)
from perdure_schemas import limits, records
from perdure_schemas.records import Payload

__all__ = [
    "AutoUpgradeVersioningOverride",
    "MetricAttributes",
    "MetricCommon",
    "MetricCounter",
    "MetricGauge",
    "MetricGaugeFloat",
    "MetricHistogram",
    "MetricHistogramFloat",
    "MetricHistogramTimedelta",
    "MetricMeter",
    "Payload",
    "PinnedVersioningOverride",
    "Priority",
    "QueryRejectCondition",
    "RawValue",
    "RetryPolicy",
    "SearchAttributeIndexedValueType",
    "SearchAttributeKey",
    "SearchAttributePair",
    "SearchAttributeUpdate",
    "TypedSearchAttributes",
    "VersioningBehavior",
    "VersioningOverride",
    "WorkerDeploymentVersion",
    "WorkflowIDConflictPolicy",
    "WorkflowIDReusePolicy",
]

_PRIORITY_KEY_DEFAULT = 3


@dataclass
class RetryPolicy:
    """How often, and when, a failed activity is tried again.

    Attributes:
        initial_interval: Delay before the second attempt.
        backoff_coefficient: Each further delay is this times the one before; at least 1.
        maximum_interval: No delay is longer; 100 times the initial one if not set.
        maximum_attempts: No more attempts than this; 0 means without limit.
        non_retryable_error_types: Types of application errors that are not retried.
    """

    initial_interval: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    maximum_interval: timedelta | None = None
    maximum_attempts: int = 0
    non_retryable_error_types: Sequence[str] | None = None

    def to_record(self) -> records.RetryPolicy:
        """The policy as it stands in the log.

        Raises:
            ValueError: a field has a value that makes no sense; the message names it.
        """
        self._validate()
        return records.RetryPolicy(
            initial_interval_ms=to_milliseconds(self.initial_interval),
            backoff_coefficient=float(self.backoff_coefficient),
            maximum_interval_ms=None if self.maximum_interval is None else to_milliseconds(self.maximum_interval),
            maximum_attempts=self.maximum_attempts,
            non_retryable_error_types=list(self.non_retryable_error_types or ()),
        )

    @staticmethod
    def from_record(record: records.RetryPolicy) -> RetryPolicy:
        """The policy a record of the log holds."""
        return RetryPolicy(
            initial_interval=timedelta(milliseconds=record.initial_interval_ms),
            backoff_coefficient=record.backoff_coefficient,
            maximum_interval=(
                None if record.maximum_interval_ms is None else timedelta(milliseconds=record.maximum_interval_ms)
            ),
            maximum_attempts=record.maximum_attempts,
            non_retryable_error_types=record.non_retryable_error_types or None,
        )

    def _validate(self) -> None:
        if isinstance(self.non_retryable_error_types, str):
            raise ValueError("RetryPolicy.non_retryable_error_types is one string; give a list of type names")
        if self.maximum_attempts < 0:
            raise ValueError(f"RetryPolicy.maximum_attempts is {self.maximum_attempts}; it cannot be negative")
        if self.maximum_attempts == 1:
            return  # without a retry the other fields have no effect
        if self.initial_interval < timedelta(milliseconds=1):
            raise ValueError(f"RetryPolicy.initial_interval is {self.initial_interval}; it must be at least 1 ms")
        if self.backoff_coefficient < 1:
            raise ValueError(f"RetryPolicy.backoff_coefficient is {self.backoff_coefficient}; it must be at least 1")
        if self.maximum_interval is not None and self.maximum_interval < self.initial_interval:
            raise ValueError(
                f"RetryPolicy.maximum_interval is {self.maximum_interval}; "
                f"it cannot be less than the initial interval of {self.initial_interval}"
            )


class WorkflowIDReusePolicy(IntEnum):
    """What a start does when a *closed* workflow has the same id."""

    ALLOW_DUPLICATE = 1
    ALLOW_DUPLICATE_FAILED_ONLY = 2
    REJECT_DUPLICATE = 3
    TERMINATE_IF_RUNNING = 4


class WorkflowIDConflictPolicy(IntEnum):
    """What a start does when a *running* workflow has the same id. ``UNSPECIFIED`` means ``FAIL``."""

    UNSPECIFIED = 0
    FAIL = 1
    USE_EXISTING = 2
    TERMINATE_EXISTING = 3


class QueryRejectCondition(IntEnum):
    """In which states of a workflow a query is not answered."""

    NONE = 1
    NOT_OPEN = 2
    NOT_COMPLETED_CLEANLY = 3


@dataclass(frozen=True)
class RawValue:
    """A payload that passes through the payload converter as it is, as parameter or as result."""

    payload: Payload


@dataclass(frozen=True)
class Priority:
    """In which order tasks that wait on the same task queue are handed out.

    Attributes:
        priority_key: 1 (first) to 5 (last); 3 if not set.
        fairness_key: Tasks of different keys take turns, at most 64 bytes. None: no key.
        fairness_weight: How many turns this key gets relative to others, 0.001 to 1000; 1 if not set.
    """

    priority_key: int | None = None
    fairness_key: str | None = None
    fairness_weight: float | None = None

    #: What applies when no priority is given.
    default: ClassVar[Priority]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            TypeError: ``priority_key`` is no integer. ValueError: a field is out of its range.
        """
        if self.priority_key is not None:
            if not isinstance(self.priority_key, int):
                raise TypeError("Priority.priority_key must be an integer")
            if not limits.PRIORITY_FIRST <= self.priority_key <= limits.PRIORITY_LAST:
                raise ValueError(
                    f"Priority.priority_key is {self.priority_key};"
                    f" it must be {limits.PRIORITY_FIRST} to {limits.PRIORITY_LAST}"
                )
        if self.fairness_key is not None and len(self.fairness_key.encode()) > limits.FAIRNESS_KEY_BYTES_MAX:
            raise ValueError(f"Priority.fairness_key is longer than {limits.FAIRNESS_KEY_BYTES_MAX} bytes")
        weight = self.fairness_weight
        if weight is not None and not limits.FAIRNESS_WEIGHT_MIN <= weight <= limits.FAIRNESS_WEIGHT_MAX:
            raise ValueError(
                f"Priority.fairness_weight is {weight};"
                f" it must be {limits.FAIRNESS_WEIGHT_MIN} to {limits.FAIRNESS_WEIGHT_MAX:g}"
            )

    def or_else(self, other: Priority) -> Priority:
        """This one, with the fields that are not set taken from another one."""
        return Priority(
            self.priority_key if self.priority_key is not None else other.priority_key,
            self.fairness_key if self.fairness_key is not None else other.fairness_key,
            self.fairness_weight if self.fairness_weight is not None else other.fairness_weight,
        )

    def to_record(self) -> records.TaskPriority:
        """The priority as it stands in the log."""
        priority, fairness_key, fairness_weight = self.to_fields()
        return records.TaskPriority(priority=priority, fairness_key=fairness_key, fairness_weight=fairness_weight)

    def to_fields(self) -> tuple[int, str, float]:
        """Priority key, fairness key and weight as they stand in the log, with the defaults filled in."""
        return (
            _PRIORITY_KEY_DEFAULT if self.priority_key is None else self.priority_key,
            self.fairness_key or "",
            1.0 if self.fairness_weight is None else self.fairness_weight,
        )


Priority.default = Priority()


def to_milliseconds(duration: timedelta, what: str = "duration") -> int:
    """Whole milliseconds of a duration, rounded up, so that a short one never becomes none.

    Args:
        duration: The duration.
        what: What it is, for the error message.

    Raises:
        TypeError: it is no ``timedelta``. ValueError: it is negative.
    """
    if not isinstance(duration, timedelta):
        raise TypeError(f"{what} must be a datetime.timedelta, not {type(duration).__name__}")
    if duration < timedelta(0):
        raise ValueError(f"{what} is {duration}; it cannot be negative")
    return -(-duration // timedelta(milliseconds=1))


def require_unused(options: Mapping[str, object], owner: str) -> None:
    """Refuse options that are known from other platforms and not supported here.

    Args:
        options: Those options as given; ``None``, ``False`` and empty ones count as not given.
        owner: What they were given to, for the message.

    Raises:
        NotImplementedError: one of them was given; the message names it.
    """
    given = sorted(name for name, value in options.items() if value)
    if given:
        raise NotImplementedError(
            f"{owner} does not support {', '.join(given)} yet; leave {'it' if len(given) == 1 else 'them'} out"
        )
