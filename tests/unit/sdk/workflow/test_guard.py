# ruff: noqa: DTZ001, DTZ003, DTZ005, DTZ011 # what is found here is what shall not be written
"""Workflow code is refused what is not deterministic; everybody else is not."""

from __future__ import annotations

import concurrent.futures
import datetime as datetime_module
import logging
import os
import pickle
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import time as imported_time
from typing import Any
from uuid import uuid4

import pydantic
import pytest

from perdure import workflow
from perdure._runtime.guard import guard
from perdure_schemas.records import WorkflowTaskCompleted, WorkflowTaskFailed
from tests.support.history_builder import Driver, History, result_of, run, runner

_action: Callable[[], Any] = int


@dataclass
class Named:
    name: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Generated:
    name: uuid.UUID = field(default_factory=lambda: workflow.uuid4())


class Model(pydantic.BaseModel):
    number: int
    name: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)


@workflow.defn
class Acts:
    @workflow.run
    async def run(self) -> str:
        return str(_action())

    @workflow.query
    def ask(self) -> str:
        return str(_action())


@workflow.defn(sandboxed=False)
class Unguarded:
    @workflow.run
    async def run(self) -> str:
        return str(_action())


def attempt(action: Callable[[], Any], workflow_class: type = Acts) -> WorkflowTaskCompleted | WorkflowTaskFailed:
    global _action
    one = runner(workflow_class)
    _action = action
    try:
        history = History(workflow_class.__name__)
        completed = run(one, history, history.task())
        assert completed is not None
        return completed
    finally:
        _action = int


class OwnDate(datetime):
    """A class of the user's with the clock of its base."""


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("time.time()", lambda: time.time(), "workflow.now()"),
    ("time.time()", lambda: imported_time(), "workflow.now()"),
    ("time.time_ns()", lambda: time.time_ns(), "workflow.now()"),
    ("time.monotonic()", lambda: time.monotonic(), "workflow.now()"),
    ("time.sleep()", lambda: time.sleep(0), "await asyncio.sleep()"),
    ("random.random()", lambda: random.random(), "workflow.random()"),
    ("random.choice()", lambda: random.choice([1]), "workflow.random()"),
    ("uuid.uuid1()", lambda: uuid.uuid1(), "workflow.uuid4()"),
    ("uuid.uuid4()", lambda: uuid.uuid4(), "workflow.uuid4()"),
    ("uuid.uuid4()", lambda: uuid4(), "workflow.uuid4()"),
    ("uuid.uuid4()", Named, "workflow.uuid4()"),
    ("secrets.token_hex()", lambda: secrets.token_hex(), "an activity"),
    ("os.urandom()", lambda: os.urandom(1), "workflow.random()"),
    ("threading.Thread.start()", lambda: threading.Thread(target=int).start(), "asyncio.create_task()"),
    (
        "ThreadPoolExecutor.submit()",
        lambda: concurrent.futures.ThreadPoolExecutor(1).submit(int),
        "asyncio.create_task()",
    ),
    ("datetime.now()", lambda: datetime.now(), "workflow.now()"),
    ("datetime.now()", lambda: datetime_module.datetime.now(datetime_module.UTC), "workflow.now()"),
    ("datetime.utcnow()", lambda: datetime.utcnow(), "workflow.now()"),
    ("datetime.today()", lambda: datetime.today(), "workflow.now()"),  # noqa: DTZ002
    ("date.today()", lambda: datetime_module.date.today(), "workflow.now()"),
    ("OwnDate.now()", lambda: OwnDate.now(), "workflow.now()"),
    ("subprocess.run()", lambda: subprocess.run([sys.executable, "-V"], check=False), "an activity"),
    ("subprocess.Popen()", lambda: subprocess.Popen([sys.executable, "-V"]), "an activity"),
    ("socket.socket()", lambda: socket.socket(), "an activity"),
]


@pytest.mark.parametrize(("what", "action", "instead"), REFUSED, ids=[f"{n}-{one[0]}" for n, one in enumerate(REFUSED)])
def test_it_is_refused_with_what_to_use_instead(what: str, action: Callable[[], Any], instead: str) -> None:
    failed = attempt(action)
    assert isinstance(failed, WorkflowTaskFailed)
    assert failed.failure is not None
    assert what in failed.failure.message
    assert f"use {instead}" in failed.failure.message
    assert "test_guard.py" in failed.failure.message


