"""``evolve`` for records of users' topics that a run emits or waits for: a part of :mod:`perdure_history.core.evolve`.

Invariant: a wait ends once, by its record or because the code gives it up; the record wakes the workflow code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.lifecycle import IllegalTransitionError
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import Event

__all__ = ["EVOLVE_RECORDS"]


def _emitted(_state: RunState, _event: Event, _attributes: records.RecordEmitted, _: int) -> None:
    """For the relay, which reads it in the history."""


def _started(state: RunState, _event: Event, attributes: records.RecordWaitStarted, _: int) -> None:
    wait = attributes.wait
    if wait.wait_id in state.record_waits:
        raise IllegalTransitionError(f"run {state.run_id}: record wait {wait.wait_id!r} has begun already")
    # A new dictionary, as with a memo: summaries hold the old one.
    state.record_waits = {**state.record_waits, wait.wait_id: wait}


def _canceled(state: RunState, _event: Event, attributes: records.RecordWaitCanceled, _: int) -> None:
    _end(state, attributes.wait_id)


def _arrived(state: RunState, event: Event, attributes: records.RecordArrived, _: int) -> None:
    _end(state, attributes.wait_id)
    state.waking_event_id = event.event_id


def _end(state: RunState, wait_id: str) -> None:
    if wait_id not in state.record_waits:
        raise IllegalTransitionError(f"run {state.run_id} has no record wait {wait_id!r}")
    state.record_waits = {known: wait for known, wait in state.record_waits.items() if known != wait_id}


EVOLVE_RECORDS: dict[type, Callable[[RunState, Event, Any, int], None]] = {
    records.RecordEmitted: _emitted,
    records.RecordWaitStarted: _started,
    records.RecordWaitCanceled: _canceled,
    records.RecordArrived: _arrived,
}
