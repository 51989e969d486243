"""What files of tests share: one platform with a worker and commands that are run against it, a browser, a client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import httpx
import pytest

from perdure.client import Client
from perdure_ops import cli
from perdure_ops.user_workers import UserWorkers
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.integration.ops.worker import make_worker
from tests.support.browser import WIDE, Browser, browser
from tests.support.http_site import ServedSite
from tests.support.platform import embedded_platform

START_TIMEOUT_S = 60.0


class Run:
    """Runs commands; the code, stdout and stderr of each."""

    def __init__(self, address: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self.namespace = namespace
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return self.without_namespace(*arguments, "-n", self.namespace)

    def without_namespace(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command that takes no namespace."""
        return self.run_line(*arguments, "--address", self.address)

    def run_line(self, *line: str) -> tuple[int, str, str]:
        """Run a command that takes no address either."""
        with pytest.raises(SystemExit) as ended:
            cli.main(line)
        captured = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in captured.err
        return ended.value.code, captured.out, captured.err

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        code, out, err = self(*arguments)
        assert code == 0, err
        return out

    def fails(self, *arguments: str, code: int = 1) -> str:
        """The one line of a command that must fail."""
        ended, _, err = self(*arguments)
        assert ended == code, err
        return err


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Log, TopicNames, str]]:
    """An embedded platform with a worker for the task queue ``shop``, and its address."""
    with embedded_platform() as (log, names):
        server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
        failures: list[BaseException] = []

        async def connect() -> Client:
            return Client.from_log(log, namespace=names.namespace, names=names)

        workers = UserWorkers([make_worker], connect, failures.append)
        workers.start(START_TIMEOUT_S)
        yield log, names, f"127.0.0.1:{server.port}"
        workers.stop()
        server.close()
        assert not failures


@pytest.fixture(scope="module")
def http(site: ServedSite) -> Iterator[httpx.Client]:
    """A client of the HTTP API that the file's ``site`` serves."""
    with site.http() as client:
        yield client


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """A browser for all tests of a file."""
    with browser() as opened:
        yield opened


@pytest.fixture
def quiet_chrome(chrome: Browser) -> Iterator[None]:
    """The browser begins with a wide window, and its console has nothing to complain of in the end."""
    chrome.look(WIDE)
    yield
    assert chrome.complaints() == []


@pytest.fixture
def run(shared: tuple[Log, TopicNames, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands against the file's platform."""
    _, names, address = shared
    return Run(address, names.namespace, capsys)
