"""Plays the engine towards a :class:`WorkflowRunner`: keeps a history, makes events of commands, and workflow tasks.

It knows the shape of histories only, no policy: what happens to activities and timers is said by the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure._runtime.runner import WorkflowRunner
from perdure.converter import DataConverter
from perdure_schemas import records as r

CONVERTER = DataConverter.default
START_MS = 1_700_000_000_000


class History:
    """The history of one run, and the workflow task that is outstanding, if there is one."""

    def __init__(
        self,
        workflow_type: str,
        *args: Any,
        workflow_id: str = "wf",
        run_id: str = "11111111-2222-3333-4444-555555555555",
        memo: dict[str, Any] | None = None,
        **started: Any,
    ) -> None:
        self.workflow_type = workflow_type
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.clock_ms = START_MS
        self.records: list[r.HistoryRecord] = []
        #: What tasks say of the history's length; not counted here.
        self.history_bytes = 0
        self.scheduled_task: int | None = None
        self.attempt = 1
        self.closed = False
        self._activities: dict[str, int] = {}
        self._timers: dict[str, int] = {}
        self._updates: list[r.UpdateRequest] = []
        self._accepted: dict[str, int] = {}
        #: Children and requests to other workflows: workflow id to the event that asked.
        self.children: dict[str, int] = {}
        self.requests: dict[str, int] = {}
        self._next_id = 1
        self._append(
            r.WorkflowExecutionStarted(
                workflow_type=workflow_type,
                task_queue="queue",
                input=payloads(*args),
                memo={key: payloads(value)[0] for key, value in (memo or {}).items()},
                first_execution_run_id=run_id,
                start_command_id="start",
                **{"run_timeout_ms": 60_000, **started},
            )
        )

    # --- what happens -------------------------------------------------------------------------------------------

    def pass_time(self, milliseconds: int) -> None:
        self.clock_ms += milliseconds

    def signal(self, name: str, *args: Any) -> None:
        self._append(
            r.WorkflowExecutionSignaled(signal_name=name, input=payloads(*args), command_id=f"s{self._next_id}")
        )

    def update(self, name: str, *args: Any, id: str = "u") -> None:
        """Deliver an update with the next workflow task."""
        self._updates.append(r.UpdateRequest(update_id=id, name=name, input=payloads(*args)))

    def cancel(self, reason: str = "") -> None:
        self._append(r.WorkflowExecutionCancelRequested(reason=reason))

    def complete_activity(self, activity_id: str, result: Any = None) -> None:
        self._append(
            r.ActivityTaskCompletedEvent(
                scheduled_event_id=self._activities.pop(activity_id),
                attempt=1,
                started_time_ms=self.clock_ms,
                result=payloads(result),
            )
        )

    def fail_activity(self, activity_id: str, message: str = "no", type: str = "Oops") -> None:
        failure = r.Failure(kind=r.FailureKind.APPLICATION, message=message, type=type)
        self._append(
            r.ActivityTaskFailedEvent(
                scheduled_event_id=self._activities.pop(activity_id),
                attempt=3,
                failure=failure,
                retry_state=r.RetryState.MAXIMUM_ATTEMPTS_REACHED,
                identity="worker",
            )
        )

    def time_out_activity(self, activity_id: str, timeout_type: r.TimeoutType = r.TimeoutType.START_TO_CLOSE) -> None:
        failure = r.Failure(kind=r.FailureKind.TIMEOUT, message="activity timed out", timeout_type=timeout_type)
        self._append(
            r.ActivityTaskTimedOut(
                scheduled_event_id=self._activities.pop(activity_id),
                attempt=1,
                failure=failure,
                retry_state=r.RetryState.TIMEOUT,
            )
        )

    def activity_canceled(self, activity_id: str, *details: Any) -> None:
        self._append(
            r.ActivityTaskCanceledEvent(
                scheduled_event_id=self._activities.pop(activity_id), details=payloads(*details)
            )
        )

    def fire_timer(self, timer_id: str) -> None:
        self._append(r.TimerFired(timer_id=timer_id, started_event_id=self._timers.pop(timer_id)))

    def child_started(self, workflow_id: str, run_id: str = "child-run") -> None:
        self._append(
            r.ChildWorkflowExecutionStarted(
                initiated_event_id=self.children[workflow_id],
                workflow_id=workflow_id,
                run_id=run_id,
                workflow_type="Child",
            )
        )

    def child_start_failed(self, workflow_id: str, cause: str, message: str = "", existing_run_id: str = "") -> None:
        self._append(
            r.StartChildWorkflowExecutionFailed(
                initiated_event_id=self.children[workflow_id],
                workflow_id=workflow_id,
                workflow_type="Child",
                cause=cause,
                message=message,
                existing_run_id=existing_run_id,
            )
        )

    def child_closed(self, workflow_id: str, kind: type[r.Variant], **fields: Any) -> None:
        """The child has ended with an event of that kind."""
        attributes: Any = kind(
            **{
                "initiated_event_id": self.children[workflow_id],
                "started_event_id": 0,
                "workflow_id": workflow_id,
                "run_id": "child-run",
                "workflow_type": "Child",
                **fields,
            }
        )
        self._append(attributes)

    def complete_child(self, workflow_id: str, result: Any = None) -> None:
        self.child_closed(workflow_id, r.ChildWorkflowExecutionCompleted, result=payloads(result))

    def child_canceled(self, workflow_id: str) -> None:
        failure = r.Failure(kind=r.FailureKind.CANCELED, message="Workflow cancelled")
        self.child_closed(workflow_id, r.ChildWorkflowExecutionCanceled, failure=failure)

    def answer_request(self, workflow_id: str, kind: type[r.Variant], **fields: Any) -> None:
        """Another workflow has answered a signal or a request to stop, with an event of that kind."""
        attributes: Any = kind(
            **{"initiated_event_id": self.requests[workflow_id], "workflow_id": workflow_id, **fields}
        )
        self._append(attributes)

    def add(self, *attributes: r.EventAttributes) -> None:
        """Any events, as one record."""
        self._append(*attributes)

    # --- workflow tasks -----------------------------------------------------------------------------------------

    @property
    def last_event_id(self) -> int:
        return self._next_id - 1

    @property
    def open_timers(self) -> list[str]:
        return list(self._timers)

    @property
    def open_activities(self) -> list[str]:
        return list(self._activities)

    def task(self) -> r.WorkflowTask:
        """The workflow task for what has happened; schedules it if there is none."""
        if self.scheduled_task is None:
            self.scheduled_task = self._next_id
            self._append(
                r.WorkflowTaskScheduled(
                    task_queue="queue", start_to_close_timeout_ms=10_000, history_bytes=self.history_bytes
                )
            )
        return r.WorkflowTask(
            workflow_type=self.workflow_type,
            scheduled_event_id=self.scheduled_task,
            attempt=self.attempt,
            first_event_id=1,
            last_event_id=self.last_event_id,
            updates=list(self._updates),
        )

    def apply(self, completed: r.WorkflowTaskCompleted) -> None:
        """What the engine does with a completed workflow task."""
        assert completed.scheduled_event_id == self.scheduled_task
        self.scheduled_task = None
        self._updates = []
        self.attempt = 1
        completed_id = self._next_id
        events: list[r.EventAttributes] = [
            r.WorkflowTaskCompletedEvent(
                scheduled_event_id=completed.scheduled_event_id,
                last_event_id=completed.last_event_id,
                started_time_ms=completed.started_time_ms,
                sticky_worker_id=completed.sticky_worker_id,
                sdk_flags=completed.sdk_flags,
            )
        ]
        for command in completed.commands:
            event = self._event_of(command, completed_id, completed_id + len(events))
            if event is not None:
                events.append(event)
        self._append(*events)

    def query_task(self, name: str, *args: Any) -> r.QueryTask:
        return r.QueryTask(
            workflow_type=self.workflow_type,
            query_id="q",
            query_type=name,
            args=payloads(*args),
            reply=r.ReplyTo(client_id="c", partition=0, request_id="1"),
            first_event_id=1,
            last_event_id=self.last_event_id,
        )

    def since(self, event_id: int) -> list[r.HistoryRecord]:
        return [record for record in self.records if record.events[-1].event_id >= event_id]

    def events(self) -> list[r.Event]:
        return [event for record in self.records for event in record.events]

    def copy_without_last_record(self) -> list[r.HistoryRecord]:
        return self.records[:-1]

    def _event_of(self, command: r.WorkflowCommand, completed_id: int, event_id: int) -> r.EventAttributes | None:
        done = {"workflow_task_completed_event_id": completed_id}
        match command:
            case r.ScheduleActivityTask():
                self._activities[command.options.activity_id] = event_id
                return r.ActivityTaskScheduled(options=command.options, **done)
            case r.RequestCancelActivityTask():
                if command.scheduled_event_id not in self._activities.values():
                    return None
                return r.ActivityTaskCancelRequested(scheduled_event_id=command.scheduled_event_id, **done)
            case r.StartTimer():
                self._timers[command.timer_id] = event_id
                return r.TimerStarted(
                    timer_id=command.timer_id,
                    start_to_fire_timeout_ms=command.start_to_fire_timeout_ms,
                    due_time_ms=self.clock_ms + command.start_to_fire_timeout_ms,
                    summary=command.summary,
                    **done,
                )
            case r.CancelTimer():
                started = self._timers.pop(command.timer_id, None)
                return (
                    None
                    if started is None
                    else r.TimerCanceled(timer_id=command.timer_id, started_event_id=started, **done)
                )
            case r.RecordMarker():
                return r.MarkerRecorded(marker_name=command.marker_name, details=command.details, **done)
            case r.StartChildWorkflowExecution():
                self.children[command.options.workflow_id] = event_id
                return r.StartChildWorkflowExecutionInitiated(options=command.options, **done)
            case r.SignalExternalWorkflowExecution():
                self.requests[command.workflow_id] = event_id
                return r.SignalExternalWorkflowExecutionInitiated(
                    **{name: getattr(command, name) for name in command.__struct_fields__}, **done
                )
            case r.RequestCancelExternalWorkflowExecution():
                self.requests[command.workflow_id] = event_id
                return r.RequestCancelExternalWorkflowExecutionInitiated(
                    **{name: getattr(command, name) for name in command.__struct_fields__}, **done
                )
            case r.CompleteWorkflowExecution():
                self.closed = True
                return r.WorkflowExecutionCompleted(result=command.result, **done)
            case r.FailWorkflowExecution():
                self.closed = True
                return r.WorkflowExecutionFailed(failure=command.failure, **done)
            case r.CancelWorkflowExecution():
                self.closed = True
                return r.WorkflowExecutionCanceled(details=command.details, **done)
            case r.ContinueAsNewWorkflowExecution():
                self.closed = True
                return r.WorkflowExecutionContinuedAsNew(
                    new_run_id="next", workflow_type=command.workflow_type, task_queue=command.task_queue, **done
                )
            case r.ModifyWorkflowProperties():
                return r.WorkflowPropertiesModified(
                    upserted_memo=command.upserted_memo, removed_memo=command.removed_memo, **done
                )
            case r.UpsertWorkflowSearchAttributes():
                return r.UpsertWorkflowSearchAttributesEvent(
                    search_attributes=command.search_attributes, removed=command.removed, **done
                )
            case r.AcceptUpdate():
                self._accepted[command.request.update_id] = event_id
                return r.WorkflowExecutionUpdateAccepted(request=command.request, **done)
            case r.CompleteUpdate():
                return r.WorkflowExecutionUpdateCompleted(
                    update_id=command.update_id,
                    accepted_event_id=self._accepted[command.update_id],
                    result=command.result,
                    failure=command.failure,
                    **done,
                )
            case r.EmitRecord():
                return r.RecordEmitted(
                    topic=command.topic, key=command.key, value=command.value, headers=command.headers, **done
                )
            case r.WaitForRecord():
                wait = r.RecordWait(
                    wait_id=command.wait_id,
                    topic=command.topic,
                    key=command.key,
                    where=command.where,
                    since_ms=self.clock_ms - command.look_back_ms,
                )
                return r.RecordWaitStarted(wait=wait, **done)
            case r.CancelRecordWait():
                return r.RecordWaitCanceled(wait_id=command.wait_id, **done)
            case r.RejectUpdate():
                return None
        raise AssertionError(command)

    def _append(self, *attributes: r.EventAttributes) -> None:
        events = []
        for one in attributes:
            events.append(r.Event(event_id=self._next_id, event_time_ms=self.clock_ms, attributes=one))
            self._next_id += 1
        self.records.append(
            r.HistoryRecord(
                workflow_id=self.workflow_id,
                run_id=self.run_id,
                command_offset=len(self.records),
                epoch=0,
                events=events,
            )
        )


class Driver:
    """A runner and a history. Each task is run on the caching runner *and* replayed on a fresh one: they must agree."""

    def __init__(self, workflow: type, *args: Any, check_replay: bool = True, **options: Any) -> None:
        self.workflow = workflow
        self.runner_options = {key: options.pop(key) for key in ("failure_types",) if key in options}
        self.runner = self.new_runner()
        self.history = History(workflow_name(workflow), *args, **options)
        self.check_replay = check_replay

    def new_runner(self, max_cached_workflows: int = 100) -> WorkflowRunner:
        return runner(
            self.workflow,
            max_cached_workflows=max_cached_workflows,
            failure_types=self.runner_options.get("failure_types", ()),
        )

    def step(self) -> r.WorkflowTaskCompleted:
        """Run the code on with what has happened, and apply its commands."""
        result = self.attempt()
        assert isinstance(result, r.WorkflowTaskCompleted), result.failure
        self.history.apply(result)
        return result

    def commands(self) -> list[r.WorkflowCommand]:
        return self.step().commands

    def attempt(self) -> r.WorkflowTaskCompleted | r.WorkflowTaskFailed:
        """Run the code on, without applying anything."""
        history = self.history
        task = history.task()
        result = run(self.runner, history, task)
        if self.check_replay:
            replayed = run(self.new_runner(0), history, task)
            assert type(replayed) is type(result)
            if isinstance(result, r.WorkflowTaskCompleted):
                assert without_traces(replayed.commands) == without_traces(result.commands)
        return result

    def query(self, name: str, *args: Any) -> Any:
        """The decoded answer to a query; a failure is raised."""
        history = self.history
        answers = []
        for one in (self.runner, self.new_runner(0)):
            needed = history.since(one.next_event_id(history.run_id))
            answers.append(one.query(history.workflow_id, history.run_id, history.query_task(name, *args), needed))
        (result, failure), (replayed, _) = answers
        assert replayed == result
        if failure is not None:
            raise CONVERTER.failure_converter.from_failure(failure, CONVERTER.payload_converter)
        return values(result)[0]


def without_traces(commands: Sequence[r.WorkflowCommand]) -> list[Any]:
    """Commands as plain data, without stack traces: those show where a replay ran, not what it did."""
    return [_plain(command) for command in commands]


def _plain(value: Any) -> Any:
    if isinstance(value, r.Record):
        return (
            type(value).__name__,
            {name: _plain(getattr(value, name)) for name in value.__struct_fields__ if name != "stack_trace"},
        )
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def runner(
    *workflows: type,
    max_cached_workflows: int = 100,
    max_cached_history_bytes: int | None = None,
    failure_types: Sequence[type] = (),
) -> WorkflowRunner:
    return WorkflowRunner(
        list(workflows),
        namespace="default",
        task_queue="queue",
        payload_converter=CONVERTER.payload_converter,
        failure_converter=CONVERTER.failure_converter,
        identity="test",
        worker_id="worker-1",
        max_cached_workflows=max_cached_workflows,
        max_cached_history_bytes=max_cached_history_bytes,
        workflow_failure_exception_types=failure_types,
    )


def run(one: WorkflowRunner, history: History, task: r.WorkflowTask) -> r.WorkflowTaskCompleted | r.WorkflowTaskFailed:
    needed = history.since(one.next_event_id(history.run_id))
    return one.run_task(history.workflow_id, history.run_id, task, needed, history.clock_ms)


def workflow_name(workflow: type) -> str:
    from perdure._runtime.definition import WorkflowDefinition

    return WorkflowDefinition.must_from_class(workflow).name


def payloads(*args: Any) -> list[r.Payload]:
    return CONVERTER.payload_converter.to_payloads(args)


def values(encoded: Sequence[r.Payload]) -> list[Any]:
    return CONVERTER.payload_converter.from_payloads(encoded)


def result_of(commands: Sequence[r.WorkflowCommand]) -> Any:
    """The decoded result of a closing command."""
    closing = commands[-1]
    assert isinstance(closing, r.CompleteWorkflowExecution), closing
    return values(closing.result)[0]


def kinds(commands: Sequence[r.WorkflowCommand]) -> list[str]:
    return [type(command).__name__ for command in commands]
