"""How attempts of activities end, as records for history: results, failures, cancellations.

Invariant: an error that cannot be recorded becomes one that can. Called by :mod:`perdure.worker._activities`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec.structs import replace

from perdure._activity_context import CompleteAsyncError
from perdure._limits import PayloadTooLargeError, check_payloads
from perdure.converter import DataConverter
from perdure.converter._codec import codec_failure
from perdure.converter._failure import loggable
from perdure.converter._walk import payloads_in
from perdure.exceptions import ApplicationError, ApplicationErrorCategory, CancelledError
from perdure.worker._attempt import Attempt
from perdure.worker._metrics import WorkerMetrics
from perdure.worker._options import WorkerOptions
from perdure_schemas.records import (
    ActivityLeftOpen,
    ActivityTask,
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    Failure,
)

_logger = logging.getLogger("perdure.worker")

#: How an attempt may end, as it is told to history.
Ended = ActivityTaskCompleted | ActivityTaskFailed | ActivityTaskCanceled | ActivityLeftOpen


class Ends:
    """Makes the records of one worker.

    Args:
        options: The worker's options.
        converter: Converts results and errors.
        has_codec: Whether payloads change after this, so that their size is not known yet.
        worker_id: The worker.
        metrics: Told of each end.
    """

    def __init__(
        self,
        options: WorkerOptions,
        converter: DataConverter,
        *,
        has_codec: bool,
        worker_id: str,
        metrics: WorkerMetrics,
    ) -> None:
        self._metrics = metrics
        self._options = options
        self._converter = converter
        self._has_codec = has_codec
        self._worker_id = worker_id

    def returned(self, attempt: Attempt, result: Any) -> Ended | None:
        """The attempt returned; ``None`` if nobody wants the result."""
        self._note(attempt, "completed")
        if attempt.gone:
            return None
        return ActivityTaskCompleted(
            scheduled_event_id=attempt.task.scheduled_event_id,
            attempt=attempt.task.attempt,
            started_time_ms=attempt.started_time_ms,
            result=self._converter.payload_converter.to_payloads([result]),
        )

    def raised(self, attempt: Attempt, error: BaseException) -> Ended | None:
        """The attempt raised; ``None`` if nobody wants to know."""
        cancellation = attempt.cancellation
        ended = isinstance(error, (CompleteAsyncError, asyncio.CancelledError, CancelledError))
        self._note(attempt, "other" if ended else "failed")
        if attempt.gone:
            return None
        if isinstance(error, CompleteAsyncError) and attempt.on_local_end is not None:
            error = ApplicationError("a local activity cannot be completed from outside", non_retryable=True)
        if isinstance(error, CompleteAsyncError):
            return ActivityLeftOpen(
                scheduled_event_id=attempt.task.scheduled_event_id,
                attempt=attempt.task.attempt,
                started_time_ms=attempt.started_time_ms,
                worker_id=self._worker_id,
            )
        if isinstance(error, (asyncio.CancelledError, CancelledError)):
            if cancellation is not None and cancellation.cancel_requested:
                try:
                    return self._cancelled(attempt, error)
                except Exception as conversion_error:
                    return self.failed(attempt, conversion_error)
            if cancellation is not None and cancellation.timed_out:
                return None  # the engine's own clock decides about it
            if cancellation is not None and cancellation.paused:
                error = ApplicationError("the activity is paused", type="ActivityPause")
            elif cancellation is not None and cancellation.reset:
                error = ApplicationError("the activity was reset", type="ActivityReset")
            elif cancellation is not None and cancellation.worker_shutdown:
                error = ApplicationError("the worker stopped before the activity was done", type="WorkerShutdown")
            else:
                error = ApplicationError(str(error) or "cancelled by itself", type=type(error).__name__)
        benign = isinstance(error, ApplicationError) and error.category is ApplicationErrorCategory.BENIGN
        _logger.log(
            logging.DEBUG if benign else logging.WARNING,
            "event=activity_failed activity=%s attempt=%d workflow=%s run=%s",
            attempt.task.options.activity_type,
            attempt.task.attempt,
            attempt.run.workflow_id,
            attempt.run.run_id,
            exc_info=loggable(error, self._converter.failure_converter),
        )
        return self.failed(attempt, error)

    def _note(self, attempt: Attempt, outcome: str) -> None:
        local = attempt.on_local_end is not None
        self._metrics.activity_ended(attempt.task, attempt.started_time_ms, local=local, outcome=outcome)

    def _cancelled(self, attempt: Attempt, error: BaseException) -> ActivityTaskCanceled:
        details = error.details if isinstance(error, CancelledError) else ()
        return ActivityTaskCanceled(
            scheduled_event_id=attempt.task.scheduled_event_id,
            attempt=attempt.task.attempt,
            started_time_ms=attempt.started_time_ms,
            details=self._converter.payload_converter.to_payloads(details) if details else [],
        )

    def failed(self, attempt: Attempt, error: BaseException) -> ActivityTaskFailed:
        """The attempt failed with an error."""
        return ActivityTaskFailed(
            scheduled_event_id=attempt.task.scheduled_event_id,
            attempt=attempt.task.attempt,
            started_time_ms=attempt.started_time_ms,
            failure=self._failure(error),
        )

    def _failure(self, error: BaseException) -> Failure:
        to_failure, converter = self._converter.failure_converter.to_failure, self._converter.payload_converter
        try:
            failure = to_failure(error, converter)
            if not self._has_codec:
                check_payloads(failure.details, f"the details of a {type(error).__name__}")
            return failure
        except Exception as conversion_error:
            text = f"{type(error).__name__}: {error} (and it could not be recorded: {conversion_error})"
            return to_failure(ApplicationError(text, type=type(error).__name__), converter)

    def checked(
        self, attempt: Attempt, records: list[Ended | ActivityTaskHeartbeat]
    ) -> list[Ended | ActivityTaskHeartbeat]:
        """Records as they go out, after the codec.

        Raises:
            PayloadTooLargeError: one is too large.
        """
        names: dict[type, str] = {ActivityTaskCompleted: "result", ActivityTaskHeartbeat: "heartbeat"}
        for record in records:
            what = names.get(type(record), "failure")
            check_payloads(payloads_in(record), f"the {what} of activity {attempt.task.options.activity_type}")
        return records

    def unsendable(self, attempt: Attempt, error: Exception) -> ActivityTaskFailed:
        """The failure instead of what is too large, or what the codec refused: nothing of that goes out."""
        failure = codec_failure(error)
        if isinstance(error, PayloadTooLargeError):
            failure = replace(failure, message=str(error), type="PayloadSizeExceeded", non_retryable=True)
        return ActivityTaskFailed(
            scheduled_event_id=attempt.task.scheduled_event_id,
            attempt=attempt.task.attempt,
            started_time_ms=attempt.started_time_ms,
            failure=failure,
        )

    def unknown(self, task: ActivityTask) -> ActivityTaskFailed:
        """The worker has no such activity."""
        known = ", ".join(sorted(self._options.activities)) or "none"
        error = ApplicationError(
            f"worker {self._options.identity} on task queue {self._options.task_queue!r} has no activity named "
            f"{task.options.activity_type!r}; it has: {known}",
            type="NotFoundError",
            non_retryable=True,
        )
        _logger.warning("event=activity_unknown activity=%s", task.options.activity_type)
        return ActivityTaskFailed(
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            started_time_ms=task.attempt_scheduled_time_ms,
            failure=self._failure(error),
        )
