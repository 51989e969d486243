"""Records that workflow code waits for.

Invariants: a wait's future is done exactly once; a wait that is cancelled in the workflow task that began it never
reaches the engine. The instance owns the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure._runtime.errors import NondeterminismError
from perdure_schemas import records
from perdure_schemas.records import CancelRecordWait, Event, RecordArrived, WaitForRecord

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

__all__ = ["RECORD_EVENTS", "RecordWaits"]


class RecordWaits:
    """The waits of one run."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._last_number = 0
        self._open: dict[str, asyncio.Future[RecordArrived]] = {}
        #: Begun and given up; their records may have been on the way.
        self._given_up: set[str] = set()

    async def wait(
        self, topic: str, key: bytes | None, where: str, look_back_ms: int, timeout_s: float | None
    ) -> RecordArrived:
        """Wait for a record. A cancellation gives the wait up."""
        instance = self._instance
        instance.loop.require_writable("wait for a record")
        if timeout_s is not None and timeout_s <= 0:
            raise TimeoutError
        self._last_number += 1
        wait_id = str(self._last_number)
        number = instance.add_command(
            WaitForRecord(wait_id=wait_id, topic=topic, key=key, where=where, look_back_ms=look_back_ms)
        )
        future: asyncio.Future[RecordArrived] = instance.loop.create_future()
        self._open[wait_id] = future
        timer = None if timeout_s is None else instance.loop.start_timer(timeout_s, None, _time_out, (future,))
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if (
                self._open.pop(wait_id, None) is not None
                and not instance.loop.closing
                and not instance.take_back_command(number)
            ):
                self._given_up.add(wait_id)
                instance.add_command(CancelRecordWait(wait_id=wait_id))

    def arrived(self, event: Event) -> None:
        """A record was found."""
        attributes = event.attributes
        assert isinstance(attributes, RecordArrived)
        future = self._open.pop(attributes.wait_id, None)
        if future is not None:
            if not future.done():
                future.set_result(attributes)
        elif attributes.wait_id not in self._given_up:
            raise NondeterminismError(
                f"history event {event.event_id} brings the record of wait {attributes.wait_id!r}, but the workflow"
                " code waits for none"
            )


def _time_out(future: asyncio.Future[RecordArrived]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _arrived(instance: WorkflowInstance, event: Event) -> None:
    instance.record_waits.arrived(event)


#: What the instance does when these happen.
RECORD_EVENTS: dict[type, Callable[[WorkflowInstance, Event], Any]] = {records.RecordArrived: _arrived}
