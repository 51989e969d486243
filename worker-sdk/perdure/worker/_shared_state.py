"""Activities in other processes: what both sides share, and how an attempt is run there.

Invariants: cancellation details are shared before the event that tells of them; everything an attempt heartbeats is
taken before its end is; an exception crosses as a failure, because not every exception can be pickled.
The worker's process makes the shared things and runs one thread that takes heartbeats; :func:`run_in_process` is all
that happens in the other process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from typing import Any

from perdure._activity_context import ActivityContext, CompleteAsyncError, CompositeEvent, current_context
from perdure.activity import ActivityCancellationDetails, Info
from perdure.common import MetricMeter
from perdure.converter import DataConverter, FailureConverter, PayloadConverter
from perdure_schemas.records import Failure

_logger = logging.getLogger("perdure.worker")


class SharedStateManager(ABC):
    """Makes what the worker and the processes of its activities share."""

    @staticmethod
    def create_from_multiprocessing(
        mgr: SyncManager, queue_poller_executor: concurrent.futures.Executor | None = None
    ) -> SharedStateManager:
        """A manager on ``multiprocessing.Manager()``.

        Args:
            mgr: The multiprocessing manager; it must live as long as the worker.
            queue_poller_executor: Runs the one function that waits for heartbeats; a thread of its own if not given.
        """
        return _MultiprocessingManager(mgr, queue_poller_executor)

    @abstractmethod
    def new_event(self) -> Any:
        """An event that can be sent to another process, with the methods of ``threading.Event``."""

    @abstractmethod
    def new_mapping(self) -> MutableMapping[str, Any]:
        """A dictionary that can be sent to another process."""

    @abstractmethod
    def register_heartbeater(self, task_id: str, heartbeat: Callable[..., None]) -> Callable[[str, Any], None]:
        """Take heartbeats of an attempt.

        Returns:
            What sends them in the other process, given the task id and the details; it can be sent there.
        """

    @abstractmethod
    def unregister_heartbeater(self, task_id: str) -> None:
        """The attempt is over. Blocks until what it has sent was taken."""


class _MultiprocessingManager(SharedStateManager):
    def __init__(self, mgr: SyncManager, executor: concurrent.futures.Executor | None) -> None:
        self._mgr = mgr
        self._executor = executor
        self._queue: Any = mgr.Queue()
        self._heartbeats: dict[str, Callable[..., None]] = {}
        self._taken: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._polling = False

    def new_event(self) -> Any:
        return self._mgr.Event()

    def new_mapping(self) -> MutableMapping[str, Any]:
        return self._mgr.dict()

    def register_heartbeater(self, task_id: str, heartbeat: Callable[..., None]) -> Callable[[str, Any], None]:
        with self._lock:
            self._heartbeats[task_id] = heartbeat
            if not self._polling:
                self._polling = True
                if self._executor is None:
                    threading.Thread(target=self._poll, name="perdure-shared-heartbeats", daemon=True).start()
                else:
                    self._executor.submit(self._poll)
        return _QueueSender(self._queue)

    def unregister_heartbeater(self, task_id: str) -> None:
        taken = threading.Event()
        with self._lock:
            self._taken[task_id] = taken
        try:
            self._queue.put((task_id, None))
            taken.wait(_TAKEN_TIMEOUT_S)
        except (EOFError, OSError) as error:
            _logger.warning("event=shared_state_lost reason=%r", str(error))
        with self._lock:
            self._taken.pop(task_id, None)
            self._heartbeats.pop(task_id, None)

    def _poll(self) -> None:
        """Take heartbeats while any attempt runs."""
        while True:
            try:
                task_id, details = self._queue.get()
            except (EOFError, OSError) as error:
                _logger.warning("event=shared_state_lost reason=%r", str(error))
                with self._lock:
                    self._polling = False
                return
            with self._lock:
                heartbeat = self._heartbeats.get(task_id)
                taken = self._taken.get(task_id)
            if details is None:
                if taken is not None:
                    taken.set()
                with self._lock:
                    self._heartbeats.pop(task_id, None)
                    if not self._heartbeats:
                        self._polling = False
                        return
                continue
            if heartbeat is not None:
                try:
                    heartbeat(*details)
                except Exception:
                    _logger.exception("event=heartbeat_unsent task=%s", task_id)


#: How long the end of an attempt waits for its last heartbeats.
_TAKEN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _QueueSender:
    queue: Any

    def __call__(self, task_id: str, details: Any) -> None:
        self.queue.put((task_id, details))


class ProcessEvent(CompositeEvent):
    """An event that both processes see."""

    __slots__ = ("_shared",)

    def __init__(self, shared: Any) -> None:
        super().__init__(None)
        self._shared = shared

    def set(self) -> None:
        """Set it."""
        self._shared.set()

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._shared.is_set())

    def wait_sync(self, timeout_s: float | None) -> None:
        """Block until it is set or ``timeout_s`` is over."""
        self._shared.wait(timeout_s)


@dataclass
class _ProcessContext(ActivityContext):
    """A context of which the other process sees the cancellation."""

    shared: MutableMapping[str, Any] | None = None

    @property
    def cancellation_details(self) -> ActivityCancellationDetails | None:
        """Why it was cancelled, once it was."""
        assert self.shared is not None
        details: ActivityCancellationDetails | None = self.shared.get("cancellation")
        return details

    def note_cancelled(self, details: ActivityCancellationDetails) -> bool:
        """Set the cancellation, with its details; false if it was set before."""
        assert self.shared is not None
        if "cancellation" in self.shared:
            return False
        self.shared["cancellation"] = details
        self.cancelled.set()
        return True


@dataclass(frozen=True)
class _Call:
    """What the other process needs."""

    task_id: str
    fn: Callable[..., Any]
    arguments: list[Any]
    info: Info
    cancelled: Any
    worker_shutdown: Any
    shared: Any
    heartbeat: Callable[[str, Any], None]
    payload_converter: type[PayloadConverter]
    failure_converter: type[FailureConverter]


@dataclass(frozen=True)
class _Outcome:
    result: Any = None
    failure: Failure | None = None
    left_open: bool = False


class ProcessRun:
    """One attempt in another process.

    Args:
        manager: Makes what is shared.
        task_id: The attempt.
        context: Its context, as it would be in this process.
    """

    def __init__(self, manager: SharedStateManager, task_id: str, context: ActivityContext) -> None:
        self._manager = manager
        self._task_id = task_id
        self._shared = manager.new_mapping()
        self._cancelled = manager.new_event()
        self._worker_shutdown = manager.new_event()
        self._heartbeat = context.heartbeat
        if context.worker_shutdown.is_set():
            self._worker_shutdown.set()
        self.context = _ProcessContext(
            make_info=context.make_info,
            heartbeat=context.heartbeat,
            cancelled=ProcessEvent(self._cancelled),
            worker_shutdown=ProcessEvent(self._worker_shutdown),
            payload_converter=context.payload_converter,
            client=None,
            shared=self._shared,
        )

    async def run(
        self,
        executor: concurrent.futures.Executor,
        fn: Callable[..., Any],
        arguments: list[Any],
        converter: DataConverter,
    ) -> Any:
        """Run the function there; its result.

        Raises:
            BaseException: what it raised, as far as a failure can carry it.
        """
        loop = asyncio.get_running_loop()
        call = _Call(
            task_id=self._task_id,
            fn=fn,
            arguments=arguments,
            info=self.context.info,
            cancelled=self._cancelled,
            worker_shutdown=self._worker_shutdown,
            shared=self._shared,
            heartbeat=self._manager.register_heartbeater(self._task_id, self._heartbeat),
            payload_converter=converter.payload_converter_class,
            failure_converter=converter.failure_converter_class,
        )
        try:
            outcome: _Outcome = await loop.run_in_executor(executor, run_in_process, call)
        finally:
            await loop.run_in_executor(None, self._manager.unregister_heartbeater, self._task_id)
        if outcome.left_open:
            raise CompleteAsyncError
        if outcome.failure is not None:
            raise converter.failure_converter.from_failure(outcome.failure, converter.payload_converter)
        return outcome.result


def _no_meter(_info: Info) -> MetricMeter:
    raise RuntimeError(
        "there is no metric_meter in an activity that runs in a process pool: the worker exports the numbers of its "
        "own process. Return what is to be measured, and record it in the workflow"
    )


def run_in_process(call: _Call) -> _Outcome:
    """Run an attempt; called in the other process."""
    payload_converter = call.payload_converter()

    def heartbeat(*details: Any) -> None:
        call.heartbeat(call.task_id, details)

    current_context.set(
        _ProcessContext(
            make_info=lambda: call.info,
            heartbeat=heartbeat,
            cancelled=ProcessEvent(call.cancelled),
            worker_shutdown=ProcessEvent(call.worker_shutdown),
            payload_converter=payload_converter,
            client=None,
            make_meter=_no_meter,
            shared=call.shared,
        )
    )
    try:
        return _Outcome(result=call.fn(*call.arguments))
    except CompleteAsyncError:
        return _Outcome(left_open=True)
    except Exception as error:
        return _Outcome(failure=call.failure_converter().to_failure(error, payload_converter))


def check_picklable(name: str, fn: Callable[..., Any]) -> None:
    """Refuse an activity that cannot be sent to another process.

    Raises:
        TypeError: it cannot.
    """
    try:
        pickle.dumps(fn)
    except Exception as error:
        raise TypeError(
            f"activity {name} cannot be sent to the processes of a ProcessPoolExecutor ({error}): make it a function "
            "of a module, or a method of an object that can be pickled"
        ) from None
