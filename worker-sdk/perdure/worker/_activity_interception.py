"""Runs an activity attempt inside its interceptors. Used only where there are any.

Invariant: interceptors run on the event loop in the activity's context; a synchronous activity still runs in the
executor, and is cancelled there as without interceptors. Called by :mod:`perdure.worker._activities`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure._activity_context import ActivityContext
from perdure._interceptors import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)
from perdure.activity import Info
from perdure.common import Payload
from perdure.worker._attempt import Attempt


async def execute_intercepted(
    interceptors: Sequence[Interceptor],
    attempt: Attempt,
    context: ActivityContext,
    arguments: Sequence[Any],
    executor: concurrent.futures.Executor | None,
    headers: Mapping[str, Payload],
) -> Any:
    """The result of an attempt, through all interceptors.

    Args:
        interceptors: The worker's, the outermost first.
        attempt: The attempt.
        context: Its context; its heartbeats and its info go through the interceptors from here on.
        arguments: The decoded arguments.
        executor: The worker's executor; a synchronous activity runs there.
        headers: Those of the activity.
    """
    inbound: ActivityInboundInterceptor = _Inbound(attempt, context)
    for interceptor in reversed(interceptors):
        inbound = interceptor.intercept_activity(inbound)
    inbound.init(_Outbound(context.make_info, context.heartbeat))
    is_async = attempt.definition.is_async
    return await inbound.execute_activity(
        ExecuteActivityInput(
            fn=attempt.definition.fn, args=arguments, executor=None if is_async else executor, headers=headers
        )
    )


class _Inbound(ActivityInboundInterceptor):
    """The innermost: the activity itself."""

    def __init__(self, attempt: Attempt, context: ActivityContext) -> None:
        # No super().__init__: there is no next one.
        self._attempt = attempt
        self._context = context

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._context.make_info = outbound.info
        self._context.heartbeat = outbound.heartbeat

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if input.executor is None:
            self._attempt.entered(self._context, asyncio.current_task())
            return await input.fn(*input.args)
        in_context = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(input.executor, in_context, self._in_thread, input)

    def _in_thread(self, input: ExecuteActivityInput) -> Any:
        cancellation = self._attempt.thread_cancellation
        try:
            cancellation.enter()
            self._attempt.entered(self._context, None)
            return input.fn(*input.args)
        finally:
            cancellation.leave()


class _Outbound(ActivityOutboundInterceptor):
    """The innermost: what the worker itself knows and does."""

    def __init__(self, make_info: Callable[[], Info], beat: Callable[..., None]) -> None:
        self._make_info = make_info
        self._beat = beat

    def info(self) -> Info:
        return self._make_info()

    def heartbeat(self, *details: Any) -> None:
        self._beat(*details)
