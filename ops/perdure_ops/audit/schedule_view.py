"""One schedule, as its records tell it: that each of its times is fired at most once, and never twice.

It shares no code with the engine. Each record is complete in itself, and compaction keeps the newest ones only, so what
is compared with what came before are numbers that only grow. Pure. Called by :mod:`perdure_ops.audit.run_view`.
"""

from __future__ import annotations

from collections import OrderedDict

from perdure_ops.audit.breach import Misfit
from perdure_schemas import keys, records

__all__ = ["ScheduleView", "check_origin"]

_FIRED_MAX = 1_000


class ScheduleView:
    """How far a schedule has come."""

    __slots__ = ("_fired", "covered_ms", "newest_number")

    def __init__(self) -> None:
        self.newest_number = 0
        self.covered_ms = 0
        #: The newest times that were fired by the spec.
        self._fired: OrderedDict[int, None] = OrderedDict()

    def take(self, run_id: str, recorded: records.ScheduleRecorded) -> None:
        """Take in the next record.

        Raises:
            Misfit: it breaks a rule.
        """
        progress = recorded.progress
        if progress.covered_ms < self.covered_ms:
            raise Misfit(
                "schedule",
                f"the times up to {progress.covered_ms} ms are covered, after those up to {self.covered_ms} ms were",
            )
        running = {fire.number: fire for fire in progress.running}
        for number in recorded.started:
            fire = running.get(number)
            if number <= self.newest_number or fire is None:
                what = "is started without being there" if fire is None else "is started a second time"
                raise Misfit("schedule", f"fire {number} {what}; the newest before was {self.newest_number}")
            if fire.run_id != keys.scheduled_run_id(run_id, number):
                raise Misfit("schedule", f"fire {number} starts run {fire.run_id!r}, which is not its own")
            if fire.manual:
                continue
            if fire.nominal_ms > progress.covered_ms:
                raise Misfit("schedule", f"fire {number} is for {fire.nominal_ms} ms, a time that is not covered yet")
            if fire.nominal_ms in self._fired:
                raise Misfit("schedule", f"fire {number} is for {fire.nominal_ms} ms, which was fired before")
            self._fired[fire.nominal_ms] = None
            if len(self._fired) > _FIRED_MAX:
                self._fired.popitem(last=False)
        if progress.newest_number < max([self.newest_number, *recorded.started]):
            raise Misfit("schedule", f"the newest fire is {progress.newest_number}, and was {self.newest_number}")
        self.newest_number, self.covered_ms = progress.newest_number, progress.covered_ms


def check_origin(run_id: str, started: records.WorkflowExecutionStarted) -> None:
    """That a run which a schedule started is the one that its fire has.

    Raises:
        Misfit: it is not.
    """
    origin = started.scheduled_by
    if origin is None or started.continued_run_id or started.original_run_id:
        return
    if run_id != keys.scheduled_run_id(origin.run_id, origin.number):
        raise Misfit("schedule", f"fire {origin.number} of schedule {origin.schedule_id!r} has another run")
