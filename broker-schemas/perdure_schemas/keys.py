"""Record keys, and which partition a key belongs to. Pure functions: writers and readers must agree on them for ever.

Keys of compacted topics end in ``@<source partition>.<epoch>``: the writer's ownership epoch. So a record that a
deposed owner writes late can be told from a valid one by its key alone, tombstones included, and compaction never lets
it replace a valid one (I1).
"""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from typing import NamedTuple

from perdure_schemas.limits import NAME_CHARS_MAX, TASK_QUEUE_PARTITIONS_MAX

MARK_PREFIX = "~mark/"
#: What the workflow ids of schedules begin with; no workflow may have such an id.
SCHEDULE_PREFIX = "~schedule/"
#: What may stand behind the tilde in the name of a task queue.
_PART_COUNTS = frozenset(str(count) for count in range(1, TASK_QUEUE_PARTITIONS_MAX + 1))


class FencedKey(NamedTuple):
    """A parsed key of a compacted topic."""

    id: str
    source_partition: int
    epoch: int


def partition_of(key: str, partition_count: int) -> int:
    """The partition of ``key``: CRC-32 of its UTF-8 bytes, as librdkafka's ``consistent`` partitioner has it."""
    return zlib.crc32(key.encode()) % partition_count


@lru_cache(maxsize=4_096)
def queue_partitions(task_queue: str, partition_count: int) -> tuple[int, ...]:
    """The partitions in which a task queue is matched: one, or as many as its name says behind a tilde (``orders~4``).

    That it stands in the name makes it known to everybody who routes, at any time and after any takeover. Cached, since
    every task that is written or taken away asks.
    """
    home = partition_of(task_queue, partition_count)
    name, _, count = task_queue.rpartition("~")
    if not name or count not in _PART_COUNTS:
        return (home,)
    return tuple((home + number) % partition_count for number in range(min(int(count), partition_count)))


def queue_partition(task_queue: str, workflow_id: str, partition_count: int) -> int:
    """The partition for the tasks of a workflow in a task queue: always the same one."""
    partitions = queue_partitions(task_queue, partition_count)
    return partitions[0] if len(partitions) == 1 else partitions[partition_of(workflow_id, len(partitions))]


def fenced_key(record_id: str, source_partition: int, epoch: int) -> bytes:
    """The key of record ``record_id`` written by the owner of ``source_partition`` with ``epoch``."""
    return f"{record_id}@{source_partition}.{epoch}".encode()


def parse_fenced_key(key: bytes) -> FencedKey:
    """Split a key made by :func:`fenced_key`.

    Raises:
        ValueError: the key has no ``@partition.epoch`` at its end.
    """
    record_id, at, fence = key.decode().rpartition("@")
    partition, dot, epoch = fence.partition(".")
    if not at or not dot:
        raise ValueError(f"key {key!r} does not end in @<partition>.<epoch>")
    return FencedKey(record_id, int(partition), int(epoch))


def mark_key(source: str, unique: str) -> bytes:
    """The key of an owner mark. ``unique`` makes it the only record with that key, so compaction keeps every mark."""
    return f"{MARK_PREFIX}{source}/{unique}".encode()


#: On the tombstone of a task that was ended by something else than its worker, which may still be at it.
INTERRUPTED_HEADERS = (("interrupted", b"1"),)


#: On every part of a decision that emits records, so that the relay decodes no other.
EMITS_HEADERS = (("emits", b"1"),)


#: On the summary of a run that waits for records.
WAITS_HEADERS = (("waits", b"1"),)


def is_mark(key: bytes | None) -> bool:
    """Whether a record with this key is an owner mark."""
    return key is not None and key.startswith(b"~mark/")


def history_id(run_id: str, first_event_id: int) -> str:
    """The id of a history record with numbered events; fixed width, so ids of a run sort by event."""
    return f"{run_id}/{first_event_id:010d}"


def activity_attempt_id(run_id: str, scheduled_event_id: int) -> str:
    """The id of the newest unnumbered record of an activity."""
    return f"{run_id}/~activity/{scheduled_event_id}"


def workflow_task_attempt_id(run_id: str) -> str:
    """The id of the newest unnumbered record of the workflow task."""
    return f"{run_id}/~workflow-task"


def wake_up_id(run_id: str) -> str:
    """The id of a run's newest record without events: its wake-up was armed again, and nothing else happened."""
    return f"{run_id}/~wake-up"


def quarantine_id(run_id: str) -> str:
    """The id of a run's quarantine record."""
    return f"{run_id}/~quarantine"


def schedule_id(run_id: str, with_definition: bool) -> str:
    """The id of a schedule's newest record; one that says what the schedule is stays until the next such one."""
    return f"{run_id}/~schedule-definition" if with_definition else f"{run_id}/~schedule"


def deletion_id(run_id: str) -> str:
    """The id of the record that says a run is deleted."""
    return f"{run_id}/~deleted"


def workflow_task_id(run_id: str, scheduled_event_id: int, attempt: int) -> str:
    """The id of one attempt of a workflow task."""
    return f"{run_id}/w{scheduled_event_id}.{attempt}"


def activity_task_id(run_id: str, scheduled_event_id: int, attempt: int) -> str:
    """The id of one attempt of an activity."""
    return f"{run_id}/a{scheduled_event_id}.{attempt}"


