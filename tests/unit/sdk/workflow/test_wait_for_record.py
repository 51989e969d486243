"""``workflow.wait_for_record``: what stands in the command, how a wait ends, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import workflow
from perdure_schemas import limits
from perdure_schemas.records import CancelRecordWait, CancelTimer, FailWorkflowExecution, RecordArrived, WaitForRecord
from tests.support.history_builder import Driver, result_of


def arrived(value: bytes | None, wait_id: str = "1") -> RecordArrived:
    return RecordArrived(
        wait_id=wait_id, topic="t", partition=1, offset=2, timestamp_ms=3, key=b"k", value=value, headers={"h": b"1"}
    )


@workflow.defn
class Waits:
    @workflow.run
    async def run(self, timeout_s: float | None) -> list[Any]:
        try:
            found = await workflow.wait_for_record("t", "k", where={"n": 1}, timeout=timeout_s, look_back=2)
        except TimeoutError:
            return ["timed out"]
        return [found.value, found.key == b"k", found.partition, found.offset, found.timestamp.isoformat()]


def test_the_record_is_the_result() -> None:
    driver = Driver(Waits, 60)
    wait, _timer = driver.commands()
    assert wait == WaitForRecord(wait_id="1", topic="t", key=b"k", where='{"n":1}', look_back_ms=2_000)
    driver.history.add(arrived(b'{"n":1}'))
    cancel, end = driver.commands()
    assert isinstance(cancel, CancelTimer)
    assert result_of([end]) == [{"n": 1}, True, 1, 2, "1970-01-01T00:00:00.003000+00:00"]


def test_a_timeout_gives_the_wait_up() -> None:
    driver = Driver(Waits, 60)
    driver.commands()
    driver.history.pass_time(60_000)
    driver.history.fire_timer("1")
    cancel, end = driver.commands()
    assert cancel == CancelRecordWait(wait_id="1")
    assert result_of([end]) == ["timed out"]


def test_no_time_is_no_wait() -> None:
    assert result_of(Driver(Waits, 0).commands()) == ["timed out"]


def test_a_value_that_is_no_json_fails_the_workflow() -> None:
    driver = Driver(Waits, None)
    driver.commands()
    driver.history.add(arrived(b"no json"))
    (failed,) = driver.commands()
    assert isinstance(failed, FailWorkflowExecution)
    assert failed.failure.type == "UnreadableRecord"


@workflow.defn
class GivesUp:
    """Is beaten to the second record by a timer, in whose workflow task the record is."""

    @workflow.run
    async def run(self) -> str:
        task = asyncio.create_task(workflow.wait_for_record("t"))
        await workflow.sleep(1)
        task.cancel()
        await workflow.sleep(1)
        return "done"


def test_a_record_that_comes_when_nobody_waits_any_more_is_left() -> None:
    driver = Driver(GivesUp)
    driver.commands()
    driver.history.pass_time(1_000)
    driver.history.fire_timer("1")
    _timer, cancel = driver.commands()
    assert cancel == CancelRecordWait(wait_id="1")
    driver.history.add(arrived(b"1"))
    driver.history.pass_time(1_000)
    driver.history.fire_timer("2")
    assert result_of(driver.commands()) == "done"


@workflow.defn
class Refused:
    @workflow.run
    async def run(self) -> list[str]:
        found = []
        cases: list[dict[str, Any]] = [
            {"topic": "no topic"},
            {"topic": "t", "key": 3},
            {"topic": "t", "where": {"": 1}},
            {"topic": "t", "look_back": -1},
            {"topic": "t", "key": "k" * (limits.NAME_CHARS_MAX + 1)},
            {"topic": "t", "where": {"a": "k" * limits.RECORD_WHERE_CHARS_MAX}},
        ]
        for case in cases:
            try:
                await workflow.wait_for_record(**case)
            except (TypeError, ValueError) as error:
                found.append(str(error))
        return found


def test_what_cannot_be_is_refused_where_it_is_asked_for() -> None:
    found = result_of(Driver(Refused).commands())
    wanted = ["no topic name", "int", "no path", "negative", str(limits.NAME_CHARS_MAX), "2000"]
    assert len(found) == len(wanted)
    assert all(text in message for text, message in zip(wanted, found, strict=True)), found


async def test_it_is_for_workflow_code_only() -> None:
    with pytest.raises(workflow.NotInWorkflowError):
        await workflow.wait_for_record("t")
