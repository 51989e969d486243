"""Which version of workers a run belongs to, and what runs that come from it take over. Pure.

Invariants: what an override says counts before what workers say; a run whose first workflow task is not completed
belongs to the version it inherited; "" stands for no version, and matching chooses by the routing then. Called by the
commands that start runs, by the answers, and by the service where it makes tasks.
"""

from __future__ import annotations

from perdure_history.core.state import RunState
from perdure_schemas.records import ContinueAsNewWorkflowExecution, VersioningBehavior, VersioningOverride

__all__ = [
    "child_versioning",
    "continued_versioning",
    "deployment_version",
    "effective_behavior",
    "override_fault",
    "pinned_version",
    "retried_version",
]


def pinned_version(run: RunState) -> str:
    """The only version that may run it."""
    override = run.versioning_override
    return _base_version(run) if override is None else override.pinned_version


def _base_version(run: RunState) -> str:
    """The same without the override."""
    if run.versioning_behavior is VersioningBehavior.PINNED:
        return run.deployment_version
    return run.inherited_version


def effective_behavior(run: RunState) -> VersioningBehavior:
    """How it moves between versions."""
    if pinned_version(run):
        return VersioningBehavior.PINNED
    if run.versioning_override is not None:
        return VersioningBehavior.AUTO_UPGRADE
    return run.versioning_behavior


def deployment_version(run: RunState) -> str:
    """The version it is pinned to, else the one that completed its last workflow task."""
    return pinned_version(run) or run.deployment_version


def child_versioning(
    run: RunState, task_queue: str, asked: VersioningOverride | None
) -> tuple[VersioningOverride | None, str]:
    """The override and the inherited version of a child: those of a pinned parent on the same task queue."""
    if task_queue != run.task_queue:
        return asked, ""
    own = run.versioning_override
    return asked or (own if own is not None and own.pinned_version else None), _base_version(run)


def continued_versioning(
    run: RunState, command: ContinueAsNewWorkflowExecution
) -> tuple[VersioningOverride | None, str, bool]:
    """The override, the inherited version and the preference for the ramping one of a run continued as new."""
    override = run.versioning_override
    if command.task_queue != run.task_queue:
        return (None if override is not None and override.pinned_version else override), "", False
    how = command.initial_versioning_behavior
    return override, "" if how else _base_version(run), how == "USE_RAMPING_VERSION"


def retried_version(run: RunState, inherited: str) -> str:
    """The inherited version of a run's next attempt: what it is pinned to, if it had ``inherited`` it itself."""
    return _base_version(run) if inherited else ""


def override_fault(override: VersioningOverride | None) -> str:
    """Why an override cannot be taken; empty if it can."""
    if override is None or not override.pinned_version:
        return ""
    name, dot, build_id = override.pinned_version.partition(".")
    if name and dot and build_id:
        return ""
    return f"the pinned version {override.pinned_version[:80]!r} must be <deployment name>.<build id>"
