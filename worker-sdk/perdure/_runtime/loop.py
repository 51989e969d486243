"""The deterministic event loop: an asyncio loop that runs only while a workflow task is being processed.

Invariants: callbacks run in the order in which they became ready; time is the workflow's time and moves only between
activations; a delay is a durable timer of the engine; nothing here reads a clock, the network or a thread. What asyncio
offers beyond that raises :class:`UnsupportedInWorkflowError`. One loop belongs to one :class:`TimerService` owner (the
workflow instance) and is used by one thread at a time.

The idea of a loop that is driven by activations is Temporal's (sdk-python, README "Asyncio and Determinism").
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, NoReturn, Protocol, TypeVar

from perdure._runtime.errors import ReadOnlyContextError, UnsupportedInWorkflowError

_log = logging.getLogger("perdure.workflow")
_T = TypeVar("_T")
#: Half a microsecond of slack, more than what a float of seconds since 1970 loses: 5 s stay 5,000 ms.
_MILLISECOND_SLACK = 0.0005
_HASH_MASK = (1 << 61) - 2
#: How often code that is closed may wait once more.
_CLOSE_ATTEMPTS_MAX = 100
#: Coroutines that could not be closed. They are kept, because the garbage collector would try again, maybe for ever.
_unended: list[Any] = []


class TimerService(Protocol):
    """What starts and cancels durable timers for the loop."""

    def start_timer(self, handle: DurableTimerHandle, delay_ms: int, summary: str | None) -> None:
        """Start a timer that, when it fires, puts ``handle`` on the loop."""

    def cancel_timer(self, handle: DurableTimerHandle) -> None:
        """The handle was cancelled; the timer may have fired already."""


class DurableTimerHandle(asyncio.TimerHandle):
    """The handle of a durable timer; ``timer_id`` is its name in the history."""

    __slots__ = ("timer_id",)

    timer_id: str


class WorkflowTask(asyncio.Task[_T]):
    """A task whose hash is the same on every replay.

    asyncio keeps tasks in sets (``TaskGroup``, ``wait``, ``as_completed``) and iterates over them; with equal hashes
    and the same insertions, that order is deterministic. The salt of the run keeps the hashes of different runs apart.
    """

    def __init__(
        self, coro: Any, *, loop: WorkflowLoop, name: str | None = None, context: Context | None = None
    ) -> None:
        self._number = loop.next_task_number()
        super().__init__(coro, loop=loop, name=name or f"workflow-task-{self._number}", context=context)
        # Tasks that wait when their run is forgotten are nothing to complain of.
        self._log_destroy_pending = False
        if loop.closing:
            coro.close()

    def __hash__(self) -> int:
        return self._number


class WorkflowLoop(asyncio.AbstractEventLoop):
    """See the module. ``hash_salt`` is a number derived from the run id."""

    def __init__(self, timers: TimerService, hash_salt: int) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.now_ms = 0
        self.read_only = False
        self.closing = False
        self._timers = timers
        self._task_number = hash_salt & _HASH_MASK
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        #: What is waited for, in the order of registration. Whoever waits takes its entry out again.
        self.conditions: dict[asyncio.Future[None], Callable[[], bool]] = {}

    # --- running ------------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run what is ready, and what that makes ready, and the conditions that it meets, until nothing is left.

        Must be called with this loop set as the running one. What a condition raises is raised where it is waited for.
        """
        self._drain()
        if not self.conditions:
            return
        woken = True
        while woken:
            woken = False
            for future, condition in list(self.conditions.items()):
                if future.done():
                    continue
                try:
                    if not self.is_met(condition):
                        continue
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)
                woken = True
                self._drain()

    def _drain(self) -> None:
        ready = self.ready
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def is_met(self, condition: Callable[[], bool]) -> bool:
        """Ask a condition, which may only read."""
        self.read_only = True
        try:
            return bool(condition())
        finally:
            self.read_only = False

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def close_tasks(self) -> None:
        """End all tasks for good, without cancelling them as user code would see it; the loop is of no use afterwards.

        Coroutines are closed as the interpreter would close them when it collects them, but here and now: ``finally``
        blocks run up to where they wait. What they ask for is given to them and never becomes done.
        """
        self.closing = True
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            pending = self.pending_tasks()
            for task in pending:
                _close(task)
            for task in pending:
                _let_go(task)
        finally:
            events._set_running_loop(before)
            self.ready.clear()
            self.conditions.clear()
            self._tasks.clear()

    # --- what asyncio calls -------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override] # the same, without tying the types of callback and arguments
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self.read_only:
            raise ReadOnlyContextError(
                "a query handler, update validator or wait condition must not schedule anything or wake a waiter"
            )
        handle = asyncio.Handle(callback, args, self, context)
        if not self.closing:
            self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A durable timer. A delay of zero or less needs none: the callback is called soon."""
        return self.start_timer(delay, None, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.start_timer(when - self.time(), None, callback, args, context)

    def start_timer(
        self,
        delay: float,
        summary: str | None,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None = None,
    ) -> DurableTimerHandle:
        """Like :meth:`call_later`, with a text that shows in the history."""
        self.require_writable("start a timer")
        handle = DurableTimerHandle(self.time() + delay, callback, args, self, context)
        handle.timer_id = ""
        if delay <= 0:
            self.ready.append(handle)
        else:
            self._timers.start_timer(handle, milliseconds_of(delay), summary)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, DurableTimerHandle):
            self._timers.cancel_timer(handle)

    def time(self) -> float:
        """The workflow's time in seconds since 1970."""
        return self.now_ms / 1000

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        try:
            self.require_writable("start a task")
        except BaseException:
            coro.close()
            raise
        task: asyncio.Task[_T] = WorkflowTask(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        self.track(task)
        return task

    def track(self, task: asyncio.Task[Any]) -> None:
        """Remember a task, so that it can be closed with the run."""
        tasks = self._tasks
        tasks.append(task)
        if len(tasks) > self._prune_at:
            tasks[:] = [task for task in tasks if not task.done()]
            self._prune_at = 2 * len(tasks) + 64

    def next_task_number(self) -> int:
        """A number for a task, its hash."""
        self._task_number = (self._task_number + 1) & _HASH_MASK
        return self._task_number

    def require_writable(self, what: str) -> None:
        """Raise if the code that runs now may only read."""
        if self.read_only:
            raise ReadOnlyContextError(f"a query handler, update validator or wait condition must not {what}")

    # --- state and error handling -------------------------------------------------------------------------------

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.closing

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log it: an exception nobody waits for must not depend on when the garbage collector runs."""
        error = context.get("exception")
        _log.error("in workflow code: %s", context.get("message", "unhandled exception"), exc_info=error)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.closing:
            return
        if self._exception_handler is None:
            self.default_exception_handler(context)
        else:
            self._exception_handler(self, context)


def milliseconds_of(delay: float) -> int:
    """Whole milliseconds of a delay in seconds, rounded up, at least 1."""
    return max(1, math.ceil(delay * 1000 - _MILLISECOND_SLACK))


def _close(task: asyncio.Task[Any]) -> None:
    coroutine: Any = task.get_coro()
    if coroutine is None:
        return
    for _ in range(_CLOSE_ATTEMPTS_MAX):
        try:
            coroutine.close()
        except BaseException as error:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED:
                _log.debug("while a run was removed from the cache, its code raised %r", error)
                return
            # It waits in a finally block: once more.
        else:
            return
    _unended.append(coroutine)
    _log.warning("task %s of a workflow that was removed from the cache cannot be ended", task.get_name())


def _let_go(task: asyncio.Task[Any]) -> None:
    """Cut the ties between a closed task, what it waited for and who waited for it.

    They refer to each other, so that only the garbage collector would free them.
    """
    future: Any
    for future in (task, getattr(task, "_fut_waiter", None)):
        for callback, _ in list(getattr(future, "_callbacks", None) or ()):
            future.remove_done_callback(callback)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(self: WorkflowLoop, *args: object, **kwargs: object) -> NoReturn:
        raise UnsupportedInWorkflowError(
            f"the event loop's {name}() is not available in a workflow, because it is not deterministic or does I/O; "
            "do that in an activity"
        )

    refused.__name__ = name
    return refused


for _name in (
    "run_forever", "run_until_complete", "stop", "close", "shutdown_asyncgens", "shutdown_default_executor",
    "call_soon_threadsafe", "run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo",
    "create_connection", "create_server", "start_tls", "sendfile", "create_unix_connection", "create_unix_server",
    "connect_accepted_socket", "create_datagram_endpoint", "connect_read_pipe", "connect_write_pipe",
    "subprocess_shell", "subprocess_exec", "add_reader", "remove_reader", "add_writer", "remove_writer",
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto",
    "sock_connect", "sock_accept", "sock_sendfile", "add_signal_handler", "remove_signal_handler",
    "set_task_factory", "get_task_factory", "set_debug",
):  # fmt: skip
    setattr(WorkflowLoop, _name, _refuse(_name))
