"""The audit of schedules: what the engine writes passes, and a fire that is told wrongly is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure_ops.audit.breach import Breach
from perdure_ops.audit.histories import HistoryCheck
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, OverlapPolicy, ScheduleRecorded, TriggerSchedule, UpdateSchedule
from tests.unit.history.scheduler import BEGIN_MS, MINUTE_MS, Scheduler, definition, fire


def breaches(log: list[LogRecord]) -> list[Breach]:
    found: list[Breach] = []
    check = HistoryCheck(0, 1, found.append, lambda _run_id, _run: None, lambda _run_id: None)
    for record in log:
        check.take(record)
    return [*found, *check.open_questions()]


def life() -> Scheduler:
    scheduler = Scheduler()
    scheduler.make(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    scheduler.ask(TriggerSchedule(overlap=OverlapPolicy.ALLOW_ALL))
    scheduler.complete(fire(1))
    scheduler.ask(UpdateSchedule(definition=definition(), note="new"))
    scheduler.wake()
    return scheduler


def test_what_the_engine_writes_passes() -> None:
    log = life().history.log
    assert len([record for record in log if not keys.is_mark(record.key)]) > 10
    assert breaches(log) == []


def changed(log: list[LogRecord], change: Callable[[ScheduleRecorded], ScheduleRecorded]) -> list[LogRecord]:
    """The log with its newest record of a schedule that starts something changed."""
    for at in reversed(range(len(log))):
        record = log[at]
        if keys.is_mark(record.key) or record.value is None:
            continue
        value = codec.decode_as(record.value, HistoryRecord)
        event = value.events[-1] if value.events else None
        if event is not None and isinstance(event.attributes, ScheduleRecorded) and event.attributes.started:
            told = msgspec.structs.replace(event, attributes=change(event.attributes))
            encoded = codec.encode(msgspec.structs.replace(value, events=[*value.events[:-1], told]))
            return [*log[:at], record._replace(value=encoded), *log[at + 1 :]]
    raise AssertionError("nothing is started")


def with_progress(recorded: ScheduleRecorded, **fields: Any) -> ScheduleRecorded:
    progress = msgspec.structs.replace(recorded.progress, **fields)
    return msgspec.structs.replace(recorded, progress=progress)


def with_fire(recorded: ScheduleRecorded, **fields: Any) -> ScheduleRecorded:
    (number,) = recorded.started
    running = [
        msgspec.structs.replace(shown, **fields) if shown.number == number else shown
        for shown in recorded.progress.running
    ]
    return with_progress(recorded, running=running)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: msgspec.structs.replace(told, started=[1]), "without being there"),
        (lambda told: with_fire(told, run_id="other"), "which is not its own"),
        (lambda told: with_fire(told, nominal_ms=BEGIN_MS + MINUTE_MS), "which was fired before"),
        (lambda told: with_fire(told, nominal_ms=BEGIN_MS + 60 * MINUTE_MS), "not covered yet"),
        (lambda told: with_progress(told, covered_ms=BEGIN_MS), "are covered, after those"),
        (lambda told: with_progress(told, newest_number=1), "the newest fire is 1"),
    ],
)
def test_a_fire_that_is_told_wrongly_is_found(
    change: Callable[[ScheduleRecorded], ScheduleRecorded], message: str
) -> None:
    scheduler = Scheduler()
    scheduler.make(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake()
    scheduler.complete(fire(1))
    scheduler.wake()
    (found,) = breaches(changed(scheduler.history.log, change))
    assert found.check == "schedule"
    assert message in found.message
