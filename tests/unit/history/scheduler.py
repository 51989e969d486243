"""A schedule in a history partition: what timers and the workflows it starts say comes back to it."""

from __future__ import annotations

from typing import Any

from perdure_history.config import HistoryConfig
from perdure_schemas import keys
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    CreateSchedule,
    DeadlineReached,
    DescribeSchedule,
    FailWorkflowExecution,
    OverlapPolicy,
    ScheduleAction,
    ScheduleDefinition,
    ScheduleDescribed,
    ScheduleInterval,
    ScheduleProgress,
    ScheduleSpec,
)
from tests.unit.history.family import Family
from tests.unit.history.harness import START_MS, History, payload

MINUTE_MS = 60_000
#: A full minute; the harness begins 20 s behind one.
BEGIN_MS = START_MS - START_MS % MINUTE_MS
WORKFLOW_ID = keys.schedule_workflow_id("nightly")


def definition(**fields: Any) -> ScheduleDefinition:
    """Every minute, a workflow `report`."""
    defaults: dict[str, Any] = {
        "action": ScheduleAction(
            workflow_id="report", workflow_type="Report", task_queue="reports", input=[payload("in")]
        ),
        "spec": ScheduleSpec(intervals=[ScheduleInterval(every_ms=MINUTE_MS)]),
    }
    return ScheduleDefinition(**{**defaults, **fields})


def create(run_id: str = "schedule", **fields: Any) -> CreateSchedule:
    """Make the schedule `nightly`; fields of the definition may be given, too."""
    own = {name: fields.pop(name) for name in list(fields) if name in CreateSchedule.__struct_fields__}
    made = own.pop("definition", None) or definition(**fields)
    return CreateSchedule(**{"run_id": run_id, "schedule_id": "nightly", "definition": made, **own})


class Scheduler:
    """One partition with the schedule `nightly` in it.

    Args:
        times: how often each message between schedule and workflows is delivered.
    """

    def __init__(self, history: History | None = None, *, times: int = 1, config: HistoryConfig | None = None) -> None:
        self.history = history or History(config, now_ms=BEGIN_MS)
        self.family = Family(self.history, times=times)

    def ask(self, body: Any, **fields: Any) -> Any:
        """A client's request; what follows is delivered."""
        answer = self.history.ask(body, workflow_id=WORKFLOW_ID, **fields)
        self.family.pump()
        return answer

    def make(self, **fields: Any) -> Any:
        return self.ask(create(**fields))

    def describe(self) -> ScheduleDescribed:
        answer = self.ask(DescribeSchedule())
        assert isinstance(answer, ScheduleDescribed), answer
        return answer

    @property
    def progress(self) -> ScheduleProgress:
        return self.describe().progress

    @property
    def run_id(self) -> str:
        return self.family.current(WORKFLOW_ID)

    def due_ms(self) -> int:
        """When the schedule's wake-up is due; 0: none is armed."""
        return self.history.run(self.run_id).wake_up_due_ms

    def wake(self, *, at_ms: int = 0, pump: bool = True) -> None:
        """The armed wake-up comes, when it is due or at a later time."""
        run = self.history.run(self.run_id)
        assert run.wake_up_due_ms
        self.history.now_ms = max(self.history.now_ms, run.wake_up_due_ms, at_ms)
        body = DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms)
        self.history.send(body, workflow_id=WORKFLOW_ID, run_id=self.run_id)
        if pump:
            self.family.pump()

    def wake_until(self, time_ms: int) -> None:
        """Every wake-up up to a time comes when it is due."""
        while self.due_ms() and self.due_ms() <= time_ms:
            self.wake()
        self.history.now_ms = max(self.history.now_ms, time_ms)

    def complete(self, workflow_id: str, result: str = "out") -> None:
        run_id = self.family.current(workflow_id)
        self.family.act(run_id, CompleteWorkflowExecution(result=[payload(result)]))

    def fail(self, workflow_id: str, failure: Any) -> None:
        self.family.act(self.family.current(workflow_id), FailWorkflowExecution(failure=failure))

    def workflows(self) -> list[str]:
        """The ids of the workflows that were started, in order."""
        return [fire.workflow_id for fire in self.progress.recent]

    def running(self) -> list[str]:
        return [fire.workflow_id for fire in self.progress.running]

    def omitted(self) -> list[tuple[int, str]]:
        """Minutes since the begin, and reasons."""
        return [((gap.nominal_ms - BEGIN_MS) // MINUTE_MS, gap.reason.value) for gap in self.progress.omitted]


def fire(minute: int) -> str:
    """The id of the workflow of a minute since the begin."""
    from perdure_history.schedules.times import SpecTimes

    return f"report-{SpecTimes(ScheduleSpec()).text(BEGIN_MS + minute * MINUTE_MS)}"


ALL = OverlapPolicy.ALLOW_ALL
