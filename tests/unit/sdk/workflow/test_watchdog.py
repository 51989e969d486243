"""Workflow code that does not yield is interrupted, and fails its workflow task only."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import cast

import pytest

from perdure import workflow
from perdure._runtime.runner import WorkflowRunner
from perdure._runtime.watchdog import Watchdog
from perdure_schemas.records import WorkflowTaskCompleted, WorkflowTaskFailed
from tests.support.history_builder import CONVERTER, Driver, History, result_of, run


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog(timeout_s=0.05)
    watchdog.start()
    yield watchdog
    watchdog.stop()


INFO = cast(workflow.Info, object())  # it is named in messages only


def runner_of(watchdog: Watchdog, *workflows: type) -> WorkflowRunner:
    return WorkflowRunner(
        list(workflows),
        namespace="default",
        task_queue="queue",
        payload_converter=CONVERTER.payload_converter,
        failure_converter=CONVERTER.failure_converter,
        identity="test",
        worker_id="worker-1",
        watchdog=watchdog,
    )


@workflow.defn
class Spins:
    @workflow.run
    async def run(self, stubborn: bool) -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException:
                if not stubborn:
                    raise
                stubborn = False


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> str:
        with workflow.unsafe.sandbox_unrestricted():
            time.sleep(0.2)
        return "late"


@workflow.defn
class Fast:
    @workflow.run
    async def run(self) -> str:
        return "done"


@workflow.defn
class SpinsInQuery:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def spin(self) -> int:
        while True:
            pass

    @workflow.query
    def calm(self) -> int:
        return 1


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_loop_without_end_fails_the_task_and_the_runner_goes_on(watchdog: Watchdog, stubborn: bool) -> None:
    runner = runner_of(watchdog, Spins, Fast)
    history = History("Spins", stubborn)
    failed = run(runner, history, history.task())
    assert isinstance(failed, WorkflowTaskFailed)
    assert failed.failure is not None
    assert "potential deadlock: the workflow did not yield within 0.05 s" in failed.failure.message
    assert "test_watchdog.py" in failed.failure.message
    assert "in run" in failed.failure.message
    assert runner.cached_count == 0
    watchdog.timeout_s = 30
    fast = History("Fast", run_id="other")
    completed = run(runner, fast, fast.task())
    assert isinstance(completed, WorkflowTaskCompleted)
    assert result_of(completed.commands) == "done"


def test_a_blocking_call_is_logged_and_fails_the_task_when_it_returns(
    watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    history = History("Sleeps")
    with caplog.at_level(logging.ERROR, "perdure.worker"):
        failed = run(runner_of(watchdog, Sleeps), history, history.task())
    assert isinstance(failed, WorkflowTaskFailed)
    assert failed.failure is not None
    assert "time.sleep(0.2)" in failed.failure.message
    (record,) = [record for record in caplog.records if "workflow_blocks" in record.getMessage()]
    assert "workflow=wf type=Sleeps" in record.getMessage()
    assert "test_watchdog.py" in record.getMessage()


def test_a_query_that_does_not_end_fails_and_the_run_is_replayed(watchdog: Watchdog) -> None:
    driver = Driver(SpinsInQuery)
    driver.step()
    history = driver.history
    runner = runner_of(watchdog, SpinsInQuery)

    def ask(name: str) -> object:
        query, records = history.query_task(name), history.since(runner.next_event_id(history.run_id))
        return runner.query(history.workflow_id, history.run_id, query, records)

    result, failure = ask("spin")  # type: ignore[misc]
    assert result == []
    assert "potential deadlock" in failure.message
    assert runner.cached_count == 0
    watchdog.timeout_s = 30
    result, failure = ask("calm")  # type: ignore[misc]
    assert failure is None
    assert result


def test_each_activation_has_its_own_time() -> None:
    watchdog = Watchdog(timeout_s=30)  # not started: the test is its thread
    assert watchdog._left_s() is None
    watchdog.begin(INFO)
    first = watchdog._left_s()
    assert first is not None
    assert 0 < first <= 30
    assert watchdog.end() is None
    assert watchdog._left_s() is None
    watchdog.begin(INFO)
    watchdog.timeout_s = 0
    assert watchdog.end() is None, "what ended in time is not interrupted afterwards"
    assert watchdog._left_s() is None
