"""Random but meaningful lives of workflows: turns plain numbers into commands that fit (or just miss) the state."""

from __future__ import annotations

from collections.abc import Callable

from perdure_history.core.state import ActivityState
from perdure_schemas import records
from perdure_schemas.records import (
    CancelTimer,
    CompleteWorkflowExecution,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    IdConflictPolicy,
    RecordMarker,
    RequestCancelActivityTask,
    RetryPolicy,
    ScheduleActivityTask,
    SignalInput,
    StartTimer,
    TimeoutType,
)
from tests.unit.history.harness import NAMES, History, options, payload, reply_to, start

WORKFLOWS = ("wf-0", "wf-1")


class RandomLife:
    """Applies steps, each given by three small numbers, to a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.run_ids: list[str] = []
        self._names = 0
        self.steps: list[Callable[[int, int], None]] = [
            self.start,
            self.start,
            self.signal,
            self.cancel,
            self.terminate,
            self.complete_task,
            self.complete_task,
            self.complete_task,
            self.complete_task,
            self.fail_task,
            self.activity,
            self.activity,
            self.activity,
            self.activity,
            self.deadline,
            self.deadline,
            self.pass_time,
            self.read,
        ]

    def step(self, which: int, a: int, b: int) -> None:
        self.steps[which % len(self.steps)](a, b)
        for record in self.history.values(NAMES.history, records.HistoryRecord):
            if record.run_id not in self.run_ids and record.events and record.events[0].event_id == 1:
                self.run_ids.append(record.run_id)

    def _workflow(self, a: int) -> str:
        return WORKFLOWS[a % len(WORKFLOWS)]

    def _run(self, a: int) -> str:
        return self.run_ids[a % len(self.run_ids)] if self.run_ids else "no-such-run"

    def _about(self, run_id: str) -> dict[str, str]:
        return {"run_id": run_id, "workflow_id": self.history.run(run_id).workflow_id if self.run_ids else "wf-0"}

    def _name(self) -> str:
        self._names += 1
        return f"n{self._names}"

    def start(self, a: int, b: int) -> None:
        run_id = f"run-{len(self.run_ids)}-{a % len(WORKFLOWS)}"
        policy = list(IdConflictPolicy)[b % len(IdConflictPolicy)]
        takes_signal = b % 5 == 0 and policy is not IdConflictPolicy.FAIL
        body = start(
            run_id,
            id_conflict_policy=policy,
            run_timeout_ms=60_000 if b % 3 == 0 else None,
            signal=SignalInput(signal_name="s") if takes_signal else None,
            await_result=b % 2 == 0,
            retry_policy=RetryPolicy(initial_interval_ms=2_000, maximum_attempts=3) if b % 4 == 1 else None,
            cron_schedule="*/5 * * * *" if b % 7 == 1 else "",
            start_delay_ms=3_000 if b % 7 == 2 else 0,
            execution_timeout_ms=600_000 if b % 6 == 1 else None,
        )
        self.history.send(body, workflow_id=self._workflow(a), reply=reply_to(run_id))

    def signal(self, a: int, b: int) -> None:
        body = records.SignalWorkflow(signal=SignalInput(signal_name="s", input=[payload("1")]))
        self.history.send(body, workflow_id=self._workflow(a), command_id=f"signal-{b}", reply=reply_to())

    def cancel(self, a: int, _b: int) -> None:
        self.history.send(records.CancelWorkflow(), workflow_id=self._workflow(a), reply=reply_to())

    def terminate(self, a: int, b: int) -> None:
        if b % 3 == 0:
            self.history.send(records.TerminateWorkflow(reason="r"), workflow_id=self._workflow(a), reply=reply_to())

    def complete_task(self, a: int, b: int) -> None:
        run_id = self._run(a)
        if not self.run_ids or self.history.run(run_id).workflow_task is None:
            return
        run = self.history.run(run_id)
        activities = list(run.activities.values())
        retry = RetryPolicy(initial_interval_ms=1_000, maximum_attempts=3)
        menu = [
            ScheduleActivityTask(options=options(self._name(), retry_policy=retry)),
            ScheduleActivityTask(options=options(self._name(), heartbeat_timeout_ms=2_000, retry_policy=retry)),
            ScheduleActivityTask(options=options(self._name(), schedule_to_close_timeout_ms=20_000)),
            ScheduleActivityTask(options=options(self._name(), schedule_to_start_timeout_ms=5_000)),
            ScheduleActivityTask(options=options("always the same", input=[])),
            ScheduleActivityTask(options=options(self._name(), start_to_close_timeout_ms=None)),
            StartTimer(timer_id=self._name(), start_to_fire_timeout_ms=b % 7 * 1_000),
            StartTimer(timer_id="one", start_to_fire_timeout_ms=3_000),
            CancelTimer(timer_id="one"),
            RecordMarker(marker_name="m", details={"d": [payload("1")]}),
            records.ModifyWorkflowProperties(upserted_memo={"k": payload(str(b))}, removed_memo=["j"]),
            records.UpsertWorkflowSearchAttributes(search_attributes={"s": payload(str(b))}, removed=["t"]),
            RequestCancelActivityTask(scheduled_event_id=activities[b % len(activities)].scheduled_event_id)
            if activities
            else RecordMarker(marker_name="n"),
        ]
        closing = [
            CompleteWorkflowExecution(result=[payload("r")]),
            FailWorkflowExecution(failure=Failure(kind=FailureKind.APPLICATION, message="f")),
            records.CancelWorkflowExecution(),
            records.ContinueAsNewWorkflowExecution(workflow_type="Order", task_queue="orders"),
            records.ContinueAsNewWorkflowExecution(
                workflow_type="Other", task_queue="orders", backoff_start_interval_ms=1_500
            ),
        ]
        commands = [menu[(b + i * 3) % len(menu)] for i in range(b % 4)]
        if b % 11 == 0:
            commands.append(closing[a % len(closing)])
        seen = run.last_event_id if b % 2 else run.workflow_task.scheduled_event_id  # type: ignore[union-attr]
        self.history.complete_task(*commands, run_id=run_id, last_event_id=seen, sticky_worker_id="w" if a % 2 else "")

    def fail_task(self, a: int, b: int) -> None:
        run_id = self._run(a)
        if self.run_ids and (task := self.history.run(run_id).workflow_task) is not None:
            body = records.WorkflowTaskFailed(
                scheduled_event_id=task.scheduled_event_id,
                attempt=task.attempt + b % 2,
                cause="WORKFLOW_WORKER_UNHANDLED_FAILURE",
                failure=Failure(kind=FailureKind.APPLICATION, message="bug"),
            )
            self.history.send(body, **self._about(run_id))

    def activity(self, a: int, b: int) -> None:
        run_id = self._run(a)
        if not self.run_ids or not self.history.run(run_id).activities:
            return
        pending = list(self.history.run(run_id).activities.values())
        body = self._activity_message(pending[b % len(pending)], b)
        self.history.send(body, **self._about(run_id))

    def _activity_message(self, activity: ActivityState, b: int) -> records.CommandBody:
        about = {
            "scheduled_event_id": activity.scheduled_event_id,
            "attempt": activity.attempt + (b % 13 == 0),
            "started_time_ms": self.history.now_ms - 10,
        }
        failure = Failure(kind=FailureKind.APPLICATION, message="no", non_retryable=b % 4 == 0)
        messages: list[records.CommandBody] = [
            records.ActivityTaskCompleted(**about, result=[payload("1")]),
            records.ActivityTaskFailed(**about, failure=failure),
            records.ActivityTaskFailed(**about, failure=failure),
            records.ActivityTaskCanceled(**about),
            records.ActivityTaskHeartbeat(**about, details=[payload(str(b))]),
            records.ActivityTaskStarted(**about, worker_id="w"),
            records.ActivityLeaseLost(**about, worker_id="w", timeout_type=list(TimeoutType)[b % 4]),
        ]
        return messages[b % len(messages)]

    def deadline(self, a: int, b: int) -> None:
        run_id = self._run(a)
        if not self.run_ids:
            return
        run = self.history.run(run_id)
        if run.wake_up_due_ms:
            self.history.now_ms = max(self.history.now_ms, run.wake_up_due_ms)
        body = records.DeadlineReached(arm_number=run.wake_up_number + (b % 9 == 0), due_time_ms=run.wake_up_due_ms)
        self.history.send(body, **self._about(run_id))

    def pass_time(self, a: int, b: int) -> None:
        self.history.now_ms += (a % 5) * (b % 5) * 700 - 500

    def read(self, a: int, b: int) -> None:
        expires_at_ms = self.history.now_ms + 10_000
        bodies: list[records.CommandBody] = [
            records.DescribeWorkflow(),
            records.AwaitResult(),
            records.FetchHistory(first_event_id=1 + b % 6),
            records.QueryWorkflow(query_type="q", expires_at_ms=expires_at_ms),
        ]
        self.history.send(bodies[b % 4], workflow_id=self._workflow(a), reply=reply_to(f"read-{b}"))
