"""A running system that workloads are measured on, and what is left behind in its log.

Made by :mod:`bench.targets`, used by every workload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.usage import Processes, disk_bytes
from perdure.client import Client
from perdure_runtime.log import Log, TopicPartition
from perdure_schemas.topics import TOPICS, TopicNames

TASK_QUEUE = "bench"


@dataclass(frozen=True)
class Stage:
    """A running system.

    Attributes:
        target: the target's name.
        client: connected to it; a worker for :data:`TASK_QUEUE` runs.
        log: its log, for looking at topics.
        names: its topics.
        processes: what it consists of; this process is one of them where it runs the client.
        folders: where it keeps what is on disk.
        state_folder: the part of it that may be deleted, and is folded from the log then.
        start_s: how long the engine took from its start until it was ready.
    """

    target: str
    client: Client
    log: Log
    names: TopicNames
    processes: Processes
    folders: Sequence[Path]
    state_folder: Path
    start_s: float

    def records_written(self) -> int:
        """How many records were written to all topics of the namespace so far."""
        topics = [self.names.of(spec) for spec in TOPICS] + [self.names.work(TASK_QUEUE)]
        existing = self.log.describe_topics(topics)
        return sum(
            self.log.watermarks(TopicPartition(topic, partition))[1]
            for topic, found in existing.items()
            for partition in range(found.partitions)
        )

    def disk_bytes(self) -> int:
        """Bytes on disk: the log and the state folders; 0 for a cluster whose disks are elsewhere."""
        return disk_bytes(self.folders)
