"""``perdure schedule``: each command against a platform, and what it says of wrong use."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE
from tests.support.waiting import wait_for


@pytest.fixture
def schedule_id() -> str:
    return f"s-{uuid.uuid4().hex[:8]}"


def described(run: Run, schedule_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.ok("schedule", "describe", "-s", schedule_id, "-o", "json"))
    return found


def test_a_schedule_from_its_beginning_to_its_end(run: Run, schedule_id: str) -> None:
    workflow = ("--type", "Nobody", "-t", f"{TASK_QUEUE}-idle", "-w", schedule_id)
    when = (
        "--calendar",
        '{"hour": "6,18", "dayOfWeek": "MON-FRI", "comment": "office"}',
        "--time-zone",
        "Europe/Zurich",
    )
    limits = ("--start-time", "2090-01-01", "--jitter", "0s", "--catchup-window", "1h", "--notes", "new", "--paused")
    made = run.ok(
        "schedule", "create", "-s", schedule_id, *workflow, *when, *limits, "-i", "1", "--schedule-memo", "a=1"
    )
    assert made == f"schedule {schedule_id} created\n"
    assert "Schedule already running" in run.fails("schedule", "create", "-s", schedule_id, *workflow, *when)

    fields = described(run, schedule_id)
    assert fields["calendars"] == [{"hour": "6,18", "day_of_week": "1-5", "comment": "office"}]
    assert (fields["paused"], fields["note"], fields["actions"]) == (True, "new", 0)
    assert fields["next"][0] == "2090-01-02T05:00:00.000Z"
    listed = [json.loads(line) for line in run.ok("schedule", "list", "-o", "jsonl").splitlines()]
    (row,) = [row for row in listed if row["schedule_id"] == schedule_id]
    assert (row["type"], row["paused"], row["next"], row["note"]) == ("Nobody", True, None, "new")

    part = ("--start-time", "2090-01-02", "--end-time", "2090-01-03T00:00:00Z")
    times = json.loads(run.ok("schedule", "list-matching-times", "-s", schedule_id, *part, "-o", "json"))
    assert times == [{"time": "2090-01-02T05:00:00.000Z"}, {"time": "2090-01-02T17:00:00.000Z"}]
    run.ok("schedule", "backfill", "-s", schedule_id, *part)
    run.ok("schedule", "trigger", "-s", schedule_id, "--overlap-policy", "AllowAll")
    fields = described(run, schedule_id)
    assert next(fire["workflow_id"] for fire in fields["recent"]) == f"{schedule_id}-2090-01-02T05:00:00Z"
    assert (fields["actions"], fields["skipped_overlap"]) == (2, 1)
    assert [(gap["scheduled"], gap["reason"]) for gap in fields["omitted"]] == [("2090-01-02T17:00:00.000Z", "OVERLAP")]
    table = run.ok("schedule", "describe", "-s", schedule_id)
    assert "fires that started nothing:" in table
    assert f"{schedule_id}-2090-01-02T05:00:00Z" in table

    run.ok("schedule", "toggle", "-s", schedule_id, "--unpause", "--reason", "go")
    run.ok("schedule", "update", "-s", schedule_id, "--interval", "1h/10m", "--remaining-actions", "3")
    fields = described(run, schedule_id)
    assert (fields["paused"], fields["note"], fields["remaining_actions"]) == (False, "go", 3)
    assert (fields["calendars"], fields["intervals"]) == (None, ["1:00:00 + 0:10:00"])
    assert fields["next"][0] == "2090-01-01T00:10:00.000Z"
    assert (fields["time_zone"], fields["catchup_window"]) == ("Europe/Zurich", "1:00:00")
    run.ok("schedule", "toggle", "-s", schedule_id, "--pause")
    assert described(run, schedule_id)["paused"] is True
    query = f"ScheduleId = '{schedule_id}' AND TemporalSchedulePaused ="
    assert schedule_id in run.ok("schedule", "list", "-q", f"{query} true")
    assert schedule_id not in run.ok("schedule", "list", "-q", f"{query} false")
    assert "leave out ORDER BY" in run.fails("schedule", "list", "-q", "ORDER BY ScheduleId")
    run.ok("schedule", "delete", "-s", schedule_id)
    assert f"schedule '{schedule_id}' not found" in run.fails("schedule", "describe", "-s", schedule_id)


def test_a_schedule_in_a_list_says_when_it_fired_last_and_next(run: Run, schedule_id: str) -> None:
    workflow = ("--type", "Nobody", "-t", f"{TASK_QUEUE}-idle", "-w", schedule_id)
    run.ok("schedule", "create", "-s", schedule_id, *workflow, "--cron", "@yearly", "--trigger")

    def row() -> dict[str, Any] | None:
        rows = json.loads(run.ok("schedule", "list", "-o", "json"))
        return next((row for row in rows if row["schedule_id"] == schedule_id and row["last"]), None)

    assert wait_for(row)["next"].endswith("-01-01T00:00:00.000Z")


WHEN = ("--cron", "@daily")
RANGE = ("--start-time", "2026-01-01", "--end-time", "2026-01-02")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create",), "say when it fires"),
        (("create", "--cron", "never"), "'never' has 1 fields"),
        (("create", "--interval", "soon"), "--interval: 'soon' is not a duration"),
        (("create", "--interval", "500ms"), "the shortest is 1000 ms"),
        (("create", "--calendar", "6"), "is no JSON object"),
        (("create", "--calendar", '{"week": 1}'), "a calendar has no field 'week'"),
        (("create", "--calendar", '{"hour": 24}'), "'24' is no hour"),
        (("create", "--calendar", '{"hour": [6]}'), "hour is [6]; write a number"),
        (("create", *WHEN, "--overlap-policy", "Queue"), "'Queue' is none of Skip, BufferOne"),
        (("create", *WHEN, "--start-time", "soon"), "--start-time: 'soon' is no time"),
        (("create", *WHEN, "--time-zone", "Mars"), "there is no time zone 'Mars'"),
        (("create", *WHEN, "-i", "x"), "is not JSON"),
        (("create", *WHEN, "--memo", "x"), "is not of the form key=JSON"),
        (("update", "--cron", "x"), "not found"),
        (("toggle",), "give either --pause or --unpause"),
        (("toggle", "--pause"), "not found"),
        (("trigger",), "not found"),
        (("trigger", "--overlap-policy", "x"), "'x' is none of"),
        (("backfill", *RANGE), "not found"),
        (("backfill", "--start-time", "2026-01-02", "--end-time", "2026-01-01"), "--end-time is before"),
        (("list-matching-times", *RANGE), "not found"),
        (("describe",), "not found"),
        (("delete",), "not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_told_in_one_line(run: Run, schedule_id: str, arguments: tuple[str, ...], message: str) -> None:
    more = ("--type", "Nobody", "-t", "q", "-w", "w") if arguments[0] == "create" else ()
    told = run.fails("schedule", arguments[0], "-s", schedule_id, *more, *arguments[1:])
    assert message in told
    assert told.count("\n") == 1
