"""Worker deployments as operators see and change them: the topic ``deployments``, read and written.

Invariants: a change is appended to the deployment's own partition first, and its offset there is the revision of the
copies for all other partitions; so two operators who change one deployment at the same time end with the same routing
everywhere, and the one whose change was replaced is told. How drained a version is, is counted from the runs themselves
when somebody asks. Called by :mod:`perdure_ops.commands_deployment`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure_ops.errors import CliError
from perdure_runtime.log import Ack, Log, LogRecord, NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    DeploymentRouting,
    DeploymentVersionSeen,
)
from perdure_schemas.topics import TopicNames

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = [
    "Deployment",
    "Deployments",
    "VersionStatus",
    "delete_version",
    "fold",
    "open_pinned_runs",
    "read_deployments",
    "with_current",
    "with_ramping",
    "write_routing",
]

_TIMEOUT_S = 30.0
_RECORDS_PER_POLL_MAX = 1_000
_POLL_S = 0.5


class VersionStatus(StrEnum):
    """What a version is for."""

    #: It was never current or ramping.
    INACTIVE = "INACTIVE"
    CURRENT = "CURRENT"
    RAMPING = "RAMPING"
    #: It gets no new runs, and open ones are pinned to it.
    DRAINING = "DRAINING"
    #: No open run is pinned to it any more.
    DRAINED = "DRAINED"


@dataclass
class Deployment:
    """One deployment. ``versions``: build ids, each with the task queues its workers serve."""

    name: str
    routing: DeploymentRouting | None = None
    #: Partitions whose copy of the routing is older.
    behind: list[int] = field(default_factory=list)
    versions: dict[str, set[str]] = field(default_factory=dict)

    def status(self, build_id: str, open_runs: Mapping[str, int]) -> VersionStatus:
        """The status of a version; ``open_runs`` as :func:`open_pinned_runs` has them."""
        routing = self.routing
        if routing is None:
            return VersionStatus.INACTIVE
        if routing.current_build_id == build_id:
            return VersionStatus.CURRENT
        if routing.ramping_build_id == build_id:
            return VersionStatus.RAMPING
        if open_runs.get(keys.version_name(self.name, build_id)):
            return VersionStatus.DRAINING
        return VersionStatus.DRAINED if build_id in routing.retired_ms else VersionStatus.INACTIVE


Deployments = dict[str, Deployment]


def fold(records: Iterable[LogRecord], partitions: int) -> Deployments:
    """The deployments, from the records of all partitions. What cannot be read is passed over."""
    seen: dict[tuple[str, str], DeploymentVersionSeen] = {}
    revisions: dict[str, dict[int, tuple[int, DeploymentRouting]]] = {}
    for record in records:
        if record.key is None or keys.is_mark(record.key):
            continue
        named = keys.parse_version_seen_key(record.key)
        if record.value is None:
            if named is not None:
                seen.pop(named, None)
            continue
        try:
            value = codec.decode(record.value)
        except codec.DecodeError:
            continue
        if isinstance(value, DeploymentVersionSeen) and named is not None:
            seen[named] = value
        elif isinstance(value, DeploymentRouting):
            revision = record.offset if value.revision < 0 else value.revision
            known = revisions.setdefault(value.deployment_name, {})
            if record.partition not in known or known[record.partition][0] < revision:
                known[record.partition] = (revision, value)
    found: Deployments = {}
    for value in seen.values():
        deployment = found.setdefault(value.deployment_name, Deployment(value.deployment_name))
        deployment.versions.setdefault(value.build_id, set()).add(value.task_queue)
    for name, copies in revisions.items():
        deployment = found.setdefault(name, Deployment(name))
        newest, routing = max(copies.values(), key=lambda copy: copy[0])
        deployment.routing = replace(routing, revision=newest)
        deployment.behind = [number for number in range(partitions) if copies.get(number, (-1,))[0] < newest]
    return dict(sorted(found.items()))


def read_deployments(log: Log, names: TopicNames) -> Deployments:
    """The deployments as of now. Blocks.

    Raises:
        LogError: the log cannot be reached. CliError: it takes too long.
    """
    targets = [TopicPartition(names.deployments, number) for number in range(names.partitions)]
    ends = {target: log.watermarks(target)[1] for target in targets}
    reader = log.reader("deployments")
    records: list[LogRecord] = []
    try:
        reader.assign(dict.fromkeys(targets, log.BEGIN))
        deadline_s = time.monotonic() + _TIMEOUT_S
        unread = {target for target, end in ends.items() if end > 0}
        while unread := {target for target in unread if reader.position(target) < ends[target]}:
            if time.monotonic() > deadline_s:
                raise CliError(f"reading {names.deployments} took longer than {_TIMEOUT_S:g} s; try again")
            records += reader.poll(_RECORDS_PER_POLL_MAX, _POLL_S)
    finally:
        reader.close()
    return fold(records, names.partitions)


async def open_pinned_runs(client: Client) -> dict[str, int]:
    """How many open runs are pinned to each version."""
    query = "ExecutionStatus = 'Running' AND VersioningBehavior = 'Pinned' GROUP BY WorkerDeploymentVersion"
    counted = await client.count_workflows(query)
    return {group.group_values[0]: group.count for group in counted.groups}


# --- changes --------------------------------------------------------------------------------------------------------


def with_current(deployment: Deployment, build_id: str, *, any_queues: bool, now_ms: int) -> DeploymentRouting:
    """The routing with another current version; empty: workers without a version.

    Args:
        any_queues: also if the version does not serve all task queues of the one before.
        now_ms: the time of the change.

    Raises:
        CliError: the version is unknown, or does not serve them.
    """
    before = deployment.routing or DeploymentRouting(deployment_name=deployment.name, time_ms=now_ms)
    _require_version(deployment, build_id)
    if not any_queues:
        _require_queues(deployment, before.current_build_id, build_id)
    ramping = before.ramping_build_id
    changed = replace(before, current_build_id=build_id)
    if ramping is not None and ramping == build_id:
        changed = replace(changed, ramping_build_id=None, ramping_percentage=0.0)
    return _changed(before, changed, now_ms)


def with_ramping(
    deployment: Deployment, build_id: str | None, percentage: float, *, any_queues: bool, now_ms: int
) -> DeploymentRouting:
    """The routing with another ramping version; ``None``: with none, empty: workers without a version.

    Args:
        percentage: How many of 100 workflows go to it, 0 to 100.
        any_queues: as for :func:`with_current`.
        now_ms: the time of the change.

    Raises:
        CliError: the version is unknown or current, or does not serve the task queues of the current one; or the
            percentage makes no sense.
    """
    before = deployment.routing or DeploymentRouting(deployment_name=deployment.name, time_ms=now_ms)
    if build_id is None:
        return _changed(before, replace(before, ramping_build_id=None, ramping_percentage=0.0), now_ms)
    if not 0 <= percentage <= 100:
        raise CliError(f"the percentage is {percentage:g}; it must be 0 to 100")
    _require_version(deployment, build_id)
    if build_id == before.current_build_id:
        what = f"build id {build_id!r}" if build_id else "'no version'"
        raise CliError(f"{what} is current in deployment {deployment.name!r}; only another one can be ramping")
    if not any_queues:
        _require_queues(deployment, before.current_build_id, build_id)
    return _changed(before, replace(before, ramping_build_id=build_id, ramping_percentage=float(percentage)), now_ms)


def _changed(before: DeploymentRouting, after: DeploymentRouting, now_ms: int) -> DeploymentRouting:
    was = {build_id for build_id in (before.current_build_id, before.ramping_build_id) if build_id}
    is_active = {after.current_build_id, after.ramping_build_id}
    retired = {build_id: at for build_id, at in before.retired_ms.items() if build_id not in is_active}
    retired.update(dict.fromkeys(sorted(was - is_active), now_ms))
    return replace(after, revision=-1, time_ms=now_ms, retired_ms=retired)


def _require_version(deployment: Deployment, build_id: str) -> None:
    if build_id and build_id not in deployment.versions:
        known = ", ".join(sorted(deployment.versions)) or "none"
        raise CliError(
            f"deployment {deployment.name!r} has no version with build id {build_id!r}; it has: {known}. A version is "
            "there once a worker of it has started"
        )


def _require_queues(deployment: Deployment, before: str, build_id: str) -> None:
    if not before or not build_id:
        return
    missing = deployment.versions.get(before, set()) - deployment.versions[build_id]
    if missing:
        raise CliError(
            f"no worker of build id {build_id!r} has served {', '.join(sorted(missing))} yet, which the current "
            f"version {before!r} serves: start one, or use --ignore-missing-task-queues"
        )


def write_routing(log: Log, names: TopicNames, routing: DeploymentRouting) -> None:
    """Make a routing that of its deployment, in every partition. Blocks.

    Raises:
        LogError: the log did not take it. CliError: somebody else changed it at the same time.
    """
    home = TopicPartition(names.deployments, keys.partition_of(routing.deployment_name, names.partitions))
    key = keys.routing_key(routing.deployment_name)
    producer = log.producer("deployments")
    try:
        ack = producer.append([NewRecord(home.topic, home.partition, key, codec.encode(routing))])
        _wait(ack, names)
        revision = ack.offsets()[home]
        copy = codec.encode(replace(routing, revision=revision))
        others = [number for number in range(names.partitions) if number != home.partition]
        if others:
            _wait(producer.append([NewRecord(home.topic, number, key, copy) for number in others]), names)
    finally:
        producer.close()
    now = read_deployments(log, names)[routing.deployment_name]
    assert now.routing is not None
    if now.routing.revision != revision:
        raise CliError(
            f"deployment {routing.deployment_name!r} was changed by {now.routing.identity or 'somebody'} at the same "
            "time, and that change counts: look at it, and try again"
        )


def delete_version(log: Log, names: TopicNames, deployment: Deployment, build_id: str) -> None:
    """Forget a version. A worker of it that lives makes it known again. Blocks.

    Raises:
        LogError: the log did not take it.
    """
    version = keys.version_name(deployment.name, build_id)
    producer = log.producer("deployments")
    try:
        tombstones = [
            NewRecord(names.deployments, partition, keys.version_seen_key(version, queue), None)
            for queue in sorted(deployment.versions[build_id])
            for partition in keys.queue_partitions(queue, names.partitions)
        ]
        _wait(producer.append(tombstones), names)
    finally:
        producer.close()


def _wait(ack: Ack, names: TopicNames) -> None:
    if not ack.wait(_TIMEOUT_S):
        raise CliError(f"writing {names.deployments} took longer than {_TIMEOUT_S:g} s; run the command again")
    error = ack.error()
    if error is not None:
        raise error
