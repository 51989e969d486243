"""Events of what a run has to do with topics of the user's: the records it emits."""

from __future__ import annotations

from perdure_schemas.records.common import Variant

__all__ = ["RecordEmitted"]


class RecordEmitted(Variant, frozen=True, kw_only=True):
    """The workflow wants a record in a topic of the user's. The relay writes it, once, with headers of its own."""

    topic: str
    key: bytes | None = None
    #: ``None``: a tombstone.
    value: bytes | None = None
    headers: dict[str, bytes] = {}
    workflow_task_completed_event_id: int
