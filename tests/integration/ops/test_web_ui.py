"""The web UI in headless Chromium, as people use it: pages, live updates, actions, empty and error states."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from selenium.webdriver.common.keys import Keys

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.contrib.codec_server import codec_server, payloads_to_json
from perdure.contrib.encryption import EncryptionCodec
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_ops.http_api.guards import Access
from perdure_ops.http_endpoints import bind
from perdure_schemas.records import Payload
from tests.support.browser import Browser
from tests.support.http_site import ServedSite, served_platform, served_site

pytestmark = pytest.mark.usefixtures("quiet_chrome")

QUEUE = "shop"
MENDED = threading.Event()
HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'


@activity.defn
async def charge(order: str) -> str:
    if not MENDED.is_set():
        raise ApplicationError(f"the bank is down for {order}", {"order": order}, type="BankDown")
    return f"paid {order}"


@workflow.defn
class Parcel:
    @workflow.run
    async def run(self, order: str) -> str:
        return f"sent {order}"


@workflow.defn
class Order:
    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, order: str) -> dict[str, Any]:
        await workflow.execute_child_workflow(Parcel.run, order, id=f"parcel-{order}")
        policy = RetryPolicy(initial_interval=timedelta(hours=1))
        paid = await workflow.execute_activity(
            charge, order, start_to_close_timeout=timedelta(minutes=1), retry_policy=policy
        )
        return {"paid": paid, "notes": self.notes}

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.query
    def status(self) -> dict[str, Any]:
        return {"notes": self.notes}


def _worker(client: Client) -> Worker:
    return Worker(client, task_queue=QUEUE, workflows=[Order, Parcel], activities=[charge])


@pytest.fixture(scope="module")
def site(chrome: Browser) -> Iterator[ServedSite]:
    with served_platform(_worker) as served:
        yield served


def _start(http: httpx.Client, workflow_id: str, kind: str = "Order", *args: Any) -> None:
    body = {"workflow_id": workflow_id, "workflow_type": kind, "task_queue": QUEUE, "args": args or [workflow_id]}
    answer = http.post("workflows", json=body)
    assert answer.status_code == 201, answer.text


def test_an_empty_list_says_what_to_do_and_shows_a_run_when_it_comes(
    chrome: Browser, site: ServedSite, http: httpx.Client
) -> None:
    chrome.open(site.url, "No workflows yet")
    chrome.sees("perdure workflow start")
    chrome.sees("live", "#live")
    chrome.picture("empty")
    _start(http, "first", "Parcel")
    chrome.sees("first", "tbody")  # without a reload
    chrome.sees("Completed", "tbody")


def test_a_failing_activity_is_found_in_three_clicks_paused_mended_and_continued(
    chrome: Browser, site: ServedSite, http: httpx.Client
) -> None:
    _start(http, "order-1")
    chrome.open(f"{site.url}/workflows", "order-1")
    chrome.click("button.chip", "Running")
    chrome.click("tbody a", "order-1")
    chrome.sees("BankDown: the bank is down for order-1")
    chrome.sees("Backing off", "[aria-label=Pending]")
    chrome.picture("run")

    chrome.click("[aria-label=Pending] button", "Pause")
    chrome.type("dialog input[name=reason]", "until the bank is back")
    chrome.click("dialog button", "Pause")
    chrome.sees("Paused", "[aria-label=Pending]")
    chrome.sees("until the bank is back", "[aria-label=Pending]")

    MENDED.set()
    chrome.click("[aria-label=Pending] button", "Unpause")
    chrome.sees("Completed", ".title")  # it followed the run to its end
    chrome.sees('"paid order-1"', "[aria-label=Result]")
    chrome.sees("closed", "#live")
    MENDED.clear()


def test_a_run_tells_its_history_children_and_answers(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    _start(http, "order-2")
    chrome.open(f"{site.url}/workflows/order-2", "BankDown")
    chrome.click("button", "Signal")
    chrome.type("dialog input[name=name]", "note")
    chrome.type("dialog textarea[name=args]", "nonsense")
    chrome.click("dialog button", "Send")
    chrome.sees("this is no JSON", "dialog")
    chrome.type("dialog textarea[name=args]", '["gift"]')
    chrome.click("dialog button", "Send")
    chrome.click("[role=tab]", "History")
    chrome.sees("Signal note", "[aria-label=History]")
    chrome.sees("Child Parcel", "[aria-label=History]")
    chrome.picture("history-compact")
    chrome.click(".segments button", "Full")
    chrome.sees("WorkflowExecutionSignaled", "[aria-label=History]")
    chrome.picture("history-full")
    chrome.click(".segments button", "JSON")
    chrome.sees('"event_type": "ActivityTaskScheduled"', "[aria-label=History]")

    chrome.click("[role=tab]", "Children")
    chrome.sees("parcel-order-2", "[aria-label=Children]")
    chrome.picture("children")
    chrome.click("[role=tab]", "Queries")
    chrome.type("input[name=query]", "status")
    chrome.click("button", "Ask")
    chrome.sees('"gift"', "[aria-label=Queries]")
    chrome.type("input[name=query]", "none")
    chrome.click("button", "Ask")
    chrome.find("[aria-label=Queries] .wrong")
    chrome.click("[role=tab]", "Stack")
    chrome.sees("Order.run", "[aria-label=Stack]")

    chrome.click("summary", "More")
    chrome.click("details.menu button", "Terminate")
    chrome.click("dialog button", "Terminate")
    chrome.sees("Terminated", ".title")


def test_a_workflow_is_started_from_the_form(chrome: Browser, site: ServedSite) -> None:
    chrome.open(f"{site.url}/start", "Start a workflow")
    chrome.type("input[name=workflow_type]", "Parcel")
    chrome.type("input[name=task_queue]", QUEUE)
    chrome.type("input[name=workflow_id]", "by/hand")
    chrome.type("textarea[name=args]", '{"no": "list"}')
    chrome.click("form button", "Start")
    chrome.sees("write a list", "form")
    chrome.picture("start")
    chrome.type("textarea[name=args]", '["x"]')
    chrome.click("form button", "Start")
    chrome.sees("by/hand", "h1")
    chrome.sees('"sent x"', "[aria-label=Result]")


def test_what_users_say_is_never_markup(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    _start(http, f"hostile-{HOSTILE}", "Parcel", HOSTILE)
    chrome.open(f"{site.url}/workflows", HOSTILE)
    chrome.click("tbody a", "hostile-")
    chrome.sees(HOSTILE, "h1")
    chrome.sees("onerror", "[aria-label=Result]")
    chrome.click("[role=tab]", "History")
    assert chrome.driver.execute_script("return window.hurt") is None


def test_a_wrong_filter_and_a_missing_run_say_what_to_do(chrome: Browser, site: ServedSite) -> None:
    chrome.open(f"{site.url}/workflows", "Workflows")
    chrome.type("#filter", "WorkflowType =")
    chrome.press("#filter", Keys.ENTER)
    chrome.sees("the filter ends too early", "#filter-wrong")
    chrome.picture("wrong-filter")
    chrome.click("button", "Clear the filter")
    chrome.sees("first", "tbody")
    chrome.type("#filter", "WorkflowId = 'none'")
    chrome.press("#filter", Keys.ENTER)
    chrome.sees("No run matches")
    chrome.open(f"{site.url}/workflows/none", "not found")
    chrome.picture("missing")
    chrome.click("a", "All workflows")
    chrome.sees("first", "tbody")
    chrome.open(f"{site.url}/workflows/a/b/c", "There is no such page")


def test_views_are_kept(chrome: Browser, site: ServedSite) -> None:
    chrome.open(f"{site.url}/workflows?query=WorkflowType%20%3D%20%27Parcel%27", "first")
    chrome.click("summary", "Views")
    chrome.click("details.menu button", "Save this filter")
    chrome.type("dialog input[name=name]", "Only parcels")
    chrome.click("dialog button", "Save")
    chrome.open(f"{site.url}/workflows", "order-1")
    chrome.click("summary", "Views")
    chrome.click("details.menu button", "Only parcels")
    chrome.until(lambda: "order-1" not in chrome.text("tbody").split() and "first" in chrome.text("tbody"))
    assert "Parcel" in chrome.driver.current_url


def test_the_keyboard_reaches_everything(chrome: Browser, site: ServedSite) -> None:
    chrome.open(f"{site.url}/workflows", "order-1")
    chrome.press("body", "/")
    chrome.until(lambda: chrome.driver.switch_to.active_element.get_attribute("id") == "filter")
    chrome.open(f"{site.url}/workflows/order-1", "Completed")
    chrome.press("[role=tab][aria-selected=true]", Keys.ARROW_RIGHT)
    chrome.sees("History", "[role=tab][aria-selected=true]")
    chrome.click("summary", "More")
    chrome.press("body", Keys.ESCAPE)
    chrome.until(lambda: chrome.driver.execute_script("return !document.querySelector('details.menu[open]')"))
    chrome.click("summary", "More")
    chrome.click("details.menu button", "Delete")
    chrome.press(":focus", Keys.ESCAPE)
    chrome.until(lambda: not chrome.driver.execute_script("return document.querySelector('dialog')"))
    chrome.sees("Completed", ".title")


def test_the_platform_is_seen(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    http.post("workflows", json={"workflow_id": "waits", "workflow_type": "Order", "task_queue": "nobody"})
    chrome.open(f"{site.url}/task-queues", "nobody")
    chrome.sees("Tasks wait and nobody takes them", "[aria-label=nobody]")
    chrome.sees("1 worker", f"[aria-label={QUEUE}]")
    chrome.picture("task-queues")
    chrome.click("a", "Partitions")
    chrome.sees("history/0")
    chrome.sees(site.names.commands)
    chrome.picture("partitions")
    chrome.click("a", "Deployments")
    chrome.sees("No worker has a version")
    http.post("workflows/waits/terminate", json={})


def test_encrypted_payloads_are_decoded_by_the_codec_server(
    chrome: Browser, site: ServedSite, http: httpx.Client
) -> None:
    import asyncio

    codec = EncryptionCodec({"k1": b"k" * 32}, "k1")
    secret = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps("the secret").encode())
    encoded = payloads_to_json(asyncio.run(codec.encode([secret])))["payloads"][0]
    _start(http, "encrypted", "Nobody runs this", encoded)
    with _served(codec_server(codec, cors_origins=[site.url])) as endpoint:
        chrome.open(f"{site.url}/workflows/encrypted", "[binary/encrypted")
        chrome.open(f"{site.url}/settings", "Codec server")
        chrome.picture("settings")
        chrome.type("input[name=endpoint]", endpoint)
        chrome.click("form button", "Save")
        chrome.open(f"{site.url}/workflows/encrypted", '"the secret"')
    http.post("workflows/encrypted/terminate", json={})


@contextlib.contextmanager
def _served(app: Any) -> Iterator[str]:
    listener = bind("127.0.0.1", 0, "")
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def test_a_server_with_a_token_asks_for_it(chrome: Browser, site: ServedSite) -> None:
    with served_site(site.log, site.names, Access("127.0.0.1", "s3cret")) as guarded:
        chrome.open(guarded.url, "needs its token")
        chrome.type("#token", "wrong")
        chrome.click("button", "Continue")
        chrome.sees("not the right one")
        chrome.keep("token")
        chrome.type("#token", "s3cret")
        chrome.click("button", "Continue")
        chrome.sees("first", "tbody")
        chrome.sees("live", "#live")
