"""Every topic of the platform, declared once as data.

A namespace is a topic prefix: ``perdure.<namespace>.<topic>``, so prefix ACLs and quotas separate namespaces.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from perdure_schemas.limits import QUEUE_TOPIC_CHARS_MAX, TOPIC_CHARS_MAX
from perdure_schemas.limits import RECORD_BYTES_MAX as RECORD_BYTES_MAX

DEFAULT_PREFIX = "perdure"
DEFAULT_NAMESPACE = "default"
DEFAULT_PARTITIONS = 16

_HOUR_MS = 3_600_000


class Cleanup(StrEnum):
    """Kafka's cleanup policies."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic (or, for ``work``, a family of topics): who writes what for whom, and how it is kept.

    Attributes:
        name: name behind the prefix and the namespace.
        partitioned_by: what decides the partition.
        key: the format of the record key.
        cleanup: Kafka's cleanup policy.
        records: names of the record types found in it (besides tombstones).
        producers / consumers: the roles that write and read it.
        retention_ms: for ``delete``: how long records are kept; -1 without limit.
        answers_clients: on the embedded log readers see such records only when they are safe on disk.
    """

    name: str
    partitioned_by: str
    key: str
    cleanup: Cleanup
    records: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_ms: int = -1
    answers_clients: bool = False
    extra_config: dict[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """The topic's Kafka configuration."""
        config = {
            "cleanup.policy": self.cleanup.value,
            "max.message.bytes": str(RECORD_BYTES_MAX),
            "message.timestamp.type": "CreateTime",
        }
        if self.cleanup is Cleanup.DELETE:
            config["retention.ms"] = str(self.retention_ms)
        else:
            config["delete.retention.ms"] = str(24 * _HOUR_MS)
            config["min.cleanable.dirty.ratio"] = "0.3"
        return config | self.extra_config


COMMANDS = TopicSpec(
    name="commands",
    partitioned_by="workflow id",
    key="workflow id",
    cleanup=Cleanup.DELETE,
    records=("Command",),
    producers=("client", "worker", "matching", "timers", "history"),
    consumers=("history",),
    retention_ms=7 * 24 * _HOUR_MS,
)
HISTORY = TopicSpec(
    name="history",
    partitioned_by="workflow id",
    key="<run id>/<first event id> or <run id>/~<what>, @<partition>.<epoch>",
    cleanup=Cleanup.COMPACT,
    records=("HistoryRecord", "OwnerMark"),
    producers=("history",),
    consumers=("history", "anyone"),
)
TASKS = TopicSpec(
    name="tasks",
    partitioned_by="task queue; one with a count in its name has several, by workflow id",
    key="<task id>@<history partition>.<epoch>",
    cleanup=Cleanup.COMPACT,
    records=("TaskRecord", "OwnerMark"),
    producers=("history",),
    consumers=("matching",),
)
TIMERS = TopicSpec(
    name="timers",
    partitioned_by="workflow id",
    key="<timer id>@<history partition>.<epoch>",
    cleanup=Cleanup.COMPACT,
    records=("TimerRecord", "OwnerMark"),
    producers=("history",),
    consumers=("timers",),
)
WORKERS = TopicSpec(
    name="workers",
    partitioned_by="task queue; one with a count in its name has several, which all get it",
    key="worker id",
    cleanup=Cleanup.DELETE,
    records=("WorkerHeartbeat", "WorkerStopped"),
    producers=("worker",),
    consumers=("matching",),
    retention_ms=_HOUR_MS,
)
REPLIES = TopicSpec(
    name="replies",
    partitioned_by="asking client",
    key="client id",
    cleanup=Cleanup.DELETE,
    records=("Reply", "OwnerMark"),
    producers=("history", "read side"),
    consumers=("client", "worker"),
    retention_ms=_HOUR_MS,
    answers_clients=True,
)
EXECUTIONS = TopicSpec(
    name="executions",
    partitioned_by="workflow id",
    key="<run id>@<history partition>.<epoch>",
    cleanup=Cleanup.COMPACT,
    records=("ExecutionSummary", "OwnerMark"),
    producers=("history",),
    consumers=("read side", "anyone"),
    answers_clients=True,
)
DEPLOYMENTS = TopicSpec(
    name="deployments",
    partitioned_by="task queue; a deployment's routing stands in every partition",
    key="routing/<deployment>, version/<deployment>.<build id>/<task queue>, queue/<type>/<task queue>",
    cleanup=Cleanup.COMPACT,
    records=("DeploymentRouting", "DeploymentVersionSeen", "TaskQueueConfig", "OwnerMark"),
    producers=("matching", "operator"),
    consumers=("matching", "operator"),
)
DEAD_LETTERS = TopicSpec(
    name="dead-letters",
    partitioned_by="partition of the original record",
    key="<topic>/<partition>/<offset>",
    cleanup=Cleanup.DELETE,
    records=("DeadLetter",),
    producers=("history", "matching", "timers"),
    consumers=("operator",),
)
READS = TopicSpec(
    name="reads",
    partitioned_by="asking client",
    key="client id",
    cleanup=Cleanup.DELETE,
    records=("ReadRequest",),
    producers=("client",),
    consumers=("read side",),
    retention_ms=_HOUR_MS,
)
#: The family ``work.<task queue>``: one topic for each task queue, made when its first worker starts.
WORK = TopicSpec(
    name="work",
    partitioned_by="worker inbox",
    key="worker id",
    cleanup=Cleanup.DELETE,
    records=("Dispatch",),
    producers=("matching",),
    consumers=("worker",),
    retention_ms=_HOUR_MS,
)

