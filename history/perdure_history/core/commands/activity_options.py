"""An activity's options: what is wrong with them, and which timeouts they amount to.

The rules are those Temporal documents: a start-to-close or a schedule-to-close timeout is required; no timeout is
longer than one that contains it, and none is longer than the run's.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.commands.context import payloads_too_large
from perdure_history.core.policy import Policy
from perdure_schemas.records import ActivityOptions, RetryPolicy

__all__ = ["effective_options", "options_fault", "retry_policy_fault"]


def options_fault(options: ActivityOptions, policy: Policy) -> str:
    """What is wrong with an activity's options, and what to do; empty if nothing is."""
    for what, name in (
        ("activity id", options.activity_id),
        ("activity type", options.activity_type),
        ("task queue", options.task_queue),
    ):
        if not name or len(name) > policy.name_chars_max:
            return f"the {what} must have 1 to {policy.name_chars_max} characters"
    if options.start_to_close_timeout_ms is None and options.schedule_to_close_timeout_ms is None:
        return (
            f"activity {options.activity_id!r} has neither a start-to-close nor a schedule-to-close timeout;"
            " set one of them"
        )
    for what, timeout_ms in (
        ("schedule-to-close", options.schedule_to_close_timeout_ms),
        ("schedule-to-start", options.schedule_to_start_timeout_ms),
        ("start-to-close", options.start_to_close_timeout_ms),
        ("heartbeat", options.heartbeat_timeout_ms),
    ):
        if timeout_ms is not None and timeout_ms <= 0:
            return f"the {what} timeout is {timeout_ms} ms; it must be above zero, or not set"
    payloads = [*options.input, *options.header.values()] if options.header else options.input
    return retry_policy_fault(options.retry_policy) or payloads_too_large(policy, payloads)


def retry_policy_fault(retry: RetryPolicy) -> str:
    """What is wrong with a retry policy; empty if nothing is."""
    if retry.initial_interval_ms <= 0:
        return f"the retry policy's initial interval is {retry.initial_interval_ms} ms; it must be above zero"
    if not retry.backoff_coefficient >= 1:
        return f"the retry policy's backoff coefficient is {retry.backoff_coefficient}; it must be 1 or more"
    if retry.maximum_interval_ms is not None and retry.maximum_interval_ms < retry.initial_interval_ms:
        return (
            f"the retry policy's maximum interval of {retry.maximum_interval_ms} ms is below its initial interval of"
            f" {retry.initial_interval_ms} ms"
        )
    if retry.maximum_attempts < 0:
        return f"the retry policy's maximum attempts are {retry.maximum_attempts}; use 0 for no limit"
    return ""


def effective_options(
    options: ActivityOptions, run_timeout_ms: int | None, run_deadline_ms: int, now_ms: int
) -> ActivityOptions:
    """The options with every timeout as it counts.

    Parameters:
        run_timeout_ms: the run's timeout; ``None`` without one.
        run_deadline_ms: when the run ends by timeout; 0 without one.
    """
    longest_ms = run_timeout_ms
    if run_deadline_ms:
        left_ms = max(1, run_deadline_ms - now_ms)
        longest_ms = left_ms if longest_ms is None else min(longest_ms, left_ms)
    schedule_to_close_ms = _shorter(options.schedule_to_close_timeout_ms, longest_ms)
    start_to_close_ms = _shorter(options.start_to_close_timeout_ms, schedule_to_close_ms)
    schedule_to_start_ms = options.schedule_to_start_timeout_ms
    if schedule_to_start_ms is not None:
        schedule_to_start_ms = _shorter(schedule_to_start_ms, schedule_to_close_ms)
    heartbeat_ms = options.heartbeat_timeout_ms
    if heartbeat_ms is not None:
        heartbeat_ms = _shorter(heartbeat_ms, start_to_close_ms)
    if (
        schedule_to_close_ms == options.schedule_to_close_timeout_ms
        and start_to_close_ms == options.start_to_close_timeout_ms
        and schedule_to_start_ms == options.schedule_to_start_timeout_ms
        and heartbeat_ms == options.heartbeat_timeout_ms
    ):
        return options
    return msgspec.structs.replace(
        options,
        schedule_to_close_timeout_ms=schedule_to_close_ms,
        start_to_close_timeout_ms=start_to_close_ms,
        schedule_to_start_timeout_ms=schedule_to_start_ms,
        heartbeat_timeout_ms=heartbeat_ms,
    )


def _shorter(timeout_ms: int | None, longest_ms: int | None) -> int | None:
    if timeout_ms is None:
        return longest_ms
    return timeout_ms if longest_ms is None else min(timeout_ms, longest_ms)
