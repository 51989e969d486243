"""``workflow.emit``: what stands in the command, what is refused, and that a replay asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from perdure import workflow
from perdure_schemas import limits
from perdure_schemas.records import CompleteWorkflowExecution, EmitRecord
from tests.support.history_builder import Driver, result_of

CASES: list[Any] = [b"\x00raw", "text", {"ä": 1}, [1, 2], None, 7]


@dataclass
class Parcel:
    number: int


@workflow.defn
class Emits:
    @workflow.run
    async def run(self) -> None:
        for value in CASES:
            workflow.emit("topic", "key", value)
        workflow.emit("topic", b"key", Parcel(3), {"a": "ä", "b": b"\x01"})
        workflow.emit("topic", value=5, serializer=lambda number: b"n%d" % number)
        await workflow.sleep(60)
        workflow.emit("topic", "key", "last")


def test_values_are_written_as_other_consumers_read_them() -> None:
    commands = [one for one in Driver(Emits).commands() if isinstance(one, EmitRecord)]
    assert [one.value for one in commands] == [
        b"\x00raw", b"text", '{"ä":1}'.encode(), b"[1,2]", None, b"7", b'{"number":3}', b"n5",
    ]  # fmt: skip
    assert commands[6].headers == {"a": "ä".encode(), "b": b"\x01"}
    assert [commands[0].key, commands[6].key, commands[7].key] == [b"key", b"key", None]


def test_a_replay_emits_nothing_again() -> None:
    driver = Driver(Emits)
    driver.commands()
    driver.history.pass_time(60_000)
    driver.history.fire_timer("1")
    last, end = driver.commands()
    assert isinstance(last, EmitRecord)
    assert last.value == b"last"
    assert isinstance(end, CompleteWorkflowExecution)


@workflow.defn
class Refused:
    @workflow.run
    async def run(self) -> list[str]:
        found = []
        for arguments in (
            ("no topic",),
            ("x" * (limits.TOPIC_CHARS_MAX + 1),),
            ("perdure.default.history",),
            ("topic", 5),
            ("topic", None, object()),
            ("topic", None, b"", {"perdure-run-id": "mine"}),
            ("topic", None, b"", {"h": 3}),
            ("topic", None, b"x" * (limits.PAYLOAD_BYTES_MAX + 1)),
        ):
            try:
                workflow.emit(*arguments)  # type: ignore[arg-type]
            except (TypeError, ValueError) as error:
                found.append(str(error))
        try:
            workflow.emit("topic", value=1, serializer=lambda _: "text")  # type: ignore[arg-type, return-value]
        except TypeError as error:
            found.append(str(error))
        return found


def test_what_cannot_be_written_is_refused_where_it_is_asked_for() -> None:
    found = result_of(Driver(Refused).commands())
    wanted = [
        "no topic name", "no topic name", "a topic of the platform", "key of a record is int",
        "perdure-run-id", "header 'h' of a record is int", str(limits.PAYLOAD_BYTES_MAX), "not JSON serializable",
        "serializer returned str",
    ]  # fmt: skip
    missing = [text for text in wanted if not any(text in message for message in found)]
    assert missing == []


def test_it_is_for_workflow_code_only() -> None:
    with pytest.raises(workflow.NotInWorkflowError):
        workflow.emit("topic")
