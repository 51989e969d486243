"""From history records to activations: replaying what was done, checking it, and running the code on.

Invariants: activation *i* gets the events in (last_event_id of completion *i - 1*, last_event_id of completion *i*],
with the time that completion reports; the commands of an activation are matched with the command events that follow its
completion; an activation that was run for the engine and is not in the history yet ("unconfirmed") is the last thing a
run has done, and the run is of no use if the history goes on otherwise. Called by the runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from perdure._runtime.commands import COMMAND_EVENTS, match
from perdure._runtime.definition import WorkflowDefinition
from perdure._runtime.errors import (
    HistoryIncompleteError,
    NondeterminismError,
    QueryTooEarlyError,
    UnsupportedInWorkflowError,
)
from perdure._runtime.flags import CURRENT_FLAGS, unknown_flags
from perdure._runtime.instance import RuntimeSettings, WorkflowInstance
from perdure._runtime.local_activities import LocalOutcome, is_local_activity
from perdure._runtime.patches import patch_id_of
from perdure._versioning import VersioningBehavior
from perdure_schemas.records import (
    Event,
    HistoryRecord,
    MarkerRecorded,
    Payload,
    QueryTask,
    RejectUpdate,
    UpdateRequest,
    WorkflowCommand,
    WorkflowExecutionStarted,
    WorkflowExecutionUpdateAccepted,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskCompletedEvent,
    WorkflowTaskScheduled,
)


class DivergedError(Exception):
    """The history went on otherwise than this cached run: it must be replayed from its first event."""


class ReplayedRun:
    """One run: its instance, and how far in the history it is."""

    __slots__ = (
        "_definition_of",
        "_delivered",
        "_flags",
        "_local_outcomes",
        "_open_activation",
        "_settings",
        "_started",
        "_waiting",
        "instance",
        "next_event_id",
        "open_task",
        "run_id",
        "unconfirmed",
        "workflow_id",
    )  # fmt: skip

    def __init__(
        self,
        workflow_id: str,
        run_id: str,
        definition_of: Callable[[str], WorkflowDefinition],
        settings: RuntimeSettings,
    ) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.next_event_id = 1
        self.instance: WorkflowInstance | None = None
        #: What was last reported to the engine, until the history has it.
        self.unconfirmed: WorkflowTaskCompleted | None = None
        self._definition_of = definition_of
        self._settings = settings
        self._waiting: list[Event] = []
        #: The task whose activation waits for local activities, and what it brought besides events.
        self.open_task: WorkflowTask | None = None
        self._open_activation: tuple[int, str, str] = (0, "", "")
        #: What local activities gave while no task was there.
        self._local_outcomes: list[tuple[LocalOutcome, int]] = []
        self._delivered: tuple[str, ...] = ()
        self._started: Event | None = None
        self._flags: set[int] = set()

    def absorb(self, records: Iterable[HistoryRecord], last_event_id: int) -> None:
        """Take in events up to ``last_event_id``, skipping known ones, and replay the workflow tasks they complete.

        Raises:
            HistoryIncompleteError: events are missing.
            DivergedError: the history does not confirm what this cached run has done.
            NondeterminismError: the code does not do what the history says.
            BaseException: the code failed.
        """
        events = self._new_events(records, last_event_id)
        waiting = self._waiting
        index, count = 0, len(events)
        while index < count:
            event = events[index]
            index += 1
            completed = event.attributes
            if type(completed) is not WorkflowTaskCompletedEvent:
                waiting.append(event)
                continue
            later: list[Event] = []
            while waiting and waiting[-1].event_id > completed.last_event_id:
                later.append(waiting.pop())
            later.reverse()
            command_events: list[Event] = []
            while index < count:
                following = events[index]
                kind = type(following.attributes)
                if kind in COMMAND_EVENTS:
                    command_events.append(following)
                elif kind is WorkflowTaskCompletedEvent:
                    break
                else:
                    later.append(following)
                index += 1
            self._completed(event.event_id, completed, command_events)
            waiting = self._waiting = later

    def run_on(self, task: WorkflowTask, now_ms: int, sticky_worker_id: str) -> WorkflowTaskCompleted | None:
        """Run the code on for the engine, after :meth:`absorb`; ``None`` if it waits for local activities.

        Raises:
            DivergedError: the last such activation is not confirmed by the history, or lies behind the task.
            BaseException: the code failed.
        """
        last_event_id = task.last_event_id
        if task.speculative_id and self.next_event_id > last_event_id:
            return self._void(task, [])  # something else has happened since; the engine knows
        if self.open_task is not None or self.unconfirmed is not None or self.next_event_id > last_event_id + 1:
            raise DivergedError
        events = self._waiting
        if events:
            now_ms = max(now_ms, events[-1].event_time_ms)
        clock = None if self.instance is None else _clock_of(self.instance)
        if task.speculative_id:
            events = [*events, _presumed_event(task, now_ms)]
        details = "" if self.instance is None else self.instance.current_details
        commands = self._activate(
            events, now_ms, last_event_id, task.updates, (), version=_version_of(self._settings), replaying=False
        )
        assert self.instance is not None
        if task.speculative_id and all(isinstance(command, RejectUpdate) for command in commands):
            assert clock is not None, "a run is activated by a task of its history first"
            self.instance.loop.now_ms, self.instance.history_length, self.instance.history_bytes = clock
            return self._void(task, commands)
        self._waiting = []
        self._delivered = _delivery(task)
        self._open_activation = (self.instance.loop.now_ms, sticky_worker_id, details)
        outcomes, self._local_outcomes = self._local_outcomes, []
        for outcome, ended_ms in outcomes:
            commands = self.instance.end_local_activity(outcome, ended_ms)
        return self._completion(task, commands)

    def end_local_activity(self, outcome: LocalOutcome, now_ms: int) -> WorkflowTaskCompleted | None:
        """A local activity ended; the open task's answer, if nothing else runs that it waits for.

        Raises:
            BaseException: the code failed.
        """
        if self.instance is None or self.open_task is None:
            self._local_outcomes.append((outcome, now_ms))
            return None
        return self._completion(self.open_task, self.instance.end_local_activity(outcome, now_ms))

    def cut_short(self, sticky_worker_id: str) -> WorkflowTaskCompleted:
        """The open task's answer although local activities still run: another task has to follow at once."""
        task, instance = self.open_task, self.instance
        assert task is not None
        assert instance is not None
        self._open_activation = (self._open_activation[0], sticky_worker_id, self._open_activation[2])
        return self._complete(task, instance.commands_so_far(replaying=False), force_new_task=True)

    def _completion(self, task: WorkflowTask, commands: list[WorkflowCommand]) -> WorkflowTaskCompleted | None:
        assert self.instance is not None
        if self.instance.local_activities.is_running:
            self.open_task = task
            return None
        return self._complete(task, commands, force_new_task=False)

    def _complete(
        self, task: WorkflowTask, commands: list[WorkflowCommand], *, force_new_task: bool
    ) -> WorkflowTaskCompleted:
        self.open_task = None
        started_time_ms, sticky_worker_id, details_before = self._open_activation
        assert self.instance is not None
        details = self.instance.current_details
        self.unconfirmed = WorkflowTaskCompleted(
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            last_event_id=task.last_event_id,
            started_time_ms=started_time_ms,
            commands=commands,
            sticky_worker_id=sticky_worker_id,
            sdk_flags=[] if self._flags else list(CURRENT_FLAGS),
            speculative_id=task.speculative_id,
            force_new_task=force_new_task,
            current_details=None if details == details_before else self._settings.payload_converter.to_payload(details),
            **self._versioning(),
        )
        return self.unconfirmed

    def _versioning(self) -> dict[str, Any]:
        """What the answer of a task says of this worker's version."""
        settings, instance = self._settings, self.instance
        if settings.deployment is None and not settings.build_id:
            return {}
        assert instance is not None
        name, build_id = instance.version
        behavior = VersioningBehavior.UNSPECIFIED
        if settings.deployment is not None and settings.deployment.use_worker_versioning:
            behavior = instance.versioning_behavior or settings.deployment.default_versioning_behavior
        return {"deployment_name": name, "build_id": build_id, "versioning_behavior": behavior.to_record()}

    def _void(self, task: WorkflowTask, rejections: list[WorkflowCommand]) -> WorkflowTaskCompleted:
        """The answer of a task for updates that changed nothing, so that the history will not have it."""
        return WorkflowTaskCompleted(
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            last_event_id=task.last_event_id,
            started_time_ms=0 if self.instance is None else self.instance.loop.now_ms,
            commands=rejections,
            speculative_id=task.speculative_id,
        )

    def repeat(self, task: WorkflowTask) -> WorkflowTaskCompleted | None:
        """What was reported for a task that comes again with the same events, or ``None`` if it is another one."""
        done = self.unconfirmed
        if (
            done is None
            or done.scheduled_event_id != task.scheduled_event_id
            or done.last_event_id != task.last_event_id
            or self._delivered != _delivery(task)
        ):
            return None
        self.unconfirmed = replace(done, attempt=task.attempt)
        return self.unconfirmed

    def query(self, task: QueryTask) -> list[Payload]:
        """Answer a query from the state as of the last completed workflow task.

        Raises:
            QueryTooEarlyError: no workflow task has been completed. BaseException: what the handler raised.
        """
        if self.instance is None:
            raise QueryTooEarlyError(
                f"workflow {self.workflow_id} has not run yet, so it cannot answer query {task.query_type!r}"
            )
        return self.instance.query(task.query_type, task.args, query_id=task.query_id, header=task.header)

    @property
    def is_busy(self) -> bool:
        """Whether local activities run for it."""
        return self.instance is not None and self.instance.local_activities.is_running

    def close(self) -> None:
        """The run leaves the cache."""
        if self.instance is not None:
            self.instance.close()
            self.instance = None

    # --- inside -------------------------------------------------------------------------------------------------

    def _new_events(self, records: Iterable[HistoryRecord], last_event_id: int) -> list[Event]:
        expected = self.next_event_id
        found: list[Event] = []
        for record in records:
            for event in record.events:
                event_id = event.event_id
                if event_id == expected:
                    if event_id > last_event_id:
                        break
                    found.append(event)
                    expected += 1
                elif event_id > expected and event_id <= last_event_id:
                    raise HistoryIncompleteError(
                        f"history of run {self.run_id} has a gap: after event {expected - 1} comes event {event_id}",
                        self.next_event_id,
                    )
        if expected <= last_event_id:
            raise HistoryIncompleteError(
                f"history of run {self.run_id} ends at event {expected - 1}; {last_event_id} is needed",
                # What is fetched takes the place of what the task came with, so it begins where the cache ends.
                self.next_event_id,
            )
        if found and self._started is None:
            self._started = found[0]
        self.next_event_id = expected
        return found

    def _completed(self, event_id: int, completed: WorkflowTaskCompletedEvent, command_events: list[Event]) -> None:
        unconfirmed = self.unconfirmed
        if self.open_task is not None:
            raise DivergedError  # somebody else has completed the task
        if unconfirmed is not None:
            if (
                unconfirmed.last_event_id != completed.last_event_id
                or unconfirmed.started_time_ms != completed.started_time_ms
            ):
                raise DivergedError
            self.unconfirmed = None
            commands = unconfirmed.commands
        else:
            self._note_flags(completed.sdk_flags)
            self._note_patches(command_events, completed.started_time_ms)
            accepted = [
                event.attributes.request
                for event in command_events
                if isinstance(event.attributes, WorkflowExecutionUpdateAccepted)
            ]
            commands = self._activate(
                self._waiting,
                completed.started_time_ms,
                completed.last_event_id,
                accepted,
                filter(is_local_activity, command_events),
                version=(completed.deployment_name, completed.build_id),
                replaying=True,
            )
        self._flags.update(completed.sdk_flags)
        if commands or command_events:
            assert self.instance is not None
            match(commands, command_events, event_id, self.instance.note_matched)

    def _note_flags(self, flags: Sequence[int]) -> None:
        unknown = unknown_flags(flags)
        if unknown:
            raise UnsupportedInWorkflowError(
                f"the history of run {self.run_id} was written by a newer version (logic flags {unknown}); "
                "upgrade this worker"
            )

    def _note_patches(self, command_events: list[Event], now_ms: int) -> None:
        for event in command_events:
            if type(event.attributes) is MarkerRecorded:
                patch_id = patch_id_of(event.attributes)
                if patch_id is not None:
                    self._instance_for(now_ms).patches.note_in_history(patch_id)

    def _activate(
        self,
        events: Sequence[Event],
        now_ms: int,
        last_event_id: int,
        updates: Sequence[UpdateRequest],
        local_markers: Iterable[Event],
        *,
        version: tuple[str, str],
        replaying: bool,
    ) -> list[WorkflowCommand]:
        instance = self.instance or self._instance_for(now_ms)
        instance.version = version
        return instance.activate(
            events,
            now_ms=now_ms,
            replaying=replaying,
            history_length=last_event_id,
            updates=updates,
            local_markers=list(local_markers),
        )

    def _instance_for(self, now_ms: int) -> WorkflowInstance:
        """The instance; it is made of the first event."""
        if self.instance is None:
            started = self._started
            if started is None or not isinstance(started.attributes, WorkflowExecutionStarted):
                raise NondeterminismError(f"the history of run {self.run_id} does not begin with its start")
            definition = self._definition_of(started.attributes.workflow_type)
            self.instance = WorkflowInstance(definition, started, self.workflow_id, self.run_id, self._settings, now_ms)
        return self.instance


def _version_of(settings: RuntimeSettings) -> tuple[str, str]:
    """The version of this worker."""
    if settings.deployment is None:
        return "", settings.build_id
    version = settings.deployment.version
    return version.deployment_name, version.build_id


def _delivery(task: WorkflowTask) -> tuple[str, ...]:
    """What else a task brings besides events."""
    return (task.speculative_id, *(update.update_id for update in task.updates))


def _presumed_event(task: WorkflowTask, now_ms: int) -> Event:
    """The event that schedules a task for updates; the engine writes it if one is accepted."""
    assert task.scheduled_event_id == task.last_event_id
    scheduled = WorkflowTaskScheduled(
        task_queue="", start_to_close_timeout_ms=task.start_to_close_timeout_ms, history_bytes=task.history_bytes
    )
    return Event(event_id=task.scheduled_event_id, event_time_ms=now_ms, attributes=scheduled)


def _clock_of(instance: WorkflowInstance) -> tuple[int, int, int]:
    """What an activation changes by itself, to put it back after one in which nothing happened."""
    return instance.loop.now_ms, instance.history_length, instance.history_bytes
