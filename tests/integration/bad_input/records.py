"""What the tests of bad input share: writing a record as a stranger would, and reading what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_runtime.log import Log, NewRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.records import DeadLetter
from perdure_schemas.topics import TopicNames

TIMEOUT_S = 15.0


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=10))


async def check_that_workflows_complete(client: Client, task_queue: str, count: int = 4) -> None:
    """Workflows in several partitions run to their ends: nothing has stopped."""
    async with Worker(client, task_queue=task_queue, workflows=[Greeting], activities=[greet]):
        for number in range(count):
            result = await client.execute_workflow(
                Greeting.run,
                "you",
                id=f"{task_queue}-{number}",
                task_queue=task_queue,
                execution_timeout=timedelta(seconds=TIMEOUT_S),
            )
            assert result == "hello you"


@dataclass
class Stranger:
    """Somebody who writes into the platform's topics what does not belong there."""

    log: Log
    names: TopicNames

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Append a record; returns its offset."""
        producer = self.log.producer("stranger")
        try:
            ack = producer.append([NewRecord(topic, partition, key, value)])
            assert ack.wait(TIMEOUT_S)
            return ack.offsets()[TopicPartition(topic, partition)]
        finally:
            producer.close()

    def letter(self, topic: str, partition: int, offset: int) -> DeadLetter:
        """The dead letter of a record; waits for it."""
        reader = self.log.reader("letters")
        try:
            reader.assign({TopicPartition(self.names.dead_letters, partition): self.log.BEGIN})
            deadline_s = time.monotonic() + TIMEOUT_S
            while (remaining_s := deadline_s - time.monotonic()) > 0:
                for record in reader.poll(100, remaining_s):
                    letter = codec.decode_as(record.value, DeadLetter)
                    if (letter.topic, letter.partition, letter.offset) == (topic, partition, offset):
                        return letter
            raise AssertionError(f"{topic}[{partition}]@{offset} did not become a dead letter")
        finally:
            reader.close()

    def letters(self) -> list[DeadLetter]:
        """All dead letters so far."""
        found = []
        for partition in range(self.names.partitions):
            where = TopicPartition(self.names.dead_letters, partition)
            reader = self.log.reader("letters")
            reader.assign({where: self.log.BEGIN})
            _, end = self.log.watermarks(where)
            while reader.position(where) < end:
                found += [codec.decode_as(record.value, DeadLetter) for record in reader.poll(100, TIMEOUT_S)]
            reader.close()
        return found
