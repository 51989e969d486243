"""Schedules in the web UI, in headless Chromium: the list, the page of one, actions, empty and error states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from tests.support.browser import Browser
from tests.support.http_site import ServedSite, served_platform

pytestmark = pytest.mark.usefixtures("quiet_chrome")

QUEUE = "reports"
#: Longer than the names of most, with characters that addresses and markup know.
WEEKDAYS = "reports/<b>weekdays</b>"


@workflow.defn
class Report:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"report of {name}"


@pytest.fixture(scope="module")
def site(chrome: Browser) -> Iterator[ServedSite]:
    def make_worker(client: Client) -> Worker:
        return Worker(client, task_queue=QUEUE, workflows=[Report])

    with served_platform(make_worker) as served:
        yield served


def _make(http: httpx.Client, schedule_id: str, queue: str = QUEUE, **more: Any) -> None:
    action = {"workflow_type": "Report", "task_queue": queue, "workflow_id": f"of-{schedule_id}", "args": ["Zurich"]}
    spec = {"calendars": [{"hour": "6,18", "day_of_week": "MON-FRI"}], "start_at": "2090-01-01T00:00:00Z"}
    answer = http.post("schedules", json={"schedule_id": schedule_id, "action": action, "spec": spec, **more})
    assert answer.status_code == 201, answer.text


def _post(http: httpx.Client, schedule_id: str, verb: str, body: dict[str, Any]) -> None:
    answer = http.post(f"schedules/{quote(schedule_id, safe='')}/{verb}", json=body)
    assert answer.status_code == 200, answer.text


def test_an_empty_list_says_what_to_do_and_shows_a_schedule_when_it_comes(
    chrome: Browser, site: ServedSite, http: httpx.Client
) -> None:
    chrome.open(f"{site.url}/schedules", "No schedules yet")
    chrome.sees("perdure schedule create")
    chrome.sees("live", "#live")
    chrome.picture("schedules-empty")
    _make(http, WEEKDAYS, note="for the audit")
    chrome.sees(WEEKDAYS, "tbody")  # without a reload
    chrome.sees("at 06:00, 18:00 on Monday to Friday (UTC), from 2090-01-01", "tbody")
    chrome.sees("for the audit", "tbody")
    chrome.sees("no runs yet", "tbody")
    _post(http, WEEKDAYS, "trigger", {})
    chrome.sees("Completed", "tbody")


def test_a_schedule_is_steered_from_its_page(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    _make(http, "nobody", queue="idle")
    chrome.open(f"{site.url}/schedules", "nobody")
    chrome.click("tbody a", "nobody")
    chrome.sees("It has started nothing yet", "[aria-label='Recent runs']")
    chrome.sees("2090-01-02", "[aria-label='Next runs']")
    chrome.sees('"Zurich"', "[aria-label=Starts]")

    chrome.click("button", "Trigger")
    chrome.click("dialog button", "Trigger")
    chrome.sees("Running", "[aria-label='Recent runs']")  # no worker takes it, so it stays
    chrome.sees("by hand", "[aria-label='Recent runs']")
    chrome.click("button", "Backfill")
    chrome.type("dialog input[name=start_at]", "yesterday")
    chrome.click("dialog button", "Backfill")
    chrome.sees("From: this is no time", "dialog")
    chrome.type("dialog input[name=start_at]", "2090-01-02T00:00:00Z")
    chrome.type("dialog input[name=end_at]", "2090-01-03T00:00:00Z")
    chrome.click("dialog button", "Backfill")
    chrome.sees("skipped: one was running", "[aria-label='Left out']")

    chrome.click("button", "Pause")
    chrome.type("dialog input[name=note]", "until the books are closed")
    chrome.press("dialog input[name=note]", Keys.ENTER)
    chrome.sees("Paused: until the books are closed", ".notice")
    chrome.picture("schedule")
    chrome.click("[aria-label='Recent runs'] a", "of-nobody-")
    chrome.sees("ScheduledById", "[aria-label=Facts]")
    chrome.click("[aria-label=Facts] a", "nobody")
    chrome.click("button", "Unpause")
    chrome.click("dialog button", "Unpause")
    chrome.sees("Active", ".title")


def test_a_schedule_is_made_and_changed_by_a_form(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    chrome.open(f"{site.url}/schedules", "Create a schedule")
    chrome.press(".head a", Keys.ENTER)
    chrome.until(lambda: chrome.driver.switch_to.active_element.get_attribute("name") == "schedule_id")
    chrome.type("input[name=schedule_id]", "by/form")
    chrome.type("textarea[name=cron_expressions]", "0 6 * * MON\n61 * * * *")
    chrome.type("textarea[name=intervals]", "1h30m/10m")
    chrome.type("input[name=workflow_type]", "Report")
    chrome.type("input[name=task_queue]", "idle")
    chrome.press("input[name=task_queue]", Keys.ENTER)
    chrome.sees("write something here", "#wrong-action-workflow_id")
    chrome.type("input[name=workflow_id]", "formed")
    chrome.type("textarea[name=args]", "[12345678901234567890, ")
    chrome.click("form button", "Create")
    chrome.sees("this is no JSON", "#wrong-action-args")
    chrome.type("textarea[name=args]", "[12345678901234567890]")
    chrome.click("form button", "Create")
    chrome.sees("'61' is no minute; 0 to 59 are", "#wrong-spec-cron_expressions")
    chrome.until(lambda: chrome.driver.switch_to.active_element.get_attribute("aria-invalid") == "true")
    chrome.click("button", "Add a calendar")
    chrome.type("[data-calendar] input[name=hour]", "25")
    chrome.type("textarea[name=cron_expressions]", "0 6 * * MON")
    chrome.click("form button", "Create")
    chrome.sees("'25' is no hour", "[data-calendar]")
    chrome.picture("schedule-form")
    chrome.type("[data-calendar] input[name=hour]", "7,19")
    chrome.click("form button", "Create")
    chrome.sees("by/form", "h1")
    chrome.sees("every 1h30m", "[aria-label=Spec]")
    made = http.get("schedules/by%2Fform")
    assert "12345678901234567890" in made.text
    assert made.json()["spec"]["calendars"][0]["hour"] == "7,19"

    chrome.click("a", "Change")
    chrome.click("button", "Remove this calendar")
    chrome.type("input[name=note]", "for the audit")
    chrome.click("input[name=paused]")
    chrome.click("form button", "Save")
    chrome.sees("Paused: for the audit", ".notice")
    changed = http.get("schedules/by%2Fform")
    assert "12345678901234567890" in changed.text
    assert changed.json()["spec"] == {**made.json()["spec"], "calendars": []}
    chrome.click("a", "Change")
    chrome.type("input[name=note]", "late")
    _post(http, "by/form", "unpause", {"note": "meanwhile"})
    chrome.click("form button", "Save")
    chrome.sees("describe it, and change that", "form")
    chrome.open(f"{site.url}/new-schedule", "Create a schedule")
    for name, text in (("schedule_id", "by/form"), ("workflow_type", "R"), ("task_queue", "q"), ("workflow_id", "w")):
        chrome.type(f"input[name={name}]", text)
    chrome.click("form button", "Create")
    chrome.sees("there is a schedule of this id", "#wrong-schedule_id")


def test_a_filter_says_which_are_listed(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    _make(http, "quiet", paused=True)
    _make(http, "loud")
    chrome.open(f"{site.url}/schedules", "quiet")
    chrome.sees("loud", "tbody")
    chrome.picture("schedules")
    chrome.click("button.chip", "Paused")
    chrome.until(lambda: "quiet" in chrome.text("tbody") and "loud" not in chrome.text("tbody"))
    chrome.press("body", "/")
    chrome.type("#filter", "ScheduleId = 'none'")
    chrome.press("#filter", Keys.ENTER)
    chrome.sees("No schedule matches")
    chrome.type("#filter", "WorkflowType = 'Report'")
    chrome.press("#filter", Keys.ENTER)
    chrome.sees("WorkflowType is of runs", "#filter-wrong")
    chrome.click("button", "Clear the filter")
    chrome.sees("loud", "tbody")


def test_a_schedule_that_goes_is_gone_from_its_page(chrome: Browser, site: ServedSite, http: httpx.Client) -> None:
    _make(http, "brief")
    chrome.open(f"{site.url}/schedules/brief", "Active")
    http.delete("schedules/brief")
    chrome.sees("This schedule was deleted")
    _make(http, "brief")
    chrome.open(f"{site.url}/schedules/brief", "Active")
    chrome.click("button", "Delete")
    chrome.press(":focus", Keys.ESCAPE)
    chrome.until(lambda: not chrome.driver.execute_script("return document.querySelector('dialog')"))
    chrome.click("button", "Delete")
    chrome.click("dialog button", "Delete")
    chrome.sees("Schedules", "h1")
    chrome.open(f"{site.url}/schedules/brief", "not found")
    chrome.picture("schedule-missing")
