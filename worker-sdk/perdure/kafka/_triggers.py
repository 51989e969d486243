"""``RecordTriggers``: consumes topics in a group of its own, and sends the requests that their records make.

Invariant: an offset is committed only after every trigger of its topic is through with the record, so a crash at any
moment delivers again what may be undone, and the record's identity makes it one request all the same (I3). Used like a
worker: ``async with RecordTriggers(client, triggers=[…], group="orders-service")``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal

from perdure._connection import Connection
from perdure._limits import check_name
from perdure._producer import SteadyProducer
from perdure.client import Client, WorkflowHandle
from perdure.kafka._definition import Trigger
from perdure.kafka._letters import ensure_letters_topic, letter_of, letters_topic
from perdure.kafka._pipeline import Item, Pipeline
from perdure.kafka._source import Delivery, Owned, Source
from perdure.kafka.core.outcomes import retry_delay_s
from perdure_runtime import connect
from perdure_runtime.log import Ack, Log, LogError, NewRecord, Producer
from perdure_runtime.remote import RemoteLog

_logger = logging.getLogger("perdure.kafka.triggers")

_RECORDS_IN_FLIGHT = 1_000


class RecordTriggers:
    """See the module.

    Args:
        client: Sends the requests.
        triggers: What :func:`perdure.kafka.on_record` has made; their names differ.
        group: The consumer group. It is part of what tells records apart: two groups on a topic each get all records,
            and a group that is renamed begins anew.
        records: Where the topics are, as an address (``kafka://…``); the client's own log if not given.
        start_at: Where a group begins that has committed nothing: ``"earliest"`` or ``"latest"``.
        records_in_flight_max: So many records may be under way; then reading stops until half of them are done.
        workflows_in_flight_max: So many workflows that these triggers have started may be open; then records wait.
            Counted from the start of this process on. Without a limit if not given.
        instance: Names this member across restarts, so that a restart moves no partitions (static membership).
        graceful_shutdown_timeout: How long requests may take that are under way at a shutdown.

    Raises:
        ValueError: there is no trigger, two have the same name, or a bound makes no sense.
    """

    def __init__(
        self,
        client: Client,
        *,
        triggers: Sequence[Trigger],
        group: str,
        records: str | Log | None = None,
        start_at: Literal["earliest", "latest"] = "earliest",
        records_in_flight_max: int = _RECORDS_IN_FLIGHT,
        workflows_in_flight_max: int | None = None,
        instance: str = "",
        graceful_shutdown_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        _check(triggers, group, start_at, records_in_flight_max, workflows_in_flight_max)
        self.client = client
        self.group = group
        self._records = records
        self._from_start = start_at == "earliest"
        self._in_flight_max = records_in_flight_max
        self._instance = instance
        self._grace_s = graceful_shutdown_timeout.total_seconds()
        self._slots = None if workflows_in_flight_max is None else asyncio.Semaphore(workflows_in_flight_max)
        self._open_workflows: set[str] = set()
        self._by_topic: dict[str, list[Pipeline]] = {}
        self._pipelines = [Pipeline(trigger, self) for trigger in triggers]
        for trigger, pipeline in zip(triggers, self._pipelines, strict=True):
            for topic in trigger.topics:
                self._by_topic.setdefault(topic, []).append(pipeline)
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._held = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._source: Source | None = None
        self._log: Log | None = None
        self._owns_log = False
        self._producer: Producer | None = None
        self._letter_partitions: dict[str, int] = {}
        self._connection: Connection | None = None
        self._stop_requested = asyncio.Event()
        self._finished = asyncio.Event()
        self._failure: BaseException | None = None
        self._body: asyncio.Task[Any] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until :meth:`shutdown` is called. Cancelling this shuts down, too.

        Raises:
            RuntimeError: it was started before. RPCError, LogError: the log cannot be reached, has no such topic, or
            refused this member.
        """
        await self._start()
        try:
            await self._stop_requested.wait()
        finally:
            await self._stop()
        self._raise_failure()

    async def shutdown(self) -> None:
        """Stop reading, let what is under way finish, commit, leave the group, and return."""
        self._stop_requested.set()
        if self._source is not None:
            await self._finished.wait()

    async def __aenter__(self) -> RecordTriggers:
        """Start, and run in the background. An error that ends it cancels the body."""
        await self._start()
        self._body = asyncio.current_task()
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down, and wait for it.

        Raises:
            BaseException: the error that had ended it.
        """
        self._stop_requested.set()
        assert self._supervisor is not None
        await self._supervisor
        self._raise_failure()

    async def _supervise(self) -> None:
        await self._stop_requested.wait()
        if self._failure is not None and self._body is not None:
            self._body.cancel()
        await self._stop()

    async def _start(self) -> None:
        if self._source is not None:
            raise RuntimeError("RecordTriggers can be started once; make another one")
        self._connection = await self.client.connection()
        if self._records is None:
            self._log = self._connection.log
        elif isinstance(self._records, str):
            self._log = await asyncio.to_thread(connect.open_log, self._records)
            self._owns_log = True
        else:
            self._log = self._records
        if isinstance(self._log, RemoteLog):
            raise LogError(
                "a dev server's log takes no consumer groups from outside: name a Kafka cluster with records='kafka://…',"
                " or use KafkaEnvironment of perdure.testing.kafka in tests"
            )
        topics = list(self._by_topic)
        missing = sorted(set(topics) - set(await asyncio.to_thread(self._log.describe_topics, topics)))
        if missing:
            raise LogError(f"there is no topic {', '.join(missing)}: create it before its records trigger workflows")
        self._source = Source(
            self._log,
            self.group,
            topics,
            instance=self._instance,
            from_start=self._from_start,
            loop=asyncio.get_running_loop(),
            on_records=self._take,
            on_failure=self._fail,
        )
        self._source.start()

    async def _stop(self) -> None:
        assert self._source is not None
        try:
            self._source.hold(True)
            for pipeline in self._pipelines:
                pipeline.close()
            waiting = [task for task in self._tasks if not task.done()]
            if waiting and self._failure is None:
                await asyncio.wait(waiting, timeout=self._grace_s)
            for task in (*self._tasks, *self._watching):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._watching, return_exceptions=True)
            await self._source.stop()
            if self._producer is not None:
                await asyncio.to_thread(self._producer.close)
            if self._owns_log and self._log is not None:
                await asyncio.to_thread(self._log.close)
        finally:
            self._finished.set()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stop_requested.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # --- while it runs ----------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of records since the start: ``requested``, ``skipped``, ``dead_lettered``, ``retried``."""
        return dict(self._counts)

    @property
    def records_in_flight(self) -> int:
        """How many records were read and are not settled."""
        return self._in_flight

    @property
    def assignment(self) -> list[tuple[str, int]]:
        """The partitions that the group has given to this member now."""
        return [] if self._source is None else [(topic, partition) for topic, partition in self._source.partitions()]

    async def pause(self, *topics: str) -> None:
        """Read these topics no more (all if none is given); what was read goes on, and so does the membership.

        Returns when nothing more is read.

        Raises:
            ValueError: no trigger is for such a topic. RuntimeError: it is not running.
        """
        await self._running().pause(self._chosen(topics), True)

    async def resume(self, *topics: str) -> None:
        """Go on reading; the arguments are those of :meth:`pause`."""
        await self._running().pause(self._chosen(topics), False)

    def _running(self) -> Source:
        if self._source is None or self._stop_requested.is_set():
            raise RuntimeError("these RecordTriggers are not running")
        return self._source

    def _chosen(self, topics: Sequence[str]) -> Sequence[str]:
        unknown = sorted(set(topics) - set(self._by_topic))
        if unknown:
            raise ValueError(f"no trigger is for {', '.join(unknown)}; there are {', '.join(sorted(self._by_topic))}")
        return topics or list(self._by_topic)

    def _take(self, delivery: Delivery) -> None:
        """Records came; called on the loop."""
        if self._stop_requested.is_set():
            return
        for owned, record in delivery:
            if not owned.active:
                continue
            pipelines = self._by_topic[record.topic]
            owned.progress.take(record.offset)
            self._in_flight += 1
            item = Item(owned, record, len(pipelines), self._settled)
            for pipeline in pipelines:
                pipeline.accept(item)
        if self._in_flight >= self._in_flight_max and not self._held:
            self._held = True
            self._running().hold(True)

    def _settled(self, item: Item, finished: bool) -> None:
        self._in_flight -= 1
        source = self._source
        assert source is not None
        owned: Owned = item.owned
        if finished and owned.progress.finish(item.record.offset):
            source.commit_soon(owned)
        if self._held and self._in_flight <= self._in_flight_max // 2 and not self._stop_requested.is_set():
            self._held = False
            source.hold(False)

    # --- for the pipelines ------------------------------------------------------------------------------------------

    async def partitions(self) -> int:
        """How many partitions the engine's commands have."""
        assert self._connection is not None
        return self._connection.names.partitions

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task whose failure ends everything."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("group=%s event=triggers_failed", self.group, exc_info=task.exception())
            self._fail(task.exception() or RuntimeError("unreachable"))

    def count(self, what: str) -> None:
        """Count what became of a record."""
        self._counts[what] += 1

    async def reserve(self, workflow_id: str) -> bool:
        """Wait until another workflow may be in flight; false: there is no limit, or this one is in flight."""
        if self._slots is None or workflow_id in self._open_workflows:
            return False
        await self._slots.acquire()
        return True

    def release(self, reserved: bool, workflow_id: str, handle: WorkflowHandle[Any, Any] | None) -> None:
        """A workflow was started, and is in flight until it closes; or it was not started."""
        if not reserved or self._slots is None:
            return
        if handle is None or workflow_id in self._open_workflows:
            self._slots.release()
            return
        self._open_workflows.add(workflow_id)
        watching = asyncio.get_running_loop().create_task(self._watch(workflow_id, handle))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _watch(self, workflow_id: str, handle: WorkflowHandle[Any, Any]) -> None:
        assert self._slots is not None
        try:
            await handle.result()
        except Exception as error:
            # However it ended: it is not in flight any more.
            _logger.debug("workflow=%s event=workflow_ended reason=%r", workflow_id, str(error))
        finally:
            self._open_workflows.discard(workflow_id)
            self._slots.release()

    async def bury(self, item: Item, trigger: Trigger, reason: str) -> bool:
        """Write a dead letter, until the log has it; false if the partition was given away before."""
        record = item.record
        _logger.warning(
            "trigger=%s topic=%s partition=%d offset=%d event=dead_letter reason=%r",
            trigger.name, record.topic, record.partition, record.offset, reason,
        )  # fmt: skip
        attempt = 0
        while item.owned.active:
            try:
                partitions = await self._letters_partitions(record.topic)
                letter = letter_of(record, self.group, trigger.name, reason, record.partition % partitions)
                await self._append(letter)
            except LogError as error:
                attempt += 1
                _logger.warning("topic=%s event=dead_letter_refused reason=%r", letters_topic(record.topic), str(error))
                await asyncio.sleep(retry_delay_s(attempt))
            else:
                self.count("dead_lettered")
                return True
        return False

    async def _letters_partitions(self, topic: str) -> int:
        if topic not in self._letter_partitions:
            assert self._log is not None
            self._letter_partitions[topic] = await asyncio.to_thread(ensure_letters_topic, self._log, topic)
        return self._letter_partitions[topic]

    async def _append(self, record: NewRecord) -> None:
        assert self._log is not None
        if self._producer is None:
            self._producer = SteadyProducer(self._log, f"letters-{self.group}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def decided(ack: Ack) -> None:
            loop.call_soon_threadsafe(_resolve, answer, ack.error())

        self._producer.append([record]).on_done(decided)
        await answer


def _resolve(answer: asyncio.Future[None], error: LogError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)


def _check(
    triggers: Sequence[Trigger], group: str, start_at: str, records_in_flight_max: int, workflows_max: int | None
) -> None:
    if not triggers:
        raise ValueError("RecordTriggers needs a trigger: what a function decorated with @on_record(…) has become")
    for trigger in triggers:
        if not isinstance(trigger, Trigger):
            raise TypeError(f"{trigger!r} is no trigger: decorate the function with @on_record(…)")
        if trigger.batch is not None and trigger.batch.count > records_in_flight_max:
            raise ValueError(
                f"trigger {trigger.name} gathers {trigger.batch.count} records, but only {records_in_flight_max} may be"
                " in flight; raise records_in_flight_max"
            )
    names = Counter(trigger.name for trigger in triggers)
    doubled = sorted(name for name, count in names.items() if count > 1)
    if doubled:
        raise ValueError(f"several triggers are named {', '.join(doubled)}; give them names with on_record(name=…)")
    check_name(group, "consumer group")
    if start_at not in ("earliest", "latest"):
        raise ValueError(f"start_at is {start_at!r}; give 'earliest' or 'latest'")
    if records_in_flight_max < 1 or (workflows_max is not None and workflows_max < 1):
        raise ValueError("records_in_flight_max and workflows_in_flight_max must be 1 at least")
