"""Which records of a compacted partition may go, as a pure function of what is there. Kafka's rules:

* of each key the newest record stays;
* a newest record that is a tombstone stays until readers had ``delete.retention.ms`` to see it. That time is counted
  from the pass that first cleaned up to it, not from its timestamp, so that a late engine cannot drop it too early.

Called by the cleaner, block by block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure_runtime.embedded.layout import CleanState
from perdure_runtime.log import LogRecord


def surviving(records: Sequence[LogRecord], newest: Mapping[bytes, int], tombstones_below: int) -> list[LogRecord]:
    """The records of a block that stay.

    Args:
        records: a block.
        newest: offset of the newest record by key, for the keys of the part that is cleaned for the first time.
        tombstones_below: tombstones below this offset have been there long enough.
    """
    return [
        record
        for record in records
        if record.key is None
        or (
            newest.get(record.key, -1) <= record.offset
            and not (record.value is None and record.offset < tombstones_below)
        )
    ]


def tombstones_below(state: CleanState, delete_retention_ms: int, now_ms: int) -> int:
    """The offset below which tombstones may go in a pass that begins now."""
    if state.horizon and now_ms - state.horizon_ms >= delete_retention_ms:
        return state.horizon
    return 0


def is_due(state: CleanState, target: int, ratio_min: float, records_min: int, removable_below: int) -> bool:
    """Whether a pass up to ``target`` is worth its price.

    Args:
        state: what the last pass left.
        target: the offset a pass would clean up to.
        ratio_min: the least share of new records among all, as Kafka's ``min.cleanable.dirty.ratio``.
        records_min: the least number of new records.
        removable_below: see :func:`tombstones_below`.
    """
    new = target - state.end
    if new >= records_min and new >= ratio_min * (new + state.live):
        return True
    return removable_below > 0 and state.tombstones > 0


def after_pass(
    state: CleanState, target: int, live: int, tombstones: int, removed_below: int, now_ms: int
) -> CleanState:
    """The state after a pass up to ``target`` that left so many records, tombstones among them.

    A new horizon is set when the last one was used up, or when there was none.
    """
    if state.horizon and not removed_below:
        return CleanState(target, live, tombstones, state.horizon, state.horizon_ms)
    return CleanState(target, live, tombstones, target if tombstones else 0, now_ms)