#: The topics that exist once per namespace, in the order in which they are created.
TOPICS: tuple[TopicSpec, ...] = (
    COMMANDS,
    HISTORY,
    TASKS,
    TIMERS,
    WORKERS,
    REPLIES,
    EXECUTIONS,
    DEPLOYMENTS,
    DEAD_LETTERS,
    READS,
)


#: Headers of the platform's on records in topics of the user's begin so.
RESERVED_HEADER_PREFIX = "perdure-"
WORKFLOW_ID_HEADER = "perdure-workflow-id"
RUN_ID_HEADER = "perdure-run-id"
EMIT_ID_HEADER = "perdure-emit-id"
#: On records of the platform's that are framed as a schema registry has it: the fingerprint of the writer's schema.
SCHEMA_HEADER = "perdure-schema"
_LEGAL_TOPIC = re.compile(r"[A-Za-z0-9._-]+")


def user_topic_fault(name: str) -> str:
    """What is wrong with the name of a topic of the user's, as a workflow gives it; empty if nothing is."""
    if not _LEGAL_TOPIC.fullmatch(name) or len(name) > TOPIC_CHARS_MAX or name in (".", ".."):
        return f"{name[:TOPIC_CHARS_MAX]!r} is no topic name: it has 1 to {TOPIC_CHARS_MAX} of a-z A-Z 0-9 . _ -"
    if name.startswith(f"{DEFAULT_PREFIX}."):
        return f"{name!r} is a topic of the platform: topics that begin with '{DEFAULT_PREFIX}.' are not for workflows"
    return ""


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Full topic names of one namespace, and the partition count of all of them, so that they are co-partitioned."""

    namespace: str = DEFAULT_NAMESPACE
    prefix: str = DEFAULT_PREFIX
    partitions: int = DEFAULT_PARTITIONS

    def of(self, spec: TopicSpec) -> str:
        """The full name of a topic."""
        return f"{self.prefix}.{self.namespace}.{spec.name}"

    def work(self, task_queue: str) -> str:
        """The full name of a task queue's inbox topic.

        Task queues may have any name; what Kafka does not allow in a topic is replaced, and a checksum of the real name
        keeps two such queues apart.
        """
        legal = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in task_queue)
        if legal != task_queue or len(legal) > QUEUE_TOPIC_CHARS_MAX:
            legal = f"{legal[:QUEUE_TOPIC_CHARS_MAX]}-{zlib.crc32(task_queue.encode()):08x}"
        return f"{self.of(WORK)}.{legal}"

    @property
    def commands(self) -> str:
        return self.of(COMMANDS)

    @property
    def history(self) -> str:
        return self.of(HISTORY)

    @property
    def tasks(self) -> str:
        return self.of(TASKS)

    @property
    def timers(self) -> str:
        return self.of(TIMERS)

    @property
    def workers(self) -> str:
        return self.of(WORKERS)

    @property
    def replies(self) -> str:
        return self.of(REPLIES)

    @property
    def executions(self) -> str:
        return self.of(EXECUTIONS)

    @property
    def deployments(self) -> str:
        return self.of(DEPLOYMENTS)

    @property
    def reads(self) -> str:
        return self.of(READS)

    @property
    def dead_letters(self) -> str:
        return self.of(DEAD_LETTERS)
