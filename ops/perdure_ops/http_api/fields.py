"""Fields that several requests share, with their documentation. Pure data, used by the modules of resources."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from perdure.common import (
    AutoUpgradeVersioningOverride,
    PinnedVersioningOverride,
    Priority,
    RetryPolicy,
    VersioningOverride,
    WorkerDeploymentVersion,
)
from perdure_schemas import limits

__all__ = ["Arguments", "Body", "Name", "PriorityField", "Query", "Reason", "RetryPolicyField", "RunId", "RunQuery"]

RunId = Annotated[str, Meta(description="One of the workflow's runs; the current one if empty.")]
Reason = Annotated[str, Meta(description="Why; stands in the history.", max_length=limits.REASON_CHARS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
WorkflowId = Annotated[str, Meta(min_length=1, max_length=limits.WORKFLOW_ID_CHARS_MAX)]
Arguments = Annotated[
    list[msgspec.Raw],
    Meta(description="Arguments: any JSON values, or encoded payloads with `metadata` and `data` in base64."),
]
Milliseconds = Annotated[int, Meta(ge=0, le=100 * 365 * 86_400_000, description="In milliseconds.")]
WaitMs = Annotated[
    int,
    Meta(ge=0, le=limits.HTTP_WAIT_MS_MAX, description="How long to wait at most, in milliseconds; then ask again."),
]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The JSON of a request."""


class Query(msgspec.Struct, kw_only=True):
    """The query parameters of a request."""


class RunQuery(Query, kw_only=True):
    """Which run is meant."""

    run_id: RunId = ""


class RunBody(Body, kw_only=True):
    """Which run is meant."""

    run_id: RunId = ""


class ReasonBody(RunBody, kw_only=True):
    """Which run is meant, and why."""

    reason: Reason = ""


class RetryPolicyField(Body, kw_only=True):
    """How often and when a failed attempt is repeated; ``maximum_attempts`` 0 means without limit."""

    initial_interval_ms: Milliseconds = 1_000
    backoff_coefficient: Annotated[float, Meta(ge=1)] = 2.0
    maximum_interval_ms: Milliseconds | None = None
    maximum_attempts: Annotated[int, Meta(ge=0)] = 0
    non_retryable_error_types: list[str] = []

    def policy(self) -> RetryPolicy:
        """As the client takes it."""
        return RetryPolicy(
            initial_interval=timedelta(milliseconds=self.initial_interval_ms),
            backoff_coefficient=self.backoff_coefficient,
            maximum_interval=duration(self.maximum_interval_ms),
            maximum_attempts=self.maximum_attempts,
            non_retryable_error_types=self.non_retryable_error_types,
        )


class PriorityField(Body, kw_only=True):
    """In which order tasks that wait on one task queue are handed out: 1 first, then in turns by fairness key."""

    priority_key: Annotated[int, Meta(ge=limits.PRIORITY_FIRST, le=limits.PRIORITY_LAST)] | None = None
    fairness_key: str | None = None
    fairness_weight: Annotated[float, Meta(ge=limits.FAIRNESS_WEIGHT_MIN, le=limits.FAIRNESS_WEIGHT_MAX)] | None = None

    def priority(self) -> Priority:
        """As the client takes it."""
        return Priority(self.priority_key, self.fairness_key, self.fairness_weight)


class VersioningOverrideField(Body, kw_only=True):
    """What counts instead of what workers say of the run: pinned to ``<deployment>.<build id>``, or auto-upgrade."""

    pinned_version: str | None = None
    auto_upgrade: bool = False

    def override(self) -> VersioningOverride:
        """As the client takes it.

        Raises:
            ValueError: both are given, or neither, or the version is none.
        """
        if (self.pinned_version is not None) == self.auto_upgrade:
            raise ValueError("versioning_override: give either pinned_version or auto_upgrade")
        if self.pinned_version is None:
            return AutoUpgradeVersioningOverride()
        return PinnedVersioningOverride(WorkerDeploymentVersion.from_canonical_string(self.pinned_version))


def duration(ms: int | None) -> timedelta | None:
    """Milliseconds as a duration; ``None`` stays."""
    return None if ms is None else timedelta(milliseconds=ms)
