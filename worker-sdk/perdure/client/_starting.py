"""Starting workflows: the part of the client with the typed overloads.

Invariant: a start that is repeated by the connection proposes the same run id under the same command id, so it never
makes a second run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Unpack, cast, overload

from perdure._callables import UNSET
from perdure._connection import Connection
from perdure.client._handle import WorkflowHandle
from perdure.client._interceptor import Interceptor, OutboundInterceptor
from perdure.client._replies import REQUEST_TIMEOUT, expect, result_of, start_and_wait
from perdure.client._start import StartOptions, StartRequest, start_input, start_request
from perdure.converter import DataConverter
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.types import MethodAsyncNoParam, MethodAsyncSingleParam, MultiParamSpec, ParamType, ReturnType, SelfType
from perdure_schemas.records import ErrorCode, Rejected, ReplyBody, Started

if TYPE_CHECKING:
    from perdure.client._client import Client

#: Whoever waits for the end, and has that much time, need not hear of the start if the end comes within so long.
_START_ANSWER_DELAY_MS = 1_000
_PATIENT_S = 10.0


class StartsWorkflows(ABC):
    """The base of :class:`perdure.client.Client` that starts workflows."""

    _data_converter: DataConverter
    interceptors: tuple[Interceptor, ...]
    outbound: OutboundInterceptor

    @abstractmethod
    async def connection(self) -> Connection:
        """The connection; see :class:`perdure.client.Client`."""

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        *,
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        *,
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> WorkflowHandle[Any, Any]: ...

    async def start_workflow(
        self,
        workflow: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> WorkflowHandle[Any, Any]:
        """Start a workflow and return its handle.

        Args:
            workflow: The class's run method, or the workflow's name.
            arg: Its only argument.
            args: Its arguments, if there are several.
            id: Workflow id.
            task_queue: The task queue whose workers run it.
            result_type: The type to convert the result to, where the run method is not given.
            execution_timeout: The longest time from the start to the end, runs it continues as included.
            run_timeout: The longest time of one run.
            task_timeout: How long a worker has for one workflow task; 10 s if not given.
            id_reuse_policy: What to do if a closed workflow has that id.
            id_conflict_policy: What to do if a running workflow has that id.
            memo: Values to keep with the workflow, for lists and descriptions.
            start_signal: A signal to deliver with the start, or to the running workflow of that id.
            start_signal_args: Its arguments.
            rpc_timeout: How long the engine has to answer; 30 s if not given.
            retry_policy: How a failed or timed-out run is followed by another attempt; by none if not given.
            cron_schedule: Every run begins at the next time of this schedule (``"0 12 * * MON-FRI"``, in UTC or in the
                zone of a leading ``CRON_TZ=``), and a finished one is followed by another.
            search_attributes: What the workflow can be found by.
            static_summary: A line about the workflow, for people.
            static_details: A text about the workflow, in Markdown.
            start_delay: How long the first workflow task waits; a signal that comes meanwhile ends the wait.
            priority: The workflow's place among those that wait on the task queue; its activities take it over.
            versioning_override: What counts instead of the versioning behavior in the workflow's code.
            request_id: A name for this request, if the caller may repeat it later, for example after a crash: a start
                of this workflow id that was requested under the same name is not made again, and answered as the first
                time, as long as its run is kept.
            request_eager_start, rpc_metadata: Not supported yet.

        Raises:
            WorkflowAlreadyStartedError: the id is taken, and the policies do not allow another.
            RPCError: the engine did not answer or refused. NotImplementedError: an option is not supported yet.
        """
        return await self.outbound.start_workflow(
            start_input(workflow, arg, args, id, task_queue, result_type, options)
        )

    @overload
    async def execute_workflow(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        *,
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        *,
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        id: str,
        task_queue: str,
        **options: Unpack[StartOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> Any: ...

    async def execute_workflow(
        self,
        workflow: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> Any:
        """Start a workflow and wait for its result: :meth:`start_workflow` and :meth:`WorkflowHandle.result` in one.

        Raises:
            WorkflowFailureError: it did not succeed; its ``cause`` says why. And what the two raise.
        """
        if self.interceptors:
            handle = await self.start_workflow(
                workflow,  # type: ignore[arg-type]
                arg,
                args=args,
                id=id,
                task_queue=task_queue,
                result_type=result_type,
                **options,
            )
            return await handle.result()
        # One request for both, where nobody wants to see the start by itself.
        timeout_s = (options.get("rpc_timeout") or REQUEST_TIMEOUT).total_seconds()
        request = await start_request(
            self._data_converter, workflow, arg, args, id, task_queue, result_type, options,
            await_result=True, start_answer_delay_ms=_START_ANSWER_DELAY_MS if timeout_s >= _PATIENT_S else 0,
        )  # fmt: skip
        connection = await self.connection()
        closed = await start_and_wait(
            connection,
            id,
            request.command,
            timeout_s,
            lambda reply: started_of(reply, request).run_id,
            request.command_id,
        )
        if closed.new_run_id:
            follow: WorkflowHandle[Any, Any] = WorkflowHandle(
                cast("Client", self), id, result_run_id=closed.new_run_id, result_type=request.result_type
            )
            return await follow.result()
        return await result_of(closed, self._data_converter, request.result_type)


def started_of(reply: ReplyBody, request: StartRequest) -> Started:
    """The engine's answer to a start.

    Raises:
        WorkflowAlreadyStartedError: the id is taken. RPCError: it was refused.
    """
    if isinstance(reply, Rejected) and reply.code is ErrorCode.ALREADY_EXISTS:
        raise WorkflowAlreadyStartedError(
            request.workflow_id, request.command.workflow_type, run_id=reply.run_id or None
        )
    return expect(reply, Started)
