"""What workflow code can ask: facts, time, randomness, memo, logging."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import workflow
from tests.support.history_builder import START_MS, Driver, result_of, run

LIMIT = timedelta(seconds=5)
Found = dict[str, Any]


@workflow.defn
class Facts:
    @workflow.run
    async def run(self) -> list[Any]:
        info = workflow.info()
        assert workflow.instance() is self
        first = info.get_current_history_length()
        await workflow.sleep(60)
        return [
            info.workflow_id,
            info.run_id,
            info.workflow_type,
            info.task_queue,
            info.namespace,
            info.attempt,
            info.first_execution_run_id,
            info.execution_timeout,
            info.run_timeout == timedelta(minutes=1),
            info.task_timeout == timedelta(seconds=10),
            info.workflow_start_time.isoformat(),
            info.start_time.isoformat(),
            info.parent,
            first,
            info.get_current_history_length(),
            workflow.now().isoformat(),
            workflow.time(),
            workflow.time_ns(),
        ]


def test_info_and_time_are_those_of_the_history() -> None:
    driver = Driver(Facts)
    driver.history.pass_time(250)
    driver.commands()
    driver.history.pass_time(60_000)
    driver.history.fire_timer("1")
    run_id = driver.history.run_id
    created = datetime.fromtimestamp(START_MS / 1000, UTC)
    assert result_of(driver.commands()) == [
        "wf", run_id, "Facts", "queue", "default", 1, run_id, None, True, True,
        created.isoformat(), (created + timedelta(milliseconds=250)).isoformat(), None,
        2, 6, (created + timedelta(milliseconds=60_250)).isoformat(),
        (START_MS + 60_250) / 1000, (START_MS + 60_250) * 1_000_000,
    ]  # fmt: skip


def test_time_never_goes_back() -> None:
    driver = Driver(Facts)
    driver.history.pass_time(1_000)
    driver.commands()
    driver.history.pass_time(-5_000)
    driver.history.fire_timer("1")
    assert result_of(driver.commands())[-1] == (START_MS + 1_000) * 1_000_000


@workflow.defn
class Chance:
    @workflow.run
    async def run(self) -> Found:
        return {
            "random": workflow.random().random(),
            "again": workflow.random().random(),
            "uuid4": str(workflow.uuid4()),
            "uuid7": str(workflow.uuid7()),
            "unnamed": workflow.new_random().random(),
            "named": workflow.new_random("a").random(),
            "other": workflow.new_random("b").random(),
            "seed": workflow.random_seed(),
        }


def test_randomness_is_that_of_the_run() -> None:
    first: Found = result_of(Driver(Chance).commands())  # the driver has compared it with a replay
    assert first["random"] == first["unnamed"]
    assert len({first["random"], first["again"], first["named"], first["other"]}) == 4
    assert uuid.UUID(first["uuid4"]).version == 4
    seven = uuid.UUID(first["uuid7"])
    assert (seven.int >> 76) & 0xF == 7
    assert seven.variant == uuid.RFC_4122
    assert seven.int >> 80 == START_MS
    other = result_of(Driver(Chance, run_id="another").commands())
    assert other["random"] != first["random"]


@workflow.defn
class Memo:
    @workflow.run
    async def run(self) -> list[Any]:
        missing: Any = None
        try:
            workflow.memo_value("nothing")
        except KeyError as error:
            missing = str(error)
        return [
            workflow.memo(),
            workflow.memo_value("number", type_hint=int),
            workflow.memo_value("nothing", "default"),
            "nothing" in missing,
        ]


def test_memo() -> None:
    driver = Driver(Memo, memo={"number": 5, "text": "t"})
    assert result_of(driver.commands()) == [{"number": 5, "text": "t"}, 5, "default", True]


def test_workflow_functions_outside_of_a_workflow_say_so() -> None:
    assert not workflow.in_workflow()
    with pytest.raises(workflow.NotInWorkflowError):
        workflow.now()
    with pytest.raises(workflow.NotInWorkflowError):
        workflow.start_activity("x", start_to_close_timeout=LIMIT)


# --- logging ----------------------------------------------------------------------------------------------------------


@workflow.defn
class Logs:
    @workflow.run
    async def run(self) -> None:
        workflow.logger.info("first %s", "step", extra={"mine": 1})
        await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
        workflow.logger.info("second step")


def test_the_logger_names_the_workflow_and_is_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    driver = Driver(Logs, check_replay=False)
    driver.commands()
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["first step"]
    (record,) = caplog.records
    assert "'workflow_id': 'wf'" in record.getMessage()
    found: Any = record
    assert found.perdure_workflow["run_id"] == driver.history.run_id
    assert found.mine == 1

    caplog.clear()
    driver.history.complete_activity("1")
    run(driver.new_runner(), driver.history, driver.history.task())
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["second step"]


def test_the_logger_can_be_told_to_speak_on_replay(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    driver = Driver(Logs, check_replay=False)
    driver.commands()
    driver.history.complete_activity("1")
    caplog.clear()
    monkeypatch.setattr(workflow.logger, "log_during_replay", True)
    monkeypatch.setattr(workflow.logger, "workflow_info_on_message", False)
    monkeypatch.setattr(workflow.logger, "full_workflow_info_on_extra", True)
    run(driver.new_runner(), driver.history, driver.history.task())
    assert [record.getMessage() for record in caplog.records] == ["first step", "second step"]
    found: Any = caplog.records[0]
    assert found.workflow_info.workflow_id == "wf"


def test_replaying_can_be_asked_for() -> None:
    seen: list[bool] = []

    @workflow.defn
    class Asks:
        @workflow.run
        async def run(self) -> None:
            assert workflow.in_workflow()
            seen.append(workflow.unsafe.is_replaying())
            await workflow.execute_activity("step", start_to_close_timeout=LIMIT)
            seen.append(workflow.unsafe.is_replaying())

    driver = Driver(Asks, check_replay=False)
    driver.commands()
    assert seen == [False]
    driver.history.complete_activity("1")
    seen.clear()
    run(driver.new_runner(), driver.history, driver.history.task())
    assert seen == [True, False]


def test_there_is_no_sandbox_and_code_written_for_one_runs() -> None:
    with workflow.unsafe.imports_passed_through(), workflow.unsafe.sandbox_unrestricted():
        assert not workflow.unsafe.in_sandbox()
    with pytest.raises(TypeError):
        workflow.unsafe()
