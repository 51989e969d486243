"""Replays histories against workflow code, without an engine: does today's code still do what was done then?

Invariant: nothing but the history and the code takes part: no log is read or written, no activity runs. A history that
ends in the middle of a run is replayed as far as its last completed workflow task; what the code would do next is not
compared, because nothing says what it should be. Public through :mod:`perdure.worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from perdure._interceptors import Interceptor
from perdure._runtime.runner import WorkflowRunner
from perdure.client import WorkflowHistory
from perdure.common import require_unused
from perdure.converter import DataConverter
from perdure.worker._plugin import Plugin, ReplayerConfig, worker_plugins
from perdure_schemas.records import HistoryRecord


@dataclass(frozen=True)
class WorkflowReplayResult:
    """What replaying one history came to.

    Attributes:
        history: The history.
        replay_failure: Why the code does not fit it; ``None`` if it does.
    """

    history: WorkflowHistory
    replay_failure: Exception | None


@dataclass(frozen=True)
class WorkflowReplayResults:
    """What replaying several histories came to.

    Attributes:
        replay_failures: By run id, for those that the code does not fit.
    """

    replay_failures: Mapping[str, Exception]


class Replayer:
    """Replays histories against workflow classes.

    Args:
        workflows: The workflow classes.
        namespace: The namespace, for ``workflow.info()``.
        data_converter: The converter and codec the histories were written with.
        interceptors: Those of the worker; their workflow interceptors take part.
        identity: Who this is, for messages.
        workflow_failure_exception_types: As the worker's.
        plugins: Change any of these, and run around each replay.
        build_id, debug_mode, runtime: Not supported.

    Raises:
        ValueError: there is no workflow class, one is none, or two have the same name.
        NotImplementedError: an argument is not supported.
    """

    def __init__(
        self,
        *,
        workflows: Sequence[type],
        namespace: str = "ReplayNamespace",
        data_converter: DataConverter = DataConverter.default,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Any] = [],
        build_id: str | None = None,
        identity: str | None = None,
        workflow_failure_exception_types: Sequence[type[BaseException]] = [],
        debug_mode: bool = False,
        runtime: Any = None,
    ) -> None:
        require_unused({"build_id": build_id, "debug_mode": debug_mode, "runtime": runtime}, "Replayer")
        config = ReplayerConfig(
            workflows=workflows,
            namespace=namespace,
            data_converter=data_converter,
            interceptors=interceptors,
            plugins=plugins,
            identity=identity,
            workflow_failure_exception_types=workflow_failure_exception_types,
        )
        self._plugins = worker_plugins((), plugins)
        for plugin in self._plugins:
            config = plugin.configure_replayer(config)
        workflows, data_converter = config["workflows"], config["data_converter"]
        if not workflows:
            raise ValueError("a replayer needs at least one workflow class")
        self._converter = data_converter
        self._runner = WorkflowRunner(
            workflows,
            namespace=config["namespace"],
            task_queue="replay",
            payload_converter=data_converter.payload_converter,
            failure_converter=data_converter.failure_converter,
            identity=config["identity"] or "replayer",
            worker_id="",
            workflow_failure_exception_types=config["workflow_failure_exception_types"],
            interceptors=config["interceptors"],
        )

    async def replay_workflow(
        self, history: WorkflowHistory, *, raise_on_replay_failure: bool = True
    ) -> WorkflowReplayResult:
        """Replay one history.

        Args:
            history: The history, for example from ``WorkflowHistory.from_json`` or ``handle.fetch_history()``.
            raise_on_replay_failure: Raise why the code does not fit, instead of returning it.

        Raises:
            workflow.NondeterminismError: the code does something else than the history says.
            Exception: the code failed otherwise, its workflow type is unknown here, or the history has gaps.
        """
        async with self.workflow_replay_iterator([history]) as results:
            result = await anext(results)
        if result.replay_failure is not None and raise_on_replay_failure:
            raise result.replay_failure
        return result

    async def replay_workflows(
        self,
        histories: AsyncIterable[WorkflowHistory] | Iterable[WorkflowHistory],
        *,
        raise_on_replay_failure: bool = True,
    ) -> WorkflowReplayResults:
        """Replay several histories, one after the other.

        Args:
            histories: For example ``client.list_workflows(...).map_histories()``, or a list.
            raise_on_replay_failure: Raise the first failure, instead of collecting all.

        Raises:
            Exception: as :meth:`replay_workflow`.
        """
        failures: dict[str, Exception] = {}
        async with self.workflow_replay_iterator(histories) as results:
            async for result in results:
                if result.replay_failure is not None:
                    if raise_on_replay_failure:
                        raise result.replay_failure
                    failures[result.history.run_id or result.history.workflow_id] = result.replay_failure
        return WorkflowReplayResults(failures)

    def workflow_replay_iterator(
        self, histories: AsyncIterable[WorkflowHistory] | Iterable[WorkflowHistory]
    ) -> AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]:
        """Replay histories as their results are asked for; failures are in the results.

        Args:
            histories: As for :meth:`replay_workflows`.
        """
        run: _Run = Replayer._iterate
        for plugin in reversed(self._plugins):
            run = _around(plugin, run)
        return run(self, _each(histories))

    @asynccontextmanager
    async def _iterate(
        self, histories: AsyncIterator[WorkflowHistory]
    ) -> AsyncIterator[AsyncIterator[WorkflowReplayResult]]:
        async def results() -> AsyncIterator[WorkflowReplayResult]:
            async for history in histories:
                decoded = await history.decoded(self._converter)
                yield WorkflowReplayResult(decoded, await asyncio.to_thread(self._replay, decoded))

        iterator = results()
        try:
            yield iterator
        finally:
            await iterator.aclose()  # type: ignore[attr-defined]

    def _replay(self, history: WorkflowHistory) -> Exception | None:
        if not history.events:
            return ValueError(f"the history of workflow {history.workflow_id!r} has no events")
        run_id = history.run_id or history.workflow_id
        record = HistoryRecord(
            workflow_id=history.workflow_id, run_id=run_id, command_offset=0, epoch=0, events=list(history.events)
        )
        try:
            self._runner.replay(history.workflow_id, run_id, [record], history.events[-1].event_id)
        except Exception as error:
            return error
        return None


_Run = Callable[
    ["Replayer", AsyncIterator[WorkflowHistory]], AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]
]


def _around(plugin: Plugin, inner: _Run) -> _Run:
    return lambda replayer, histories: plugin.run_replayer(replayer, histories, inner)


async def _each(
    histories: AsyncIterable[WorkflowHistory] | Iterable[WorkflowHistory],
) -> AsyncIterator[WorkflowHistory]:
    if isinstance(histories, AsyncIterable):
        async for history in histories:
            yield history
    else:
        for history in histories:
            yield history
