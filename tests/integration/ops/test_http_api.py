"""The HTTP API over a socket: each operation as another language would use it, and wrong uses of it."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy, VersioningBehavior, WorkerDeploymentVersion
from perdure.exceptions import ApplicationError, CancelledError
from perdure.worker import Worker, WorkerDeploymentConfig
from perdure_ops.http_api.guards import Access
from perdure_schemas import limits
from tests.support.http_site import ServedSite, running_worker, served_platform, served_site

QUEUE = "http"
TOKENS: dict[str, str] = {}
MISSING = "no-such-workflow"


@activity.defn
async def approve(order: str) -> str:
    TOKENS[order] = base64.b64encode(activity.info().task_token).decode()
    activity.raise_complete_async()


@activity.defn
async def charge(order: str) -> str:
    raise ApplicationError(f"no money for {order}", {"order": order}, type="BankDown")


@workflow.defn
class Cart:
    def __init__(self) -> None:
        self.items: list[Any] = []

    @workflow.run
    async def run(self, name: Any = None) -> dict[str, Any]:
        await workflow.wait_condition(lambda: "close" in self.items)
        return {"name": name, "items": self.items}

    @workflow.signal
    def add(self, item: Any) -> None:
        self.items.append(item)

    @workflow.query
    def show(self) -> list[Any]:
        return self.items

    @workflow.query
    def broken(self) -> None:
        raise ApplicationError("cannot tell")

    @workflow.update
    def put(self, item: Any) -> int:
        if item == "bad":
            raise ApplicationError("not that", type="Refused")
        self.items.append(item)
        return len(self.items)


@workflow.defn
class Approval:
    @workflow.run
    async def run(self, order: str) -> str:
        try:
            return await workflow.execute_activity(
                approve,
                order,
                activity_id="approve",
                start_to_close_timeout=timedelta(hours=1),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except BaseException as error:
            if isinstance(error.__cause__, CancelledError):
                return "cancelled"
            raise


@workflow.defn
class Payment:
    @workflow.run
    async def run(self, order: str) -> str:
        policy = RetryPolicy(initial_interval=timedelta(hours=1))
        return await workflow.execute_activity(
            charge, order, activity_id="charge", start_to_close_timeout=timedelta(hours=1), retry_policy=policy
        )


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError("it cannot work", {"why": [1, 2]}, type="Nope")


def _worker(client: Client) -> Worker:
    return Worker(client, task_queue=QUEUE, workflows=[Cart, Approval, Payment, Failing], activities=[approve, charge])


@pytest.fixture(scope="module")
def site() -> Iterator[ServedSite]:
    with served_platform(_worker) as served:
        yield served


def _ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    return problem


def _start(http: httpx.Client, workflow_id: str, kind: str = "Cart", *args: Any, **more: Any) -> str:
    body = {"workflow_id": workflow_id, "workflow_type": kind, "task_queue": QUEUE, "args": args, **more}
    run_id: str = _ok(http.post("workflows", json=body), 201)["run_id"]
    return run_id


def _close(http: httpx.Client, workflow_id: str) -> Any:
    _ok(http.post(f"workflows/{workflow_id}/signal", json={"signal": "add", "args": ["close"]}))
    return _ok(http.get(f"workflows/{workflow_id}/result"))


def _await(look: Callable[[], Any]) -> Any:
    for _ in range(600):
        found = look()
        if found:
            return found
        threading.Event().wait(0.1)
    raise AssertionError("it did not happen")


# --- workflows --------------------------------------------------------------------------------------------------------


def test_a_workflow_is_started_signalled_queried_and_ends(http: httpx.Client) -> None:
    run_id = _start(http, "life", "Cart", {"customer": "Ann"})
    assert _ok(http.get("workflows/life/result", params={"wait_ms": 1}), 202)["status"] == "RUNNING"
    _ok(http.post("workflows/life/signal", json={"signal": "add", "args": [{"sku": 1}]}))
    assert _ok(http.post("workflows/life/query", json={"query": "show"})) == {"result": [{"sku": 1}]}
    assert "wait_condition" in _ok(http.get("workflows/life/stack-trace"))["stack_trace"]
    assert _close(http, "life") == {
        "workflow_id": "life",
        "run_id": run_id,
        "status": "COMPLETED",
        "result": {"name": {"customer": "Ann"}, "items": [{"sku": 1}, "close"]},
        "failure": None,
    }
    rejected = http.post("workflows/life/query", json={"query": "show", "reject_condition": "NOT_OPEN"})
    _problem(rejected, 409, "QUERY_REJECTED")


def test_numbers_keep_all_their_digits(http: httpx.Client) -> None:
    number = "12345678901234567890.123456789000"
    content = f'{{"workflow_id":"digits","workflow_type":"Cart","task_queue":"{QUEUE}","args":[{number}]}}'
    _ok(http.post("workflows", content=content, headers={"Content-Type": "application/json"}), 201)
    events = http.get("workflows/digits/history").text
    assert f'"input":[{number}]' in events
    _ok(http.post("workflows/digits/terminate", json={}))


def test_encoded_payloads_travel_both_ways(http: httpx.Client) -> None:
    payload = {"metadata": {"encoding": base64.b64encode(b"binary/plain").decode()}, "data": "AAH/"}
    _start(http, "bytes", "Cart", payload)
    assert _ok(http.get("workflows/bytes/history"))["events"][0]["attributes"]["input"] == [payload]
    _ok(http.post("workflows/bytes/terminate", json={}))
    broken = {"metadata": {"encoding": "?"}, "data": "AAH/"}
    body = {"workflow_type": "Cart", "task_queue": QUEUE, "args": [1, broken]}
    assert "args[1]" in _problem(http.post("workflows", json=body), 400, "INVALID_ARGUMENT")["detail"]


def test_ids_may_hold_anything(http: httpx.Client) -> None:
    odd = "a/b?c%2F d\u00e9#"
    _start(http, odd)
    path = f"workflows/{quote(odd, safe='')}"
    assert _ok(http.get(path))["workflow_id"] == odd
    _ok(http.post(f"{path}/terminate", json={"reason": "enough", "details": [1]}))
    assert _ok(http.get(f"{path}/result"))["status"] == "TERMINATED"


def test_a_run_is_described_with_what_it_carries(http: httpx.Client) -> None:
    attributes = {
        "Customer": {"type": "Keyword", "value": "Ann"},
        "Due": {"type": "Datetime", "value": "2026-01-31T10:00:00+00:00"},
    }
    _start(
        http, "carries", memo={"note": [1, None]}, search_attributes=attributes, static_summary="a cart",
        run_timeout_ms=3_600_000, priority={"priority_key": 2}, retry_policy={"maximum_attempts": 3},
        versioning_override={"auto_upgrade": True},
    )  # fmt: skip
    found = _ok(http.get("workflows/carries"))
    assert (found["status"], found["memo"], found["static_summary"]) == ("RUNNING", {"note": [1, None]}, "a cart")
    assert (found["search_attributes"], found["run_timeout_ms"]) == (attributes, 3_600_000)
    assert found["start_time"].endswith("Z")
    assert _ok(http.get("workflow-count", params={"query": "Customer = 'Ann'"}))["count"] == 1
    _ok(http.post("workflows/carries/terminate", json={}))


def test_a_failed_workflow_tells_why(http: httpx.Client) -> None:
    _start(http, "fails", "Failing")
    result = _ok(http.get("workflows/fails/result"))
    assert (result["status"], result["result"]) == ("FAILED", None)
    failure = result["failure"]
    assert (failure["message"], failure["type"]) == ("it cannot work", "Nope")
    assert failure["details"] == [{"why": [1, 2]}]
    assert "test_http_api.py" in failure["stack_trace"]


def test_lists_are_filtered_and_paged(http: httpx.Client) -> None:
    for number in range(3):
        _start(http, f"page-{number}", start_delay_ms=3_600_000)
    query = "WorkflowId STARTS_WITH 'page-' ORDER BY WorkflowId"
    first = _ok(http.get("workflows", params={"query": query, "page_size": 2}))
    assert [run["workflow_id"] for run in first["runs"]] == ["page-0", "page-1"]
    token = first["next_page_token"]
    last = _ok(http.get("workflows", params={"query": query, "page_size": 2, "page_token": token}))
    assert [run["workflow_id"] for run in last["runs"]] == ["page-2"]
    assert last["next_page_token"] is None
    grouped = _ok(http.get("workflow-count", params={"query": "WorkflowId STARTS_WITH 'page-' GROUP BY WorkflowType"}))
    assert grouped == {"count": 3, "groups": [{"values": ["Cart"], "count": 3}]}
    _problem(http.get("workflows", params={"query": "Nonsense ="}), 400, "INVALID_ARGUMENT")
    assert _problem(http.get("workflows", params={"page_token": "!"}), 400, "INVALID_ARGUMENT")["where"] == "page_token"
    for number in range(3):
        _ok(http.delete(f"workflows/page-{number}", params={"reason": "test"}))
    _problem(http.get("workflows/page-0"), 404, "NOT_FOUND")


def test_an_id_that_is_taken_is_refused_unless_the_policy_allows_it(http: httpx.Client) -> None:
    run_id = _start(http, "taken")
    body = {"workflow_id": "taken", "workflow_type": "Cart", "task_queue": QUEUE}
    assert _problem(http.post("workflows", json=body), 409, "ALREADY_EXISTS")["run_id"] == run_id
    again = _ok(http.post("workflows", json=body | {"id_conflict_policy": "USE_EXISTING"}), 201)
    assert again["run_id"] == run_id
    _ok(http.post("workflows/taken/terminate", json={}))


def test_a_start_without_an_id_gets_one(http: httpx.Client) -> None:
    started = _ok(http.post("workflows", json={"workflow_type": "Cart", "task_queue": QUEUE}), 201)
    assert started["workflow_id"]
    _ok(http.post(f"workflows/{started['workflow_id']}/terminate", json={}))


def test_a_workflow_is_forked_and_reset(http: httpx.Client) -> None:
    run_id = _start(http, "again")
    _close(http, "again")
    forked = _ok(
        http.post("workflows/again/fork", json={"new_workflow_id": "forked", "first_workflow_task": True}), 201
    )
    assert forked["workflow_id"] == "forked"
    reset = _ok(http.post("workflows/again/reset", json={"point": "FirstWorkflowTask", "reason": "a bug"}), 201)
    assert reset["run_id"] != run_id
    assert _ok(http.get("workflows/again/result"))["status"] == "COMPLETED"  # the signal was delivered again
    _ok(http.post("workflows/forked/terminate", json={}))
    _problem(http.post("workflows/again/reset", json={"event_id": 1, "reason": "wrong"}), 400, "INVALID_ARGUMENT")


# --- messages ---------------------------------------------------------------------------------------------------------


def test_signal_with_start_starts_once(http: httpx.Client) -> None:
    body = {
        "start": {"workflow_type": "Cart", "task_queue": QUEUE, "id_conflict_policy": "USE_EXISTING"},
        "signal": {"signal": "add", "args": [1]},
    }
    runs = {_ok(http.post("workflows/sws/signal-with-start", json=body), 201)["run_id"] for _ in range(2)}
    assert len(runs) == 1
    assert _close(http, "sws")["result"]["items"] == [1, 1, "close"]


def test_updates_have_one_outcome(http: httpx.Client) -> None:
    _start(http, "updates")
    body = {"update": "put", "args": ["x"], "update_id": "u1"}
    for _ in range(2):
        answer = _ok(http.post("workflows/updates/update", json=body))
        assert (answer["stage"], answer["result"], answer["failure"]) == ("COMPLETED", 1, None)
    assert _ok(http.get("workflows/updates/updates/u1"))["result"] == 1
    failed = _ok(http.post("workflows/updates/update", json={"update": "put", "args": ["bad"]}))
    assert (failed["result"], failed["failure"]["type"]) == (None, "Refused")
    _problem(http.get("workflows/updates/updates/unknown"), 404, "NOT_FOUND")
    _ok(http.post("workflows/updates/terminate", json={}))


def test_update_with_start_starts_and_updates(http: httpx.Client) -> None:
    start = {"workflow_type": "Cart", "task_queue": QUEUE, "id_conflict_policy": "USE_EXISTING"}
    body = {"start": start, "update": {"update": "put", "args": ["x"]}}
    assert [_ok(http.post("workflows/uws/update-with-start", json=body))["result"] for _ in range(2)] == [1, 2]
    without = {"start": {"workflow_type": "Cart", "task_queue": QUEUE}, "update": {"update": "put"}}
    _problem(http.post("workflows/uws/update-with-start", json=without), 400, "INVALID_ARGUMENT")
    _ok(http.post("workflows/uws/terminate", json={}))


def test_a_query_that_fails_says_why(http: httpx.Client) -> None:
    _start(http, "asked")
    assert (
        "cannot tell"
        in _problem(http.post("workflows/asked/query", json={"query": "broken"}), 422, "QUERY_FAILED")["detail"]
    )
    _problem(http.post("workflows/asked/query", json={"query": "none"}), 422, "QUERY_FAILED")
    _ok(http.post("workflows/asked/terminate", json={}))


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("signal", {"signal": "add"}),
        ("query", {"query": "show"}),
        ("update", {"update": "put"}),
        ("cancel", {}),
        ("terminate", {}),
        ("reset", {}),
        ("pause", {}),
        ("unpause", {}),
        ("release", {}),
        ("fork", {"new_workflow_id": "x"}),
    ],
)
def test_a_workflow_that_does_not_exist_is_not_found(http: httpx.Client, verb: str, body: dict[str, Any]) -> None:
    problem = _problem(http.post(f"workflows/{MISSING}/{verb}", json=body), 404, "NOT_FOUND")
    assert "not found" in problem["detail"].lower() or MISSING in problem["detail"]


@pytest.mark.parametrize("what", ["", "/result", "/history", "/history/stream", "/history/document"])
def test_nor_can_it_be_read(http: httpx.Client, what: str) -> None:
    _problem(http.get(f"workflows/{MISSING}{what}"), 404, "NOT_FOUND")


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_workflow_is_paused_and_goes_on(http: httpx.Client) -> None:
    _start(http, "held")
    _ok(http.post("workflows/held/pause", json={"reason": "look at it"}))
    held = _ok(http.get("workflows/held"))
    assert (held["paused"], held["pause_reason"]) == (True, "look at it")
    _ok(http.post("workflows/held/unpause", json={}))
    assert _close(http, "held")["status"] == "COMPLETED"


def test_a_workflow_is_cancelled(http: httpx.Client) -> None:
    _start(http, "stopped")
    _ok(http.post("workflows/stopped/cancel", json={"reason": "no more"}))
    assert _ok(http.get("workflows/stopped/result"))["status"] == "CANCELED"


# --- histories --------------------------------------------------------------------------------------------------------


def test_a_history_is_read_from_any_event_and_as_replayers_have_it(http: httpx.Client) -> None:
    run_id = _start(http, "told", "Cart", {"a": 1})
    _close(http, "told")
    whole = _ok(http.get("workflows/told/history"))
    assert whole["events"][0]["event_type"] == "WorkflowExecutionStarted"
    assert whole["events"][0]["attributes"]["input"] == [{"a": 1}]
    assert [event["event_id"] for event in whole["events"]] == list(range(1, len(whole["events"]) + 1))
    assert (whole["next_event_id"], whole["closed"], whole["run_id"]) == (None, True, run_id)
    part = _ok(http.get("workflows/told/history", params={"first_event_id": 4, "run_id": run_id}))
    assert part["events"] == whole["events"][3:]
    document = _ok(http.get("workflows/told/history/document"))
    assert (document["run_id"], len(document["events"])) == (run_id, len(whole["events"]))


def _messages(answer: httpx.Response) -> Iterator[Any]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_history_is_followed_to_its_end(http: httpx.Client) -> None:
    _start(http, "followed")
    seen: list[int] = []
    with http.stream("GET", "workflows/followed/history/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        closing = False
        for message in _messages(answer):
            seen += [event["event_id"] for event in message["events"]]
            if not closing:
                _ok(http.post("workflows/followed/signal", json={"signal": "add", "args": ["close"]}))
                closing = True
    assert message["closed"]
    assert seen == list(range(1, len(seen) + 1))


def test_changes_of_the_list_are_followed(http: httpx.Client) -> None:
    with http.stream("GET", "workflow-changes") as answer:
        messages = _messages(answer)
        assert next(messages) == {"changed": False}
        _start(http, "new-in-the-list")
        assert next(messages) == {"changed": True}
    _ok(http.post("workflows/new-in-the-list/terminate", json={}))


# --- activities -------------------------------------------------------------------------------------------------------


def _token(http: httpx.Client, workflow_id: str) -> str:
    _start(http, workflow_id, "Approval", workflow_id)
    token: str = _await(lambda: TOKENS.get(workflow_id))
    return token


def test_an_activity_is_completed_by_its_token_and_by_its_ids(http: httpx.Client) -> None:
    _ok(http.post("activities/complete", json={"task_token": _token(http, "act-1"), "result": "yes"}))
    assert _ok(http.get("workflows/act-1/result"))["result"] == "yes"
    _token(http, "act-2")
    _ok(http.post("activities/complete", json={"workflow_id": "act-2", "activity_id": "approve", "result": "yes"}))
    assert _ok(http.get("workflows/act-2/result"))["result"] == "yes"
    gone = http.post("activities/complete", json={"workflow_id": "act-2", "activity_id": "approve"})
    _problem(gone, 404, "NOT_FOUND")


def test_an_activity_fails_with_details(http: httpx.Client) -> None:
    token = _token(http, "act-3")
    body = {"task_token": token, "message": "no", "type": "Refused", "non_retryable": True, "details": [{"by": "Ada"}]}
    _ok(http.post("activities/fail", json=body))
    cause = _ok(http.get("workflows/act-3/result"))["failure"]["cause"]
    assert (cause["message"], cause["type"], cause["details"]) == ("no", "Refused", [{"by": "Ada"}])


def test_a_heartbeat_tells_of_a_request_to_stop(http: httpx.Client) -> None:
    token = _token(http, "act-4")
    wanted = {"cancel_requested": False, "paused": False, "reset": False}
    assert _ok(http.post("activities/heartbeat", json={"task_token": token, "details": [50]})) == wanted
    _await(lambda: _ok(http.get("workflows/act-4"))["pending_activities"][0]["heartbeat_details"] == [50])
    early = http.post("activities/report-cancellation", json={"task_token": token})
    _problem(early, 409, "FAILED_PRECONDITION")
    _ok(http.post("workflows/act-4/cancel", json={}))
    _await(lambda: _ok(http.post("activities/heartbeat", json={"task_token": token}))["cancel_requested"])
    _ok(http.post("activities/report-cancellation", json={"task_token": token, "details": ["stopped"]}))
    assert _ok(http.get("workflows/act-4/result"))["result"] == "cancelled"


@pytest.mark.parametrize(
    "reference",
    [
        {},
        {"task_token": "###"},
        {"task_token": "AAAA"},
        {"workflow_id": "a"},
        {"task_token": "AAAA", "workflow_id": "a"},
    ],
)
def test_a_reference_to_an_activity_must_be_one(http: httpx.Client, reference: dict[str, Any]) -> None:
    for verb in ("complete", "fail", "heartbeat", "report-cancellation"):
        _problem(http.post(f"activities/{verb}", json=reference), 400, "INVALID_ARGUMENT")


def test_a_failing_activity_is_found_paused_changed_and_reset(http: httpx.Client) -> None:
    _start(http, "pays", "Payment", "o-1")

    def pending() -> Any:
        return _ok(http.get("workflows/pays"))["pending_activities"][0]

    _await(lambda: _ok(http.get("workflows/pays"))["pending_activities"] and pending()["state"] == "BACKING_OFF")
    found = pending()
    assert (found["attempt"], found["last_failure"]["type"]) == (2, "BankDown")
    assert found["next_attempt_time"]
    which = {"workflow_id": "pays", "activity_id": "charge"}
    _ok(http.post("activities/pause", json=which | {"reason": "the bank is down"}))
    assert (pending()["state"], pending()["pause_reason"]) == ("PAUSED", "the bank is down")
    _ok(http.post("activities/update-options", json=which | {"retry_maximum_attempts": 7}))
    assert pending()["maximum_attempts"] == 7
    _ok(http.post("activities/reset", json=which | {"keep_paused": True}))
    assert pending()["state"] == "PAUSED"
    _ok(http.post("activities/unpause", json={"workflow_id": "pays", "activity_type": "charge"}))
    _await(lambda: pending()["state"] == "BACKING_OFF")
    both = which | {"activity_type": "charge"}
    for verb in ("pause", "unpause", "reset", "update-options"):
        _problem(http.post(f"activities/{verb}", json=both), 400, "INVALID_ARGUMENT")
        _problem(http.post(f"activities/{verb}", json=which | {"activity_id": "none"}), 404, "NOT_FOUND")
    _ok(http.post("workflows/pays/terminate", json={}))


# --- workers and the platform -----------------------------------------------------------------------------------------


def test_task_queues_tell_backlog_and_workers(http: httpx.Client) -> None:
    _await(lambda: QUEUE in [queue["name"] for queue in _ok(http.get("task-queues"))["task_queues"]])
    worker = _ok(http.get(f"task-queues/{QUEUE}"))["workers"][0]
    assert (worker["task_queue"], worker["draining"]) == (QUEUE, False)
    assert worker["worker_id"] in [found["worker_id"] for found in _ok(http.get("workers"))["workers"]]
    body = {"workflow_id": "nobody", "workflow_type": "Cart", "task_queue": "nobody works here"}
    _ok(http.post("workflows", json=body), 201)
    waiting = _await(lambda: _ok(http.get("task-queues/nobody%20works%20here"))["tasks"])
    assert [(tasks["kind"], tasks["backlog"], tasks["running"]) for tasks in waiting] == [("workflow", 1, 0)]
    _ok(http.post("workflows/nobody/terminate", json={}))
    _problem(http.get("task-queues/none"), 404, "NOT_FOUND")


def test_deployments_are_listed_and_led(http: httpx.Client, site: ServedSite) -> None:
    assert _ok(http.get("deployments")) == {"deployments": []}

    def worker(client: Client) -> Worker:
        config = WorkerDeploymentConfig(
            version=WorkerDeploymentVersion("shop", "b1"),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )
        return Worker(client, task_queue="versions", workflows=[Cart], deployment_config=config)

    with running_worker(site.log, site.names, worker):
        _await(lambda: _ok(http.get("deployments"))["deployments"])
        _ok(http.post("deployments/shop/ramping", json={"build_id": "b1", "percentage": 5}))
        assert _ok(http.get("deployments/shop"))["ramping_build_id"] == "b1"
        _ok(http.post("deployments/shop/current", json={"build_id": "b1"}))
        described = _ok(http.get("deployments/shop"))
        assert (described["current_build_id"], described["ramping_build_id"]) == ("b1", None)
        assert described["versions"][0] | {"retired_time": None} == {
            "build_id": "b1", "status": "CURRENT", "open_pinned_runs": 0, "task_queues": ["versions"],
            "retired_time": None,
        }  # fmt: skip
    _problem(http.post("deployments/shop/current", json={"build_id": "b9"}), 409, "FAILED_PRECONDITION")
    _problem(http.post("deployments/none/current", json={"build_id": "b1"}), 404, "NOT_FOUND")
    _problem(http.delete("deployments/shop/versions/b1"), 409, "FAILED_PRECONDITION")
    _problem(http.delete("deployments/shop/versions/b9"), 404, "NOT_FOUND")
    _ok(http.post("deployments/shop/current", json={"build_id": ""}))
    _ok(http.delete("deployments/shop/versions/b1"))
    _await(lambda: not _ok(http.get("deployments/shop"))["versions"])


def test_the_platform_tells_about_itself(http: httpx.Client, site: ServedSite) -> None:
    about = _ok(http.get("about"))
    assert (about["namespace"], about["partitions"]) == (site.names.namespace, site.names.partitions)
    partitions = _ok(http.get("partitions"))["partitions"]
    assert {(row["role"], row["partition"]) for row in partitions} == {
        (role, number) for role in ("history", "matching", "timers") for number in range(site.names.partitions)
    }
    assert all(row["state"] == "owned" for row in partitions)
    assert {row["topic"] for row in _ok(http.get("lag"))["lags"]} >= {site.names.commands, site.names.reads}


# --- wrong requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "INVALID_ARGUMENT"),
        (b"\xff", "application/json", 400, "INVALID_ARGUMENT"),
        (b"[" * 300, "application/json", 400, "INVALID_ARGUMENT"),
        (b"[]", "application/json", 400, "INVALID_ARGUMENT"),
        (b"", "application/json", 400, "INVALID_ARGUMENT"),
        (b'{"signal": ""}', "application/json", 400, "INVALID_ARGUMENT"),
        (b'{"signal": "x", "arg": 1}', "application/json", 400, "INVALID_ARGUMENT"),
        (b'{"signal": "x", "args": [NaN]}', "application/json", 400, "INVALID_ARGUMENT"),
        (b'{"signal": "x"}', "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
def test_a_body_that_is_wrong_is_refused(http: httpx.Client, content: bytes, kind: str, status: int, code: str) -> None:
    _problem(http.post("workflows/x/signal", content=content, headers={"Content-Type": kind}), status, code)


def test_a_place_in_the_body_is_named(http: httpx.Client) -> None:
    body = {"workflow_type": "Cart", "task_queue": QUEUE, "retry_policy": {"maximum_attempts": -1}}
    assert (
        _problem(http.post("workflows", json=body), 400, "INVALID_ARGUMENT")["where"]
        == "$.retry_policy.maximum_attempts"
    )
    body = {"workflow_type": "Cart", "task_queue": QUEUE, "search_attributes": {"A": {"type": "Odd", "value": 1}}}
    assert "Odd" in _problem(http.post("workflows", json=body), 400, "INVALID_ARGUMENT")["detail"]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("workflows?page_size=0", "$.page_size"),
        ("workflows?page_size=x", "$.page_size"),
        ("workflows?nonsense=1", "nonsense"),
        ("workflows?query=a&query=b", "query"),
        ("about?x=1", "x"),
        (f"workflows/x/result?wait_ms={limits.HTTP_WAIT_MS_MAX + 1}", "$.wait_ms"),
    ],
)
def test_a_query_parameter_that_is_wrong_is_named(http: httpx.Client, path: str, where: str) -> None:
    assert _problem(http.get(path), 400, "INVALID_ARGUMENT")["where"] == where


def test_what_does_not_exist_is_a_problem_too(http: httpx.Client) -> None:
    _problem(http.get("nonsense"), 404, "NOT_FOUND")
    wrong = http.put("workflows", json={})
    _problem(wrong, 405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["allow"] == "GET, POST"


def test_a_body_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    content = b'"' + b"x" * limits.HTTP_BODY_BYTES_MAX + b'"'
    answer = http.post("workflows", content=content, headers={"Content-Type": "application/json"})
    _problem(answer, 413, "TOO_LARGE")
    _problem(
        http.post("workflows/x/cancel", json={"reason": "x" * (limits.REASON_CHARS_MAX + 1)}), 400, "INVALID_ARGUMENT"
    )


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_another_host_or_origin_is_refused(http: httpx.Client) -> None:
    problem = _problem(http.get("about", headers={"Host": "evil.example"}), 421, "UNKNOWN_HOST")
    assert "evil.example" in problem["detail"]
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        _problem(http.post("workflows", json={}, headers=headers), 403, "CROSS_ORIGIN")
    same = str(http.base_url).removesuffix("/api/v1/")
    _problem(http.post("workflows", json={}, headers={"Origin": same}), 400, "INVALID_ARGUMENT")


def test_answers_carry_headers_that_keep_pages_apart(http: httpx.Client) -> None:
    headers = http.get("about").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_with_a_token_nothing_is_answered_without_it(site: ServedSite) -> None:
    with served_site(site.log, site.names, Access("127.0.0.1", "s3cret")) as guarded, guarded.http() as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            answer = http.get("workflows", headers=headers)
            assert "s3cret" not in _problem(answer, 401, "UNAUTHENTICATED")["detail"]
            assert answer.headers["www-authenticate"] == "Bearer"
        _ok(http.get("about", headers={"Authorization": "Bearer s3cret"}))
        # A page of another name has no token, so any name may be used.
        _ok(http.get("about", headers={"Authorization": "Bearer s3cret", "Host": "perdure.example"}))
        assert httpx.get(f"{guarded.url}/healthz").status_code == 200


def test_a_closed_site_ends_streams_and_leaves_the_log_open(site: ServedSite) -> None:
    with contextlib.ExitStack() as opened:
        with served_site(site.log, site.names, Access("127.0.0.1")) as other:
            http = opened.enter_context(other.http())
            messages = _messages(opened.enter_context(http.stream("GET", "workflow-changes")))
            assert next(messages) == {"changed": False}
        assert {"changed": False} not in list(messages)  # it ends
        with pytest.raises(httpx.HTTPError):
            http.get("about")
    with site.http() as again:
        _ok(again.get("about"))
