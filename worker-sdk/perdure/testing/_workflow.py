"""An engine in the test's process, and a client of it: in real time, or with a clock that skips what nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.client import Client, Interceptor
from perdure.common import require_unused
from perdure.converter import DataConverter
from perdure.testing._time_skipping import TimeSkipper, VirtualClock
from perdure_schemas.topics import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from perdure.testing._engine import LocalEngine


class WorkflowEnvironment:
    """An engine for tests, and a client of it: ``async with await WorkflowEnvironment.start_local() as env``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @staticmethod
    def from_client(client: Client) -> WorkflowEnvironment:
        """An environment around the engine of a client; shutting it down leaves that engine as it is."""
        return WorkflowEnvironment(client)

    @staticmethod
    async def start_local(
        *,
        namespace: str = DEFAULT_NAMESPACE,
        data_converter: DataConverter = DataConverter.default,
        identity: str | None = None,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Any] = [],
        search_attributes: Sequence[Any] = (),
        dev_server_database_filename: str | None = None,
    ) -> WorkflowEnvironment:
        """Start an engine in this process. It keeps nothing: its log is in memory.

        Args:
            namespace: The namespace.
            data_converter: The client's.
            identity: The client's.
            interceptors: The client's.
            plugins: The client's, and those of its workers.
            search_attributes, dev_server_database_filename: Not supported.

        Raises:
            NotImplementedError: an option is not supported. RuntimeError: the engine did not start.
        """
        require_unused(
            {
                "search_attributes": search_attributes,
                "dev_server_database_filename": dev_server_database_filename,
            },
            "WorkflowEnvironment.start_local",
        )
        options = _ClientOptions(namespace, data_converter, identity, interceptors, plugins)
        return await asyncio.to_thread(_LocalEnvironment, options)

    @staticmethod
    async def start_time_skipping(
        *,
        namespace: str = DEFAULT_NAMESPACE,
        data_converter: DataConverter = DataConverter.default,
        identity: str | None = None,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Any] = [],
    ) -> WorkflowEnvironment:
        """Start an engine in this process whose clock skips what only waits: a workflow sleeps a month in no time.

        The clock runs as the wall clock does. While a workflow's result is awaited (``handle.result()``,
        ``client.execute_workflow()``) and no activity, workflow code or query runs, it skips to the next timer, one
        after the other; :meth:`sleep` does the same until its time is over. Waiting for anything else does not skip.
        Worker and client must be those of this environment and process. Nothing is downloaded, nothing is kept.

        Args:
            namespace: The namespace.
            data_converter: The client's.
            identity: The client's.
            interceptors: The client's.
            plugins: The client's, and those of its workers.

        Raises:
            RuntimeError: the engine did not start.
        """
        options = _ClientOptions(namespace, data_converter, identity, interceptors, plugins)
        environment = await asyncio.to_thread(_TimeSkippingEnvironment, options)
        return await environment.begin()

    @property
    def client(self) -> Client:
        """A client of the engine."""
        return self._client

    @property
    def supports_time_skipping(self) -> bool:
        """Whether the engine skips time: only one started by :meth:`start_time_skipping` does."""
        return False

    @contextmanager
    def auto_time_skipping_disabled(self) -> Iterator[None]:
        """Within, waiting for a result does not skip time. In an engine that never does, this changes nothing."""
        yield None

    async def sleep(self, duration: timedelta | float) -> None:
        """Sleep by the engine's clock: where it skips time, no longer than what runs and becomes due meanwhile takes.

        Args:
            duration: How long, as a duration or in seconds.
        """
        await asyncio.sleep(duration.total_seconds() if isinstance(duration, timedelta) else duration)

    async def get_current_time(self) -> datetime:
        """The engine's time."""
        return datetime.now(UTC)

    async def shutdown(self) -> None:
        """Stop the engine, if this environment started it."""

    async def __aenter__(self) -> WorkflowEnvironment:
        """The environment itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down."""
        await self.shutdown()


class _ClientOptions(NamedTuple):
    """What the environment's client is made with."""

    namespace: str
    data_converter: DataConverter
    identity: str | None
    interceptors: Sequence[Interceptor]
    plugins: Sequence[Any]


class _LocalEnvironment(WorkflowEnvironment):
    """An environment with an engine of its own."""

    def __init__(self, options: _ClientOptions) -> None:
        from perdure.testing._engine import LocalEngine

        self._engine: LocalEngine = LocalEngine(options.namespace)
        super().__init__(
            Client.from_log(
                self._engine.log,
                namespace=options.namespace,
                data_converter=options.data_converter,
                identity=options.identity,
                interceptors=options.interceptors,
                plugins=options.plugins,
                names=self._engine.names,
            )
        )

    async def shutdown(self) -> None:
        """Stop the engine and forget everything."""
        await self._client.close()
        await asyncio.to_thread(self._engine.close)


class _TimeSkippingEnvironment(WorkflowEnvironment):
    """An environment with an engine of its own, whose clock can be moved on."""

    def __init__(self, options: _ClientOptions) -> None:
        from perdure.testing._engine import LocalEngine

        self._clock = VirtualClock()
        self._skipper: TimeSkipper | None = None
        self._engine: LocalEngine = LocalEngine(options.namespace, self._clock.now_ms, self._on_idle)
        super().__init__(
            Client.from_log(
                self._engine.log,
                namespace=options.namespace,
                data_converter=options.data_converter,
                identity=options.identity,
                interceptors=options.interceptors,
                plugins=options.plugins,
                names=self._engine.names,
                now_ms=self._clock.now_ms,
            )
        )

    async def begin(self) -> _TimeSkippingEnvironment:
        """Let the clock skip from here on."""
        self._skipper = TimeSkipper(self._clock, self._engine, await self._client.connection())
        return self

    def _on_idle(self) -> bool:
        return self._skipper is not None and self._skipper.on_idle()

    @property
    def supports_time_skipping(self) -> bool:
        """True."""
        return True

    @contextmanager
    def auto_time_skipping_disabled(self) -> Iterator[None]:
        """Within, waiting for a result does not skip time."""
        assert self._skipper is not None
        with self._skipper.disabled():
            yield None

    async def sleep(self, duration: timedelta | float) -> None:
        """Sleep by the engine's clock; see the base class."""
        assert self._skipper is not None
        duration_s = duration.total_seconds() if isinstance(duration, timedelta) else duration
        await self._skipper.sleep(max(0, round(duration_s * 1000)))

    async def get_current_time(self) -> datetime:
        """The engine's time."""
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    async def shutdown(self) -> None:
        """Stop the engine and forget everything."""
        assert self._skipper is not None
        self._skipper.close()
        await self._client.close()
        await asyncio.to_thread(self._engine.close)
