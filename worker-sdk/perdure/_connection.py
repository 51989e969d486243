"""A client's connection to the engine: commands out, replies in, and which reply belongs to which request.

Commands go to the ``commands`` partition of their workflow; answers come to this connection's partition of ``replies``,
which one daemon thread reads. Invariants:

* a request is answered once: by the engine, by its deadline, or by an error of the log;
* a request that is sent again keeps its command id, so a repetition changes nothing (I3);
* reads (``READS``) live in the memory of the workflow's owner in the engine, so they are sent again when an owner
  mark shows a takeover; everything is sent again when it stays unanswered for :data:`RESEND_AFTER_S`;
* replies of one poll reach the event loop in one call.

Made by :class:`perdure.client.Client`; the worker uses it, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from perdure._delivery import call, deliver
from perdure._ids import new_id
from perdure._pending import OnError, OnReply, Pending, is_read, rejecter, resolver
from perdure._producer import SteadyProducer
from perdure.service import RPCError, RPCStatusCode
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.log import (
    Ack,
    Log,
    LogClosedError,
    LogError,
    LogRecord,
    NewRecord,
    Producer,
    Reader,
    TopicPartition,
)
from perdure_schemas import codec
from perdure_schemas.keys import is_mark, partition_of
from perdure_schemas.limits import COMMAND_BYTES_MAX
from perdure_schemas.records import (
    AwaitResult,
    Command,
    CommandBody,
    OwnerMark,
    ReadBody,
    ReadRequest,
    Reply,
    ReplyBody,
    ReplyTo,
)
from perdure_schemas.topics import TopicNames

__all__ = ["Connection"]

_logger = logging.getLogger("perdure.client")

#: A request without an answer for this long is sent again.
RESEND_AFTER_S = 20.0
#: How long one poll of the replies waits; also how often unanswered requests are looked at.
_POLL_S = 1.0
_RECORDS_PER_POLL_MAX = 1_000
_RECONNECT_DELAY_S = 1.0


class Connection:
    """Sends commands and receives replies.

    Args:
        log: The log.
        names: The namespace's topics.
        identity: Who asks; stands in every command.
        address: Where the log is, for messages.
        owns_log: Close the log with the connection.
        now_ms: The engine's clock, in milliseconds since the epoch; the wall clock, but in tests that skip time.

    Attributes:
        result_waits: Where the results that callers wait for will be put.
        replies: Where its replies come.
        replies_delivered_to: Replies below this offset have been given to whoever waits for them.
        on_delivered: Called after each such delivery, on the connection's thread.
        on_sent: By command id: called, and forgotten, once the command's place among those of the connection is
            settled. For requests that their askers have named.
    """

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        *,
        identity: str,
        address: str,
        owns_log: bool,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.log = log
        self.now_ms = now_ms
        self.result_waits: set[asyncio.Future[ReplyBody]] = set()
        self.replies_delivered_to = 0
        self.on_delivered: Callable[[], None] | None = None
        self.on_sent: dict[str, Callable[[], None]] = {}
        self.address = address
        self.names = names
        self.identity = identity
        self.client_id = new_id()
        self.producer: Producer = SteadyProducer(log, f"client-{self.client_id[:8]}")
        self._owns_log = owns_log
        self._key = self.client_id.encode()
        self._partition = partition_of(self.client_id, names.partitions)
        self.replies = TopicPartition(names.replies, self._partition)
        self._commands = names.commands
        self._pending: dict[str, Pending] = {}
        self._outbox: list[Pending] = []
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._thread: threading.Thread | None = None
        self._looked_s = 0.0
        self._closed = threading.Event()

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read replies, from the end on. Blocks for a round trip; does nothing the second time.

        Raises:
            LogError: the log cannot be reached.
        """
        with self._lock:
            if self._closed.is_set():
                raise RPCError("the client is closed", RPCStatusCode.CANCELLED)
            if self._thread is not None:
                return
            self.open_replies()
            self._thread = threading.Thread(target=self._read_replies, name="perdure-replies", daemon=True)
            self._thread.start()

    def open_replies(self) -> Reader:
        """Open what replies are read from; :meth:`read_replies` then reads them. Called by :meth:`start`, or by whoever
        has no use for a thread.

        Raises:
            LogError: the log cannot be reached.
        """
        self._reader = self._open_reader()
        return self._reader

    @property
    def started(self) -> bool:
        """Whether replies are read."""
        return self._reader is not None

    def close(self) -> None:
        """Stop reading, and let go of everything. Requests that wait are answered with an error."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            reader, thread = self._reader, self._thread
        if reader is not None:
            reader.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)
        self.producer.close()
        if self._owns_log:
            self.log.close()

    # --- requests -------------------------------------------------------------------------------------------------

    async def ask(
        self,
        workflow_id: str,
        run_id: str,
        body: CommandBody,
        timeout_s: float | None,
        what: str,
        command_id: str = "",
    ) -> ReplyBody:
        """Send a command and wait for its first reply.

        Args:
            workflow_id: The workflow it concerns.
            run_id: Its run; empty for the current one.
            body: The command.
            timeout_s: How long to wait; ``None`` without limit.
            what: What is asked, for the error message.
            command_id: The command's id, if its asker has named the request.

        Raises:
            RPCError: no answer in time (``DEADLINE_EXCEEDED``), or the log refused the command (``UNAVAILABLE``).
        """
        answer: asyncio.Future[ReplyBody] = asyncio.get_running_loop().create_future()
        if isinstance(body, AwaitResult):
            self.result_waits.add(answer)
        try:
            pending = await self.open(workflow_id, run_id, body, resolver(answer), rejecter(answer), command_id)
            try:
                return await self.within(answer, timeout_s, what)
            finally:
                self.forget(pending)
        finally:
            self.result_waits.discard(answer)

    async def open(
        self,
        workflow_id: str,
        run_id: str,
        body: CommandBody,
        on_reply: OnReply,
        on_error: OnError,
        command_id: str = "",
    ) -> Pending:
        """Send a command whose replies go to ``on_reply``, on the running loop, until :meth:`forget` is called."""
        await self._ensure_started()
        loop = asyncio.get_running_loop()
        pending = self._register(workflow_id, run_id, body, on_reply, on_error, loop, command_id)
        self._enqueue(pending, loop)
        if command_id:
            notify = self.on_sent.pop(command_id, None)
            if notify is not None:
                notify()
        return pending

    async def ask_read_side(self, body: ReadBody, timeout_s: float | None, what: str) -> ReplyBody:
        """Ask the read side; the arguments are those of :meth:`ask`.

        Raises:
            RPCError: no answer in time (``DEADLINE_EXCEEDED``), or the log refused the request (``UNAVAILABLE``).
        """
        await self._ensure_started()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ReplyBody] = loop.create_future()
        request_id = new_id()
        request = ReadRequest(reply=self._reply_to(request_id), body=body)
        record = NewRecord(self.names.reads, self._partition, self._key, codec.encode(request))
        pending = Pending(request_id, record, False, resolver(answer), rejecter(answer), loop, time.monotonic())
        self._pending[request_id] = pending
        self._enqueue(pending, loop)
        try:
            return await self.within(answer, timeout_s, what)
        finally:
            self.forget(pending)

    def request(
        self, workflow_id: str, run_id: str, body: CommandBody, on_reply: OnReply, on_error: OnError
    ) -> Pending:
        """Send a command from any thread; its first reply goes to ``on_reply``, on a thread of the connection."""
        pending = self._register(workflow_id, run_id, body, on_reply, on_error, None)
        self._append([pending])
        return pending

    def turn_into(self, pending: Pending, workflow_id: str, run_id: str, body: CommandBody) -> None:
        """From here on a request asks for something else when it is sent again; its request id stays."""
        pending.record = self._record(pending.request_id, new_id(), workflow_id, run_id, body)
        pending.is_read = is_read(body)
        pending.sent_s = time.monotonic()

    async def within(self, answer: asyncio.Future[ReplyBody], timeout_s: float | None, what: str) -> ReplyBody:
        """Wait for an answer, ``timeout_s`` at most.

        Raises:
            RPCError: ``DEADLINE_EXCEEDED``.
        """
        if timeout_s is None:
            return await answer
        message = f"{what} was not answered within {timeout_s:g} s by the engine at {self.address}"

        def expire() -> None:
            if not answer.done():
                answer.set_exception(RPCError(message, RPCStatusCode.DEADLINE_EXCEEDED))

        timer = asyncio.get_running_loop().call_later(timeout_s, expire)
        try:
            return await answer
        finally:
            timer.cancel()

    def send(self, commands: Sequence[Command]) -> Ack:
        """Send commands that nobody waits for, from any thread.

        Raises:
            LogError: the log refused them.
        """
        return self.producer.append([self.record_of(command) for command in commands])

    def record_of(self, command: Command) -> NewRecord:
        """A command as a record of the ``commands`` topic.

        Raises:
            RPCError: it is too large (``RESOURCE_EXHAUSTED``).
        """
        value = codec.encode(command)
        if len(value) > COMMAND_BYTES_MAX:
            raise RPCError(
                f"a {type(command.body).__name__} for workflow {command.workflow_id!r} has {len(value)} bytes; "
                f"{COMMAND_BYTES_MAX} are allowed. Send a reference to the data instead",
                RPCStatusCode.RESOURCE_EXHAUSTED,
            )
        partition = partition_of(command.workflow_id, self.names.partitions)
        return NewRecord(self._commands, partition, command.workflow_id.encode(), value)

    async def _ensure_started(self) -> None:
        if not self.started:
            try:
                await asyncio.to_thread(self.start)
            except LogError as error:
                raise self._unavailable(error) from error

    def _enqueue(self, pending: Pending, loop: asyncio.AbstractEventLoop) -> None:
        if not self._outbox:
            # Everything this turn of the loop asks for goes out in one append.
            loop.call_soon(self._flush)
        self._outbox.append(pending)

    def forget(self, pending: Pending) -> None:
        """Take no more replies for a request."""
        self._pending.pop(pending.request_id, None)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _register(
        self,
        workflow_id: str,
        run_id: str,
        body: CommandBody,
        on_reply: OnReply,
        on_error: OnError,
        loop: asyncio.AbstractEventLoop | None,
        command_id: str = "",
    ) -> Pending:
        request_id = new_id()
        record = self._record(request_id, command_id or request_id, workflow_id, run_id, body)
        pending = Pending(request_id, record, is_read(body), on_reply, on_error, loop, time.monotonic())
        self._pending[request_id] = pending
        return pending

    def _record(self, request_id: str, command_id: str, workflow_id: str, run_id: str, body: CommandBody) -> NewRecord:
        return self.record_of(
            Command(
                command_id=command_id,
                workflow_id=workflow_id,
                run_id=run_id,
                identity=self.identity,
                reply=self._reply_to(request_id),
                body=body,
            )
        )

    def _reply_to(self, request_id: str) -> ReplyTo:
        return ReplyTo(client_id=self.client_id, partition=self._partition, request_id=request_id)

    def _flush(self) -> None:
        batch, self._outbox = self._outbox, []
        self._append(batch)

    def _append(self, batch: Sequence[Pending]) -> None:
        try:
            ack = self.producer.append([pending.record for pending in batch])
        except LogError as error:
            self._fail(batch, error)
            return

        def acknowledged(ack: Ack) -> None:
            error = ack.error()
            if error is not None:
                self._fail(batch, error)

        ack.on_done(acknowledged)

    def _fail(self, batch: Sequence[Pending], error: LogError) -> None:
        for pending in batch:
            if self._pending.pop(pending.request_id, None) is not None:
                call(pending.loop, pending.on_error, self._unavailable(error))

    def _unavailable(self, error: LogError) -> RPCError:
        return RPCError(f"the log at {self.address} cannot be reached: {error}", RPCStatusCode.UNAVAILABLE)

    # --- the thread that reads replies ----------------------------------------------------------------------------

    def _open_reader(self) -> Reader:
        partition = self.replies
        # A definite offset, not "the end": nothing may be answered between asking and the first fetch.
        _, end = self.log.watermarks(partition)
        reader = self.log.reader(f"replies-{self.client_id[:8]}")
        reader.assign({partition: end})
        self.replies_delivered_to = end
        return reader

    def _read_replies(self) -> None:
        while not self._closed.is_set():
            try:
                self._read_until_closed()
            except LogClosedError:
                break  # whoever closed the log wants nothing more of it
            except LogError as error:
                _logger.warning("event=replies_interrupted address=%s reason=%r", self.address, str(error))
            except Exception:
                _logger.exception("event=replies_interrupted address=%s", self.address)
            if not self._reopen():
                break
        if self._reader is not None:
            self._reader.close()
        closed = RPCError("the client was closed", RPCStatusCode.CANCELLED)
        for pending in list(self._pending.values()):
            call(pending.loop, pending.on_error, closed)
        self._pending.clear()

    def _read_until_closed(self) -> None:
        self._looked_s = time.monotonic()
        while not self._closed.is_set():
            self.read_replies(_POLL_S)

    def read_replies(self, timeout_s: float) -> None:
        """Deliver the replies that are there, waiting up to ``timeout_s`` for one, and repeat what is unanswered.

        Raises:
            LogError: the log cannot be reached, or was closed.
        """
        reader = self._reader
        assert reader is not None
        records = reader.poll(_RECORDS_PER_POLL_MAX, timeout_s)
        if records:
            self._take(records)
            self.replies_delivered_to = records[-1].offset + 1
            if self.on_delivered is not None:
                self.on_delivered()
        now_s = time.monotonic()
        if now_s - self._looked_s >= _POLL_S:
            self._looked_s = now_s
            self._resend([p for p in list(self._pending.values()) if now_s - p.sent_s >= RESEND_AFTER_S])

    def _take(self, records: Sequence[LogRecord]) -> None:
        batches: dict[asyncio.AbstractEventLoop, list[tuple[OnReply, ReplyBody]]] = {}
        for record in records:
            if record.key != self._key:
                if is_mark(record.key):
                    self._note_takeover(record)
                continue
            try:
                reply = codec.decode_as(record.value, Reply)
            except codec.DecodeError as error:
                _logger.error("event=reply_unreadable offset=%d reason=%r", record.offset, str(error))
                continue
            pending = self._pending.get(reply.request_id)
            if pending is None:
                continue  # forgotten, or answered twice
            if pending.loop is None:
                self.forget(pending)
                pending.on_reply(reply.body)
            else:
                batches.setdefault(pending.loop, []).append((pending.on_reply, reply.body))
        for loop, batch in batches.items():
            call(loop, deliver, batch)

    def _note_takeover(self, record: LogRecord) -> None:
        try:
            source = codec.decode_as(record.value, OwnerMark).source
        except codec.DecodeError:
            return
        role, _, partition = source.partition("/")
        if role == "history" and partition.isdigit():
            owned = int(partition)
            self._resend([p for p in list(self._pending.values()) if p.is_read and p.record.partition == owned])

    def _resend(self, requests: Sequence[Pending]) -> None:
        if requests:
            now_s = time.monotonic()
            for pending in requests:
                pending.sent_s = now_s
            try:
                self.producer.append([pending.record for pending in requests])
            except LogError as error:
                # Whoever waits goes on waiting: the next repetition may find the log again.
                _logger.warning("event=resend_failed address=%s reason=%r", self.address, str(error))

    def _reopen(self) -> bool:
        """A new reader after an error; false when there is nothing to read from any more.

        What was answered meanwhile is not seen, so everything is asked again.
        """
        while not self._closed.wait(_RECONNECT_DELAY_S):
            try:
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
                self._reader = self._open_reader()
            except LogClosedError:
                return False
            except LogError as error:
                _logger.warning("event=replies_unreachable address=%s reason=%r", self.address, str(error))
                continue
            self._resend(list(self._pending.values()))
            return True
        return False
