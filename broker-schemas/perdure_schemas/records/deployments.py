"""The ``deployments`` topic: which versions of workers there are, and which of them gets new work.

A deployment's routing stands in every partition, because each matching partition needs it. The copy in the deployment's
own partition comes first: its offset is the revision of all the others, so of two changes the same one wins everywhere.
"""

from __future__ import annotations

from perdure_schemas.records.common import Record

__all__ = ["DeploymentRouting", "DeploymentVersionSeen"]


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
