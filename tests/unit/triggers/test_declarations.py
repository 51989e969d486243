"""Declaring triggers: what is wrong with a declaration is said at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.kafka import Batch, Debounce, Record, RecordTriggers, on_record
from perdure.kafka._letters import letter_of
from perdure.kafka.core.identity import Origin
from perdure_runtime.log import LogRecord
from perdure_schemas.topics import RECORD_BYTES_MAX


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order: str) -> None:
        return None

    @workflow.signal
    def paid(self, amount: int) -> None:
        return None

    @workflow.update
    def change(self, order: str) -> None:
        return None


START: dict[str, Any] = {"workflow": Order.run, "task_queue": "q"}


def record(key: bytes | None = b"k") -> Record:
    return Record("orders", 1, 17, key, "v", (), datetime.now(UTC), Origin("orders", 1, 17, 0))


def declared(**options: Any) -> Any:
    return on_record("orders", **options)(lambda record: record.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "workflow=…, signal=… or update=…"),
        ({"signal": "s", "update": "u"}, "not both"),
        ({"workflow": "W"}, "task_queue=…"),
        ({"signal": "s", "task_queue": "q"}, "are for workflow=…"),
        ({**START, "id": "order-{order}"}, "names order; there are"),
        ({**START, "singleton": "replace"}, "singleton is 'replace'"),
        ({"signal": "s", "singleton": "skip"}, "only start"),
        ({**START, "missing": "ignore"}, "missing is 'ignore'"),
        ({**START, "batch": Batch(1, timedelta(seconds=1))}, "count of 2"),
        (
            {**START, "batch": Batch(2, timedelta(seconds=1)), "debounce": Debounce(timedelta(seconds=1))},
            "not both",
        ),
        ({**START, "batch": Batch(2, timedelta(seconds=1)), "id": "x"}, "workflow id of its own"),
        ({**START, "debounce": Debounce(timedelta(0))}, "above zero"),
        ({**START, "ordering": "time"}, "time"),
        ({**START, "start_args": lambda record: ()}, "start_args is for"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declared(**options)


@pytest.mark.parametrize("option", ["request_id", "start_signal"])
def test_options_that_triggers_set_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        declared(**START, **{option: "x"})


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="timeout"):
        declared(**START, timeout=3)


def test_an_async_function_is_refused() -> None:
    async def place(record: Record) -> str:
        return "x"

    with pytest.raises(TypeError, match="place is async"):
        on_record("orders", **START)(place)


def test_an_id_is_made_of_the_record() -> None:
    trigger = declared(signal=Order.paid, id="{topic}:{partition}:{offset}:{key}")
    assert trigger.id(record()) == "orders:1:17:k"


def test_an_id_of_a_key_needs_a_key() -> None:
    with pytest.raises(ValueError, match="orders/1/17 has no key"):
        declared(signal=Order.paid, id="{key}").id(record(None))


def test_a_trigger_says_what_it_makes() -> None:
    assert declared(**START, signal=Order.paid).what == "workflow Order with signal paid"
    assert declared(update=Order.change).what == "update change"


def test_a_declared_function_can_be_called() -> None:
    assert declared(**START)(record()) == "v"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"triggers": []}, "needs a trigger"),
        ({"triggers": [declared(**START), declared(**START)]}, "several triggers are named"),
        ({"start_at": "now"}, "start_at is 'now'"),
        ({"records_in_flight_max": 0}, "1 at least"),
        (
            {"triggers": [declared(**START, batch=Batch(50, timedelta(1)))], "records_in_flight_max": 10},
            "gathers 50 records",
        ),
    ],
)
async def test_a_runner_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    client = await Client.connect("localhost:1", lazy=True)
    with pytest.raises(ValueError, match=message):
        RecordTriggers(client, **{"triggers": [declared(**START)], "group": "g", **options})


async def test_a_plain_function_is_no_trigger() -> None:
    client = await Client.connect("localhost:1", lazy=True)
    with pytest.raises(TypeError, match="decorate the function"):
        RecordTriggers(client, triggers=[record], group="g")  # type: ignore[list-item]


def test_a_record_too_large_for_a_letter_leaves_its_value_behind() -> None:
    letter = letter_of(LogRecord("orders", 1, 17, b"k", bytes(RECORD_BYTES_MAX), 5), "g", "t", "no", 0)
    assert letter.value is None
    assert dict(letter.headers)["perdure-dlq-cut"] == f"a value of {RECORD_BYTES_MAX} bytes".encode()


def test_a_dead_letter_of_a_dead_letter_keeps_its_origin_and_one_set_of_headers() -> None:
    first = letter_of(LogRecord("orders", 1, 17, b"k", b"v", 5, (("h", b"x"),)), "g", "t", "no", 0)
    again = letter_of(LogRecord("orders", 1, 99, b"k", b"v", 9, first.headers), "g", "t", "still no", 0)
    headers = dict(again.headers)
    assert (first.topic, first.key, first.value) == ("orders.dlq", b"k", b"v")
    assert headers["perdure-origin"] == b"orders/1/17/5"
    assert headers["perdure-dlq-reason"] == b"still no"
    assert headers["perdure-dlq-offset"] == b"99"
    assert headers["h"] == b"x"
    assert len(headers) == len(again.headers)
