"""An engine played by the test: it reads what the SDK sends and answers as told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import mark_key, partition_of
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    Command,
    Dispatch,
    DispatchBody,
    OwnerMark,
    Record,
    Reply,
    ReplyBody,
    RunTask,
    WorkerHeartbeat,
)
from perdure_schemas.topics import TopicNames

PARTITIONS = 2
TIMEOUT_S = 10.0


class FakeEngine:
    """The engine's side of the topics, on an embedded log in memory."""

    def __init__(self) -> None:
        self.log = EmbeddedLog(None)
        self.names = TopicNames(partitions=PARTITIONS)
        create_platform_topics(self.log, self.names)
        self.producer = self.log.producer("fake-engine")
        self._readers = {topic: self._reader(topic) for topic in (self.names.commands, self.names.workers)}
        self._ready: dict[str, list[Record]] = {topic: [] for topic in self._readers}
        self._dispatch_numbers = itertools.count(1)

    def _reader(self, topic: str) -> Any:
        reader = self.log.reader(f"fake-{topic}")
        reader.assign({TopicPartition(topic, number): self.log.BEGIN for number in range(PARTITIONS)})
        return reader

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self.producer.close()
        self.log.close()

    # --- what the SDK sent ----------------------------------------------------------------------------------------

    def _next(self, topic: str, timeout_s: float) -> Record:
        ready = self._ready[topic]
        deadline_s = time.monotonic() + timeout_s
        while not ready:
            remaining_s = deadline_s - time.monotonic()
            assert remaining_s > 0, f"nothing came on {topic}"
            ready.extend(codec.decode(record.value) for record in self._readers[topic].poll(100, remaining_s))
        return ready.pop(0)

    async def command(self, timeout_s: float = TIMEOUT_S) -> Command:
        """The next command any client or worker sent."""
        found = await asyncio.to_thread(self._next, self.names.commands, timeout_s)
        assert isinstance(found, Command)
        return found

    async def no_command(self) -> None:
        """Nothing is waiting in the commands topic now."""
        assert not self._ready[self.names.commands]
        assert not self._readers[self.names.commands].poll(100, 0)

    async def worker_message(self, timeout_s: float = TIMEOUT_S) -> Record:
        """The next message of a worker to matching."""
        return await asyncio.to_thread(self._next, self.names.workers, timeout_s)

    async def heartbeat(self) -> WorkerHeartbeat:
        """The next heartbeat of a worker."""
        found = await self.worker_message()
        assert isinstance(found, WorkerHeartbeat)
        return found

    # --- what the engine says -------------------------------------------------------------------------------------

    def append(self, topic: str, partition: int, key: bytes, value: Record | None) -> None:
        data = None if value is None else codec.encode(value)
        assert self.producer.append([NewRecord(topic, partition, key, data)]).wait(TIMEOUT_S)

    def reply(self, command: Command, body: ReplyBody) -> None:
        """Answer a command."""
        to = command.reply
        assert to is not None
        reply = Reply(client_id=to.client_id, request_id=to.request_id, workflow_id=command.workflow_id, body=body)
        self.append(self.names.replies, to.partition, to.client_id.encode(), reply)

    def take_over(self, history_partition: int) -> None:
        """Write the marks of a new owner of a history partition."""
        source = f"history/{history_partition}"
        mark = OwnerMark(source=source, epoch=99, owner="new", time_ms=0)
        for partition in range(PARTITIONS):
            self.append(self.names.replies, partition, mark_key(source, "99"), mark)

    def dispatch(self, worker: WorkerHeartbeat, body: DispatchBody, *, epoch: int = 1) -> None:
        """Send a message of matching to a worker's inbox."""
        message = Dispatch(
            worker_id=worker.worker_id,
            source_partition=partition_of(worker.task_queue, PARTITIONS),
            epoch=epoch,
            dispatch_number=next(self._dispatch_numbers),
            time_ms=0,
            body=body,
        )
        topic = self.names.work(worker.task_queue)
        self.append(topic, worker.inbox_partition, worker.worker_id.encode(), message)


def run_task(task: Record, *, task_id: str = "t1", kind: str = "activity") -> RunTask:
    """A dispatched task."""
    return RunTask(task_id=task_id, kind=kind, workflow_id="w", run_id="r", task=codec.encode(task))


def activity_task(
    name: str, *payloads: Any, attempt: int = 1, options: Mapping[str, Any] | None = None, **fields: Any
) -> ActivityTask:
    """An activity task as history makes it."""
    return ActivityTask(
        workflow_type="W",
        scheduled_event_id=5,
        attempt=attempt,
        options=ActivityOptions(
            activity_id="1", activity_type=name, task_queue="q", input=list(payloads), **dict(options or {})
        ),
        scheduled_time_ms=1000,
        attempt_scheduled_time_ms=2000,
        **fields,
    )
