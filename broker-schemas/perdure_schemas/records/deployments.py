"""The ``deployments`` topic: which versions of workers there are, which of them gets new work, and how it flows.

A deployment's routing stands in every partition, because each matching partition needs it. The copy in the deployment's
own partition comes first: its offset is the revision of all the others, so of two changes the same one wins everywhere.
The settings of a task queue stand in the partition of that queue alone.
"""

from __future__ import annotations

from perdure_schemas.records.common import Record

__all__ = ["DeploymentRouting", "DeploymentVersionSeen", "FairnessKeyConfig", "TaskQueueConfig"]


class DeploymentRouting(Record, frozen=True, kw_only=True):
    """Where tasks go that belong to no version. A build id that is empty means workers without a version."""

    deployment_name: str
    #: -1: this is the first copy, and its offset is the revision.
    revision: int = -1
    current_build_id: str = ""
    #: ``None``: nothing is ramping.
    ramping_build_id: str | None = None
    #: 0 to 100.
    ramping_percentage: float = 0.0
    time_ms: int
    identity: str = ""
    #: When each version that was current or ramping ceased to be.
    retired_ms: dict[str, int] = {}


class DeploymentVersionSeen(Record, frozen=True, kw_only=True):
    """A worker of that version serves the task queue, or did. The tombstone says that the version was deleted."""

    deployment_name: str
    build_id: str
    task_queue: str
    time_ms: int


class FairnessKeyConfig(Record, frozen=True, kw_only=True):
    """What was set for one fairness key of a task queue. ``None``: nothing, the queue's default applies."""

    fairness_key: str
    weight: float | None = None
    #: Tasks a second; 0 stops the key.
    rate: float | None = None
    #: Tasks that run at once; 0 stops the key.
    concurrency: int | None = None


class TaskQueueConfig(Record, frozen=True, kw_only=True):
    """How the tasks of one type flow through a task queue. The tombstone says that nothing is set."""

    task_queue: str
    #: ``workflow`` or ``activity``.
    task_type: str
    #: Tasks a second of the whole queue; 0 stops it.
    queue_rate: float | None = None
    #: Tasks a second of each fairness key with the weight 1; of others in proportion to their weight.
    key_rate_default: float | None = None
    #: Tasks of each fairness key that run at once.
    key_concurrency_default: int | None = None
    keys: list[FairnessKeyConfig] = []
    time_ms: int
    identity: str = ""