def log_something() -> str:
    logging.getLogger("tests.guard").warning("a record has a time")
    workflow.logger.warning("so has this one")
    return "logged"


ALLOWED: list[Callable[[], Any]] = [
    lambda: (workflow.now(), workflow.time(), workflow.random().random(), workflow.uuid4(), workflow.uuid7()),
    lambda: random.Random(1).random(),  # seeded
    lambda: datetime(2020, 1, 1),
    lambda: OwnDate.fromisoformat("2020-01-01").isoformat(),
    Generated,
    lambda: Model(number=1),  # what a library does by itself is not seen
    log_something,
]


@pytest.mark.parametrize("action", ALLOWED)
def test_it_is_allowed(action: Callable[[], Any]) -> None:
    completed = attempt(action)
    assert isinstance(completed, WorkflowTaskCompleted), completed.failure
    assert result_of(completed.commands)


def without_a_guard() -> float:
    with workflow.unsafe.sandbox_unrestricted(), workflow.unsafe.imports_passed_through():
        return time.time()


def test_the_guard_can_be_switched_off_for_a_while() -> None:
    assert isinstance(attempt(without_a_guard), WorkflowTaskCompleted)
    assert isinstance(attempt(lambda: (without_a_guard(), time.time())), WorkflowTaskFailed)


def test_the_guard_can_be_switched_off_for_a_class() -> None:
    assert isinstance(attempt(lambda: time.time(), Unguarded), WorkflowTaskCompleted)


def test_a_query_is_refused_too() -> None:
    global _action
    driver = Driver(Acts, check_replay=False)
    driver.step()
    _action = lambda: time.time()  # noqa: E731 # the workflow looks here
    try:
        with pytest.raises(Exception, match=r"workflow code called time\.time\(\)"):
            driver.query("ask")
    finally:
        _action = int


def test_other_threads_and_other_code_are_not_affected() -> None:
    found: list[float] = []

    def elsewhere() -> str:
        with workflow.unsafe.sandbox_unrestricted():
            thread = threading.Thread(target=lambda: found.append(time.time() + random.random()))
            thread.start()
        thread.join()
        return "done"

    assert isinstance(attempt(elsewhere), WorkflowTaskCompleted)
    assert found
    assert time.time() > 0


def test_what_is_guarded_still_looks_like_itself() -> None:
    assert isinstance(attempt(lambda: 1), WorkflowTaskCompleted)

    class Timer:
        clock = time.time

    assert Timer().clock() > 0
    assert pickle.loads(pickle.dumps(time.time)) is time.time
    assert pickle.loads(pickle.dumps(random.random)) is random.random
    assert time.time.__name__ == "time"


def test_dates_are_still_what_they_were() -> None:
    assert isinstance(attempt(lambda: 1), WorkflowTaskCompleted)  # the guard is in place
    now, own = datetime.now(datetime_module.UTC), OwnDate.now()
    assert type(now) is datetime and type(own) is OwnDate
    assert now.tzinfo is datetime_module.UTC
    assert isinstance(now, datetime_module.date)
    assert pickle.loads(pickle.dumps((now, own))) == (now, own)
    assert type(datetime_module.date.today()) is datetime_module.date
    assert type(OwnDate.today()) is OwnDate
    assert datetime.now.__name__ == "now"
    assert abs(datetime.now(datetime_module.UTC).timestamp() - time.time()) < 3600


def test_reading_the_clock_by_datetime_is_seen_in_the_code() -> None:
    class Reads:
        def direct(self) -> Any:
            return [datetime.now() for _ in range(2)]

        def by_module(self) -> Any:
            return datetime_module.date.today(), datetime_module.datetime.utcnow()

        def harmless(self) -> Any:
            return datetime(2020, 1, 1), datetime.fromisoformat("2020-01-01"), workflow.now()

    found = list(guard(Reads))
    assert len(found) == 3
    assert "datetime.now() gives another time on replay; use workflow.now() instead" in found[0]
    assert ".by_module: date.today()" in found[1]
    assert "datetime.utcnow()" in found[2]


def test_a_runner_warns_of_it() -> None:
    @workflow.defn
    class Dated:
        @workflow.run
        async def run(self) -> str:
            return str(datetime.now())

    with pytest.warns(RuntimeWarning, match=r"workflow Dated: .*datetime\.now\(\)"):
        runner(Dated)
