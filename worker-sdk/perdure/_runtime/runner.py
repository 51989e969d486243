"""The worker's door to workflow code: runs workflow tasks and queries, and keeps recent runs in memory.

Invariants: one thread; a run whose code failed, or that does not fit the history it is given, is never kept; the cache
holds at most ``max_cached_workflows`` runs, and the one used longest ago goes first. Called by the worker's dispatch
thread and by the replayer.
"""

from __future__ import annotations

import logging
import warnings
from asyncio import events as asyncio_events
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from perdure._interceptors import Interceptor, WorkflowInterceptorClassInput
from perdure._runtime.definition import WorkflowDefinition
from perdure._runtime.errors import (
    HistoryIncompleteError,
    NondeterminismError,
    UnknownWorkflowTypeError,
    WorkflowDeadlockError,
)
from perdure._runtime.guard import guard
from perdure._runtime.instance import RuntimeSettings
from perdure._runtime.local_activities import CancelLocalActivity, LocalOutcome, StartLocalActivity
from perdure._runtime.replay import DivergedError, ReplayedRun
from perdure._runtime.watchdog import Watchdog
from perdure._versioning import WorkerDeploymentConfig
from perdure.converter import FailureConverter, PayloadConverter
from perdure.converter._failure import loggable
from perdure_schemas.records import (
    Failure,
    FailWorkflowExecution,
    HistoryRecord,
    Payload,
    QueryTask,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
)

_log = logging.getLogger("perdure.worker")

UNHANDLED_FAILURE = "WORKFLOW_WORKER_UNHANDLED_FAILURE"
NON_DETERMINISTIC = "NON_DETERMINISTIC_ERROR"
TYPE_NOT_FOUND = "WORKFLOW_TYPE_NOT_FOUND"


