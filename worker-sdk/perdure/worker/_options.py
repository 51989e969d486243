"""The options of a worker, checked and with defaults filled in."""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._activity_context import Definition
from perdure._interceptors import Interceptor
from perdure._limits import check_name
from perdure._runtime.definition import WorkflowDefinition
from perdure._versioning import WorkerDeploymentConfig, checked_config
from perdure.common import require_unused
from perdure.worker._shared_state import SharedStateManager, check_picklable
from perdure.worker._tuning import WorkerTuner
from perdure_schemas.limits import WORKER_SLOTS_MAX

if TYPE_CHECKING:
    from perdure.client import Client


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker was made with; see :class:`perdure.worker.Worker`."""

    task_queue: str
    workflows: Sequence[type]
    workflow_names: Sequence[str]
    activities: Mapping[str, Definition]
    dynamic_activity: Definition | None
    activity_executor: concurrent.futures.Executor | None
    tuner: WorkerTuner
    shared_state_manager: SharedStateManager | None
    activities_per_second: float
    queue_activities_per_second: float
    eager_activities: bool
    max_cached_workflows: int
    max_cached_history_bytes: int | None
    identity: str
    graceful_shutdown_timeout: timedelta
    max_heartbeat_throttle_interval: timedelta
    default_heartbeat_throttle_interval: timedelta
    workflow_failure_exception_types: Sequence[type[BaseException]]
    on_fatal_error: Callable[[BaseException], Awaitable[None]] | None
    interceptors: Sequence[Interceptor] = ()
    debug_mode: bool = False
    deployment: WorkerDeploymentConfig | None = None
    build_id: str = ""

    @property
    def routed_version(self) -> tuple[str, str]:
        """The deployment name and build id of the tasks it takes; empty ones for tasks of no version."""
        if self.deployment is None or not self.deployment.use_worker_versioning:
            return "", ""
        return self.deployment.version.deployment_name, self.deployment.version.build_id

    @property
    def has_activities(self) -> bool:
        """Whether it runs any activity."""
        return bool(self.activities) or self.dynamic_activity is not None

    def activity(self, name: str) -> Definition | None:
        """The activity of that name, or the dynamic one."""
        return self.activities.get(name, self.dynamic_activity)


def options_of(
    client: Client,
    *,
    task_queue: str,
    activities: Sequence[Callable[..., Any]],
    workflows: Sequence[type],
    activity_executor: concurrent.futures.Executor | None,
    workflow_task_executor: Any,
    workflow_runner: Any,
    unsandboxed_workflow_runner: Any,
    plugins: Sequence[Any],  # have had their say
    interceptors: Sequence[Interceptor],
    build_id: str | None,
    identity: str | None,
    max_cached_workflows: int,
    max_cached_history_bytes: int | None,
    max_concurrent_workflow_tasks: int | None,
    max_concurrent_activities: int | None,
    max_concurrent_local_activities: int | None,
    tuner: WorkerTuner | None,
    no_remote_activities: bool,
    max_heartbeat_throttle_interval: timedelta,
    default_heartbeat_throttle_interval: timedelta,
    max_activities_per_second: float | None,
    max_task_queue_activities_per_second: float | None,
    disable_eager_activity_execution: bool,
    graceful_shutdown_timeout: timedelta,
    workflow_failure_exception_types: Sequence[type[BaseException]],
    shared_state_manager: SharedStateManager | None,
    debug_mode: bool,
    on_fatal_error: Callable[[BaseException], Awaitable[None]] | None,
    use_worker_versioning: bool,
    deployment_config: WorkerDeploymentConfig | None,
) -> WorkerOptions:
    """The options of a worker, checked.

    Raises:
        ValueError, TypeError: one makes no sense. NotImplementedError: one is not supported. RuntimeError: the
            client is lazy and was not used yet.
    """
    require_unused(
        {
            "workflow_task_executor": workflow_task_executor,
            "workflow_runner": workflow_runner,
            "unsandboxed_workflow_runner": unsandboxed_workflow_runner,
            "no_remote_activities": no_remote_activities,
            "use_worker_versioning": use_worker_versioning,
        },
        "Worker",
    )
    if not activities and not workflows:
        raise ValueError("a worker needs at least one workflow or activity")
    if not client.connected:
        raise RuntimeError("a lazy client cannot serve a worker before its first request: connect without lazy")
    check_name(task_queue, "task queue")
    definitions, dynamic = activity_definitions(activities, activity_executor)
    interceptors = all_interceptors(client.interceptors, interceptors)
    check_executor(
        activity_executor, shared_state_manager, [*definitions.values(), dynamic], intercepted=bool(interceptors)
    )
    if max_cached_workflows < 0:
        raise ValueError(f"max_cached_workflows is {max_cached_workflows}; it cannot be negative")
    if max_cached_history_bytes is not None and max_cached_history_bytes < 1:
        raise ValueError(f"max_cached_history_bytes is {max_cached_history_bytes}; it must be 1 or more")
    return WorkerOptions(
        task_queue=task_queue,
        workflows=tuple(workflows),
        workflow_names=workflow_names(workflows),
        activities=definitions,
        dynamic_activity=dynamic,
        activity_executor=activity_executor,
        tuner=tuner_of(
            tuner, max_concurrent_workflow_tasks, max_concurrent_activities, max_concurrent_local_activities
        ),
        eager_activities=not disable_eager_activity_execution,
        activities_per_second=rate(max_activities_per_second, "max_activities_per_second"),
        queue_activities_per_second=rate(max_task_queue_activities_per_second, "max_task_queue_activities_per_second"),
        max_cached_workflows=max_cached_workflows,
        max_cached_history_bytes=max_cached_history_bytes,
        identity=identity or client.identity,
        graceful_shutdown_timeout=graceful_shutdown_timeout,
        max_heartbeat_throttle_interval=max_heartbeat_throttle_interval,
        default_heartbeat_throttle_interval=default_heartbeat_throttle_interval,
        workflow_failure_exception_types=tuple(workflow_failure_exception_types),
        on_fatal_error=on_fatal_error,
        interceptors=interceptors,
        shared_state_manager=shared_state_manager,
        debug_mode=debug_mode,
        deployment=deployment_of(deployment_config, build_id, workflows),
        build_id=build_id or "",
    )


def workflow_names(workflows: Sequence[type]) -> list[str]:
    """The names of workflow classes.

    Raises:
        ValueError: a class is no workflow, or two have the same name.
    """
    names: list[str] = []
    for cls in workflows:
        definition = WorkflowDefinition.must_from_class(cls)
        name = "(dynamic)" if definition.dynamic else definition.name
        if name in names:
            raise ValueError(f"two workflows of this worker have the name {name!r}")
        names.append(name)
    return names


def activity_definitions(
    activities: Sequence[Callable[..., Any]], executor: concurrent.futures.Executor | None
) -> tuple[dict[str, Definition], Definition | None]:
    """Activities by name, and the dynamic one.

    Raises:
        TypeError: a function is no activity. ValueError: two have the same name, or a synchronous one has no executor.
    """
    by_name: dict[str, Definition] = {}
    dynamic: Definition | None = None
    for fn in activities:
        if isinstance(fn, type):
            raise TypeError(f"{fn.__name__} is a class; give an instance of it")
        definition = Definition.must_from_callable(fn)
        if not definition.is_async and executor is None:
            raise ValueError(
                f"activity {definition.name or 'dynamic'} is synchronous, so the worker needs an activity_executor, "
                "for example concurrent.futures.ThreadPoolExecutor(100)"
            )
        if definition.name is None:
            if dynamic is not None:
                raise ValueError("a worker takes one dynamic activity at most")
            dynamic = definition
        elif definition.name in by_name:
            raise ValueError(f"two activities of this worker have the name {definition.name!r}")
        else:
            check_name(definition.name, "activity name")
            by_name[definition.name] = definition
    return by_name, dynamic


def deployment_of(config: object, build_id: str | None, workflows: Sequence[type]) -> WorkerDeploymentConfig | None:
    """The version of a worker, checked.

    Raises:
        TypeError, ValueError: it makes no sense, or a workflow does not say how it moves between versions.
    """
    deployment = checked_config(config)
    if deployment is None:
        return None
    if build_id:
        raise ValueError("give either deployment_config or build_id, not both: the version has a build id")
    if deployment.use_worker_versioning and not deployment.default_versioning_behavior:
        for cls in workflows:
            definition = WorkflowDefinition.must_from_class(cls)
            if not definition.versioning_behavior and definition.dynamic_config_fn is None:
                raise ValueError(
                    f"workflow {definition.name} does not say how its runs move between versions: add "
                    "versioning_behavior to its @workflow.defn, or default_versioning_behavior to the worker's "
                    "deployment_config"
                )
    return deployment


def check_executor(
    executor: concurrent.futures.Executor | None,
    shared_state_manager: SharedStateManager | None,
    definitions: Sequence[Definition | None],
    *,
    intercepted: bool,
) -> None:
    """Refuse an executor that cannot run the synchronous activities.

    Raises:
        TypeError: it is no executor, or an activity cannot be sent to its processes.
        ValueError: a process pool without a manager. NotImplementedError: a process pool together with interceptors.
    """
    if executor is None:
        return
    if not isinstance(executor, concurrent.futures.Executor):
        raise TypeError("activity_executor must be a concurrent.futures.Executor")
    if not isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        return
    if shared_state_manager is None:
        raise ValueError(
            "a ProcessPoolExecutor needs shared_state_manager="
            "SharedStateManager.create_from_multiprocessing(multiprocessing.Manager())"
        )
    if intercepted:
        raise NotImplementedError("interceptors and a ProcessPoolExecutor are not supported together yet")
    for definition in definitions:
        if definition is not None and not definition.is_async:
            check_picklable(definition.name or "dynamic", definition.fn)


def rate(number: float | None, name: str) -> float:
    """A rate limit in activities per second; 0 without one.

    Raises:
        ValueError: the number makes no sense.
    """
    if number is None:
        return 0.0
    if not 0 < number < math.inf:
        raise ValueError(f"{name} is {number}; it must be above zero")
    return float(number)


def tuner_of(
    tuner: WorkerTuner | None, workflow_slots: int | None, activity_slots: int | None, local_activity_slots: int | None
) -> WorkerTuner:
    """The tuner that was given, or one of fixed numbers.

    Raises:
        ValueError: both are given, or a number makes no sense.
    """
    numbers = {
        "max_concurrent_workflow_tasks": workflow_slots,
        "max_concurrent_activities": activity_slots,
        "max_concurrent_local_activities": local_activity_slots,
    }
    for name, number in numbers.items():
        if number is None:
            continue
        if tuner is not None:
            raise ValueError(f"give either tuner or {name}, not both")
        if not 1 <= number <= WORKER_SLOTS_MAX:
            raise ValueError(f"{name} is {number}; it must be 1 to {WORKER_SLOTS_MAX}")
    return tuner or WorkerTuner.create_fixed(
        workflow_slots=workflow_slots, activity_slots=activity_slots, local_activity_slots=local_activity_slots
    )


def all_interceptors(of_client: Sequence[Any], given: Sequence[Interceptor]) -> Sequence[Interceptor]:
    """The interceptors of a worker, the outermost first: those of its client that are also for workers, then its own.

    Raises:
        TypeError: one is no interceptor.
    """
    for interceptor in given:
        if not isinstance(interceptor, Interceptor):
            raise TypeError(
                f"an interceptor of type {type(interceptor).__name__} is no perdure.worker.Interceptor: make its class "
                "from that one"
            )
    return (*(one for one in of_client if isinstance(one, Interceptor)), *given)
