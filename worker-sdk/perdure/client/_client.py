"""The client: starts workflows, and gives handles to those that exist."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Concatenate

from perdure._connection import Connection
from perdure._runtime.definition import workflow_name_and_result_type
from perdure.client._async_activity import AsyncActivityHandle, activity_reference
from perdure.client._description import WorkflowExecutionCount
from perdure.client._executions import WorkflowExecutionAsyncIterator
from perdure.client._handle import WorkflowHandle
from perdure.client._interceptor import (
    CountWorkflowsInput,
    Interceptor,
    ListWorkflowsInput,
    OutboundInterceptor,
)
from perdure.client._outbound import ClientOutbound
from perdure.client._plugin import ClientConfig, configured
from perdure.client._scheduling import HasSchedules
from perdure.client._starting import StartsWorkflows
from perdure.client._update_with_start import UpdatesWithStart
from perdure.common import QueryRejectCondition, require_unused
from perdure.converter import DataConverter
from perdure.runtime import Runtime
from perdure.service import RPCError, RPCStatusCode
from perdure.types import ReturnType, SelfType
from perdure_runtime import connect
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.log import Log, LogError
from perdure_schemas.topics import DEFAULT_NAMESPACE, TopicNames

_CONNECT_TIMEOUT = timedelta(seconds=10)


class Client(StartsWorkflows, UpdatesWithStart, HasSchedules):
    """A client of one namespace. Made by :meth:`connect` or, on a log that is open already, by :meth:`from_log`.

    It belongs to the event loop that uses it.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[Connection]],
        *,
        namespace: str,
        data_converter: DataConverter,
        identity: str,
        default_workflow_query_reject_condition: QueryRejectCondition | None,
        interceptors: Sequence[Interceptor] = (),
        plugins: Sequence[Any] = (),
    ) -> None:
        self._given = ClientConfig(
            namespace=namespace,
            identity=identity,
            data_converter=data_converter,
            plugins=plugins,
            interceptors=interceptors,
            default_workflow_query_reject_condition=default_workflow_query_reject_condition,
        )
        active = self._active = configured(self._given.copy())
        self._open_connection = open_connection
        self._connection: Connection | None = None
        self._connecting: asyncio.Lock | None = None
        # The connection is opened for these two, so plugins do not change them.
        self._namespace = namespace
        self._identity = identity
        self._data_converter = active["data_converter"]
        self.default_workflow_query_reject_condition = active["default_workflow_query_reject_condition"]
        self.interceptors = tuple(active["interceptors"])
        self.plugins = tuple(plugins)
        #: Where every request goes: through the interceptors to the engine. For handles.
        self.outbound: OutboundInterceptor = ClientOutbound(self)
        for interceptor in reversed(self.interceptors):
            self.outbound = interceptor.intercept_client(self.outbound)

    @classmethod
    async def connect(
        cls,
        target_host: str | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        api_key: str | None = None,
        data_converter: DataConverter = DataConverter.default,
        plugins: Sequence[Any] = [],
        interceptors: Sequence[Interceptor] = [],
        default_workflow_query_reject_condition: QueryRejectCondition | None = None,
        tls: Any = None,
        retry_config: Any = None,
        connect_timeout: timedelta | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        identity: str | None = None,
        lazy: bool = False,
        runtime: Runtime | None = None,
    ) -> Client:
        """Connect to the engine.

        Args:
            target_host: ``host:port`` of a dev server, or ``kafka://b1:9092,b2:9092``, with client options behind a
                ``?``. If not given: the environment variable ``PERDURE_ADDRESS``, else ``localhost:7233``.
            namespace: The namespace.
            data_converter: How values become payloads.
            default_workflow_query_reject_condition: For queries that give none.
            connect_timeout: How long to wait for the engine; 10 s if not given.
            identity: Who this is, for histories; ``pid@host`` if not given.
            lazy: Connect at the first request only.
            interceptors: Around every request; the first is the outermost. Those that are also
                :class:`perdure.worker.Interceptor` apply to this client's workers, too.
            plugins: Change the converter and the interceptors; see :class:`Plugin`.
            runtime: What :mod:`perdure.runtime` has: metrics of this process, which workers of every client share.
            api_key, tls, retry_config, rpc_metadata: Not supported; on Kafka, security options stand in the address.

        Raises:
            RPCError: nobody answers there (``UNAVAILABLE``), or the namespace does not exist (``NOT_FOUND``).
            TypeError: ``runtime`` is none.
        """
        if runtime is not None and not isinstance(runtime, Runtime):
            raise TypeError(f"runtime is a {type(runtime).__name__}; it must be a perdure.runtime.Runtime")
        require_unused(
            {
                "api_key": api_key,
                "tls": tls,
                "retry_config": retry_config,
                "rpc_metadata": rpc_metadata,
            },
            "Client.connect",
        )
        address = target_host or os.environ.get(connect.ADDRESS_VARIABLE) or connect.DEFAULT_ADDRESS
        identity = identity or default_identity()

        async def open_connection() -> Connection:
            timeout = connect_timeout or _CONNECT_TIMEOUT
            try:
                async with asyncio.timeout(timeout.total_seconds()):
                    return await asyncio.to_thread(_open, address, namespace, identity)
            except TimeoutError:
                raise RPCError(
                    f"no answer from {connect.without_secrets(address)} within {timeout.total_seconds():g} s."
                    f" {_ADVICE}",
                    RPCStatusCode.UNAVAILABLE,
                ) from None

        client = cls(
            open_connection,
            namespace=namespace,
            data_converter=data_converter,
            identity=identity,
            default_workflow_query_reject_condition=default_workflow_query_reject_condition,
            interceptors=interceptors,
            plugins=plugins,
        )
        if not lazy:
            await client.connection()
        return client

    @classmethod
    def from_log(
        cls,
        log: Log,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        data_converter: DataConverter = DataConverter.default,
        identity: str | None = None,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Any] = [],
        names: TopicNames | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> Client:
        """A client on a log that is open already, for an engine in the same process. It does not close the log.

        Args:
            log: The log.
            namespace: The namespace.
            data_converter: How values become payloads.
            identity: Who this is; ``pid@host`` if not given.
            interceptors: As for :meth:`connect`.
            plugins: As for :meth:`connect`.
            names: The namespace's topics; looked up in the log if not given.
            now_ms: The engine's clock, in milliseconds since the epoch; the wall clock if not given.

        Raises:
            LogError: the namespace's topics do not exist.
        """
        identity = identity or default_identity()
        connection = Connection(
            log,
            names or connect.names_of(log, namespace),
            identity=identity,
            address="this process",
            owns_log=False,
            now_ms=now_ms or wall_clock_ms,
        )

        async def open_connection() -> Connection:
            return connection

        client = cls(
            open_connection,
            namespace=namespace,
            data_converter=data_converter,
            identity=identity,
            default_workflow_query_reject_condition=None,
            interceptors=interceptors,
            plugins=plugins,
        )
        client._connection = connection
        return client

    def config(self, *, active_config: bool = False) -> ClientConfig:
        """What the client was made with.

        Args:
            active_config: With what its plugins made of it.
        """
        return (self._active if active_config else self._given).copy()

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._namespace

    @property
    def identity(self) -> str:
        """Who this is, for histories."""
        return self._identity

    @property
    def data_converter(self) -> DataConverter:
        """How values become payloads."""
        return self._data_converter

    async def connection(self) -> Connection:
        """The connection, opened if it is not; for the worker and for tools.

        Raises:
            RPCError: as :meth:`connect`.
        """
        if self._connection is None:
            if self._connecting is None:
                self._connecting = asyncio.Lock()
            async with self._connecting:
                if self._connection is None:
                    self._connection = await self._open_connection()
        return self._connection

    @property
    def connected(self) -> bool:
        """Whether the connection is open; false for a lazy client that was not used yet."""
        return self._connection is not None

    async def close(self) -> None:
        """Close the connection. Requests that wait end with an error. Without it the process's end does the same."""
        if self._connection is not None:
            await asyncio.to_thread(self._connection.close)

    def get_workflow_handle(
        self,
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
        result_type: Any = None,
    ) -> WorkflowHandle[Any, Any]:
        """The handle of a workflow that exists; whether it does is not checked here.

        Args:
            workflow_id: Workflow id.
            run_id: One of its runs; the current one if not given.
            first_execution_run_id: The first run of the chain that cancel and terminate are for.
            result_type: The type to convert the result to.
        """
        return WorkflowHandle(
            self,
            workflow_id,
            run_id=run_id,
            result_run_id=run_id,
            first_execution_run_id=first_execution_run_id,
            result_type=result_type,
        )

    def get_workflow_handle_for(
        self,
        workflow: Callable[Concatenate[SelfType, ...], Awaitable[ReturnType]],
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
    ) -> WorkflowHandle[SelfType, ReturnType]:
        """As :meth:`get_workflow_handle`, with the types of a workflow's run method.

        Raises:
            ValueError: ``workflow`` is no run method.
        """
        _, result_type = workflow_name_and_result_type(workflow)
        return self.get_workflow_handle(
            workflow_id, run_id=run_id, first_execution_run_id=first_execution_run_id, result_type=result_type
        )

    def get_async_activity_handle(
        self,
        *,
        workflow_id: str | None = None,
        run_id: str | None = None,
        activity_id: str | None = None,
        task_token: bytes | None = None,
    ) -> AsyncActivityHandle:
        """The handle of an activity that left its worker to be completed from outside.

        Args:
            workflow_id: Its workflow, together with ``activity_id``.
            run_id: The run; the current one if not given.
            activity_id: The workflow's id for the activity.
            task_token: Or, instead of ids, the token from ``activity.info().task_token``: it names one attempt.

        Raises:
            ValueError: neither is given, or both are; the bytes are no task token of this namespace.
        """
        return AsyncActivityHandle(self, activity_reference(workflow_id, run_id, activity_id, task_token))

    def list_workflows(
        self,
        query: str | None = None,
        *,
        limit: int | None = None,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowExecutionAsyncIterator:
        """The workflow runs of the namespace, newest first unless the filter orders them otherwise.

        Args:
            query: A list filter, for example ``WorkflowType = 'Order' AND ExecutionStatus = 'Running'``; see
                ``docs/list-filters.md``. Errors in it come with the first page, as ``INVALID_ARGUMENT``.
            limit: No more than this many.
            page_size: How many runs to ask for at a time; at most 1,000.
            next_page_token: Where to begin: of an earlier list with the same filter.
            rpc_metadata: Not supported.
            rpc_timeout: How long each page may take; 30 s if not given.

        Raises:
            NotImplementedError: an argument is not supported yet.
            ValueError: ``page_size`` is below 1.
        """
        found = ListWorkflowsInput(query, page_size, next_page_token, rpc_metadata, rpc_timeout, limit)
        return self.outbound.list_workflows(found)

    async def count_workflows(
        self,
        query: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowExecutionCount:
        """How many workflow runs the namespace has.

        Args:
            query: A list filter; with ``GROUP BY ExecutionStatus`` (or ``WorkflowType``, ``TaskQueue``) the count comes
                in groups, too.
            rpc_metadata: Not supported.
            rpc_timeout: How long the answer may take; 30 s if not given.

        Raises:
            NotImplementedError: an argument is not supported yet.
            RPCError: the filter makes no sense (``INVALID_ARGUMENT``), or nobody answered (``DEADLINE_EXCEEDED``).
        """
        return await self.outbound.count_workflows(CountWorkflowsInput(query, rpc_metadata, rpc_timeout))


_ADVICE = (
    f"Is the engine running there? Start one with `perdure dev`, or name another address in {connect.ADDRESS_VARIABLE}."
)


def default_identity() -> str:
    """Who a client or worker is when nothing else is said."""
    return f"{os.getpid()}@{socket.gethostname()}"


def _open(address: str, namespace: str, identity: str) -> Connection:
    log: Log | None = None
    shown = connect.without_secrets(address)
    try:
        log = connect.open_log(address)
        return Connection(log, connect.names_of(log, namespace), identity=identity, address=shown, owns_log=True)
    except LogError as error:
        if log is not None:
            log.close()
        raise RPCError(f"cannot connect to {shown}: {error}. {_ADVICE}", RPCStatusCode.UNAVAILABLE) from error
