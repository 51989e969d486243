"""Plugins of workers and replayers: bundles of workflows, activities and interceptors, and code around a worker's life.

Names are those of ``temporalio.worker``. Invariants: plugins see the configuration in the order they are given, those
of the client first; the first one is the outermost around a run. Called by the worker and the replayer.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from perdure._interceptors import Interceptor
    from perdure._versioning import WorkerDeploymentConfig
    from perdure.client import Client, WorkflowHistory
    from perdure.converter import DataConverter
    from perdure.worker._replayer import Replayer, WorkflowReplayResult
    from perdure.worker._shared_state import SharedStateManager
    from perdure.worker._tuning import WorkerTuner
    from perdure.worker._worker import Worker


class WorkerConfig(TypedDict, total=False):
    """What a worker is made with; see :class:`perdure.worker.Worker`."""

    client: Client
    task_queue: str
    activities: Sequence[Callable[..., Any]]
    workflows: Sequence[type]
    activity_executor: concurrent.futures.Executor | None
    workflow_task_executor: Any
    workflow_runner: Any
    unsandboxed_workflow_runner: Any
    plugins: Sequence[Any]
    interceptors: Sequence[Interceptor]
    build_id: str | None
    identity: str | None
    max_cached_workflows: int
    max_cached_history_bytes: int | None
    max_concurrent_workflow_tasks: int | None
    max_concurrent_activities: int | None
    max_concurrent_local_activities: int | None
    tuner: WorkerTuner | None
    no_remote_activities: bool
    max_heartbeat_throttle_interval: timedelta
    default_heartbeat_throttle_interval: timedelta
    max_activities_per_second: float | None
    max_task_queue_activities_per_second: float | None
    disable_eager_activity_execution: bool
    graceful_shutdown_timeout: timedelta
    workflow_failure_exception_types: Sequence[type[BaseException]]
    shared_state_manager: SharedStateManager | None
    debug_mode: bool
    on_fatal_error: Callable[[BaseException], Awaitable[None]] | None
    use_worker_versioning: bool
    deployment_config: WorkerDeploymentConfig | None


class ReplayerConfig(TypedDict, total=False):
    """What a replayer is made with; see :class:`perdure.worker.Replayer`."""

    workflows: Sequence[type]
    namespace: str
    data_converter: DataConverter
    interceptors: Sequence[Interceptor]
    plugins: Sequence[Any]
    identity: str | None
    workflow_failure_exception_types: Sequence[type[BaseException]]


class Plugin:
    """A plugin of workers and replayers. Override what is needed; the rest passes on."""

    def name(self) -> str:
        """Its name, for messages."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Called once, when a worker is made: change what it is made with, and return it."""
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Around a worker's life: ``await next(worker)`` runs it until it is shut down."""
        await next(worker)

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Called once, when a replayer is made: change what it is made with, and return it."""
        return config

    def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[
            [Replayer, AsyncIterator[WorkflowHistory]], AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]
        ],
    ) -> AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]:
        """Around a replay: ``next(replayer, histories)`` does it."""
        return next(replayer, histories)


def worker_plugins(of_client: Sequence[Any], given: Sequence[Any]) -> list[Plugin]:
    """The plugins of a worker: those of its client that are also for workers, then its own.

    Raises:
        TypeError: one is no plugin.
    """
    for plugin in given:
        if not isinstance(plugin, Plugin):
            raise TypeError(
                f"a plugin of type {type(plugin).__name__} is no perdure.worker.Plugin: make its class from that one"
            )
    return [*(plugin for plugin in of_client if isinstance(plugin, Plugin)), *given]


async def run_in_plugins(worker: Worker, plugins: Sequence[Plugin], run: Callable[[Worker], Awaitable[None]]) -> None:
    """Run a worker with its plugins around it, the first one outermost."""
    for plugin in reversed(plugins):
        run = _around(plugin, run)
    await run(worker)


def _around(plugin: Plugin, inner: Callable[[Worker], Awaitable[None]]) -> Callable[[Worker], Awaitable[None]]:
    return lambda worker: plugin.run_worker(worker, inner)