def eager_event_id(task_event_id: int, task_attempt: int, number: int) -> int:
    """What names an activity that its worker begins before history has given it an event id.

    It is negative, so it is never an event's, and known to both sides: nothing that arrives meanwhile changes it.

    Parameters:
        task_event_id, task_attempt: the attempt of a workflow task whose answer schedules the activity.
        number: the place of the command in that answer, from 0.
    """
    return -((task_event_id << 32) | (task_attempt << 16) | number) - 1


def is_eager_task(task_id: str) -> bool:
    """Whether an id is that of an activity's attempt that a worker began by itself."""
    return task_id.partition("/")[2].startswith("a-")


def query_task_id(run_id: str, query_id: str) -> str:
    """The id of a query's task."""
    return f"{run_id}/q{query_id}"


def query_id_of(task_id: str) -> str:
    """The query's id in an id made by :func:`query_task_id` (run ids hold no slash)."""
    return task_id.partition("/")[2][1:]


def is_activity_task(task_id: str) -> bool:
    """Whether an id was made by :func:`activity_task_id`."""
    return task_id.partition("/")[2].startswith("a")


def timer_id(run_id: str, arm_number: int) -> str:
    """The id of a run's armed wake-up."""
    return f"{run_id}/t{arm_number}"


def next_run_id(run_id: str, closing_event_id: int) -> str:
    """The id of the run that follows a run closed by that event, in the form of a UUID (version 8, RFC 9562)."""
    return _derived_run_id(f"{run_id}/{closing_event_id}")


def schedule_workflow_id(schedule_id: str) -> str:
    """The workflow id under which a schedule lives."""
    return f"{SCHEDULE_PREFIX}{schedule_id}"


def is_schedule(workflow_id: str) -> bool:
    """Whether a workflow id was made by :func:`schedule_workflow_id`."""
    return workflow_id.startswith(SCHEDULE_PREFIX)


def scheduled_run_id(schedule_run_id: str, number: int) -> str:
    """The id of the first run that a fire of a schedule starts, in the form of a UUID."""
    return _derived_run_id(f"{schedule_run_id}/fire/{number}")


def child_run_id(parent_run_id: str, initiated_event_id: int) -> str:
    """The id of the first run of the child that a parent's event asked for, in the form of a UUID."""
    return _derived_run_id(f"{parent_run_id}/child/{initiated_event_id}")


def request_command_id(request_id: str) -> str:
    """The command id of a request that its asker has named; see :func:`is_named_request`."""
    return f"@{request_id}"


def is_named_request(command_id: str) -> bool:
    """Whether the asker gave the request its id, and so may repeat it at any time, not only while it waits."""
    return command_id.startswith("@")


def requested_run_id(workflow_id: str, request_id: str) -> str:
    """The id of the run that a start named by its asker makes, in the form of a UUID."""
    return _derived_run_id(f"{workflow_id}/request/{request_id}")


def workflow_message_id(run_id: str, event_id: int, what: str) -> str:
    """The command id of what a run sends to another workflow because of one of its events."""
    return f"{run_id}/{event_id}/{what}"


def emit_id(run_id: str, event_id: int) -> str:
    """The id of a record that a run emits."""
    return f"{run_id}/{event_id}"


def version_name(deployment_name: str, build_id: str) -> str:
    """A worker version in one string; empty for no version. Deployment names hold no dot, build ids may."""
    return f"{deployment_name}.{build_id}" if deployment_name else ""


def version_fault(deployment_name: str, build_id: str) -> str:
    """What is wrong with the name of a worker version; empty if nothing is."""
    if not deployment_name:
        return ""
    for what, name, forbidden in (("deployment name", deployment_name, "./"), ("build id", build_id, "/")):
        if not name or len(name) > NAME_CHARS_MAX:
            return f"the {what} of a worker version must have 1 to {NAME_CHARS_MAX} characters, not {len(name)}"
        if any(c in forbidden or not c.isprintable() for c in name):
            return f"the {what} {name[:80]!r} holds one of {forbidden!r} or what cannot be printed; leave it out"
    return ""


def routing_key(deployment_name: str) -> bytes:
    """The key of a deployment's routing."""
    return f"routing/{deployment_name}".encode()


def version_seen_key(version: str, task_queue: str) -> bytes:
    """The key of a version on a task queue; ``version`` as :func:`version_name` has it."""
    return f"version/{version}/{task_queue}".encode()


def parse_version_seen_key(key: bytes) -> tuple[str, str] | None:
    """The version and the task queue in a key made by :func:`version_seen_key`; ``None`` if it is none."""
    return _parse_pair("version", key)


def queue_config_key(task_queue: str, task_type: str) -> bytes:
    """The key of the settings of a task queue for tasks of one type."""
    return f"queue/{task_type}/{task_queue}".encode()


def parse_queue_config_key(key: bytes) -> tuple[str, str] | None:
    """The task queue and the type in a key made by :func:`queue_config_key`; ``None`` if it is none."""
    found = _parse_pair("queue", key)
    return None if found is None else (found[1], found[0])


def _parse_pair(kind: str, key: bytes) -> tuple[str, str] | None:
    """What stands behind the kind in a key of ``deployments``; only the second part may hold slashes."""
    named, _, rest = key.decode(errors="replace").partition("/")
    first, slash, second = rest.partition("/")
    return (first, second) if named == kind and slash else None


def _derived_run_id(source: str) -> str:
    digest = bytearray(hashlib.blake2b(source.encode(), digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
