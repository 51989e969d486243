"""What a schedule does as time passes and workflows end: which fires start a workflow, which wait, which do nothing.

A decision about a schedule works on a :class:`Draft`: it takes in the times of the spec that have come, then those of
backfills, and offers each to the buffer; what the overlap policies let through is started. Invariants: every time of
the spec is fired or omitted once, since ``covered_ms`` moves past it in the same decision; every omission has a reason;
a decision covers a bounded number of times and starts a bounded number of workflows, and is due again at once if there
is more. Pure; called by :mod:`perdure_history.core.commands.schedule`.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.policy import Times
from perdure_schemas import limits
from perdure_schemas.keys import scheduled_run_id
from perdure_schemas.records import (
    BackfillRange,
    BufferedStart,
    Failure,
    OmissionReason,
    OverlapPolicy,
    Payload,
    ScheduleDefinition,
    ScheduleFire,
    ScheduleOmission,
    ScheduleProgress,
    ScheduleStop,
    WorkflowStatus,
)

__all__ = ["Draft", "upcoming"]

_REPLACES = (OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER)
_UNSUCCESSFUL = (WorkflowStatus.FAILED, WorkflowStatus.TIMED_OUT)
_DETAIL_CHARS_MAX = 500
#: Next times that the record has, for lists; a description computes its own.
_UPCOMING_KEPT = 5


def upcoming(times: Times, after_ms: int, count: int) -> list[int]:
    """The next times of a spec, with jitter."""
    found: list[int] = []
    nominal = times.next_ms(after_ms)
    while nominal is not None and len(found) < count:
        found.append(times.scheduled_ms(nominal))
        nominal = times.next_ms(nominal)
    return found


def _switches(progress: ScheduleProgress) -> tuple[bool, str, bool, int]:
    return progress.paused, progress.note, progress.limited_actions, progress.remaining_actions


class Draft:
    """A schedule's progress while a decision is made.

    Args:
        run_id: the schedule's run.
        definition: what the schedule is.
        progress: how far it has come.
        times: of its spec.
        now_ms: the time of the decision.
        carried_bytes_max: of the last result and the input of a workflow together; a larger result is not handed on.
    """

    def __init__(
        self,
        run_id: str,
        definition: ScheduleDefinition,
        progress: ScheduleProgress,
        times: Times,
        now_ms: int,
        carried_bytes_max: int = limits.CARRIED_BYTES_MAX,
    ) -> None:
        self._run_id = run_id
        self._now_ms = now_ms
        self._carried_bytes_max = carried_bytes_max
        self.definition = definition
        self.times = times
        self.progress = self._first = progress
        self.started: list[int] = []
        self.stopped: list[ScheduleStop] = []
        self._running = list(progress.running)
        self._recent = list(progress.recent)
        self._omitted = list(progress.omitted)
        self._buffered = list(progress.buffered)
        self._more = False

    # --- what has happened ------------------------------------------------------------------------------------------

    def set(self, **changes: object) -> None:
        """Change fields of the progress."""
        self.progress = msgspec.structs.replace(self.progress, **changes)

    def count_revision(self) -> None:
        """Count a change of what an update writes: one made from what stood here before has to be refused."""
        progress, first = self.progress, self._first
        if progress.revision == first.revision and _switches(progress) != _switches(first):
            self.set(revision=first.revision + 1)

    def redefine(self, definition: ScheduleDefinition, times: Times) -> None:
        """The schedule is something else from now on; what was due by the old spec is fired with the new action."""
        self._take_due(limits.SCHEDULE_TIMES_PER_DECISION_MAX)
        self.definition, self.times = definition, times
        self.set(covered_ms=max(self.progress.covered_ms, self._now_ms))

    def unpause(self, note: str) -> None:
        """Fire again, for times from now on."""
        self.set(paused=False, note=note, covered_ms=max(self.progress.covered_ms, self._now_ms))

    def trigger(self, overlap: OverlapPolicy | None) -> None:
        """Fire now."""
        nominal_ms = max(self._now_ms, self.progress.newest_manual_ms + 1)
        self.set(newest_manual_ms=nominal_ms)
        self._offer(nominal_ms, nominal_ms, overlap or self.definition.overlap, manual=True)

    def backfill(self, ranges: list[BackfillRange]) -> None:
        """Fire for times of the spec, as if they were now."""
        self.set(backfills=[*self.progress.backfills, *ranges])

    def closed(self, number: int, status: WorkflowStatus, result: list[Payload], failure: Failure | None) -> bool:
        """A workflow has ended, or its last run; whether it was one of those in view."""
        fire = next((fire for fire in self._running if fire.number == number), None)
        if fire is None:
            return False
        self._running.remove(fire)
        self._recent = [
            msgspec.structs.replace(shown, status=status) if shown.number == number else shown for shown in self._recent
        ]
        if fire.overlap is not OverlapPolicy.ALLOW_ALL:
            if status is WorkflowStatus.COMPLETED:
                self.set(last_completion_result=self._carried(result), last_failure=None)
            elif failure is not None and status in _UNSUCCESSFUL:
                self.set(last_failure=failure)
        if self.definition.pause_on_failure and status in _UNSUCCESSFUL and not self.progress.paused:
            why = "" if failure is None else f": {failure.message[:_DETAIL_CHARS_MAX]}"
            self.set(paused=True, note=f"paused because workflow {fire.workflow_id!r} {_VERBS[status]}{why}")
        return True

    def refused(self, number: int, cause: str, message: str) -> bool:
        """A start was refused; whether it was one of those in view."""
        fire = next((fire for fire in self._running if fire.number == number), None)
        if fire is None:
            return False
        self._running.remove(fire)
        self._recent = [shown for shown in self._recent if shown.number != number]
        progress = self.progress
        self.set(actions=progress.actions - 1)
        if progress.limited_actions and not fire.manual:
            self.set(remaining_actions=progress.remaining_actions + 1)
        self._omit(fire.nominal_ms, OmissionReason.START_REFUSED, f"{cause}: {message}"[:_DETAIL_CHARS_MAX])
        return True

    # --- what follows -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take in the times that have come, and start what may start."""
        left = limits.SCHEDULE_TIMES_PER_DECISION_MAX
        self._more = False
        due_ms, left = self._take_due(left)
        self._take_backfills(left)
        self._start_buffered()
        progress = self.progress
        if self._more:
            due_ms = self._now_ms
        elif self._rests():
            due_ms = 0
        self.set(
            next_due_ms=due_ms,
            upcoming_ms=upcoming(self.times, max(progress.covered_ms, self._now_ms), _UPCOMING_KEPT),
            buffered=self._buffered,
            running=self._running,
            recent=self._recent[-limits.SCHEDULE_RECENT_MAX :],
            omitted=self._omitted[-limits.SCHEDULE_RECENT_MAX :],
        )

    def _rests(self) -> bool:
        """Whether it does not fire by its spec."""
        progress = self.progress
        return progress.paused or (progress.limited_actions and progress.remaining_actions <= 0)

    def _take_due(self, left: int) -> tuple[int, int]:
        """Offer the times that have come; returns when the next one does (0: none), and what is left of ``left``."""
        definition, now_ms = self.definition, self._now_ms
        window_ms = max(definition.catchup_window_ms, limits.SCHEDULE_CATCHUP_MS_MIN)
        covered_ms = self.progress.covered_ms
        due_ms = 0
        while not self._rests():
            nominal_ms = self.times.next_ms(covered_ms)
            if nominal_ms is None:
                break
            scheduled_ms = self.times.scheduled_ms(nominal_ms)
            if scheduled_ms > now_ms:
                due_ms = scheduled_ms
                break
            if left <= 0:
                self._more = True
                break
            left -= 1
            covered_ms = nominal_ms
            if now_ms - scheduled_ms > window_ms:
                self._omit(nominal_ms, OmissionReason.CATCHUP_WINDOW)
            else:
                self._offer(nominal_ms, scheduled_ms, definition.overlap, manual=False)
        self.set(covered_ms=covered_ms)
        return due_ms, left

    def _take_backfills(self, left: int) -> None:
        open_ranges = list(self.progress.backfills)
        while open_ranges:
            part = open_ranges[0]
            nominal_ms = self.times.next_ms(part.start_ms - 1)
            if nominal_ms is None or nominal_ms > part.end_ms:
                del open_ranges[0]
                continue
            if left <= 0 or len(self._buffered) >= limits.SCHEDULE_BUFFERED_MAX:
                # A full buffer is emptied as workflows end, which comes here again.
                self._more = self._more or left <= 0
                break
            left -= 1
            self._offer(nominal_ms, nominal_ms, part.overlap or self.definition.overlap, manual=True)
            open_ranges[0] = msgspec.structs.replace(part, start_ms=nominal_ms + 1)
        self.set(backfills=open_ranges)

    def _offer(self, nominal_ms: int, scheduled_ms: int, overlap: OverlapPolicy, *, manual: bool) -> None:
        self._buffered.append(
            BufferedStart(nominal_ms=nominal_ms, scheduled_ms=scheduled_ms, overlap=overlap, manual=manual)
        )

    def _start_buffered(self) -> None:
        """Go through the buffer, oldest first: start, keep or omit."""
        kept: list[BufferedStart] = []
        busy = any(fire.overlap is not OverlapPolicy.ALLOW_ALL for fire in self._running)
        for start in self._buffered:
            if not start.manual and self._rests():
                paused = self.progress.paused
                self._omit(start.nominal_ms, OmissionReason.PAUSED if paused else OmissionReason.NO_ACTIONS_REMAIN)
            elif start.overlap is OverlapPolicy.ALLOW_ALL:
                if len(self.started) < limits.SCHEDULE_STARTS_PER_DECISION_MAX:
                    self._start(start)
                else:
                    kept.append(start)
                    self._more = True
            elif not busy:
                busy = True
                self._start(start)
            else:
                self._wait(start, kept)
        self._buffered = kept

    def _wait(self, start: BufferedStart, kept: list[BufferedStart]) -> None:
        """A workflow runs: keep a start, or omit it, or one that was kept."""
        overlap = start.overlap
        if overlap is OverlapPolicy.SKIP or (
            overlap is OverlapPolicy.BUFFER_ONE and any(other.overlap is overlap for other in kept)
        ):
            self._omit(start.nominal_ms, OmissionReason.OVERLAP)
        elif len(kept) >= limits.SCHEDULE_BUFFERED_MAX:
            self._omit(start.nominal_ms, OmissionReason.BUFFER_FULL)
        else:
            if overlap in _REPLACES:
                # Only the newest of those that make others end has something to start.
                for other in [other for other in kept if other.overlap in _REPLACES]:
                    kept.remove(other)
                    self._omit(other.nominal_ms, OmissionReason.OVERLAP)
                self._stop_running("TERMINATE" if overlap is OverlapPolicy.TERMINATE_OTHER else "CANCEL")
            kept.append(start)

    def _stop_running(self, how: str) -> None:
        for at, fire in enumerate(self._running):
            if fire.overlap is OverlapPolicy.ALLOW_ALL or fire.stop in (how, "TERMINATE"):
                continue
            self._running[at] = msgspec.structs.replace(fire, stop=how)
            self.stopped.append(
                ScheduleStop(
                    number=fire.number,
                    workflow_id=fire.workflow_id,
                    run_id=fire.run_id,
                    terminate=how == "TERMINATE",
                )
            )

    def _start(self, start: BufferedStart) -> None:
        progress = self.progress
        number = progress.newest_number + 1
        fire = ScheduleFire(
            number=number,
            nominal_ms=start.nominal_ms,
            scheduled_ms=start.scheduled_ms,
            started_ms=self._now_ms,
            workflow_id=f"{self.definition.action.workflow_id}-{self.times.text(start.nominal_ms)}",
            run_id=scheduled_run_id(self._run_id, number),
            overlap=start.overlap,
            manual=start.manual,
        )
        self.set(newest_number=number, actions=progress.actions + 1)
        if progress.limited_actions and not start.manual:
            self.set(remaining_actions=progress.remaining_actions - 1)
        self.started.append(number)
        self._running.append(fire)
        self._recent.append(fire)
        beside = [other for other in self._running if other.overlap is OverlapPolicy.ALLOW_ALL]
        if len(self._running) > limits.SCHEDULE_RUNNING_MAX and beside:
            # How it ends matters to no policy; it is just not shown any more.
            self._running.remove(beside[0])

    def _omit(self, nominal_ms: int, reason: OmissionReason, detail: str = "") -> None:
        self._omitted.append(
            ScheduleOmission(nominal_ms=nominal_ms, time_ms=self._now_ms, reason=reason, detail=detail)
        )
        del self._omitted[: -limits.SCHEDULE_RECENT_MAX]
        counter = _COUNTERS.get(reason)
        if counter is not None:
            self.set(**{counter: getattr(self.progress, counter) + 1})

    def _carried(self, result: list[Payload]) -> list[Payload]:
        action = self.definition.action
        size_bytes = sum(len(payload.data) for payload in (*action.input, *action.header.values(), *result))
        return result if size_bytes <= self._carried_bytes_max else []


_COUNTERS = {
    OmissionReason.OVERLAP: "skipped_overlap",
    OmissionReason.CATCHUP_WINDOW: "missed_catchup_window",
    OmissionReason.BUFFER_FULL: "dropped_buffer",
    OmissionReason.START_REFUSED: "refused",
}
_VERBS = {WorkflowStatus.FAILED: "failed", WorkflowStatus.TIMED_OUT: "timed out"}
