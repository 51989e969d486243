"""The way of a trigger's records: gathered or let through, one after the other where order matters, sent until settled.

Invariants: a record is settled once for each trigger, and finished only when its request is decided by the engine, its
dead letter is acknowledged, or it is passed over on purpose; no record stops more than its lane (I5); what belongs to a
partition that was given away is not sent any more. Called by :class:`perdure.kafka.RecordTriggers`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from perdure._requests import command_id_of
from perdure.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from perdure.common import to_milliseconds
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.kafka._batches import BatchLane
from perdure.kafka._definition import Skip, Trigger, longest_burst_ms
from perdure.kafka._requests import Request, request_of, send
from perdure.kafka._source import Owned
from perdure.kafka._values import RetryRecordError
from perdure.kafka.core.debouncing import Burst, Debouncer
from perdure.kafka.core.notices import Notices
from perdure.kafka.core.ordering import lane_of, together
from perdure.kafka.core.outcomes import Verdict, retry_delay_s, verdict
from perdure.service import RPCError, RPCStatusCode
from perdure_runtime.dead_letters import reason_of
from perdure_runtime.log import LogRecord
from perdure_schemas.keys import partition_of

_logger = logging.getLogger("perdure.kafka.triggers")

#: The most records of a lane whose requests are under way together.
_TOGETHER_MAX = 500
#: For so long a reason why records of a partition are tried again is not repeated in the log.
_NOTICES_MS = 10_000
#: Reasons may name the record, and all differ then.
_NOTICES_KINDS_MAX = 20


class _Waiting(NamedTuple):
    """What records wait for: one kind of warning."""

    topic: str
    partition: int
    reason: str


_OTHERS = _Waiting("*", -1, "other reasons")


class Item:
    """A record on its way through the pipelines of all triggers of its topic."""

    __slots__ = ("_complete", "_left", "_on_settled", "owned", "record")

    def __init__(
        self, owned: Owned, record: LogRecord, pipelines: int, on_settled: Callable[[Item, bool], None]
    ) -> None:
        self.owned = owned
        self.record = record
        self._left = pipelines
        self._complete = True
        self._on_settled = on_settled

    def settle(self, finished: bool = True) -> None:
        """One pipeline is through with it; not ``finished``: because the partition was given away."""
        self._complete = self._complete and finished
        self._left -= 1
        if self._left == 0:
            self._on_settled(self, self._complete)


class Shell(Protocol):
    """What a pipeline needs of the runner."""

    client: Client
    group: str

    async def partitions(self) -> int:
        """How many partitions the engine's commands have."""

    async def bury(self, item: Item, trigger: Trigger, reason: str) -> bool:
        """Write a dead letter; true when it is acknowledged, false if the partition was given away before."""

    async def reserve(self, workflow_id: str) -> bool:
        """Wait until another workflow may be in flight; false: this one is in flight already."""

    def release(self, reserved: bool, workflow_id: str, handle: WorkflowHandle[Any, Any] | None) -> None:
        """A workflow was started, and is in flight until it closes; or it was not."""

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Run a task whose failure ends the runner."""

    def count(self, what: str) -> None:
        """Count what became of a record."""


class Pipeline:
    """The pipeline of one trigger.

    Args:
        trigger: The trigger.
        shell: The runner.
    """

    def __init__(self, trigger: Trigger, shell: Shell) -> None:
        self._trigger = trigger
        self._shell = shell
        self._lanes: dict[Hashable, deque[tuple[Item, Sequence[Item]]]] = {}
        self._batches: dict[Owned, BatchLane] = {}
        self._bursts: dict[Owned, Debouncer[Item]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._notices: Notices[_Waiting] = Notices(_NOTICES_MS, _NOTICES_KINDS_MAX)
        self._notices_timer: asyncio.TimerHandle | None = None

    def accept(self, item: Item) -> None:
        """Take in a record; those of a partition in the order of their offsets."""
        trigger = self._trigger
        if trigger.batch is not None:
            lane = self._batches.get(item.owned)
            if lane is None:
                lane = self._batches[item.owned] = BatchLane(trigger, self._shell, self)
            lane.accept(item, _now_ms())
            self._arm()
        elif trigger.debounce is not None:
            bursts = self._bursts.get(item.owned)
            if bursts is None:
                quiet_ms = to_milliseconds(trigger.debounce.quiet, "quiet")
                bursts = self._bursts[item.owned] = Debouncer(quiet_ms, longest_burst_ms(trigger.debounce))
            record = item.record
            key = record.key if record.key is not None else record.offset
            self._release(bursts.add(key, item, record.timestamp_ms, _now_ms()))
            self._arm()
        else:
            self._enqueue(item, ())

    def close(self) -> None:
        """Let nothing more through that is held back."""
        for timer in (self._timer, self._notices_timer):
            if timer is not None:
                timer.cancel()

    # --- what is held back for a while ------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = min(
            (due_ms for due_ms in (held.due_ms for held in self._held()) if due_ms is not None),
            default=None,
        )
        if due_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0, due_ms - _now_ms()) / 1000, self._let_through)

    def _held(self) -> Sequence[BatchLane | Debouncer[Item]]:
        return (*self._batches.values(), *self._bursts.values())

    def _let_through(self) -> None:
        now_ms = _now_ms()
        for owned, lane in list(self._batches.items()):
            lane.let_through(now_ms)
            if not owned.active and lane.idle:
                del self._batches[owned]
        for owned, bursts in list(self._bursts.items()):
            self._release(bursts.take_due(now_ms))
            if not owned.active and bursts.due_ms is None:
                del self._bursts[owned]
        self._timer = None
        self._arm()

    def _release(self, over: Sequence[Burst[Item]]) -> None:
        for burst in over:
            self._enqueue(burst.last, burst.superseded)

    # --- lanes ------------------------------------------------------------------------------------------------------

    def _enqueue(self, item: Item, superseded: Sequence[Item]) -> None:
        record = item.record
        lane = lane_of(self._trigger.ordering, record.topic, record.partition, record.key, record.offset)
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = deque()
            self._shell.spawn(self._run_lane(lane, waiting))
        waiting.append((item, superseded))

    async def _run_lane(self, lane: Hashable, waiting: deque[tuple[Item, Sequence[Item]]]) -> None:
        try:
            while waiting:
                taken = [waiting.popleft() for _ in range(min(len(waiting), _TOGETHER_MAX))]
                targets: list[tuple[Hashable, tuple[Item, Sequence[Item], Request]]] = []
                for item, superseded in taken:
                    request = await self.prepare(item)
                    if request is None:
                        _settle(superseded, item.owned.active)
                    else:
                        targets.append((await self._place(item, request), (item, superseded, request)))
                for group in together(targets, _TOGETHER_MAX):
                    await self._send_together(group)
        finally:
            if not waiting:
                self._lanes.pop(lane, None)

    async def _place(self, item: Item, request: Request) -> Hashable:
        """Where a request goes; nothing else is on its way to the place of one that takes more than one step."""
        if self._trigger.update is not None or self._trigger.singleton == "cancel":
            return ("alone", item.record.partition, item.record.offset)
        return partition_of(request.workflow_id, await self._shell.partitions())

    async def _send_together(self, group: Sequence[tuple[Item, Sequence[Item], Request]]) -> None:
        """Send requests in order without waiting for answers, then wait for all of them."""
        connection = await self._shell.client.connection()
        tasks = []
        for item, superseded, request in group:
            if len(group) == 1:
                await self._settle_by(item, superseded, request)
                return
            task = self._shell.spawn(self._settle_by(item, superseded, request))
            tasks.append(task)
            placed = asyncio.Event()
            connection.on_sent[command_id_of(request.request_id)] = placed.set
            task.add_done_callback(lambda _, placed=placed: placed.set())  # type: ignore[misc]
            await placed.wait()
            connection.on_sent.pop(command_id_of(request.request_id), None)
        await asyncio.wait(tasks)

    async def _settle_by(self, item: Item, superseded: Sequence[Item], request: Request) -> None:
        finished = await self.send([item], request) is not None
        item.settle(finished)
        _settle(superseded, finished)

    # --- one record -------------------------------------------------------------------------------------------------

    async def prepare(self, item: Item) -> Request | None:
        """What a record asks for; ``None`` if it is settled without a request."""
        attempt = 0
        while item.owned.active:
            try:
                request = await request_of(self._trigger, self._shell.group, item.record)
            except RetryRecordError as error:
                attempt += 1
                self._say_retry(item, error, attempt)
                await asyncio.sleep(retry_delay_s(attempt))
            except Exception as error:
                item.settle(await self._shell.bury(item, self._trigger, reason_of(error)))
                return None
            else:
                if not isinstance(request, Skip):
                    return request
                self._shell.count("skipped")
                item.settle()
                return None
        item.settle(False)
        return None

    async def send(self, items: Sequence[Item], request: Request) -> bool | None:
        """Send the request of these records until it is decided: true if the engine took it, false if it did not and
        they are settled otherwise; ``None``: the partition was given away.
        """
        attempt = 0
        item = items[-1]
        item.owned.begin()
        try:
            while item.owned.active:
                error, verdict = await self._try(request)
                if error is None:
                    self._shell.count("requested")
                    return True
                if verdict is Verdict.SKIP:
                    self._shell.count("skipped")
                    return False
                if verdict is Verdict.DEAD_LETTER:
                    buried = [await self._shell.bury(each, self._trigger, _reason(error)) for each in items]
                    return False if all(buried) else None
                if verdict is Verdict.REPLACE:
                    await self._end_running(request, error)
                    continue
                attempt += 1
                self._say_retry(item, error, attempt)
                await asyncio.sleep(retry_delay_s(attempt))
            return None
        finally:
            item.owned.end()

    async def _try(self, request: Request) -> tuple[Exception | None, Verdict]:
        trigger = self._trigger
        reserved = trigger.workflow is not None and await self._shell.reserve(request.workflow_id)
        handle: WorkflowHandle[Any, Any] | None = None
        status: RPCStatusCode | None = None
        failed: Exception
        try:
            handle = await send(self._shell.client, request)
        except WorkflowAlreadyStartedError as error:
            status, failed = RPCStatusCode.ALREADY_EXISTS, error
        except RPCError as error:
            status, failed = error.status, error
        except Exception as error:
            failed = error
        else:
            return None, Verdict.SKIP
        finally:
            self._shell.release(reserved, request.workflow_id, handle)
        return failed, verdict(status, trigger.singleton, trigger.missing)

    async def _end_running(self, request: Request, error: Exception) -> None:
        """Cancel the run that has the workflow id, and wait for its end."""
        run_id = error.run_id if isinstance(error, WorkflowAlreadyStartedError) else None
        running: WorkflowHandle[Any, Any] = self._shell.client.get_workflow_handle(request.workflow_id, run_id=run_id)
        try:
            await running.cancel()
            await running.result(follow_runs=False)
        except Exception as ended:
            # However it ended: the start is tried again, and says whether it has.
            _logger.debug("workflow=%s event=replaced_workflow_ended reason=%r", request.workflow_id, str(ended))

    def _say_retry(self, item: Item, error: Exception, attempt: int) -> None:
        """Count it, and warn of it: once per partition and reason in a while, however many records wait."""
        self._shell.count("retried")
        record, reason = item.record, str(error)
        first = self._notices.take(_Waiting(record.topic, record.partition, reason), _now_ms())
        _logger.log(
            logging.WARNING if first else logging.DEBUG,
            "trigger=%s topic=%s partition=%d offset=%d attempt=%d event=record_retried reason=%r",
            self._trigger.name, record.topic, record.partition, record.offset, attempt, reason,
        )  # fmt: skip
        if self._notices_timer is None:
            self._notices_timer = asyncio.get_running_loop().call_later(_NOTICES_MS / 1000, self._say_repeated)

    def _say_repeated(self) -> None:
        """Say how often what was warned of came again, in the windows that are over."""
        now_ms = _now_ms()
        for waiting, count in self._notices.take_over(now_ms):
            topic, partition, reason = waiting or _OTHERS
            _logger.warning(
                "trigger=%s topic=%s partition=%d event=record_retries count=%d reason=%r",
                self._trigger.name, topic, partition, count, reason,
            )  # fmt: skip
        due_ms = self._notices.due_ms
        self._notices_timer = (
            None
            if due_ms is None
            else asyncio.get_running_loop().call_later(max(1, due_ms - now_ms) / 1000, self._say_repeated)
        )


def _reason(error: Exception) -> str:
    """Why a request was not taken, in one line: of an update that was rejected, what its validator said."""
    return reason_of(error.cause if isinstance(error, WorkflowUpdateFailedError) else error)


def _settle(items: Sequence[Item], finished: bool) -> None:
    for item in items:
        item.settle(finished)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
