"""Whether and when an attempt is repeated: Temporal's documented retry rules as pure functions.

Called by the activity commands and by the deadlines.
"""

from __future__ import annotations

from perdure_history.core.policy import Policy
from perdure_history.core.state import ActivityState
from perdure_schemas.records import Failure, FailureKind, RetryPolicy, RetryState, TimeoutType

__all__ = ["is_retryable", "next_activity_attempt", "retry_interval_ms", "workflow_task_backoff_ms"]

#: Without a maximum interval of its own a policy stops growing at this multiple of its initial interval.
MAXIMUM_INTERVAL_FACTOR = 100
_RETRYABLE_TIMEOUTS = (TimeoutType.START_TO_CLOSE, TimeoutType.HEARTBEAT)


def is_retryable(failure: Failure, policy: RetryPolicy) -> bool:
    """Whether a failure of this kind may be repeated at all."""
    if failure.kind is FailureKind.TIMEOUT:
        return failure.timeout_type in _RETRYABLE_TIMEOUTS
    if failure.kind in (FailureKind.CANCELED, FailureKind.TERMINATED):
        return False
    if failure.non_retryable:
        return False
    return not (failure.kind is FailureKind.APPLICATION and failure.type in policy.non_retryable_error_types)


def retry_interval_ms(policy: RetryPolicy, attempt: int) -> int:
    """The wait after failed attempt ``attempt``, in milliseconds."""
    maximum_ms = policy.maximum_interval_ms or policy.initial_interval_ms * MAXIMUM_INTERVAL_FACTOR
    try:
        interval_ms = policy.initial_interval_ms * policy.backoff_coefficient ** (attempt - 1)
    except OverflowError:
        return maximum_ms
    return maximum_ms if interval_ms >= maximum_ms else int(interval_ms)


def next_activity_attempt(activity: ActivityState, failure: Failure, now_ms: int) -> tuple[RetryState, int]:
    """Whether another attempt follows a failed one, and when it is due.

    Returns:
        ``IN_PROGRESS`` and the due time in milliseconds, or the reason why none follows and 0.
    """
    policy = activity.options.retry_policy
    if activity.cancel_requested:
        return RetryState.CANCEL_REQUESTED, 0
    if not is_retryable(failure, policy):
        return RetryState.NON_RETRYABLE_FAILURE, 0
    if 0 < policy.maximum_attempts <= activity.attempts_counted:
        return RetryState.MAXIMUM_ATTEMPTS_REACHED, 0
    wait_ms = failure.next_retry_delay_ms
    if wait_ms is None:
        wait_ms = retry_interval_ms(policy, activity.attempt_shown)
    due_ms = now_ms + max(0, wait_ms)
    schedule_to_close_ms = activity.options.schedule_to_close_timeout_ms
    if schedule_to_close_ms is not None and due_ms > activity.scheduled_time_ms + schedule_to_close_ms:
        return RetryState.TIMEOUT, 0
    return RetryState.IN_PROGRESS, due_ms


def workflow_task_backoff_ms(attempt: int, policy: Policy) -> int:
    """The wait before attempt ``attempt`` of a workflow task: none before the second, then doubling."""
    if attempt <= 2:
        return 0
    # Far beyond the maximum there is no need to double on.
    return min(policy.task_retry_initial_ms << min(attempt - 3, 32), policy.task_retry_interval_ms_max)
