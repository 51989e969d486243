"""Schedules over the HTTP API, as another language would use them, and wrong uses of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.http_api.guards import Access
from tests.support.http_site import ServedSite, served_platform, served_site

QUEUE = "reports"
DAY = {"start_at": "2090-01-02T00:00:00Z", "end_at": "2090-01-02T23:59:59Z"}


@workflow.defn
class Report:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"report of {name}"


@pytest.fixture(scope="module")
def site() -> Iterator[ServedSite]:
    def make_worker(client: Client) -> Worker:
        return Worker(client, task_queue=QUEUE, workflows=[Report])

    with served_platform(make_worker) as served:
        yield served


@pytest.fixture
def schedule_id() -> str:
    return f"s/{uuid.uuid4().hex[:8]}"


def _ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def _problem(answer: httpx.Response, status: int, code: str, detail: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert detail in answer.json()["detail"]


def _path(schedule_id: str, rest: str = "") -> str:
    return f"schedules/{schedule_id.replace('/', '%2F')}{rest}"


def _body(schedule_id: str, **more: Any) -> dict[str, Any]:
    action = {"workflow_type": "Report", "task_queue": QUEUE, "workflow_id": schedule_id, "args": ["Zurich"]}
    office = {"hour": "6,18", "day_of_week": "MON-FRI"}
    spec = {"calendars": [office], "start_at": "2090-01-01T00:00:00Z", "time_zone_name": "Europe/Zurich"}
    return {"schedule_id": schedule_id, "action": action, "spec": spec, **more}


def test_a_schedule_is_made_fired_changed_and_removed(http: httpx.Client, schedule_id: str) -> None:
    action = {
        **_body(schedule_id)["action"],
        "memo": {"why": [1.50]},
        "search_attributes": {"Region": {"type": "Keyword", "value": "eu"}},
        "static_summary": "a report",
        "retry_policy": {"maximum_attempts": 2},
        "priority": {"priority_key": 1},
    }
    policy = {"overlap": "ALLOW_ALL", "catchup_window_ms": 60_000, "pause_on_failure": True}
    body = _body(schedule_id, action=action, policy=policy, paused=True, note="new", memo={"owner": "Ada"})
    assert _ok(http.post("schedules", json=body), 201) == {"schedule_id": schedule_id}
    _problem(http.post("schedules", json=body), 409, "ALREADY_EXISTS", "there is a schedule of this id")

    shown = _ok(http.get(_path(schedule_id)))
    assert {name: shown["action"][name] for name in action if name != "retry_policy"} == {
        **{name: value for name, value in action.items() if name != "retry_policy"},
        "priority": {"priority_key": 1, "fairness_key": None, "fairness_weight": 1.0},
    }
    assert shown["action"]["retry_policy"]["maximum_attempts"] == 2
    assert shown["spec"]["calendars"][0]["day_of_week"] == "1-5"
    assert shown["spec_text"] == ("at 06:00, 18:00 on Monday to Friday (Europe/Zurich), from 2090-01-01 00:00 UTC")
    assert (shown["policy"], shown["paused"], shown["note"], shown["memo"]) == (policy, True, "new", {"owner": "Ada"})
    assert (shown["remaining_actions"], shown["next_times"][0]) == (None, "2090-01-02T05:00:00Z")
    assert _ok(http.get(_path(schedule_id, "/matching-times"), params=DAY)) == {
        "times": ["2090-01-02T05:00:00Z", "2090-01-02T17:00:00Z"]
    }

    _ok(http.post(_path(schedule_id, "/backfill"), json={"ranges": [DAY]}))
    _ok(http.post(_path(schedule_id, "/trigger"), json={"overlap": "SKIP"}))
    run_id = f"{schedule_id}-2090-01-02T05:00:00Z"
    result = _ok(http.get(f"workflows/{run_id.replace('/', '%2F')}/result"))
    assert result["result"] == "report of Zurich"
    shown = _ok(http.get(_path(schedule_id)))
    assert shown["num_actions"] + shown["num_actions_skipped_overlap"] == 3
    assert [fire["workflow_id"] for fire in shown["recent"][:1]] == [run_id]
    assert shown["recent"][0]["manual"] is True

    # What was read can be sent again, and a change of one part leaves the others.
    changed = {name: shown[name] for name in ("action", "spec", "policy", "note", "revision")}
    _ok(http.post(_path(schedule_id, "/update"), json={**changed, "note": "again", "remaining_actions": 3}))
    again = _ok(http.get(_path(schedule_id)))
    assert {name: again[name] for name in ("action", "spec", "policy", "memo", "paused")} == {
        name: shown[name] for name in ("action", "spec", "policy", "memo", "paused")
    }
    assert (again["note"], again["remaining_actions"]) == ("again", 3)
    stale = {"revision": shown["revision"], "note": "lost"}
    _problem(http.post(_path(schedule_id, "/update"), json=stale), 409, "FAILED_PRECONDITION", "it is at revision")
    _ok(http.post(_path(schedule_id, "/update"), json={"spec": {"intervals": [{"every_ms": 3_600_000}]}}))
    _ok(http.post(_path(schedule_id, "/update"), json={"remaining_actions": None}))
    _ok(http.post(_path(schedule_id, "/unpause"), json={"note": "go"}))
    again = _ok(http.get(_path(schedule_id)))
    assert (again["spec_text"], again["paused"], again["note"]) == ("every 1h", False, "go")
    assert again["remaining_actions"] is None
    _ok(http.post(_path(schedule_id, "/pause"), json={}))
    assert _ok(http.get(_path(schedule_id)))["note"] == "paused by http-api"

    _ok(http.delete(_path(schedule_id)))
    _problem(http.get(_path(schedule_id)), 404, "NOT_FOUND", "not found")


def test_schedules_are_listed_page_by_page(http: httpx.Client) -> None:
    names = [f"listed-{number}" for number in range(3)]
    for name in names:
        _ok(http.post("schedules", json=_body(name, paused=True, note="quiet")), 201)
    found, token = [], ""
    while token is not None:
        page = _ok(http.get("schedules", params={"page_size": 2, "page_token": token}))
        found += page["schedules"]
        token = page["next_page_token"]
    rows = [row for row in found if row["schedule_id"] in names]
    assert [row["schedule_id"] for row in rows] == names
    assert (rows[0]["workflow_type"], rows[0]["paused"], rows[0]["note"]) == ("Report", True, "quiet")
    assert rows[0]["next_times"][0] == "2090-01-02T05:00:00Z"
    _problem(http.get("schedules", params={"page_token": "x"}), 400, "INVALID_ARGUMENT", "page_token is none")
    for name in names:
        _ok(http.delete(_path(name)))


def test_a_schedule_is_followed_until_it_is_removed(site: ServedSite, http: httpx.Client, schedule_id: str) -> None:
    _ok(http.post("schedules", json=_body(schedule_id)), 201)
    with http.stream("GET", _path(schedule_id, "/stream")) as answer:
        lines = (line for line in answer.iter_lines() if line and not line.startswith(":"))

        def following(look: str) -> dict[str, Any]:
            for line in lines:
                shown: dict[str, Any] = json.loads(line.removeprefix("data: "))
                if shown[look]:
                    return shown
            raise AssertionError("it ended")

        assert json.loads(next(lines).removeprefix("data: "))["paused"] is False
        with site.http() as other:
            _ok(other.post(_path(schedule_id, "/pause"), json={"note": "wait"}))
            assert following("paused")["note"] == "wait"
            _ok(other.post(_path(schedule_id, "/trigger"), json={}))
            assert following("recent")["num_actions"] == 1
            _ok(other.delete(_path(schedule_id)))
        assert "event: problem" in lines


ACTION = {"workflow_type": "Report", "task_queue": QUEUE, "workflow_id": "w"}
HOURLY = {"intervals": [{"every_ms": 3_600_000}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "", {"schedule_id": "x", "action": ACTION}, 400, "missing required field `spec`"),
        ("POST", "", {"schedule_id": "", "action": ACTION, "spec": HOURLY}, 400, "length >= 1"),
        ("POST", "", {"schedule_id": "x", "action": ACTION, "spec": {"cron": "x"}}, 400, "unknown field `cron`"),
        ("POST", "", {"schedule_id": "x", "action": ACTION, "spec": {"cron_expressions": ["x"]}}, 400, "'x' has 1"),
        ("POST", "", {"schedule_id": "x", "action": ACTION, "spec": {"intervals": [{"every_ms": 1}]}}, 400, "1000 ms"),
        (
            "POST",
            "",
            {"schedule_id": "x", "action": ACTION, "spec": {"calendars": [{"hour": "24"}]}},
            400,
            "spec.calendars[0].hour: '24' is no hour",
        ),
        (
            "POST",
            "",
            {"schedule_id": "x", "action": ACTION, "spec": {**HOURLY, "start_at": "2026-01-01T00:00:00"}},
            400,
            "timezone",
        ),
        ("POST", "", {"schedule_id": "x", "action": ACTION, "spec": {"time_zone_name": "Mars"}}, 400, "'Mars'"),
        (
            "POST",
            "",
            {"schedule_id": "x", "action": {**ACTION, "static_summary": 1}, "spec": HOURLY},
            400,
            "action.static_summary is no text",
        ),
        ("POST", "/none/backfill", {"ranges": []}, 400, "length >= 1"),
        (
            "POST",
            "/none/backfill",
            {"ranges": [{"start_at": DAY["end_at"], "end_at": DAY["start_at"]}]},
            400,
            "end_at is before its start_at",
        ),
        ("POST", "/none/trigger", {"overlap": "QUEUE"}, 400, "Invalid enum value 'QUEUE'"),
        ("POST", "/none/trigger", {}, 404, "not found"),
        ("POST", "/none/pause", {}, 404, "not found"),
        ("POST", "/none/update", {"note": "x"}, 404, "not found"),
        ("GET", "/none/stream", None, 404, "not found"),
        ("GET", "/none/matching-times", None, 400, "missing required field `start_at`"),
        ("DELETE", "/none", None, 404, "not found"),
        ("PUT", "/none", {}, 405, "takes DELETE, GET, not PUT"),
    ],
)
def test_what_is_wrong_is_said(http: httpx.Client, method: str, path: str, body: Any, status: int, detail: str) -> None:
    answer = (
        http.request(method, f"schedules{path}", json=body)
        if body is not None
        else http.request(method, f"schedules{path}")
    )
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_schedules_stand_behind_the_guards(site: ServedSite) -> None:
    with served_site(site.log, site.names, Access("127.0.0.1", "s3cret")) as guarded, guarded.http() as http:
        _problem(http.get("schedules"), 401, "UNAUTHENTICATED", "needs its token")
        token = {"Authorization": "Bearer s3cret"}
        _ok(http.get("schedules", headers=token))
        foreign = {**token, "Origin": "https://evil.example"}
        _problem(http.post("schedules/x/trigger", json={}, headers=foreign), 403, "CROSS_ORIGIN", "another origin")
        _problem(http.post("schedules/x/pause", content=b"{}", headers=token), 415, "UNSUPPORTED_MEDIA_TYPE", "JSON")
