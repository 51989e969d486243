"""Runs activities: async ones on the user's event loop, synchronous ones in the executor, and sends how they ended.

Invariants: every attempt that is taken ends in one completion, unless nobody wants it any more; an attempt runs at most
once on this worker; details of a heartbeat that was held back reach the log before the failure that follows them.
Attempts are started and cancelled by the dispatch thread; they end on the event loop or in a thread of the executor.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure._activity_context import (
    ActivityContext,
    CompositeEvent,
    Definition,
    current_context,
)
from perdure._callables import fitted_types
from perdure._connection import Connection
from perdure._ids import new_id
from perdure._limits import PayloadTooLargeError
from perdure.activity import ActivityCancellationDetails
from perdure.common import RawValue
from perdure.converter import DataConverter
from perdure.service import RPCError
from perdure.worker._activity_ends import Ended, Ends
from perdure.worker._activity_info import info_of
from perdure.worker._activity_interception import execute_intercepted
from perdure.worker._activity_slots import ActivitySlots
from perdure.worker._attempt import Attempt, Heartbeats, throttle_interval_s
from perdure.worker._codec import Codec
from perdure.worker._eager import Begun
from perdure.worker._inbox import Inbox
from perdure.worker._metrics import WorkerMetrics
from perdure.worker._options import WorkerOptions
from perdure.worker._outbox import Outbox, Outgoing
from perdure.worker._shared_state import ProcessRun
from perdure.worker._timers import TimerThread
from perdure_schemas.keys import queue_partition
from perdure_schemas.records import (
    ActivityLeftOpen,
    ActivityOptions,
    ActivityTask,
    ActivityTaskCompleted,
    ActivityTaskHeartbeat,
    Command,
    RunTask,
)

if TYPE_CHECKING:
    from perdure.client import Client

_logger = logging.getLogger("perdure.worker")


class Activities:
    """The activities of one worker.

    Args:
        options: The worker's options.
        client: The worker's client, for async activities.
        connection: Makes records.
        inbox: Holds the tasks.
        outbox: Takes completions and heartbeats.
        timers: For throttled heartbeats and timeouts.
        payload_codec: Applied to what comes and goes.
        loop: Runs async activities.
        worker_id: The worker.
        metrics: Told of each attempt.
    """

    def __init__(
        self,
        options: WorkerOptions,
        client: Client,
        connection: Connection,
        inbox: Inbox,
        outbox: Outbox,
        timers: TimerThread,
        payload_codec: Codec,
        loop: asyncio.AbstractEventLoop,
        worker_id: str,
        metrics: WorkerMetrics,
    ) -> None:
        self._metrics = metrics
        self._options = options
        self._client = client
        self._connection = connection
        self._inbox = inbox
        self._outbox = outbox
        self._timers = timers
        self._codec = payload_codec
        self._loop = loop
        self._converter: DataConverter = client.data_converter
        self._ends = Ends(
            options, self._converter, has_codec=payload_codec.active, worker_id=worker_id, metrics=metrics
        )
        self._running: dict[str, Attempt] = {}
        self._slots = ActivitySlots(options.tuner.activity)
        self._async_tasks: set[asyncio.Task[None]] = set()
        self._ready: list[Outgoing] = []
        self._stopping = False

    # --- called by the dispatch thread ----------------------------------------------------------------------------

    def start(self, batch: Sequence[tuple[RunTask, ActivityTask]]) -> None:
        """Start attempts, or have them wait for a free slot; returns at once. From any thread."""
        self._begin(self._slots.take(batch))

    def _begin(self, batch: Sequence[tuple[RunTask, ActivityTask]]) -> None:
        on_loop: list[Attempt] = []
        for run, task in batch:
            definition = self._options.activity(task.options.activity_type)
            if definition is None:
                self._refuse(run, task)
                self._begin(self._slots.give_back(run.task_id))
                continue
            self._metrics.activity_started(task)
            attempt = Attempt(run, task, definition, self._loop, self._connection.now_ms())
            attempt.heartbeats = Heartbeats(
                attempt,
                self._converter.payload_converter,
                throttle_interval_s(
                    task.options.heartbeat_timeout_ms,
                    self._options.default_heartbeat_throttle_interval,
                    self._options.max_heartbeat_throttle_interval,
                ),
                self._timers,
                self._send_heartbeat,
                check_size=not self._codec.active,
            )
            self._running[run.task_id] = attempt
            if task.options.start_to_close_timeout_ms:
                attempt.timeout = self._timers.call_later(
                    task.options.start_to_close_timeout_ms / 1000, partial(_time_out, attempt)
                )
            if self._begins_on_loop(definition):
                on_loop.append(attempt)
            else:
                self._submit(attempt)
        if on_loop:
            try:
                self._loop.call_soon_threadsafe(self._start_on_loop, on_loop)
            except RuntimeError:  # the loop is closed: the process ends
                for attempt in on_loop:
                    self._forget(attempt)

    def start_local(self, run: RunTask, task: ActivityTask, on_end: Callable[[Ended | None], None]) -> None:
        """Start an attempt of a local activity, whose end is told to ``on_end`` only, from any thread.

        ``None``: nobody wants the result, or the worker stops.
        """
        definition = self._options.activity(task.options.activity_type)
        if definition is None:
            on_end(self._ends.unknown(task))
            return
        attempt = Attempt(run, task, definition, self._loop, self._connection.now_ms(), on_local_end=on_end)
        attempt.heartbeats = Heartbeats(
            attempt, self._converter.payload_converter, 1.0, self._timers, _send_nothing, check_size=False
        )
        self._running[run.task_id] = attempt
        if not self._begins_on_loop(definition):
            self._submit(attempt)
            return
        try:
            self._loop.call_soon_threadsafe(self._start_on_loop, [attempt])
        except RuntimeError:  # the loop is closed: the process ends
            self._forget(attempt)

    def _begins_on_loop(self, definition: Definition) -> bool:
        in_process = isinstance(self._options.activity_executor, concurrent.futures.ProcessPoolExecutor)
        return definition.is_async or in_process or bool(self._options.interceptors)

    def cancel_local(self, task_id: str, details: ActivityCancellationDetails) -> None:
        """Ask an attempt of a local activity to stop."""
        attempt = self._running.get(task_id)
        if attempt is not None:
            attempt.cancel(details)

    def cancel(self, task_id: str, *, gone: bool, paused: bool = False, reset: bool = False) -> None:
        """Ask an attempt to stop; with ``gone`` its result is dropped. Unknown ones are ignored.

        An attempt whose activity is ``paused`` or ``reset`` is asked only if it has a heartbeat timeout; else it runs
        to its end.
        """
        waiting = self._slots.withdraw(task_id)
        if waiting is not None:
            if gone:
                self._inbox.release(task_id)
                self._begin(self._slots.give_back(task_id))
                self._outbox.note_released()
                return
            self._begin([waiting])  # it is to end at once
        attempt = self._running.get(task_id)
        if attempt is not None and (paused or reset):
            if attempt.task.options.heartbeat_timeout_ms is not None:
                attempt.cancel(ActivityCancellationDetails(paused=paused, reset=reset))
        elif attempt is not None:
            attempt.gone = attempt.gone or gone
            attempt.cancel(ActivityCancellationDetails(not_found=gone, cancel_requested=not gone))

    # --- called when the worker stops -----------------------------------------------------------------------------

    def announce_stop(self) -> None:
        """Tell the attempts that the worker was asked to stop."""
        self._stopping = True
        for attempt in list(self._running.values()):
            attempt.worker_stops()

    def cancel_all(self) -> None:
        """Cancel the attempts that still run, because the worker stops."""
        self._begin(self._slots.take_all_waiting())
        for attempt in list(self._running.values()):
            attempt.cancel(ActivityCancellationDetails(worker_shutdown=True))

    @property
    def running_count(self) -> int:
        """How many attempts run, or wait for a slot."""
        return len(self._running) + self._slots.waiting_count

    # --- what the worker begins by itself -------------------------------------------------------------------------

    def room(self) -> int:
        """How many more activities may begin now by the worker's own decision."""
        return 0 if self._stopping or not self._options.eager_activities else self._slots.room()

    def serves(self, options: ActivityOptions) -> bool:
        """Whether this worker runs such an activity."""
        return (
            options.task_queue == self._options.task_queue and self._options.activity(options.activity_type) is not None
        )

    def promise(self, begun: Begun) -> Callable[[], None] | None:
        """Keep slots for activities; what is returned begins them, and is to be called once their answer is durable."""
        if not begun:
            return None
        self._slots.promise(len(begun))
        return partial(self._keep_promise, begun)

    def _keep_promise(self, begun: Begun) -> None:
        self._slots.promise(-len(begun))
        if self._stopping:
            return  # they come to another worker
        now_ms, partitions = self._connection.now_ms(), self._connection.names.partitions
        partition = queue_partition(self._options.task_queue, begun[0][0].workflow_id, partitions)
        self.start([(run, task) for run, task in begun if self._inbox.hold(run.task_id, partition, now_ms)])

    # --- async attempts -------------------------------------------------------------------------------------------

    def _start_on_loop(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            task = self._loop.create_task(self._run_async(attempt))
            self._async_tasks.add(task)  # the loop itself keeps weak references only
            task.add_done_callback(self._async_tasks.discard)

    async def _run_async(self, attempt: Attempt) -> None:
        body: Ended | None
        try:
            try:
                task = attempt.task
                if attempt.on_local_end is None:  # else it comes from the workflow, and was never encoded
                    task = await self._codec.decode_async(task)
                context, arguments = self._prepare(attempt, task)
                current_context.set(context)
                if self._options.interceptors:
                    executor, header = self._options.activity_executor, task.options.header
                    result = await execute_intercepted(
                        self._options.interceptors, attempt, context, arguments, executor, header
                    )
                elif not attempt.definition.is_async:
                    result = await self._run_in_process(attempt, context, arguments)
                else:
                    attempt.entered(context, asyncio.current_task())
                    result = await attempt.definition.fn(*arguments)
            finally:
                attempt.left()
            body = self._ends.returned(attempt, result)
        except BaseException as error:
            body = self._ends.raised(attempt, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            held_back = attempt.close_heartbeats()
        if body is None or attempt.on_local_end is not None:
            self._forget(attempt, body)
            return
        try:
            if attempt.heartbeat_on_its_way is not None:
                await asyncio.wrap_future(attempt.heartbeat_on_its_way)
            records = self._ends.checked(
                attempt, [await self._codec.encode_async(one) for one in _in_order(held_back, body)]
            )
        except Exception as error:
            records = [self._ends.unsendable(attempt, error)]
        outgoing = [self._outgoing(attempt, record) for record in records]
        self._ended(attempt)
        if not self._ready:
            # What ends in this turn of the loop goes out in one append.
            self._loop.call_soon(self._flush)
        self._ready.extend(outgoing)

    def _flush(self) -> None:
        batch, self._ready = self._ready, []
        self._outbox.send(batch)

    # --- attempts in processes ------------------------------------------------------------------------------------

    async def _run_in_process(self, attempt: Attempt, context: ActivityContext, arguments: list[Any]) -> Any:
        executor, manager = self._options.activity_executor, self._options.shared_state_manager
        assert executor is not None
        assert manager is not None
        # Each shared thing takes a round trip to the manager's process.
        run = await self._loop.run_in_executor(None, ProcessRun, manager, attempt.run.task_id, context)
        attempt.entered(run.context, None)
        return await run.run(executor, attempt.definition.fn, arguments, self._converter)

    # --- attempts in threads --------------------------------------------------------------------------------------

    def _submit(self, attempt: Attempt) -> None:
        assert self._options.activity_executor is not None
        try:
            self._options.activity_executor.submit(self._run_in_thread, attempt)
        except RuntimeError as error:
            _logger.error("event=executor_closed task=%s reason=%r", attempt.run.task_id, str(error))
            self._forget(attempt)

    def _run_in_thread(self, attempt: Attempt) -> None:
        body: Ended | None
        try:
            try:
                task = attempt.task
                if attempt.on_local_end is None:  # else it comes from the workflow, and was never encoded
                    task = self._codec.decode(task)
                context, arguments = self._prepare(attempt, task)
                attempt.thread_cancellation.enter()
                attempt.entered(context, None)
                result = contextvars.copy_context().run(_call_in_context, context, attempt.definition.fn, arguments)
            finally:
                attempt.thread_cancellation.leave()
                attempt.left()
            body = self._ends.returned(attempt, result)
        except BaseException as error:
            body = self._ends.raised(attempt, error)
        held_back = attempt.close_heartbeats()
        if body is None or attempt.on_local_end is not None:
            self._forget(attempt, body)
            return
        try:
            if attempt.heartbeat_on_its_way is not None:
                attempt.heartbeat_on_its_way.result()
            records = self._ends.checked(attempt, [self._codec.encode(one) for one in _in_order(held_back, body)])
        except Exception as error:
            records = [self._ends.unsendable(attempt, error)]
        outgoing = [self._outgoing(attempt, record) for record in records]
        self._ended(attempt)
        self._outbox.send(outgoing)

    # --- both -----------------------------------------------------------------------------------------------------

    def _prepare(self, attempt: Attempt, task: ActivityTask) -> tuple[ActivityContext, list[Any]]:
        definition = attempt.definition
        loop = self._loop if definition.is_async else None
        assert attempt.heartbeats is not None
        converter = self._converter.payload_converter
        context = ActivityContext(
            make_info=partial(info_of, attempt, task, self._options.task_queue, self._client.namespace, converter),
            heartbeat=attempt.heartbeats.beat,
            cancelled=CompositeEvent(loop),
            worker_shutdown=CompositeEvent(loop),
            payload_converter=converter,
            client=self._client if definition.is_async else None,
            shield=None if definition.is_async else attempt.thread_cancellation.shielded,
        )
        if self._stopping:
            context.worker_shutdown.set()
        payloads = task.options.input
        if definition.name is None:
            return context, [[RawValue(payload) for payload in payloads]]
        try:
            return context, converter.from_payloads(payloads, fitted_types(definition.arg_types, len(payloads)))
        except Exception as error:
            raise RuntimeError(f"failed decoding the arguments of activity {definition.name}: {error}") from error

    def _outgoing(self, attempt: Attempt, body: Ended | ActivityTaskHeartbeat) -> Outgoing:
        is_end = not isinstance(body, ActivityTaskHeartbeat)
        try:
            record = self._connection.record_of(self._command(attempt.run, body))
        except RPCError as error:  # too large
            record = self._connection.record_of(
                self._command(attempt.run, self._ends.unsendable(attempt, PayloadTooLargeError(error.message)))
            )
        return Outgoing(record, attempt.run.task_id if is_end else "")

    def _command(self, run: RunTask, body: Ended | ActivityTaskHeartbeat) -> Command:
        return Command(
            command_id=_command_id(run, body),
            workflow_id=run.workflow_id,
            run_id=run.run_id,
            identity=self._options.identity,
            body=body,
        )

    def _refuse(self, run: RunTask, task: ActivityTask) -> None:
        body = self._ends.unknown(task)
        self._outbox.send([Outgoing(self._connection.record_of(self._command(run, body)), run.task_id)])

    def _send_heartbeat(self, attempt: Attempt, heartbeat: ActivityTaskHeartbeat) -> None:
        """From any thread, the event loop's own included; so a codec, which may wait, runs on the loop later."""
        if not self._codec.active:
            self._outbox.send([self._outgoing(attempt, heartbeat)])
            return

        before = attempt.heartbeat_on_its_way

        async def encode_and_send() -> None:
            try:
                if before is not None:
                    await asyncio.wrap_future(before)
                encoded = self._ends.checked(attempt, [await self._codec.encode_async(heartbeat)])
                self._outbox.send([self._outgoing(attempt, one) for one in encoded])
            except Exception:
                _logger.exception("event=heartbeat_unsent task=%s", attempt.run.task_id)

        attempt.heartbeat_on_its_way = asyncio.run_coroutine_threadsafe(encode_and_send(), self._loop)

    def _ended(self, attempt: Attempt) -> None:
        self._running.pop(attempt.run.task_id, None)
        if attempt.on_local_end is None:
            self._begin(self._slots.give_back(attempt.run.task_id))

    def _forget(self, attempt: Attempt, body: Ended | None = None) -> None:
        """An attempt is over, and history is not told."""
        self._ended(attempt)
        if attempt.on_local_end is not None:
            stopped = attempt.cancellation is not None and attempt.cancellation.worker_shutdown
            attempt.on_local_end(None if stopped and not isinstance(body, ActivityTaskCompleted) else body)
        self._inbox.release(attempt.run.task_id)
        self._outbox.note_released()


def _call_in_context(context: ActivityContext, fn: Any, arguments: Sequence[Any]) -> Any:
    current_context.set(context)
    return fn(*arguments)


def _send_nothing(_attempt: Attempt, _heartbeat: ActivityTaskHeartbeat) -> None:
    """A local activity has nobody to send heartbeats to: its workflow task waits for it."""


def _time_out(attempt: Attempt) -> None:
    attempt.cancel(ActivityCancellationDetails(timed_out=True))


def _in_order(held_back: ActivityTaskHeartbeat | None, body: Ended) -> list[Ended | ActivityTaskHeartbeat]:
    """A heartbeat that was held back matters to the next attempt, so only an attempt without success sends it."""
    if held_back is None or isinstance(body, ActivityTaskCompleted):
        return [body]
    return [held_back, body]


def _command_id(run: RunTask, body: Ended | ActivityTaskHeartbeat) -> str:
    """Heartbeats are many for a task; an end has the task's id, so that a repetition is recognised."""
    if isinstance(body, ActivityTaskHeartbeat):
        return new_id()
    return f"left-open/{run.task_id}" if isinstance(body, ActivityLeftOpen) else run.task_id
