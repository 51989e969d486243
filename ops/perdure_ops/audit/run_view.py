"""One run, as its events tell it: a second, smaller telling of what the engine's own state machine does.

It shares no code with the engine, so that a mistake there is not made here, too. Invariants: it takes events one by one
and raises :class:`Misfit` for the first that breaks a rule; it knows which tasks and which wake-up the run waits for.
Memory: what is pending, and the ids of the signals and updates that the run has taken. Pure. Called by ``histories``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_ops.audit.breach import Misfit, Place
from perdure_ops.audit.schedule_view import ScheduleView, check_origin
from perdure_schemas import keys, records
from perdure_schemas.records import Event, HistoryRecord, WorkflowStatus

__all__ = ["RunView"]

#: Events without an id of their own.
UNNUMBERED = (
    records.ActivityAttemptRecorded,
    records.WorkflowTaskAttemptRecorded,
    records.WorkflowQuarantined,
    records.WorkflowExecutionDeleted,
    records.ScheduleRecorded,
)
#: The events that a run may begin with.
_FIRST = (records.WorkflowExecutionStarted, records.ScheduleCreated)

#: The events that close a run, and what the run is then.
CLOSING: dict[type, WorkflowStatus] = {
    records.WorkflowExecutionCompleted: WorkflowStatus.COMPLETED,
    records.WorkflowExecutionFailed: WorkflowStatus.FAILED,
    records.WorkflowExecutionCanceled: WorkflowStatus.CANCELED,
    records.WorkflowExecutionTerminated: WorkflowStatus.TERMINATED,
    records.WorkflowExecutionTimedOut: WorkflowStatus.TIMED_OUT,
    records.WorkflowExecutionContinuedAsNew: WorkflowStatus.CONTINUED_AS_NEW,
}


class _Pending:
    """An activity or a workflow task that is not over: its attempt, and whether a task for it is with matching."""

    __slots__ = ("attempt", "attempts_before", "dispatched", "eager_event_id", "task_queue")

    def __init__(self, attempt: int, dispatched: bool, task_queue: str, eager_event_id: int = 0) -> None:
        self.attempt = attempt
        #: What its worker calls the first attempt, which it began by itself; 0: it did not.
        self.eager_event_id = eager_event_id
        #: How many attempts were made before an operator had them counted anew.
        self.attempts_before = 0
        self.dispatched = dispatched
        self.task_queue = task_queue


class RunView:
    """A run from its first event on.

    Args:
        workflow_id / run_id: whose it is.
        place: where its newest record stands; kept up to date by :meth:`take`.
    """

    __slots__ = (
        "activities",
        "children",
        "copied",
        "last_event_id",
        "new_run_id",
        "place",
        "requests",
        "run_id",
        "schedule",
        "signals",
        "status",
        "task_queue",
        "timers",
        "updates",
        "wake_up_due_ms",
        "wake_up_number",
        "workflow_id",
        "workflow_task",
    )

    def __init__(self, workflow_id: str, run_id: str, place: Place) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.place = place
        self.status: WorkflowStatus | None = None
        self.last_event_id = 0
        self.task_queue = ""
        #: A reset copied the first part of its history, without the attempts that bear no event ids.
        self.copied = False
        self.new_run_id = ""
        self.workflow_task: tuple[int, _Pending] | None = None
        self.activities: dict[int, _Pending] = {}
        self.timers: dict[str, tuple[int, int]] = {}
        #: Children and what was sent to other workflows, by event id: whether a child is started.
        self.children: dict[int, bool] = {}
        self.requests: set[int] = set()
        self.signals: set[str] = set()
        #: Updates by id: whether completed.
        self.updates: dict[str, bool] = {}
        #: Set if it is no workflow, but a schedule.
        self.schedule: ScheduleView | None = None
        self.wake_up_number = 0
        self.wake_up_due_ms = 0

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.status is WorkflowStatus.RUNNING

    def tasks(self) -> dict[str, str]:
        """The ids of the tasks it waits for, with their task queues."""
        found = {}
        if self.workflow_task is not None and self.workflow_task[1].dispatched:
            event_id, task = self.workflow_task
            found[keys.workflow_task_id(self.run_id, event_id, task.attempt)] = task.task_queue
        for event_id, task in self.activities.items():
            if task.dispatched:
                name = task.eager_event_id if task.eager_event_id and task.attempt == 1 else event_id
                found[keys.activity_task_id(self.run_id, name, task.attempt)] = task.task_queue
        return found

    def take(self, record: HistoryRecord, place: Place) -> None:
        """Take in the next record.

        Raises:
            Misfit: it breaks a rule.
        """
        self.place = place
        for event in record.events:
            self._take_event(event)
        if self.is_open:
            self.wake_up_number, self.wake_up_due_ms = record.wake_up_number, record.wake_up_due_ms

    def _take_event(self, event: Event) -> None:
        attributes = event.attributes
        kind = type(attributes)
        if self.status is not None and not self.is_open and kind is not records.WorkflowExecutionDeleted:
            raise Misfit("after-close", f"{kind.__name__} (event {event.event_id}) follows the close as {self.status}")
        if kind not in UNNUMBERED:
            if event.event_id != self.last_event_id + 1:
                raise Misfit(
                    "event-gap", f"event {event.event_id} ({kind.__name__}) follows event {self.last_event_id}"
                )
            if (event.event_id == 1) != (kind in _FIRST):
                raise Misfit("event-gap", f"event {event.event_id} is a {kind.__name__}")
            self.last_event_id = event.event_id
        rule = _RULES.get(kind)
        if rule is not None:
            rule(self, event, attributes)

    # --- rules: the run -------------------------------------------------------------------------------------------

    def _started(self, _event: Event, attributes: records.WorkflowExecutionStarted) -> None:
        self.status = WorkflowStatus.RUNNING
        self.task_queue = attributes.task_queue
        self.copied = bool(attributes.original_run_id)
        check_origin(self.run_id, attributes)

    def _schedule_created(self, _event: Event, _attributes: records.ScheduleCreated) -> None:
        self.status = WorkflowStatus.RUNNING
        self.schedule = ScheduleView()

    def _schedule_recorded(self, _event: Event, attributes: records.ScheduleRecorded) -> None:
        if self.schedule is None:
            raise Misfit("schedule", "a schedule's progress stands in the history of a workflow")
        self.schedule.take(self.run_id, attributes)

    def _closed(self, _event: Event, attributes: Any) -> None:
        self.status = CLOSING[type(attributes)]
        self.new_run_id = getattr(attributes, "new_run_id", "")
        self.workflow_task = None
        self.activities.clear()
        self.timers.clear()
        self.children.clear()
        self.requests.clear()
        self.wake_up_due_ms = 0

    def _signaled(self, event: Event, attributes: records.WorkflowExecutionSignaled) -> None:
        if attributes.command_id in self.signals:
            raise Misfit(
                "doubled-id", f"event {event.event_id} takes signal command {attributes.command_id!r} a second time"
            )
        self.signals.add(attributes.command_id)

    def _update_accepted(self, event: Event, attributes: records.WorkflowExecutionUpdateAccepted) -> None:
        update_id = attributes.request.update_id
        if update_id in self.updates:
            raise Misfit("doubled-id", f"event {event.event_id} accepts update {update_id!r} a second time")
        self.updates[update_id] = False

    def _update_completed(self, event: Event, attributes: records.WorkflowExecutionUpdateCompleted) -> None:
        if self.updates.get(attributes.update_id, True):
            what = "a second time" if attributes.update_id in self.updates else "without having accepted it"
            raise Misfit("doubled-id", f"event {event.event_id} completes update {attributes.update_id!r} {what}")
        self.updates[attributes.update_id] = True

    # --- rules: the workflow task ---------------------------------------------------------------------------------

    def _task_scheduled(self, event: Event, attributes: records.WorkflowTaskScheduled) -> None:
        if self.workflow_task is not None:
            raise Misfit(
                "workflow-task",
                f"workflow task {event.event_id} is scheduled while {self.workflow_task[0]} is outstanding",
            )
        task = _Pending(attributes.attempt, not attributes.speculative, self.task_queue)
        self.workflow_task = (event.event_id, task)

    def _task(self, event: Event, scheduled_event_id: int) -> _Pending:
        if self.workflow_task is None or self.workflow_task[0] != scheduled_event_id:
            name = type(event.attributes).__name__
            raise Misfit(
                "workflow-task", f"{name} is about workflow task {scheduled_event_id}, which is not outstanding"
            )
        return self.workflow_task[1]

    def _task_completed(self, event: Event, attributes: records.WorkflowTaskCompletedEvent) -> None:
        self._task(event, attributes.scheduled_event_id)
        self.workflow_task = None

    def _task_failed(self, event: Event, attributes: records.WorkflowTaskFailedEvent) -> None:
        task = self._task(event, attributes.scheduled_event_id)
        if not task.dispatched:
            raise Misfit("workflow-task", f"workflow task {attributes.scheduled_event_id} fails while it backs off")
        task.attempt += 1

    def _task_attempt(self, event: Event, attributes: records.WorkflowTaskAttemptRecorded) -> None:
        task = self._task(event, attributes.scheduled_event_id)
        if attributes.attempt < task.attempt:
            raise Misfit(
                "workflow-task",
                f"attempt {attributes.attempt} of workflow task {attributes.scheduled_event_id} follows {task.attempt}",
            )
        task.attempt = attributes.attempt
        task.dispatched = attributes.scheduled_time_ms <= event.event_time_ms

    # --- rules: activities ----------------------------------------------------------------------------------------

    def _activity_scheduled(self, event: Event, attributes: records.ActivityTaskScheduled) -> None:
        at_once = attributes.start_delay_ms == 0
        self.activities[event.event_id] = _Pending(1, at_once, attributes.options.task_queue, attributes.eager_event_id)

    def _activity(self, event: Event, scheduled_event_id: int) -> _Pending:
        activity = self.activities.get(scheduled_event_id)
        if activity is None:
            name = type(event.attributes).__name__
            where = f"event {event.event_id}: " if event.event_id else ""
            raise Misfit(
                "activity",
                f"{where}{name} is about activity {scheduled_event_id}, which is over or was never scheduled",
            )
        return activity

    def _activity_attempt(self, event: Event, attributes: records.ActivityAttemptRecorded) -> None:
        activity = self._activity(event, attributes.scheduled_event_id)
        if attributes.attempt < activity.attempt:
            raise Misfit(
                "activity",
                f"attempt {attributes.attempt} of activity {attributes.scheduled_event_id} follows {activity.attempt}",
            )
        activity.attempt = attributes.attempt
        activity.attempts_before = attributes.attempts_before
        backs_off = attributes.started_time_ms is None and attributes.scheduled_time_ms > event.event_time_ms
        activity.dispatched = not backs_off
        if attributes.options is not None and attributes.options.task_queue:
            activity.task_queue = attributes.options.task_queue

    def _activity_ended(self, event: Event, attributes: Any) -> None:
        activity = self._activity(event, attributes.scheduled_event_id)
        counted = max(1, activity.attempt - activity.attempts_before)
        attempt = getattr(attributes, "attempt", counted)
        if attempt != counted and not self.copied:
            raise Misfit(
                "activity",
                f"event {event.event_id} ends attempt {attempt} of activity {attributes.scheduled_event_id}, whose"
                f" attempt is {counted}",
            )
        if not activity.dispatched and type(attributes) is records.ActivityTaskCompletedEvent:
            raise Misfit(
                "activity",
                f"event {event.event_id} completes activity {attributes.scheduled_event_id}, which has no attempt out",
            )
        del self.activities[attributes.scheduled_event_id]

    def _activity_known(self, event: Event, attributes: records.ActivityTaskCancelRequested) -> None:
        self._activity(event, attributes.scheduled_event_id)

    # --- rules: timers --------------------------------------------------------------------------------------------

    def _timer_started(self, event: Event, attributes: records.TimerStarted) -> None:
        if attributes.timer_id in self.timers:
            raise Misfit("timer", f"event {event.event_id} starts timer {attributes.timer_id!r}, which runs already")
        self.timers[attributes.timer_id] = (event.event_id, attributes.due_time_ms)

    def _timer_ended(self, event: Event, attributes: records.TimerFired | records.TimerCanceled) -> None:
        found = self.timers.pop(attributes.timer_id, None)
        if found is None or found[0] != attributes.started_event_id:
            raise Misfit(
                "timer",
                f"event {event.event_id} ({type(attributes).__name__}) is about timer {attributes.timer_id!r} of event"
                f" {attributes.started_event_id}, which does not run",
            )
        if isinstance(attributes, records.TimerFired) and event.event_time_ms < found[1]:
            raise Misfit(
                "timer-early",
                f"event {event.event_id} fires timer {attributes.timer_id!r} {found[1] - event.event_time_ms} ms before"
                f" it is due",
            )

    # --- rules: other workflows -----------------------------------------------------------------------------------

    def _child_initiated(self, event: Event, _attributes: Any) -> None:
        self.children[event.event_id] = False

    def _child_started(self, event: Event, attributes: records.ChildWorkflowExecutionStarted) -> None:
        if self.children.get(attributes.initiated_event_id, True):
            raise Misfit("child", f"event {event.event_id} starts child {attributes.initiated_event_id}, not expected")
        self.children[attributes.initiated_event_id] = True

    def _child_ended(self, event: Event, attributes: Any) -> None:
        started = self.children.pop(attributes.initiated_event_id, None)
        refused = type(attributes) is records.StartChildWorkflowExecutionFailed
        if started is None or started is refused:
            raise Misfit(
                "child",
                f"event {event.event_id} ({type(attributes).__name__}) ends child {attributes.initiated_event_id},"
                f" which {'is over' if started is None else 'has another state'}",
            )

    def _request_sent(self, event: Event, _attributes: Any) -> None:
        self.requests.add(event.event_id)

    def _request_answered(self, event: Event, attributes: Any) -> None:
        if attributes.initiated_event_id not in self.requests:
            raise Misfit(
                "child",
                f"event {event.event_id} ({type(attributes).__name__}) answers request {attributes.initiated_event_id},"
                f" which has its answer or was never sent",
            )
        self.requests.remove(attributes.initiated_event_id)


_Rule = Callable[[RunView, Event, Any], None]
_RULES: dict[type, _Rule] = {
    records.WorkflowExecutionStarted: RunView._started,
    records.ScheduleCreated: RunView._schedule_created,
    records.ScheduleRecorded: RunView._schedule_recorded,
    **dict.fromkeys(CLOSING, RunView._closed),
    records.WorkflowExecutionSignaled: RunView._signaled,
    records.WorkflowExecutionUpdateAccepted: RunView._update_accepted,
    records.WorkflowExecutionUpdateCompleted: RunView._update_completed,
    records.WorkflowTaskScheduled: RunView._task_scheduled,
    records.WorkflowTaskCompletedEvent: RunView._task_completed,
    records.WorkflowTaskFailedEvent: RunView._task_failed,
    records.WorkflowTaskAttemptRecorded: RunView._task_attempt,
    records.ActivityTaskScheduled: RunView._activity_scheduled,
    records.ActivityAttemptRecorded: RunView._activity_attempt,
    records.ActivityTaskCancelRequested: RunView._activity_known,
    records.ActivityTaskCompletedEvent: RunView._activity_ended,
    records.ActivityTaskFailedEvent: RunView._activity_ended,
    records.ActivityTaskTimedOut: RunView._activity_ended,
    records.ActivityTaskCanceledEvent: RunView._activity_ended,
    records.TimerStarted: RunView._timer_started,
    records.TimerFired: RunView._timer_ended,
    records.TimerCanceled: RunView._timer_ended,
    records.StartChildWorkflowExecutionInitiated: RunView._child_initiated,
    records.ChildWorkflowExecutionStarted: RunView._child_started,
    records.StartChildWorkflowExecutionFailed: RunView._child_ended,
    records.ChildWorkflowExecutionCompleted: RunView._child_ended,
    records.ChildWorkflowExecutionFailed: RunView._child_ended,
    records.ChildWorkflowExecutionCanceled: RunView._child_ended,
    records.ChildWorkflowExecutionTimedOut: RunView._child_ended,
    records.ChildWorkflowExecutionTerminated: RunView._child_ended,
    records.SignalExternalWorkflowExecutionInitiated: RunView._request_sent,
    records.RequestCancelExternalWorkflowExecutionInitiated: RunView._request_sent,
    records.SignalExternalWorkflowExecutionFailed: RunView._request_answered,
    records.ExternalWorkflowExecutionSignaled: RunView._request_answered,
    records.RequestCancelExternalWorkflowExecutionFailed: RunView._request_answered,
    records.ExternalWorkflowExecutionCancelRequested: RunView._request_answered,
}
