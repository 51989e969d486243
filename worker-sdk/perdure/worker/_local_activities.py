"""Runs local activities: attempts, time between them, timeouts; and says how each ended.

Invariants: each start ends in one outcome, unless it is cancelled as not wanted, its run is forgotten or the worker
stops; what happens to a superseded attempt changes nothing. Started and cancelled by the dispatch thread; attempts end
on the event loop or in an executor's thread, timeouts come from the timer thread; outcomes go back to the dispatch
thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure._runtime.local_activities import CancelLocalActivity, LocalOutcome, StartLocalActivity
from perdure.activity import ActivityCancellationDetails
from perdure.worker._activities import Activities
from perdure.worker._activity_ends import Ended
from perdure.worker._timers import Timer, TimerThread
from perdure.worker._tuning import SlotSupplier
from perdure_schemas.records import (
    ActivityTask,
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    Failure,
    FailureKind,
    RetryPolicy,
    RetryState,
    RunTask,
    TimeoutType,
)

#: Without a maximum interval of its own a policy stops growing at this multiple of its initial interval.
_MAXIMUM_INTERVAL_FACTOR = 100
_TIMEOUT_WORDS = {
    TimeoutType.START_TO_CLOSE: "StartToClose",
    TimeoutType.SCHEDULE_TO_START: "ScheduleToStart",
    TimeoutType.SCHEDULE_TO_CLOSE: "ScheduleToClose",
}


@dataclass(frozen=True)
class LocalEvent:
    """News for the dispatch thread.

    Attributes:
        run_id: The run.
        outcome: A local activity ended so.
        task_id: Or: this workflow task must not wait on.
        abandoned: Or: a local activity was given up, because the worker stops.
    """

    run_id: str
    outcome: LocalOutcome | None = None
    task_id: str = ""
    abandoned: bool = False


@dataclass
class _Running:
    """One local activity. ``key`` is its run and number."""

    key: tuple[str, int]
    run: RunTask
    workflow_type: str
    request: StartLocalActivity
    attempt: int
    scheduled_ms: int
    started: bool = False
    over: bool = False
    cancelled: bool = False
    timers: list[Timer] = field(default_factory=list)

    @property
    def task_id(self) -> str:
        """The id of its current attempt."""
        return f"{self.run.run_id}/l{self.request.number}.{self.attempt}"


class LocalActivityRunner:
    """The local activities of one worker.

    Args:
        activities: Runs attempts.
        timers: Calls later.
        now_ms: The clock.
        slots: Says how many run at a time.
        tell: Takes news, from any thread.
    """

    def __init__(
        self,
        activities: Activities,
        timers: TimerThread,
        now_ms: Callable[[], int],
        slots: SlotSupplier,
        tell: Callable[[LocalEvent], None],
    ) -> None:
        self._activities = activities
        self._timers = timers
        self._now_ms = now_ms
        self._slots = slots
        self._tell = tell
        self._lock = threading.RLock()
        self._running: dict[tuple[str, int], _Running] = {}
        self._waiting: deque[_Running] = deque()
        self._used = 0

    def start(self, run: RunTask, workflow_type: str, request: StartLocalActivity) -> None:
        """Run a local activity of a run."""
        now_ms = self._now_ms()
        one = _Running((run.run_id, request.number), run, workflow_type, request, request.attempt, now_ms)
        options = request.options
        with self._lock:
            self._running[one.key] = one
            if options.schedule_to_close_timeout_ms is not None:
                due_ms = request.first_scheduled_ms + options.schedule_to_close_timeout_ms
                self._later(one, due_ms - now_ms, lambda: self._time_out(one, TimeoutType.SCHEDULE_TO_CLOSE, 0))
            self._begin(one)

    def cancel(self, run_id: str, request: CancelLocalActivity) -> None:
        """Stop a local activity; its outcome is told if it is wanted."""
        with self._lock:
            one = self._running.get((run_id, request.number))
            if one is None:
                return
            if request.wanted:
                one.cancelled = True
                if one.started:
                    self._stop_attempt(one, ActivityCancellationDetails(cancel_requested=True))
                else:
                    cause = Failure(kind=FailureKind.CANCELED, message="Cancelled")
                    self._end(one, failure=cause, retry_state=RetryState.CANCEL_REQUESTED)
                return
            self._drop(one)
            self._stop_attempt(one, ActivityCancellationDetails(cancel_requested=True))

    def forget(self, run_id: str) -> None:
        """The run has left the cache: nobody waits for its local activities."""
        with self._lock:
            for one in [one for key, one in self._running.items() if key[0] == run_id]:
                self._drop(one)
                self._stop_attempt(one, ActivityCancellationDetails(not_found=True))

    # --- attempts -------------------------------------------------------------------------------------------------

    def _begin(self, one: _Running) -> None:
        """Begin the current attempt, when there is a slot."""
        if self._used >= self._slots.slots(self._used):
            self._waiting.append(one)
            timeout_ms = one.request.options.schedule_to_start_timeout_ms
            if timeout_ms is not None:
                attempt = one.attempt
                self._later(one, timeout_ms, lambda: self._time_out(one, TimeoutType.SCHEDULE_TO_START, attempt))
            return
        self._used += 1
        one.started = True
        now_ms = self._now_ms()
        attempt, options = one.attempt, one.request.options
        task = ActivityTask(
            workflow_type=one.workflow_type,
            scheduled_event_id=0,
            attempt=attempt,
            options=options,
            scheduled_time_ms=one.request.first_scheduled_ms,
            attempt_scheduled_time_ms=one.scheduled_ms,
        )
        run = RunTask(
            task_id=one.task_id,
            kind="activity",
            workflow_id=one.run.workflow_id,
            run_id=one.run.run_id,
            task=b"",
        )
        if options.start_to_close_timeout_ms is not None:
            self._later(
                one, options.start_to_close_timeout_ms, lambda: self._time_out(one, TimeoutType.START_TO_CLOSE, attempt)
            )
        one.scheduled_ms = now_ms
        self._activities.start_local(run, task, lambda body: self._ended(one, attempt, body))

    def _ended(self, one: _Running, attempt: int, body: Ended | None) -> None:
        """An attempt ended, or (``None``) has nothing to say."""
        with self._lock:
            self._used -= 1
            if not one.over and one.attempt == attempt and one.started:
                one.started = False
                if isinstance(body, ActivityTaskCompleted):
                    self._end(one, result=body)
                elif isinstance(body, ActivityTaskCanceled):
                    cause = Failure(kind=FailureKind.CANCELED, message="Cancelled", details=body.details)
                    self._end(one, failure=cause, retry_state=RetryState.CANCEL_REQUESTED)
                elif isinstance(body, ActivityTaskFailed):
                    self._failed(one, body.failure)
                else:
                    # The worker stops: whoever gets the workflow task next runs it again.
                    self._drop(one)
                    self._tell(LocalEvent(one.run.run_id, abandoned=True))
            self._fill()

    def _fill(self) -> None:
        while self._waiting and self._used < self._slots.slots(self._used):
            one = self._waiting.popleft()
            if not one.over and not one.started:
                self._begin(one)

    def _failed(self, one: _Running, failure: Failure) -> None:
        policy = one.request.options.retry_policy
        if one.cancelled:
            self._end(one, failure=failure, retry_state=RetryState.CANCEL_REQUESTED)
            return
        if not _is_retryable(failure, policy):
            self._end(one, failure=failure, retry_state=RetryState.NON_RETRYABLE_FAILURE)
            return
        if 0 < policy.maximum_attempts <= one.attempt:
            self._end(one, failure=failure, retry_state=RetryState.MAXIMUM_ATTEMPTS_REACHED)
            return
        wait_ms = failure.next_retry_delay_ms
        if wait_ms is None:
            wait_ms = _interval_ms(policy, one.attempt)
        limit_ms = one.request.options.schedule_to_close_timeout_ms
        if limit_ms is not None and self._now_ms() + wait_ms > one.request.first_scheduled_ms + limit_ms:
            self._end(one, failure=failure, retry_state=RetryState.TIMEOUT)
        elif wait_ms > one.request.retry_threshold_ms:
            self._end(one, failure=failure, retry_state=RetryState.IN_PROGRESS, backoff_ms=wait_ms)
        else:
            one.attempt += 1
            self._later(one, wait_ms, lambda: self._begin_again(one))

    def _begin_again(self, one: _Running) -> None:
        with self._lock:
            if not one.over and not one.started:
                self._begin(one)

    def _time_out(self, one: _Running, timeout: TimeoutType, attempt: int) -> None:
        with self._lock:
            if one.over or attempt not in (0, one.attempt):
                return
            if timeout is TimeoutType.SCHEDULE_TO_START and one.started:
                return
            failure = Failure(
                kind=FailureKind.TIMEOUT,
                message=f"local activity {_TIMEOUT_WORDS[timeout]} timeout",
                timeout_type=timeout,
            )
            self._stop_attempt(one, ActivityCancellationDetails(timed_out=True))
            one.started = False
            if timeout is TimeoutType.START_TO_CLOSE:
                self._failed(one, failure)
            else:
                self._end(one, failure=failure, retry_state=RetryState.TIMEOUT)

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(
        self,
        one: _Running,
        *,
        result: ActivityTaskCompleted | None = None,
        failure: Failure | None = None,
        retry_state: RetryState | None = None,
        backoff_ms: int = 0,
    ) -> None:
        self._drop(one)
        outcome = LocalOutcome(
            number=one.request.number,
            attempt=one.attempt,
            result=[] if result is None else result.result,
            failure=failure,
            retry_state=retry_state,
            backoff_ms=backoff_ms,
        )
        self._tell(LocalEvent(one.run.run_id, outcome))

    def _drop(self, one: _Running) -> None:
        one.over = True
        if self._running.get(one.key) is one:
            del self._running[one.key]
        for timer in one.timers:
            timer.cancel()

    def _stop_attempt(self, one: _Running, details: ActivityCancellationDetails) -> None:
        if one.started:
            self._activities.cancel_local(one.task_id, details)

    def _later(self, one: _Running, delay_ms: int, function: Callable[[], None]) -> None:
        one.timers.append(self._timers.call_later(delay_ms / 1000, function))


def _is_retryable(failure: Failure, policy: RetryPolicy) -> bool:
    if failure.kind is FailureKind.TIMEOUT:
        return failure.timeout_type is TimeoutType.START_TO_CLOSE
    if failure.kind in (FailureKind.CANCELED, FailureKind.TERMINATED) or failure.non_retryable:
        return False
    return not (failure.kind is FailureKind.APPLICATION and failure.type in policy.non_retryable_error_types)


def _interval_ms(policy: RetryPolicy, attempt: int) -> int:
    maximum_ms = policy.maximum_interval_ms or policy.initial_interval_ms * _MAXIMUM_INTERVAL_FACTOR
    try:
        interval_ms = policy.initial_interval_ms * policy.backoff_coefficient ** (attempt - 1)
    except OverflowError:
        return maximum_ms
    return int(min(interval_ms, maximum_ms))
