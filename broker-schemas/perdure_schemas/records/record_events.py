"""What a run has to do with topics of the user's: events of records it emits and waits for, and the relay's command."""

from __future__ import annotations

from perdure_schemas.records.common import RecordWait, Variant

__all__ = ["DeliverRecord", "RecordArrived", "RecordEmitted", "RecordWaitCanceled", "RecordWaitStarted"]


class RecordEmitted(Variant, frozen=True, kw_only=True):
    """The workflow wants a record in a topic of the user's. The relay writes it, once, with headers of its own."""

    topic: str
    key: bytes | None = None
    #: ``None``: a tombstone.
    value: bytes | None = None
    headers: dict[str, bytes] = {}
    workflow_task_completed_event_id: int


class RecordWaitStarted(Variant, frozen=True, kw_only=True):
    """The workflow waits for a record."""

    wait: RecordWait
    workflow_task_completed_event_id: int


class RecordWaitCanceled(Variant, frozen=True, kw_only=True):
    """The workflow does not wait for that record any more."""

    wait_id: str
    workflow_task_completed_event_id: int


class RecordArrived(Variant, frozen=True, kw_only=True):
    """The record that the workflow waited for, as it stands in its topic."""

    wait_id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: dict[str, bytes] = {}


class DeliverRecord(Variant, frozen=True, kw_only=True):
    """The relay's command: it has found the record that a run waits for."""

    wait_id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: dict[str, bytes] = {}
