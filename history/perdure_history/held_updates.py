"""Updates that wait for a worker, and who waits for which update: in the owner's memory only.

Invariants: bounded for each run; nothing here is needed for correctness, since an update that is not accepted has not
happened, and askers repeat their request when an owner mark shows them a takeover. At most one speculative task of a
run is out. Called by :mod:`perdure_history.update_reactions`.
"""

from __future__ import annotations

import msgspec

from perdure_schemas.records import ReplyTo, UpdateRequest, UpdateStage

__all__ = ["HeldUpdate", "HeldUpdates"]


class HeldUpdate(msgspec.Struct):
    """An update that is not accepted yet. ``handed_out``: how many speculative tasks have carried it."""

    request: UpdateRequest
    expires_at_ms: int
    handed_out: int = 0


class _RunUpdates(msgspec.Struct):
    held: dict[str, HeldUpdate] = {}
    #: By update id, then by client and request.
    askers: dict[str, dict[tuple[str, str], tuple[ReplyTo, UpdateStage]]] = {}
    #: The id of the speculative task that is out.
    task_number: str = ""


class HeldUpdates:
    """Updates by run.

    Args:
        updates_max: updates of one run that are kept.
        askers_max: requests for one update that are kept.
    """

    def __init__(self, updates_max: int, askers_max: int) -> None:
        self._updates_max = updates_max
        self._askers_max = askers_max
        self._runs: dict[str, _RunUpdates] = {}

    def hold(self, run_id: str, request: UpdateRequest, expires_at_ms: int) -> bool:
        """Keep an update; false if there are too many. A repeated one is one update, kept until the later time."""
        held = self._runs.setdefault(run_id, _RunUpdates()).held
        known = held.get(request.update_id)
        if known is not None:
            known.expires_at_ms = max(known.expires_at_ms, expires_at_ms)
            return True
        if len(held) >= self._updates_max:
            return False
        held[request.update_id] = HeldUpdate(request, expires_at_ms)
        return True

    def is_held(self, run_id: str, update_id: str) -> bool:
        """Whether an update is kept."""
        run = self._runs.get(run_id)
        return run is not None and update_id in run.held

    def wait(self, run_id: str, update_id: str, to: ReplyTo, stage: UpdateStage) -> bool:
        """Keep a request for an update's outcome; false if there are too many. A repeated request is one request."""
        askers = self._runs.setdefault(run_id, _RunUpdates()).askers.setdefault(update_id, {})
        key = (to.client_id, to.request_id)
        if key not in askers and len(askers) >= self._askers_max:
            return False
        askers[key] = (to, stage)
        return True

    def take_askers(self, run_id: str, update_id: str) -> list[ReplyTo]:
        """All who wait for an update; they and the kept update are forgotten here."""
        run = self._runs.get(run_id)
        if run is None:
            return []
        run.held.pop(update_id, None)
        askers = run.askers.pop(update_id, {})
        self._tidy(run_id, run)
        return [to for to, _ in askers.values()]

    def accepted(self, run_id: str, update_id: str) -> list[ReplyTo]:
        """An update was accepted: all who have to hear it. Those who wait for its end are kept."""
        run = self._runs.get(run_id)
        if run is None:
            return []
        run.held.pop(update_id, None)
        askers = run.askers.get(update_id, {})
        told = [to for to, _ in askers.values()]
        staying = {key: asker for key, asker in askers.items() if asker[1] is UpdateStage.COMPLETED}
        if staying:
            run.askers[update_id] = staying
        else:
            run.askers.pop(update_id, None)
        self._tidy(run_id, run)
        return told

    def held(self, run_id: str, now_ms: int) -> list[HeldUpdate]:
        """The updates of a run that are kept, oldest first; expired ones are dropped with those who asked for them."""
        run = self._runs.get(run_id)
        if run is None:
            return []
        for update_id in [key for key, update in run.held.items() if update.expires_at_ms <= now_ms]:
            del run.held[update_id]
            run.askers.pop(update_id, None)
        found = list(run.held.values())
        self._tidy(run_id, run)
        return found

    def updates_asked_for(self, run_id: str) -> list[str]:
        """The updates of a run that somebody waits for."""
        run = self._runs.get(run_id)
        return [] if run is None else list(run.askers)

    def task_number(self, run_id: str) -> str:
        """The id of the run's speculative task that is out; empty if there is none."""
        run = self._runs.get(run_id)
        return "" if run is None else run.task_number

    def set_task_number(self, run_id: str, number: str) -> None:
        """The run's speculative task is this one; empty: none is out."""
        run = self._runs.get(run_id)
        if run is None and number:
            run = self._runs[run_id] = _RunUpdates()
        if run is not None:
            run.task_number = number
            self._tidy(run_id, run)

    def _tidy(self, run_id: str, run: _RunUpdates) -> None:
        if not run.held and not run.askers and not run.task_number:
            self._runs.pop(run_id, None)
