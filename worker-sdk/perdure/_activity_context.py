"""What an activity is (its definition), and what its code can ask for while it runs (its context).

Invariants: a context belongs to one attempt; its events only ever go from unset to set; cancellation details are set
once. :mod:`perdure.activity` is the public face of this; the worker and the testing environment make contexts.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from perdure._callables import types_of
from perdure._metric_meter import meter_of
from perdure.converter import PayloadConverter

if TYPE_CHECKING:
    from perdure.activity import ActivityCancellationDetails, Info
    from perdure.client import Client
    from perdure.common import MetricMeter

_ATTRIBUTE = "_perdure_activity_definition"


@dataclass(frozen=True)
class Definition:
    """An activity: its name (``None`` if it is dynamic), its function and its options."""

    name: str | None
    fn: Callable[..., Any]
    is_async: bool
    no_thread_cancel_exception: bool = False

    @cached_property
    def types(self) -> tuple[list[Any] | None, Any]:
        """Types of the parameters and of the result."""
        return types_of(self.fn)

    @property
    def arg_types(self) -> list[Any] | None:
        """Types of the parameters; ``None`` where not all are annotated."""
        return self.types[0]

    @property
    def ret_type(self) -> Any:
        """Type of the result; ``None`` where it is not annotated."""
        return self.types[1]

    @staticmethod
    def from_callable(fn: Callable[..., Any]) -> Definition | None:
        """The definition of a function, bound method or callable object marked with ``activity.defn``, if it is."""
        found = getattr(fn, _ATTRIBUTE, None)
        if found is None and not inspect.isroutine(fn):
            found = getattr(getattr(fn, "__call__", None), _ATTRIBUTE, None)  # noqa: B004 # its mark is wanted
        if not isinstance(found, Definition):
            return None
        return found if found.fn is fn else replace(found, fn=fn)

    @staticmethod
    def must_from_callable(fn: Callable[..., Any]) -> Definition:
        """As :meth:`from_callable`.

        Raises:
            TypeError: the function is not marked.
        """
        found = Definition.from_callable(fn)
        if found is None:
            name = getattr(fn, "__name__", repr(fn))
            raise TypeError(f"activity {name} is not marked: put @activity.defn before it")
        return found

    @staticmethod
    def mark(fn: Callable[..., Any], name: str | None, *, no_thread_cancel_exception: bool, dynamic: bool) -> None:
        """Mark a function as an activity.

        Raises:
            TypeError: it is no function, has keyword-only parameters, or is dynamic without the parameter that needs.
            ValueError: it is marked already.
        """
        if not callable(fn):
            raise TypeError("activity.defn goes before a function, a method or a class with a __call__ method")
        target = fn.__call__ if inspect.isclass(fn) else fn
        if hasattr(target, _ATTRIBUTE):
            raise ValueError(f"{getattr(fn, '__name__', fn)} is marked as an activity twice")
        parameters = list(inspect.signature(target).parameters.values())
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise TypeError(
                    f"activity parameter {parameter.name} is keyword-only; activities are called by position"
                )
        if dynamic and len([p for p in parameters if p.name != "self"]) != 1:
            raise TypeError("a dynamic activity takes exactly one parameter, a Sequence[RawValue]")
        definition = Definition(
            name=None if dynamic else name or fn.__name__,
            fn=fn,
            is_async=inspect.iscoroutinefunction(target),
            no_thread_cancel_exception=no_thread_cancel_exception,
        )
        setattr(target if inspect.isclass(fn) else fn, _ATTRIBUTE, definition)


#: Guards the making of what waits for a :class:`CompositeEvent`; rarely taken, so one is enough.
_waiting_lock = threading.Lock()


class CompositeEvent:
    """An event that a thread or a coroutine can wait for. ``loop`` is where the coroutine runs, if there is one.

    Most activities never wait for theirs, so what it takes to wait is made when somebody does.
    """

    __slots__ = ("_async_event", "_is_set", "_loop", "_thread_event")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._is_set = False
        self._thread_event: threading.Event | None = None
        self._async_event: asyncio.Event | None = None

    def set(self) -> None:
        """Set it, from any thread."""
        with _waiting_lock:
            self._is_set = True
            thread_event, async_event = self._thread_event, self._async_event
        if thread_event is not None:
            thread_event.set()
        if self._loop is not None and async_event is not None:
            try:
                self._loop.call_soon_threadsafe(async_event.set)
            except RuntimeError:
                pass  # the loop is closed: nobody waits there any more

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    async def wait(self) -> None:
        """Wait for it in a coroutine.

        Raises:
            RuntimeError: this is no async activity.
        """
        if self._loop is None:
            raise RuntimeError("not in an async activity; use the _sync form")
        with _waiting_lock:
            if self._is_set:
                return
            if self._async_event is None:
                self._async_event = asyncio.Event()
            event = self._async_event
        await event.wait()

    def wait_sync(self, timeout_s: float | None) -> None:
        """Block until it is set or ``timeout_s`` is over."""
        with _waiting_lock:
            if self._is_set:
                return
            if self._thread_event is None:
                self._thread_event = threading.Event()
            event = self._thread_event
        event.wait(timeout_s)


class ThreadCancellation:
    """Raises an exception in the thread that runs a synchronous activity, unless it is shielded.

    Invariant: nothing is raised before :meth:`enter` or after :meth:`leave`, so a pooled thread is never hit in its
    next task.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._pending: type[BaseException] | None = None
        self._raised = False
        self._shield_depth = 0

    def enter(self) -> None:
        """The calling thread runs the activity from here on."""
        with self._lock:
            self._thread_id = threading.get_ident()

    def leave(self) -> None:
        """The activity's code is over; an exception that was sent and has not arrived yet is taken back."""
        with self._lock:
            if self._thread_id is not None and self._raised:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), None)
            self._thread_id = None

    def raise_in_thread(self, exception: type[BaseException]) -> None:
        """Raise ``exception`` in the activity's thread, now or when its shield ends. Only the first call counts."""
        with self._lock:
            if self._thread_id is None or self._raised or self._pending is not None:
                return
            if self._shield_depth > 0:
                self._pending = exception
                return
            self._raised = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), ctypes.py_object(exception))

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold the exception back until the outermost block ends."""
        with self._lock:
            self._shield_depth += 1
        try:
            yield None
        finally:
            with self._lock:
                self._shield_depth -= 1
                pending = self._pending if self._shield_depth == 0 else None
                if pending is not None:
                    self._pending = None
                    self._raised = True
            if pending is not None:
                raise pending


def meter_of_activity(info: Info) -> MetricMeter:
    """The meter of an attempt on a worker."""
    return meter_of(
        {"namespace": info.namespace, "task_queue": info.task_queue, "activity_type": info.activity_type},
    )


@dataclass
class ActivityContext:
    """What runs in one attempt of an activity."""

    make_info: Callable[[], Info]
    heartbeat: Callable[..., None]
    cancelled: CompositeEvent
    worker_shutdown: CompositeEvent
    payload_converter: PayloadConverter
    client: Client | None
    shield: Callable[[], AbstractContextManager[None]] | None = None
    make_meter: Callable[[Info], MetricMeter] = meter_of_activity
    _cancellation_details: list[ActivityCancellationDetails] = field(default_factory=list)

    @cached_property
    def info(self) -> Info:
        """What is known about the attempt; made when it is asked for."""
        return self.make_info()

    @cached_property
    def metric_meter(self) -> MetricMeter:
        """Its meter; made when it is asked for."""
        return self.make_meter(self.info)

    @property
    def cancellation_details(self) -> ActivityCancellationDetails | None:
        """Why it was cancelled, once it was."""
        return self._cancellation_details[0] if self._cancellation_details else None

    def note_cancelled(self, details: ActivityCancellationDetails) -> bool:
        """Set the cancellation, with its details; false if it was set before."""
        self._cancellation_details.append(details)
        if self._cancellation_details[0] is not details:
            return False
        self.cancelled.set()
        return True

    @cached_property
    def log_details(self) -> dict[str, Any]:
        """What the activity's logger adds to each message."""
        info = self.info
        return {
            "activity_id": info.activity_id,
            "activity_type": info.activity_type,
            "attempt": info.attempt,
            "namespace": info.namespace,
            "task_queue": info.task_queue,
            "workflow_id": info.workflow_id,
            "workflow_run_id": info.workflow_run_id,
            "workflow_type": info.workflow_type,
        }

    @staticmethod
    def current() -> ActivityContext:
        """The context of the running activity.

        Raises:
            RuntimeError: the code does not run in an activity.
        """
        context = current_context.get(None)
        if context is None:
            raise RuntimeError("not in activity context")
        return context


class CompleteAsyncError(BaseException):
    """Raised by an activity that a client will complete."""


current_context: ContextVar[ActivityContext] = ContextVar("perdure_activity")
