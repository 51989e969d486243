"""Activities over HTTP: those that are completed from outside of a worker, and what operators do to pending ones."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta

from perdure.client import AsyncActivityCancelledError, AsyncActivityHandle
from perdure.exceptions import ApplicationError, ApplicationErrorCategory
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import Api
from perdure_ops.http_api.operations import Answer, Nothing, Operations
from perdure_ops.http_api.problems import ProblemError
from perdure_ops.http_api.values import raw_values
from perdure_schemas import records
from perdure_schemas.limits import TASK_TOKEN_BYTES_MAX
from perdure_schemas.records import CommandBody

__all__ = ["operation"]

operation = Operations("Activities", "Completing activities from outside of a worker, and operating on pending ones.")

_NULL = msgspec.Raw(b"null")


# --- from outside of a worker -----------------------------------------------------------------------------------------


class ActivityReference(fields.Body, kw_only=True):
    """An activity that left its worker: by its task token, or by the ids of its workflow and of itself."""

    task_token: Annotated[
        str, Meta(max_length=2 * TASK_TOKEN_BYTES_MAX, description="`activity.info().task_token` in base64.")
    ] = ""
    workflow_id: str = ""
    run_id: fields.RunId = ""
    activity_id: str = ""

    def handle(self, api: Api) -> AsyncActivityHandle:
        """The activity's handle.

        Raises:
            ProblemError: the token is no base64. ValueError: it is none, or ids are missing, or both are given.
        """
        return api.client.get_async_activity_handle(
            workflow_id=self.workflow_id or None,
            run_id=self.run_id or None,
            activity_id=self.activity_id or None,
            task_token=self._token(),
        )

    def _token(self) -> bytes | None:
        try:
            return base64.b64decode(self.task_token, validate=True) if self.task_token else None
        except (binascii.Error, ValueError):
            detail = "task_token is no base64; send activity.info().task_token in base64"
            raise ProblemError(400, "INVALID_ARGUMENT", detail, "$.task_token") from None


class CompleteBody(ActivityReference, kw_only=True):
    """Which activity, and what it returned."""

    result: msgspec.Raw = msgspec.field(default_factory=lambda: _NULL)


class FailBody(ActivityReference, kw_only=True):
    """Which activity, and why it failed."""

    message: str = ""
    type: str | None = None
    non_retryable: bool = False
    next_retry_delay_ms: fields.Milliseconds | None = None
    benign: Annotated[bool, Meta(description="The failure is expected: it is logged at debug level only.")] = False
    details: fields.Arguments = []
    last_heartbeat_details: fields.Arguments = []


class DetailsBody(ActivityReference, kw_only=True):
    """Which activity, and details."""

    details: fields.Arguments = []


class HeartbeatTaken(Answer, kw_only=True):
    """The heartbeat was taken; what the engine wants of the activity."""

    cancel_requested: bool = False
    paused: bool = False
    reset: bool = False


@operation("POST", "/activities/complete")
async def complete_activity(api: Api, body: CompleteBody) -> Nothing:
    """Complete an activity with a result."""
    await body.handle(api).complete(raw_values([body.result], "result")[0])
    return Nothing()


@operation("POST", "/activities/fail")
async def fail_activity(api: Api, body: FailBody) -> Nothing:
    """Fail an activity; its retry policy applies."""
    error = ApplicationError(
        body.message,
        *raw_values(body.details, "details"),
        type=body.type,
        non_retryable=body.non_retryable,
        next_retry_delay=fields.duration(body.next_retry_delay_ms),
        category=ApplicationErrorCategory.BENIGN if body.benign else ApplicationErrorCategory.UNSPECIFIED,
    )
    heartbeat = raw_values(body.last_heartbeat_details, "last_heartbeat_details")
    await body.handle(api).fail(error, last_heartbeat_details=heartbeat)
    return Nothing()


@operation("POST", "/activities/heartbeat")
async def heartbeat_activity(api: Api, body: DetailsBody) -> HeartbeatTaken:
    """Say that an activity lives, and how far it is."""
    try:
        await body.handle(api).heartbeat(*raw_values(body.details, "details"))
    except AsyncActivityCancelledError as wanted:
        found = wanted.details
        if found is None:
            return HeartbeatTaken(cancel_requested=True)
        return HeartbeatTaken(cancel_requested=found.cancel_requested, paused=found.paused, reset=found.reset)
    return HeartbeatTaken()


@operation("POST", "/activities/report-cancellation")
async def report_cancellation(api: Api, body: DetailsBody) -> Nothing:
    """Say that an activity stopped because it was asked to."""
    await body.handle(api).report_cancellation(*raw_values(body.details, "details"))
    return Nothing()


# --- operators --------------------------------------------------------------------------------------------------------


class PendingReference(fields.RunBody, kw_only=True):
    """Pending activities of a workflow: one by its id, or all of a type."""

    workflow_id: fields.WorkflowId
    activity_id: str = ""
    activity_type: str = ""


class PauseActivitiesBody(PendingReference, kw_only=True):
    """Which activities, and why."""

    reason: fields.Reason = ""


class UnpauseActivitiesBody(PendingReference, kw_only=True):
    """Which activities, and how they go on."""

    reset_attempts: Annotated[bool, Meta(description="Count attempts from 1 again.")] = False
    reset_heartbeats: Annotated[bool, Meta(description="Drop heartbeat details.")] = False
    jitter_ms: Annotated[fields.Milliseconds, Meta(description="Begin at a random time within this one.")] = 0


class ResetActivitiesBody(PendingReference, kw_only=True):
    """Which activities, and how they go on."""

    keep_paused: bool = False
    reset_heartbeats: Annotated[bool, Meta(description="Drop heartbeat details.")] = False
    restore_original_options: Annotated[bool, Meta(description="With the options that the workflow gave.")] = False
    jitter_ms: Annotated[fields.Milliseconds, Meta(description="Begin at a random time within this one.")] = 0


class ActivityOptionsBody(PendingReference, kw_only=True):
    """Which activities, and their new options; what is not given stays as it is."""

    task_queue: str = ""
    schedule_to_close_timeout_ms: fields.Milliseconds | None = None
    schedule_to_start_timeout_ms: fields.Milliseconds | None = None
    start_to_close_timeout_ms: fields.Milliseconds | None = None
    heartbeat_timeout_ms: fields.Milliseconds | None = None
    retry_initial_interval_ms: fields.Milliseconds | None = None
    retry_maximum_interval_ms: fields.Milliseconds | None = None
    retry_backoff_coefficient: Annotated[float, Meta(ge=1)] | None = None
    retry_maximum_attempts: Annotated[int, Meta(ge=0)] | None = None
    restore_original: Annotated[bool, Meta(description="Begin with the options that the workflow gave.")] = False


async def _tell(api: Api, body: PendingReference, command: CommandBody) -> Nothing:
    if bool(body.activity_id) == bool(body.activity_type):
        detail = "give either activity_id or activity_type, and not both"
        raise ProblemError(400, "INVALID_ARGUMENT", detail, "$.activity_id")
    await api.tell(body.workflow_id, body.run_id, command)
    return Nothing()


@operation("POST", "/activities/pause")
async def pause_activity(api: Api, body: PauseActivitiesBody) -> Nothing:
    """Begin no attempt of pending activities; one that runs and has a heartbeat timeout is told to stop."""
    command = records.PauseActivity(activity_id=body.activity_id, activity_type=body.activity_type, reason=body.reason)
    return await _tell(api, body, command)


@operation("POST", "/activities/unpause")
async def unpause_activity(api: Api, body: UnpauseActivitiesBody) -> Nothing:
    """Let paused activities go on."""
    command = records.UnpauseActivity(
        activity_id=body.activity_id,
        activity_type=body.activity_type,
        reset_attempts=body.reset_attempts,
        reset_heartbeat=body.reset_heartbeats,
        jitter_ms=body.jitter_ms,
    )
    return await _tell(api, body, command)


@operation("POST", "/activities/reset")
async def reset_activity(api: Api, body: ResetActivitiesBody) -> Nothing:
    """Count the attempts of pending activities from 1 again: at once, or from the next one on if one runs."""
    command = records.ResetActivity(
        activity_id=body.activity_id,
        activity_type=body.activity_type,
        keep_paused=body.keep_paused,
        restore_original_options=body.restore_original_options,
        reset_heartbeats=body.reset_heartbeats,
        jitter_ms=body.jitter_ms,
    )
    return await _tell(api, body, command)


@operation("POST", "/activities/update-options")
async def update_activity_options(api: Api, body: ActivityOptionsBody) -> Nothing:
    """Change options of pending activities."""
    given = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("workflow_id", "run_id")}
    return await _tell(api, body, records.UpdateActivityOptions(**given))
