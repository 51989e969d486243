"""Commands with which an operator holds workflows and activities, and lets them go on."""

from __future__ import annotations

from perdure_schemas.records.common import Variant

__all__ = [
    "DeleteWorkflow",
    "PauseActivity",
    "PauseWorkflow",
    "ReleaseWorkflow",
    "ResetActivity",
    "UnpauseActivity",
    "UnpauseWorkflow",
    "UpdateActivityOptions",
]


class PauseActivity(Variant, frozen=True, kw_only=True):
    """Begin no attempt of a pending activity; one that runs is told with its heartbeat."""

    activity_id: str = ""
    reason: str = ""
    #: Instead of an id: every pending activity of this type.
    activity_type: str = ""


class UnpauseActivity(Variant, frozen=True, kw_only=True):
    """Let a paused activity go on, at once or after a part of ``jitter_ms``."""

    activity_id: str = ""
    reset_attempts: bool = False
    reset_heartbeat: bool = False
    jitter_ms: int = 0
    #: Instead of an id: every pending activity of this type.
    activity_type: str = ""


class ResetActivity(Variant, frozen=True, kw_only=True):
    """Count a pending activity's attempts from 1 again: from the next one on, if one runs, else at once."""

    activity_id: str = ""
    keep_paused: bool = False
    reset_heartbeats: bool = False
    jitter_ms: int = 0
    #: Instead of an id: every pending activity of this type.
    activity_type: str = ""
    #: With the options that the workflow gave.
    restore_original_options: bool = False


class UpdateActivityOptions(Variant, frozen=True, kw_only=True):
    """Change options of a pending activity. What is ``None`` (empty, for the queue) stays as it is."""

    activity_id: str = ""
    task_queue: str = ""
    schedule_to_close_timeout_ms: int | None = None
    schedule_to_start_timeout_ms: int | None = None
    start_to_close_timeout_ms: int | None = None
    heartbeat_timeout_ms: int | None = None
    retry_initial_interval_ms: int | None = None
    retry_maximum_interval_ms: int | None = None
    retry_backoff_coefficient: float | None = None
    retry_maximum_attempts: int | None = None
    #: Instead of an id: every pending activity of this type.
    activity_type: str = ""
    #: Begin with the options that the workflow gave.
    restore_original: bool = False


class PauseWorkflow(Variant, frozen=True, kw_only=True):
    """Hand out no workflow task and no activity of the run; what workers have is finished."""

    reason: str = ""


class UnpauseWorkflow(Variant, frozen=True, kw_only=True):
    """Let a paused run go on."""

    reason: str = ""


class ReleaseWorkflow(Variant, frozen=True, kw_only=True):
    """Lift the quarantine of a run. What could not be processed meanwhile is not processed again."""


class DeleteWorkflow(Variant, frozen=True, kw_only=True):
    """Remove a run with its history; an open one is terminated first. The command has to name the run."""

    reason: str = ""
