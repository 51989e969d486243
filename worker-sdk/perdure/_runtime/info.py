"""What workflow code can learn about its run. Plain data, made once per run by the instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from perdure._runtime.context import current_instance
from perdure._search_attributes import TypedSearchAttributes, decode_search_attributes
from perdure._versioning import WorkerDeploymentVersion
from perdure.common import Payload, Priority, RetryPolicy
from perdure_schemas.limits import SUGGESTED_BYTES_MAX, SUGGESTED_EVENTS_MAX
from perdure_schemas.records import TaskPriority, WorkflowExecutionStarted


@dataclass(frozen=True)
class ParentInfo:
    """The workflow that started this one as its child."""

    namespace: str
    run_id: str
    workflow_id: str


@dataclass(frozen=True)
class RootInfo:
    """The workflow at the top of a tree of children."""

    run_id: str
    workflow_id: str


@dataclass(frozen=True)
class Info:
    """Facts about the running workflow, as ``workflow.info()`` gives them. Times are aware and in UTC.

    Attributes:
        attempt: Which attempt of the workflow this run is; 1 unless a retry policy repeated it.
        continued_run_id: The run this one continues.
        cron_schedule: The cron schedule that started it.
        execution_timeout: Limit for all runs of this execution together.
        first_execution_run_id: The first run of the chain this one belongs to.
        headers: What interceptors of the client sent along.
        namespace: The namespace.
        original_execution_run_id: The run id at the start, also after a reset.
        parent: The parent, if this is a child workflow.
        root: The workflow at the top of the tree, if this is a child workflow.
        priority: The priority of its tasks.
        raw_memo: The memo, not decoded.
        retry_policy: How a failed run is repeated.
        run_id: The id of this run.
        run_timeout: Limit for this run.
        typed_search_attributes: The search attributes.
        start_time: When the first workflow task of this run began.
        task_queue: The task queue of its workflow tasks.
        task_timeout: How long a worker may take for one workflow task.
        workflow_id: The id of the workflow.
        workflow_start_time: When the run was created.
        workflow_type: The name of the workflow.
    """

    attempt: int
    continued_run_id: str | None
    cron_schedule: str | None
    execution_timeout: timedelta | None
    first_execution_run_id: str
    headers: Mapping[str, Payload]
    namespace: str
    original_execution_run_id: str
    parent: ParentInfo | None
    root: RootInfo | None
    priority: Priority
    raw_memo: Mapping[str, Payload]
    retry_policy: RetryPolicy | None
    run_id: str
    run_timeout: timedelta | None
    start_time: datetime
    task_queue: str
    task_timeout: timedelta
    workflow_id: str
    workflow_start_time: datetime
    workflow_type: str
    typed_search_attributes: TypedSearchAttributes

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """The search attributes without their types: each name with its values."""
        return {
            pair.key.name: list(pair.value) if isinstance(pair.value, list) else [pair.value]
            for pair in self.typed_search_attributes
        }

    def get_current_history_length(self) -> int:
        """How many events the run has, as of the workflow task that runs now. The same on replay.

        Raises:
            NotInWorkflowError: not called from workflow code.
        """
        return current_instance().history_length

    def get_current_history_size(self) -> int:
        """How many bytes the history had when the workflow task that runs now was scheduled. The same on replay.

        Raises:
            NotInWorkflowError: not called from workflow code.
        """
        return current_instance().history_bytes

    def get_current_deployment_version(self) -> WorkerDeploymentVersion | None:
        """The version of the worker that runs this workflow task, or ran it first; ``None`` without one.

        The same on replay, so code may depend on it.

        Raises:
            NotInWorkflowError: not called from workflow code.
        """
        name, build_id = current_instance().version
        return WorkerDeploymentVersion(name, build_id) if name else None

    def get_current_build_id(self) -> str:
        """The build id of the worker that runs this workflow task, or ran it first; empty without one.

        Raises:
            NotInWorkflowError: not called from workflow code.
        """
        return current_instance().version[1]

    def is_continue_as_new_suggested(self) -> bool:
        """Whether the history has become so long or so large that the run should continue as new.

        Raises:
            NotInWorkflowError: not called from workflow code.
        """
        instance = current_instance()
        return instance.history_length > SUGGESTED_EVENTS_MAX or instance.history_bytes > SUGGESTED_BYTES_MAX

    @cached_property
    def logger_details(self) -> Mapping[str, Any]:
        """What the workflow's logger adds to each message."""
        return {
            "attempt": self.attempt,
            "namespace": self.namespace,
            "run_id": self.run_id,
            "task_queue": self.task_queue,
            "workflow_id": self.workflow_id,
            "workflow_type": self.workflow_type,
        }


def info_of(
    started: WorkflowExecutionStarted, *, namespace: str, workflow_id: str, run_id: str, created_ms: int, now_ms: int
) -> Info:
    """The facts in a run's first event. ``now_ms`` is the time of its first workflow task."""
    return Info(
        attempt=started.attempt,
        continued_run_id=started.continued_run_id or None,
        cron_schedule=started.cron_schedule or None,
        execution_timeout=_duration(started.execution_timeout_ms),
        first_execution_run_id=started.first_execution_run_id,
        headers=started.header,
        namespace=namespace,
        original_execution_run_id=started.original_run_id or run_id,
        parent=_parent(started, namespace),
        root=_root(started),
        priority=_priority(started.priority),
        raw_memo=started.memo,
        retry_policy=None if started.retry_policy is None else RetryPolicy.from_record(started.retry_policy),
        run_id=run_id,
        run_timeout=_duration(started.run_timeout_ms),
        start_time=moment(now_ms),
        task_queue=started.task_queue,
        task_timeout=timedelta(milliseconds=started.task_timeout_ms),
        workflow_id=workflow_id,
        workflow_start_time=moment(created_ms),
        workflow_type=started.workflow_type,
        typed_search_attributes=decode_search_attributes(started.search_attributes),
    )


def _parent(started: WorkflowExecutionStarted, namespace: str) -> ParentInfo | None:
    parent = started.parent
    if parent is None:
        return None
    return ParentInfo(namespace=namespace, run_id=parent.run_id, workflow_id=parent.workflow_id)


def _root(started: WorkflowExecutionStarted) -> RootInfo | None:
    parent = started.parent
    return None if parent is None else RootInfo(run_id=parent.root_run_id, workflow_id=parent.root_workflow_id)


def _priority(record: TaskPriority) -> Priority:
    if record == TaskPriority():
        return Priority.default
    return Priority(record.priority, record.fairness_key or None, record.fairness_weight)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time_ms: int) -> datetime:
    """Milliseconds since 1970 as an aware time, without the error of a float."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def _duration(duration_ms: int | None) -> timedelta | None:
    return None if duration_ms is None else timedelta(milliseconds=duration_ms)
