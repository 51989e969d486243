"""Makes an activity's :class:`perdure.activity.Info` from its task. Called when an attempt begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perdure._task_token import TaskToken
from perdure.activity import Info
from perdure.common import Priority, RetryPolicy
from perdure.converter import PayloadConverter
from perdure.worker._attempt import Attempt
from perdure_schemas.records import ActivityTask


def info_of(attempt: Attempt, task: ActivityTask, task_queue: str, namespace: str, converter: PayloadConverter) -> Info:
    """What the attempt can know of itself.

    Args:
        attempt: The attempt.
        task: Its task, with payloads as the converter reads them.
        task_queue: The worker's task queue.
        namespace: The worker's namespace.
        converter: Decodes heartbeat details.

    Raises:
        Exception: the details of the last heartbeat cannot be decoded.
    """
    options, run = task.options, attempt.run
    return Info(
        activity_id=options.activity_id,
        activity_type=options.activity_type,
        attempt=max(1, task.attempt - task.attempts_before),
        current_attempt_scheduled_time=_time(task.attempt_scheduled_time_ms),
        heartbeat_details=converter.from_payloads(task.heartbeat_details) if task.heartbeat_details else [],
        heartbeat_timeout=_duration(options.heartbeat_timeout_ms),
        is_local=attempt.on_local_end is not None,
        namespace=namespace,
        schedule_to_close_timeout=_duration(options.schedule_to_close_timeout_ms),
        scheduled_time=_time(task.scheduled_time_ms),
        start_to_close_timeout=_duration(options.start_to_close_timeout_ms),
        started_time=_time(attempt.started_time_ms),
        task_queue=task_queue,
        task_token=TaskToken(
            namespace, run.workflow_id, run.run_id, task.scheduled_event_id, task.attempt, options.activity_id
        ).encode(),
        workflow_id=run.workflow_id,
        workflow_namespace=namespace,
        workflow_run_id=run.run_id,
        workflow_type=task.workflow_type,
        priority=Priority(
            priority_key=options.priority,
            fairness_key=options.fairness_key or None,
            fairness_weight=options.fairness_weight,
        ),
        retry_policy=RetryPolicy.from_record(options.retry_policy),
    )


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _duration(duration_ms: int | None) -> timedelta | None:
    return None if duration_ms is None else timedelta(milliseconds=duration_ms)
