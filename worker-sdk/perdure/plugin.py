"""A plugin made of its parts: what most plugins need, without a class of one's own.

Names are those of ``temporalio.plugin``. Invariant: what is given is put behind what a client, worker or replayer has
already; a function is given what is there and returns what shall be there instead. Made by users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, TypeVar

from perdure import client, worker
from perdure.client import ClientConfig, WorkflowHistory
from perdure.converter import DataConverter
from perdure.worker import Replayer, ReplayerConfig, Worker, WorkerConfig, WorkflowReplayResult

__all__ = ["PluginParameter", "SimplePlugin"]

_T = TypeVar("_T")
#: A value, or a function that makes it of what is there.
PluginParameter: TypeAlias = _T | Callable[[_T | None], _T] | None


class SimplePlugin(client.Plugin, worker.Plugin):
    """A plugin of clients, workers and replayers.

    Give it to the client, whose workers use it, too; not to both.

    Args:
        name: Its name.
        data_converter: The converter of the client and of replayers.
        interceptors: Those for clients go to the client, those for workers to workers and replayers, those for both to
            both.
        activities: Activities of workers.
        workflows: Workflows of workers and replayers.
        workflow_failure_exception_types: As the worker's; for workers and replayers.
        run_context: Makes the context in which a worker or replayer runs.
    """

    def __init__(
        self,
        name: str,
        *,
        data_converter: PluginParameter[DataConverter] = None,
        interceptors: Sequence[client.Interceptor | worker.Interceptor] | None = None,
        activities: PluginParameter[Sequence[Callable[..., Any]]] = None,
        workflows: PluginParameter[Sequence[type]] = None,
        workflow_failure_exception_types: PluginParameter[Sequence[type[BaseException]]] = None,
        run_context: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        self._name = name
        self.data_converter = data_converter
        self.interceptors = interceptors
        self.activities = activities
        self.workflows = workflows
        self.workflow_failure_exception_types = workflow_failure_exception_types
        self.run_context = run_context

    def name(self) -> str:
        """See the base class."""
        return self._name

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """See the base class."""
        config["data_converter"] = _one(config["data_converter"], self.data_converter)
        mine = [one for one in self.interceptors or () if isinstance(one, client.Interceptor)]
        config["interceptors"] = [*config["interceptors"], *mine]
        return config

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """See the base class."""
        config["activities"] = _several(config["activities"], self.activities)
        config["workflows"] = _several(config["workflows"], self.workflows)
        config["workflow_failure_exception_types"] = _several(
            config["workflow_failure_exception_types"], self.workflow_failure_exception_types
        )
        # The client's interceptors go to its workers by themselves.
        there = [*config["client"].interceptors, *config["interceptors"]]
        config["interceptors"] = [*config["interceptors"], *self._for_workers(there)]
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """See the base class."""
        config["data_converter"] = _one(config["data_converter"], self.data_converter)
        config["workflows"] = _several(config["workflows"], self.workflows)
        config["workflow_failure_exception_types"] = _several(
            config["workflow_failure_exception_types"], self.workflow_failure_exception_types
        )
        config["interceptors"] = [*config["interceptors"], *self._for_workers(config["interceptors"])]
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """See the base class."""
        if self.run_context is None:
            await next(worker)
            return
        async with self.run_context():
            await next(worker)

    @asynccontextmanager
    async def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[
            [Replayer, AsyncIterator[WorkflowHistory]], AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]
        ],
    ) -> AsyncIterator[AsyncIterator[WorkflowReplayResult]]:
        """See the base class."""
        if self.run_context is None:
            async with next(replayer, histories) as results:
                yield results
            return
        async with self.run_context(), next(replayer, histories) as results:
            yield results

    def _for_workers(self, there: Sequence[Any]) -> list[worker.Interceptor]:
        mine = [one for one in self.interceptors or () if isinstance(one, worker.Interceptor)]
        return [one for one in mine if not any(one is other for other in there)]


def _one(there: _T, given: PluginParameter[_T]) -> _T:
    if given is None:
        return there
    return given(there) if callable(given) else given


def _several(there: Sequence[_T], given: PluginParameter[Sequence[_T]]) -> Sequence[_T]:
    if given is None:
        return there
    return given(there) if callable(given) else [*there, *given]
