"""A headless Chromium for tests of the web UI: found, or installed where continuous integration may; else they skip.

Screenshots are kept in ``tests/.screenshots`` (not under version control), for people to look at.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SCREENSHOTS = Path(__file__).parents[1] / ".screenshots"
TIMEOUT_S = 45.0
INSTALL_S = 300
WIDE, NARROW = 1280, 390
_HEIGHT = 900


def _programs() -> tuple[str, str] | None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def _install() -> None:
    """Debian's packages, if this machine is continuous integration's, and lets us."""
    if os.environ.get("CI") != "true" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium", "chromium-driver"]):
        try:
            subprocess.run(["apt-get", "-q", *command], check=True, capture_output=True, timeout=INSTALL_S)
        except (subprocess.SubprocessError, OSError):
            return


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser for a module's tests; without one they are skipped."""
    if _programs() is None:
        _install()
    programs = _programs()
    if programs is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    driver.set_script_timeout(TIMEOUT_S)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What tests do with a browser. Everything waits for what it needs."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.look(WIDE)

    def look(self, width: int, theme: str = "light") -> None:
        """Have a window of this width, in a dark or light system."""
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        metrics = {"width": width, "height": _HEIGHT, "deviceScaleFactor": 1, "mobile": width == NARROW}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, url: str, shows: str) -> None:
        """Go to a page and wait for a text on it."""
        self.driver.get(url)
        self.sees(shows)

    def until(self, look: Callable[[], Any]) -> Any:
        """Wait until something holds."""

        def again(_: Any) -> Any:
            try:
                return look()
            except (StaleElementReferenceException, ElementClickInterceptedException):
                return False  # the page has just drawn it anew, or a message lies over it for a moment

        try:
            return WebDriverWait(self.driver, TIMEOUT_S, poll_frequency=0.05).until(again)
        except TimeoutException:
            self.keep("failed")
            raise AssertionError(f"it did not happen at {self.driver.current_url}:\n{self.text()}") from None

    def text(self, selector: str = "body") -> str:
        """The text of the first element of a selector; empty if there is none."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found[0].text if found else ""

    def sees(self, text: str, selector: str = "body") -> None:
        """Wait until an element has a text."""
        self.until(lambda: text in self.text(selector))

    def find(self, selector: str, text: str = "") -> WebElement:
        """The first element of a selector with a text, once it is there."""

        def look() -> WebElement | None:
            for element in self.driver.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed() and text in element.text:
                    return element
            return None

        found: WebElement = self.until(look)
        return found

    def click(self, selector: str, text: str = "") -> None:
        """Click an element, once it is there and nothing is in front of it."""

        def attempt() -> bool:
            self.find(selector, text).click()
            return True

        self.until(attempt)

    def press(self, selector: str, key: str) -> None:
        """Press a key on an element, once it is there."""

        def attempt() -> bool:
            self.find(selector).send_keys(key)
            return True

        self.until(attempt)

    def type(self, selector: str, text: str) -> None:
        """Write into a field."""

        def attempt() -> bool:
            field = self.find(selector)
            field.clear()
            field.send_keys(text)
            return True

        self.until(attempt)

    def overflow(self) -> int:
        """How many pixels the page is wider than the window."""
        script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.driver.execute_script(script))

    def keep(self, name: str) -> None:
        """Keep a picture of the whole page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def picture(self, name: str) -> None:
        """Keep the page at both widths, in one theme each; it never needs to be scrolled sideways."""
        for width, theme in ((WIDE, "light"), (NARROW, "dark")):
            self.look(width, theme)
            assert self.overflow() <= 0, f"{name} is wider than {width} px"
            self.keep(f"{name}-{width}-{theme}")
        self.look(WIDE)

    def complaints(self) -> list[str]:
        """What the console has said since the last call, without answers that are errors on purpose."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "Failed to load resource" not in entry["message"]
        ]