class WorkflowRunner:
    """See the module.

    Args:
        workflows: The workflow classes, each decorated with ``workflow.defn``.
        namespace: The namespace, for ``workflow.info()``.
        task_queue: The worker's task queue, for messages.
        payload_converter: Converts arguments and results.
        failure_converter: Converts errors.
        identity: The worker's identity, for messages.
        worker_id: Reported with completions, so that the next task of a run comes to this worker.
        max_cached_workflows: How many runs are kept in memory; 0 replays every task from the first event.
        max_cached_history_bytes: How long the histories of the runs in memory are together at most.
        workflow_failure_exception_types: Exceptions that end any workflow of this worker, rather than failing the task.
        interceptors: The worker's interceptors, the outermost first.
        watchdog: Interrupts code that does not yield, on the one thread that calls this.
        deployment: The version of the worker.
        build_id: Its build id, where it has no version.

    Raises:
        ValueError: a class is no workflow, or two have the same name.
    """

    def __init__(
        self,
        workflows: Sequence[type],
        *,
        namespace: str,
        task_queue: str,
        payload_converter: PayloadConverter,
        failure_converter: FailureConverter,
        identity: str,
        worker_id: str,
        max_cached_workflows: int = 1000,
        max_cached_history_bytes: int | None = None,
        workflow_failure_exception_types: Sequence[type[BaseException]] = (),
        interceptors: Sequence[Interceptor] = (),
        watchdog: Watchdog | None = None,
        deployment: WorkerDeploymentConfig | None = None,
        build_id: str = "",
    ) -> None:
        if max_cached_workflows < 0:
            raise ValueError(f"max_cached_workflows is {max_cached_workflows}; it cannot be negative")
        #: By name, and the dynamic one under ``None``.
        self._definitions: dict[str | None, WorkflowDefinition] = {}
        for cls in workflows:
            definition = WorkflowDefinition.must_from_class(cls)
            key = None if definition.dynamic else definition.name
            other = self._definitions.get(key)
            if other is not None:
                which = "dynamic" if key is None else f"named {key!r}"
                raise ValueError(f"two workflows are {which}: {other.cls.__qualname__} and {cls.__qualname__}")
            self._definitions[key] = definition
            if definition.sandboxed:
                for message in guard(cls):
                    warnings.warn(f"workflow {definition.name}: {message}", RuntimeWarning, stacklevel=2)
        extern_functions: dict[str, Callable[..., Any]] = {}
        class_input = WorkflowInterceptorClassInput(unsafe_extern_functions=extern_functions)
        interceptor_classes = [interceptor.workflow_interceptor_class(class_input) for interceptor in interceptors]
        self._settings = RuntimeSettings(
            namespace=namespace,
            payload_converter=payload_converter,
            failure_converter=failure_converter,
            failure_exception_types=tuple(workflow_failure_exception_types),
            interceptor_classes=tuple(one for one in interceptor_classes if one is not None),
            extern_functions=extern_functions,
            watchdog=watchdog,
            deployment=deployment,
            build_id=build_id,
        )
        self._task_queue = task_queue
        self._identity = identity
        self._worker_id = worker_id
        if max_cached_history_bytes is not None and max_cached_history_bytes < 1:
            raise ValueError(f"max_cached_history_bytes is {max_cached_history_bytes}; it must be 1 or more")
        self._cached_max = max_cached_workflows
        self._cached_bytes_max = max_cached_history_bytes
        #: By run, and together; only kept where they are bounded.
        self._history_bytes: dict[str, int] = {}
        self._history_bytes_total = 0
        self._runs: OrderedDict[str, ReplayedRun] = OrderedDict()
        #: Told of each run that leaves the cache.
        self.on_forgotten: Callable[[str], None] | None = None

    # --- cache --------------------------------------------------------------------------------------------------

    @property
    def cached_count(self) -> int:
        """How many runs are in memory."""
        return len(self._runs)

    def next_event_id(self, run_id: str) -> int:
        """The first event this runner needs of a run; 1 if it does not know the run."""
        run = self._runs.get(run_id)
        return 1 if run is None else run.next_event_id

    def evict(self, run_id: str) -> None:
        """Forget a run and end its tasks. Unknown ones are ignored."""
        run = self._runs.pop(run_id, None)
        self._history_bytes_total -= self._history_bytes.pop(run_id, 0)
        if run is not None:
            run.close()
            if self.on_forgotten is not None:
                self.on_forgotten(run_id)

    def evict_all(self) -> None:
        """Forget all runs; for the end of a worker."""
        for run_id in list(self._runs):
            self.evict(run_id)

    # --- workflow tasks -----------------------------------------------------------------------------------------

    def run_task(
        self, workflow_id: str, run_id: str, task: WorkflowTask, records: Sequence[HistoryRecord], now_ms: int
    ) -> WorkflowTaskCompleted | WorkflowTaskFailed | None:
        """Run workflow code on, up to ``task.last_event_id``; ``None`` if it waits for local activities.

        Then take :meth:`take_local_requests`, run those, and give what they come to to :meth:`end_local_activity`.

        Args:
            workflow_id: The workflow's id.
            run_id: The run's id.
            task: The workflow task. Its ``history`` is not looked at.
            records: The history from :meth:`next_event_id` on, or from before.
            now_ms: The wall clock.

        Raises:
            HistoryIncompleteError: events are missing; fetch from its ``first_event_id`` on and try again.
        """
        known = self._runs.get(run_id)
        repeated = None if known is None else known.repeat(task)
        if repeated is not None:
            self._runs.move_to_end(run_id)
            return repeated
        try:
            try:
                return self._run_task(workflow_id, run_id, task, records, now_ms)
            except DivergedError:
                self.evict(run_id)
                return self._run_task(workflow_id, run_id, task, records, now_ms)
        except HistoryIncompleteError:
            raise
        except (KeyboardInterrupt, GeneratorExit):
            self.evict(run_id)
            raise
        except BaseException as error:
            error = self._settled(error)
            self.evict(run_id)
            return self._failed(workflow_id, run_id, task, error, now_ms)

    def _settled(self, error: BaseException) -> BaseException:
        """What an error of workflow code is. One that interrupted it may have come through while it was ended."""
        watchdog = self._settings.watchdog
        if watchdog is None:
            return error
        deadlock = watchdog.end()
        if deadlock is not None:
            asyncio_events._set_running_loop(None)
        return deadlock or error

    def _run_task(
        self, workflow_id: str, run_id: str, task: WorkflowTask, records: Sequence[HistoryRecord], now_ms: int
    ) -> WorkflowTaskCompleted | None:
        # The last event of a task for updates is not written yet.
        last_event_id = task.last_event_id - (1 if task.speculative_id else 0)
        run = self._absorb(workflow_id, run_id, records, last_event_id)
        completed = run.run_on(task, now_ms, self._worker_id if self._cached_max > 0 else "")
        self._weigh(run)
        self._trim()
        return completed

    # --- local activities ---------------------------------------------------------------------------------------

    def take_local_requests(self, run_id: str) -> list[StartLocalActivity | CancelLocalActivity]:
        """The local activities to start and to stop for a run that was just run; each is given once."""
        run = self._runs.get(run_id)
        return [] if run is None or run.instance is None else run.instance.local_activities.take_requests()

    def end_local_activity(
        self, run_id: str, outcome: LocalOutcome, now_ms: int
    ) -> WorkflowTaskCompleted | WorkflowTaskFailed | None:
        """Go on with a run whose local activity ended; the answer of its task, if that is complete now."""
        run = self._runs.get(run_id)
        if run is None:
            return None  # it was forgotten: its next task runs the activity again
        task = run.open_task
        try:
            return run.end_local_activity(outcome, now_ms)
        except (KeyboardInterrupt, GeneratorExit):
            self.evict(run_id)
            raise
        except BaseException as error:
            error = self._settled(error)
            self.evict(run_id)
            assert task is not None
            return self._failed(run.workflow_id, run_id, task, error, now_ms)

    def cut_short(self, run_id: str) -> WorkflowTaskCompleted | None:
        """The answer of a task that waits for local activities, which run on; ``None`` if none waits."""
        run = self._runs.get(run_id)
        return None if run is None or run.open_task is None else run.cut_short(self._worker_id)

    def _failed(
        self, workflow_id: str, run_id: str, task: WorkflowTask, error: BaseException, now_ms: int
    ) -> WorkflowTaskCompleted | WorkflowTaskFailed:
        failure = self._failure_of(error)
        if isinstance(error, NondeterminismError) and self._ends_workflow(task.workflow_type, error):
            return WorkflowTaskCompleted(
                scheduled_event_id=task.scheduled_event_id,
                attempt=task.attempt,
                last_event_id=task.last_event_id,
                started_time_ms=now_ms,
                commands=[FailWorkflowExecution(failure=failure)],
                speculative_id=task.speculative_id,
            )
        _log.warning(
            "workflow task failed: workflow %s (%s), run %s, attempt %d",
            workflow_id,
            task.workflow_type,
            run_id,
            task.attempt,
            exc_info=loggable(error, self._settings.failure_converter),
        )
        return WorkflowTaskFailed(
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            cause=_cause_of(error),
            failure=failure,
            speculative_id=task.speculative_id,
        )

    def _ends_workflow(self, workflow_type: str, error: BaseException) -> bool:
        definition = self._definitions.get(workflow_type) or self._definitions.get(None)
        types = self._settings.failure_exception_types
        if definition is not None:
            types += definition.failure_exception_types
        return isinstance(error, types)

    def replay(self, workflow_id: str, run_id: str, records: Sequence[HistoryRecord], last_event_id: int) -> None:
        """Replay a history up to its last completed workflow task, and forget the run.

        Args:
            workflow_id: The workflow's id.
            run_id: The run's id.
            records: The history from its first event on.
            last_event_id: Its last event.

        Raises:
            NondeterminismError: the code does not do what the history says.
            HistoryIncompleteError: events are missing. BaseException: the code failed.
        """
        self.evict(run_id)
        try:
            self._absorb(workflow_id, run_id, records, last_event_id)
        finally:
            self.evict(run_id)

    # --- queries ------------------------------------------------------------------------------------------------

    def query(
        self, workflow_id: str, run_id: str, task: QueryTask, records: Sequence[HistoryRecord]
    ) -> tuple[list[Payload], Failure | None]:
        """Answer a query on the state as of the last completed workflow task.

        Args:
            workflow_id: The workflow's id.
            run_id: The run's id.
            task: The query. Its ``history`` is not looked at.
            records: The history from :meth:`next_event_id` on, or from before.

        Returns:
            The result and ``None``, or nothing and why there is none.

        Raises:
            HistoryIncompleteError: events are missing; fetch from its ``first_event_id`` on and try again.
        """
        try:
            try:
                run = self._absorb(workflow_id, run_id, records, task.last_event_id)
            except DivergedError:
                self.evict(run_id)
                run = self._absorb(workflow_id, run_id, records, task.last_event_id)
        except HistoryIncompleteError:
            raise
        except (KeyboardInterrupt, GeneratorExit):
            self.evict(run_id)
            raise
        except BaseException as error:
            error = self._settled(error)
            self.evict(run_id)
            return [], self._failure_of(error)
        self._weigh(run)
        try:
            return run.query(task), None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            error = self._settled(error)
            if isinstance(error, WorkflowDeadlockError):
                self.evict(run_id)
            return [], self._failure_of(error)
        finally:
            self._trim()

    # --- both ---------------------------------------------------------------------------------------------------

    def _absorb(
        self, workflow_id: str, run_id: str, records: Sequence[HistoryRecord], last_event_id: int
    ) -> ReplayedRun:
        run = self._runs.get(run_id)
        if run is None:
            run = ReplayedRun(workflow_id, run_id, self._definition_of, self._settings)
            self._runs[run_id] = run
        else:
            self._runs.move_to_end(run_id)
        try:
            run.absorb(records, last_event_id)
        except HistoryIncompleteError:
            if run.next_event_id == 1:
                self.evict(run_id)
            raise
        return run

    def _weigh(self, run: ReplayedRun) -> None:
        """Note how long the history of a run is: what its code holds in memory was made of it."""
        if self._cached_bytes_max is None or run.instance is None:
            return
        history_bytes = run.instance.history_bytes
        self._history_bytes_total += history_bytes - self._history_bytes.get(run.run_id, 0)
        self._history_bytes[run.run_id] = history_bytes

    def _trim(self) -> None:
        bytes_max = self._cached_bytes_max
        while len(self._runs) > self._cached_max or (bytes_max is not None and self._history_bytes_total > bytes_max):
            # A run with local activities stays: its next task would run them again.
            idle = next((run_id for run_id, run in self._runs.items() if not run.is_busy), None)
            if idle is None:
                return
            self.evict(idle)

    def _definition_of(self, workflow_type: str) -> WorkflowDefinition:
        definition = self._definitions.get(workflow_type) or self._definitions.get(None)
        if definition is None:
            known = ", ".join(sorted(name for name in self._definitions if name is not None)) or "none"
            raise UnknownWorkflowTypeError(
                f"worker {self._identity} on task queue {self._task_queue!r} has no workflow named {workflow_type!r}; "
                f"it has: {known}"
            )
        return definition

    def _failure_of(self, error: BaseException) -> Failure:
        converter, payloads = self._settings.failure_converter, self._settings.payload_converter
        try:
            return converter.to_failure(error, payloads)
        except Exception as conversion_error:
            conversion_error.__cause__ = None
            text = f"{type(error).__name__}: {error} (and it could not be converted: {conversion_error})"
            return converter.to_failure(RuntimeError(text), payloads)


def _cause_of(error: BaseException) -> str:
    if isinstance(error, NondeterminismError):
        return NON_DETERMINISTIC
    if isinstance(error, UnknownWorkflowTypeError):
        return TYPE_NOT_FOUND
    return UNHANDLED_FAILURE
