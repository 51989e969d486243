"""Workers given to the development server as MODULE:ATTRIBUTE."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from perdure_ops.errors import CliError
from perdure_ops.user_workers import UserWorkers, load_worker_makers

MODULE = """
def make(client): return client
async def make_async(client): return client
both = [make, make_async]
class NoFunction: pass
number = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_module_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    return name


def test_functions_are_found_in_the_current_folder(module: str) -> None:
    assert [maker.__name__ for maker in load_worker_makers([f"{module}:make"])] == ["make"]
    assert [maker.__name__ for maker in load_worker_makers([f"{module}:both"])] == ["make", "make_async"]


@pytest.mark.parametrize("reference", ["", "make", ":make", "module:"])
def test_a_malformed_reference_is_refused(reference: str) -> None:
    with pytest.raises(CliError, match="MODULE:FUNCTION"):
        load_worker_makers([reference])


def test_a_missing_module_or_attribute_is_named(module: str) -> None:
    with pytest.raises(CliError, match="there is no module 'no_such_module'"):
        load_worker_makers(["no_such_module:make"])
    with pytest.raises(CliError, match="has no 'mke'"):
        load_worker_makers([f"{module}:mke"])


@pytest.mark.parametrize("attribute", ["number", "NoFunction"])
def test_what_is_no_function_is_refused(module: str, attribute: str) -> None:
    with pytest.raises(CliError, match="must be a function"):
        load_worker_makers([f"{module}:{attribute}"])


def test_an_import_error_inside_the_module_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_user_module.py").write_text("import surely_not_there\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
        load_worker_makers(["broken_user_module:make"])


class FakeWorker:
    """Runs until it is shut down, or raises when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.was_shut_down = threading.Event()
        self.fail = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        if self.error is None:
            await self._stop.wait()
        else:
            await self.fail.wait()
            raise self.error

    async def shutdown(self) -> None:
        self.was_shut_down.set()
        self._stop.set()
        self.fail.set()


async def _client() -> Any:
    return "the client"


def test_workers_run_until_stopped() -> None:
    made: list[FakeWorker] = []
    clients: list[Any] = []

    def make(client: Any) -> Any:
        clients.append(client)
        made.append(FakeWorker())
        return made[-1]

    async def make_async(client: Any) -> Any:
        return make(client)

    failures: list[BaseException] = []
    workers = UserWorkers([make, make_async], _client, failures.append)
    workers.start(10)
    workers.stop()
    assert clients == ["the client", "the client"]
    assert all(worker.was_shut_down.is_set() for worker in made)
    assert failures == []


def test_a_worker_that_fails_is_reported_and_the_others_are_shut_down() -> None:
    bad: list[FakeWorker] = []
    good: list[FakeWorker] = []
    failed = threading.Event()
    failures: list[BaseException] = []

    def make_bad(_: Any) -> Any:
        bad.append(FakeWorker(ValueError("no activities")))
        asyncio.get_running_loop().call_soon(bad[0].fail.set)
        return bad[0]

    def make_good(_: Any) -> Any:
        good.append(FakeWorker())
        return good[0]

    def note(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    workers = UserWorkers([make_bad, make_good], _client, note)
    workers.start(10)
    assert failed.wait(10)
    assert [str(error) for error in failures] == ["no activities"]
    assert good[0].was_shut_down.wait(10)
    workers.stop()


def test_an_error_while_making_a_worker_is_raised_by_start() -> None:
    def make(_: Any) -> Any:
        raise ValueError("no task queue")

    with pytest.raises(ValueError, match="no task queue"):
        UserWorkers([make], _client, lambda _: None).start(10)


def test_a_function_that_returns_no_worker_is_refused() -> None:
    with pytest.raises(CliError, match="returned a str where"):
        UserWorkers([lambda client: client], _client, lambda _: None).start(10)
