"""Records that start, signal and update workflows, on the embedded log: it is the same code as on Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace

from perdure import workflow
from perdure.client import Client, SignalWorkflowInput, WorkflowExecutionStatus
from perdure.client import Interceptor as ClientInterceptor
from perdure.client import OutboundInterceptor as ClientOutbound
from perdure.common import WorkflowIDReusePolicy
from perdure.kafka import (
    SKIP,
    Arguments,
    Batch,
    Debounce,
    Ordering,
    Record,
    RecordTriggers,
    RetryRecordError,
    on_record,
    source_of,
)
from perdure.kafka import _pipeline as pipeline_module
from perdure.kafka import _source as source_module
from perdure.kafka._letters import letters_of, letters_topic, put_back
from perdure.kafka.core import identity
from perdure.kafka.core.identity import Origin
from perdure.service import RPCError
from perdure.worker import Worker
from perdure_ops import cli, record_letters
from perdure_runtime.log import Log, LogError
from perdure_schemas.keys import requested_run_id
from perdure_schemas.topics import TopicNames
from tests.integration.triggers.conftest import Topics, signals_of, started_with
from tests.support.waiting import until

ORDER: dict[str, Any] = {"workflow": "Order", "task_queue": "nobody"}


@workflow.defn
class Account:
    def __init__(self) -> None:
        self.sums: list[int] = []
        self.done = False

    @workflow.run
    async def run(self, *first: int) -> list[int]:
        self.sums += first
        await workflow.wait_condition(lambda: self.done)
        return self.sums

    @workflow.signal
    def add(self, amount: int) -> None:
        self.sums.append(amount)

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.update
    def change(self, amount: int) -> int:
        self.sums.append(amount)
        return sum(self.sums)

    @change.validator
    def check(self, amount: int) -> None:
        if amount < 0:
            raise ValueError("amounts are positive")


def value_of(record: Record) -> Any:
    return record.value


def numbers(*values: int, key: str | None = None) -> list[tuple[str | None, bytes]]:
    return [(key, json.dumps(value).encode()) for value in values]


def default_ids(group: str, topic: str, count: int, partition: int = 0) -> list[str]:
    return [f"{group}/value_of/{topic}/{partition}/{offset}" for offset in range(count)]


async def settled(triggers: RecordTriggers, **counts: int) -> None:
    await until(lambda: all(triggers.counts.get(what, 0) >= count for what, count in counts.items()), f"{counts}")


# --- starts -----------------------------------------------------------------------------------------------------------


async def test_each_record_starts_a_workflow_and_is_committed(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create(partitions=2)
    topics.append(topic, *numbers(*range(20)))
    topics.append(topic, *numbers(*range(20, 30)), partition=1)
    async with RecordTriggers(shared_client, triggers=[on_record(topic, **ORDER)(value_of)], group=task_queue) as made:
        await settled(made, requested=30)
        assert made.assignment == [(topic, 0), (topic, 1)]
    assert topics.committed(task_queue, topic) == {0: 20, 1: 10}
    ids = default_ids(task_queue, topic, 20) + default_ids(task_queue, topic, 10, partition=1)
    assert await started_with(shared_client, ids) == list(range(30))


async def test_records_that_are_delivered_again_start_nothing_a_second_time(
    shared_client: Client, topics: Topics, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(*range(50)))
    triggers = [on_record(topic, **ORDER)(value_of)]
    with monkeypatch.context() as patched:
        # What a crash after the engine's answer and before the commit leaves behind.
        patched.setattr(source_module.Source, "_send_commit", lambda *_, **__: None)
        async with RecordTriggers(shared_client, triggers=triggers, group=task_queue) as made:
            await settled(made, requested=50)
    assert topics.committed(task_queue, topic) == {}
    ids = default_ids(task_queue, topic, 50)
    before = [(await shared_client.get_workflow_handle(each).describe()).run_id for each in ids]
    for each in ids[:10]:
        await shared_client.get_workflow_handle(each).terminate()
    topics.append(topic, *numbers(50))
    async with RecordTriggers(shared_client, triggers=triggers, group=task_queue) as made:
        await settled(made, requested=51)
    assert topics.committed(task_queue, topic) == {0: 51}
    assert [(await shared_client.get_workflow_handle(each).describe()).run_id for each in ids] == before


async def test_two_groups_and_two_triggers_each_get_all(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, 2))
    both = [on_record(topic, **ORDER, name=name)(value_of) for name in ("one", "two")]
    async with (
        RecordTriggers(shared_client, triggers=both, group=f"{task_queue}-a") as first,
        RecordTriggers(shared_client, triggers=both, group=f"{task_queue}-b") as second,
    ):
        await settled(first, requested=4)
        await settled(second, requested=4)
    ids = [f"{task_queue}-{g}/{name}/{topic}/0/{o}" for g in "ab" for name in ("one", "two") for o in (0, 1)]
    assert await started_with(shared_client, ids) == [1, 2] * 4


async def test_a_group_may_begin_behind_what_is_there(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, 2))
    triggers = [on_record(topic, **ORDER)(value_of)]
    async with RecordTriggers(shared_client, triggers=triggers, group=task_queue, start_at="latest") as made:
        await until(lambda: made.assignment == [(topic, 0)])
        topics.append(topic, *numbers(3))
        await settled(made, requested=1)
    assert await started_with(shared_client, [f"{task_queue}/value_of/{topic}/0/2"]) == [3]


async def test_a_function_may_skip_give_several_arguments_or_ask_for_another_try(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, 2, 3))
    tries = Counter[int]()

    @on_record(topic, **ORDER, id=f"{task_queue}-{{offset}}")
    def map_order(record: Record) -> Any:
        tries[record.value] += 1
        if record.value == 1:
            return SKIP
        if record.value == 2 and tries[2] < 3:
            raise RetryRecordError("not yet")
        return Arguments((record.value, "x"))

    async with RecordTriggers(shared_client, triggers=[map_order], group=task_queue) as made:
        await settled(made, skipped=1, requested=2)
        assert made.counts["retried"] == 2
    assert await started_with(shared_client, [f"{task_queue}-1", f"{task_queue}-2"]) == [2, "x", 3, "x"]
    assert topics.committed(task_queue, topic) == {0: 3}


async def test_of_many_records_that_are_tried_again_for_one_reason_one_line_tells(
    shared_client: Client,
    topics: Topics,
    task_queue: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module, "_NOTICES_MS", 3_600_000)
    topic = topics.create()
    topics.append(topic, *numbers(*range(30)))
    tries = Counter[int]()

    @on_record(topic, **ORDER, ordering="none", name=task_queue)
    def not_at_first(record: Record) -> Any:
        tries[record.value] += 1
        if tries[record.value] == 1:
            raise RetryRecordError("not yet")
        return record.value

    with caplog.at_level(logging.WARNING, "perdure.kafka.triggers"):
        async with RecordTriggers(shared_client, triggers=[not_at_first], group=task_queue) as made:
            await settled(made, requested=30)
            assert made.counts["retried"] == 30
            later_ms = pipeline_module._now_ms() + 3_600_000
            monkeypatch.setattr(pipeline_module, "_now_ms", lambda: later_ms)
            made._pipelines[0]._say_repeated()
    said = [record.getMessage() for record in caplog.records if f"trigger={task_queue}" in record.getMessage()]
    assert ["event=record_retried" in line for line in said] == [True, False]
    assert "count=29 reason='not yet'" in said[1]


async def test_headers_travel_into_the_workflow(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic = topics.create()
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = (("traceparent", traceparent.encode()), ("tenant", b"a"), ("secret", b"b"))
    topics.append(topic, *numbers(1), headers=headers)
    seen: list[str] = []

    class Watching(ClientOutbound):
        async def start_workflow(self, input: Any) -> Any:
            seen.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
            return await super().start_workflow(input)

    class Watch(ClientInterceptor):
        def intercept_client(self, next: ClientOutbound) -> ClientOutbound:
            return Watching(next)

    connection = await shared_client.connection()
    client = Client.from_log(connection.log, namespace=shared_client.namespace, interceptors=[Watch()])
    trigger = on_record(topic, **ORDER, headers=["traceparent", "tenant"], id=task_queue)(value_of)
    async with RecordTriggers(client, triggers=[trigger], group=task_queue) as made:
        await settled(made, requested=1)
    attributes: Any = (await client.get_workflow_handle(task_queue).fetch_history()).events[0].attributes
    assert set(attributes.header) == {"traceparent", "tenant", "perdure-record"}
    assert attributes.header["tenant"].data == b"a"
    source = source_of(attributes.header)
    assert source is not None
    assert (source.topic, source.partition, source.offset, source.last_offset) == (topic, 0, 0, 0)
    assert seen == ["0af7651916cd43dd8448eb211c80319c"]
    await client.close()


# --- signals and updates ----------------------------------------------------------------------------------------------


async def test_signals_of_a_key_come_in_the_order_of_their_records_through_changes_of_the_group(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create(partitions=4)
    trigger = on_record(
        topic,
        workflow=Account.run,
        signal=Account.add,
        task_queue=task_queue,
        id=f"{task_queue}-{{key}}",
    )(value_of)

    def runner() -> RecordTriggers:
        return RecordTriggers(shared_client, triggers=[trigger], group=task_queue, records_in_flight_max=20)

    async with runner() as first:
        for number in range(50):
            for partition, key in enumerate("abcd"):
                topics.append(topic, *numbers(number, key=key), partition=partition)
        await settled(first, requested=20)
        async with runner() as second:
            await until(lambda: len(first.assignment) == len(second.assignment) == 2, "the group to share")
            for number in range(50, 100):
                for partition, key in enumerate("abcd"):
                    topics.append(topic, *numbers(number, key=key), partition=partition)
        await until(lambda: topics.committed(task_queue, topic) == dict.fromkeys(range(4), 100), "all to be committed")
    for key in "abcd":
        assert await signals_of(shared_client, f"{task_queue}-{key}") == list(range(100))


async def test_a_signal_without_a_workflow_is_a_dead_letter_or_is_skipped(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, key="k"))
    options: dict[str, Any] = {"signal": Account.add, "id": f"{task_queue}-{{key}}"}
    kept = on_record(topic, **options, name="kept")(value_of)
    skipped = on_record(topic, **options, name="skipped", missing="skip")(value_of)
    async with RecordTriggers(shared_client, triggers=[kept, skipped], group=task_queue) as made:
        await settled(made, dead_lettered=1, skipped=1)
    (letter,) = letters_of(topics.log, topic)
    assert letter.trigger == "kept"
    assert "not found" in letter.reason


async def test_updates_are_accepted_in_order_and_rejections_are_dead_letters(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, 2, -5, 3, key="k"))
    trigger = on_record(
        topic,
        workflow=Account.run,
        update=Account.change,
        task_queue=task_queue,
        id=f"{task_queue}-{{key}}",
        start_args=lambda record: (100,),
    )(value_of)
    async with Worker(shared_client, task_queue=task_queue, workflows=[Account]):
        async with RecordTriggers(shared_client, triggers=[trigger], group=task_queue) as made:
            await settled(made, requested=3, dead_lettered=1)
        handle = shared_client.get_workflow_handle_for(Account.run, f"{task_queue}-k")
        await handle.signal(Account.finish)
        sums = await handle.result()
    assert sorted(sums) == [1, 2, 3, 100]
    assert [amount for amount in sums if amount < 100] == [1, 2, 3]
    (letter,) = letters_of(topics.log, topic)
    assert "amounts are positive" in letter.reason


async def test_requests_of_a_partition_keep_their_order(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic = topics.create()
    sent: list[int] = []

    class Noting(ClientOutbound):
        async def signal_workflow(self, input: SignalWorkflowInput) -> None:
            await super().signal_workflow(input)
            sent.append(input.args[0])

    class Note(ClientInterceptor):
        def intercept_client(self, next: ClientOutbound) -> ClientOutbound:
            return Noting(next)

    connection = await shared_client.connection()
    client = Client.from_log(connection.log, namespace=shared_client.namespace, interceptors=[Note()])
    for number in range(20):
        await client.start_workflow(Account.run, args=[], id=f"{task_queue}-{number}", task_queue="nobody")
    for number in range(20):
        topics.append(topic, *numbers(number, key=str(number)))
    trigger = on_record(topic, signal=Account.add, id=f"{task_queue}-{{key}}", ordering=Ordering.PARTITION)(value_of)
    async with RecordTriggers(client, triggers=[trigger], group=task_queue) as made:
        await settled(made, requested=20)
    places = [int(partition) for partition in await places_of(client, task_queue, 20)]
    for place in set(places):
        mine = [number for number in sent if places[number] == place]
        assert mine == sorted(mine)
    switches = [index for index in range(1, 20) if places[index] != places[index - 1]]
    assert all(sent.index(index - 1) < sent.index(index) for index in switches)
    await client.close()


async def places_of(client: Client, stem: str, count: int) -> list[int]:
    from perdure_schemas.keys import partition_of

    names = (await client.connection()).names
    return [partition_of(f"{stem}-{number}", names.partitions) for number in range(count)]


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_a_poison_record_stops_nothing_and_is_put_back_after_a_fix(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(1, key="k"))
    topics.append(topic, ("k", b"poison"), headers=(("h", b"x"),))
    topics.append(topic, *numbers(3, key="k"))
    strict = on_record(topic, **ORDER)(value_of)
    other = on_record(topic, **ORDER, name="other", value=bytes.decode)(value_of)
    async with RecordTriggers(shared_client, triggers=[strict, other], group=task_queue) as made:
        await settled(made, requested=5, dead_lettered=1)
    assert topics.committed(task_queue, topic) == {0: 3}
    (letter,) = letters_of(topics.log, topic)
    assert (letter.topic, letter.partition, letter.offset, letter.headers) == (topic, 0, 1, (("h", b"x"),))
    assert (letter.key, letter.value, letter.group, letter.trigger) == (b"k", b"poison", task_queue, "value_of")
    assert "JSON" in letter.reason

    assert put_back(topics.log, [letter]) == 1
    (letter,) = letters_of(topics.log, topic)
    assert letter.replayed
    assert put_back(topics.log, [letter]) == 0
    fixed = on_record(topic, **ORDER, value=bytes.decode)(value_of)
    async with RecordTriggers(shared_client, triggers=[fixed, other], group=task_queue) as made:
        await settled(made, requested=1, skipped=1)
    workflow_id = f"{task_queue}/value_of/{topic}/0/1"
    assert await started_with(shared_client, [workflow_id]) == ["poison"]


async def test_a_dead_letter_that_is_put_back_twice_makes_one_run(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, ("k", b"poison"))
    async with RecordTriggers(shared_client, triggers=[on_record(topic, **ORDER)(value_of)], group=task_queue) as made:
        await settled(made, dead_lettered=1)
    letters = letters_of(topics.log, topic)
    put_back(topics.log, letters)
    put_back(topics.log, letters)
    fixed = on_record(topic, **ORDER, value=bytes.decode)(value_of)
    async with RecordTriggers(shared_client, triggers=[fixed], group=task_queue) as made:
        await settled(made, requested=2)
    assert await started_with(shared_client, default_ids(task_queue, topic, 1)) == ["poison"]
    with pytest.raises(RPCError):
        await shared_client.get_workflow_handle(f"{task_queue}/value_of/{topic}/0/1").describe()


async def test_the_command_line_lists_shows_and_puts_back(
    shared_client: Client,
    topics: Topics,
    task_queue: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = topics.create()
    topics.append(topic, ("k", b"poison"))
    async with RecordTriggers(shared_client, triggers=[on_record(topic, **ORDER)(value_of)], group=task_queue) as made:
        await settled(made, dead_lettered=1)

    @contextlib.contextmanager
    def opened(_: str) -> Iterator[Log]:
        yield topics.log

    monkeypatch.setattr(record_letters, "_open", opened)

    def perdure(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["dlq", *arguments, "--topic", topic])
        return int(ended.value.code or 0), capsys.readouterr().out

    assert letters_topic(topic) in (await asyncio.to_thread(perdure, "list"))[1]
    letter_id = f"{topic}.dlq/0/0"
    code, shown = await asyncio.to_thread(perdure, "show", letter_id, "-o", "json")
    assert (code, json.loads(shown)["value"]) == (0, "poison")
    assert (await asyncio.to_thread(perdure, "show", f"{topic}.dlq/0/9"))[0] != 0
    assert "1 of 1 would be" in (await asyncio.to_thread(perdure, "replay", "--all", "--dry-run"))[1]
    assert "1 records put back" in (await asyncio.to_thread(perdure, "replay", letter_id, "--yes"))[1]
    assert "nothing to put back" in (await asyncio.to_thread(perdure, "replay", "--all", "--yes"))[1]
    fixed = on_record(topic, **ORDER, value=bytes.decode)(value_of)
    async with RecordTriggers(shared_client, triggers=[fixed], group=task_queue) as made:
        await settled(made, requested=1)
    assert await started_with(shared_client, default_ids(task_queue, topic, 1)) == ["poison"]


# --- options ----------------------------------------------------------------------------------------------------------


async def test_a_singleton_skips_cancels_or_terminates(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic = topics.create()

    def trigger(singleton: Any) -> Any:
        return on_record(
            topic,
            workflow=Account.run,
            task_queue=task_queue,
            id=f"{task_queue}-{singleton}-{{key}}",
            singleton=singleton,
            name=str(singleton),
        )(value_of)

    at_ms = 1_700_000_000_000
    topics.append(topic, *numbers(1, 2, key="k"), timestamp_ms=at_ms)
    origin = Origin(topic, 0, 0, at_ms)
    requests = {name: identity.request_id(task_queue, name, origin) for name in ("cancel", "terminate")}
    triggers = [trigger(each) for each in ("skip", "cancel", "terminate", None)]
    async with (
        Worker(shared_client, task_queue=task_queue, workflows=[Account]),
        RecordTriggers(shared_client, triggers=triggers, group=task_queue) as made,
    ):
        await settled(made, requested=6, skipped=1, dead_lettered=1)
    ids = [f"{task_queue}-{each}-k" for each in ("skip", "cancel", "terminate")]
    assert await started_with(shared_client, ids) == [1, 2, 2]
    first = []
    for name in ("cancel", "terminate"):
        workflow_id = f"{task_queue}-{name}-k"
        run_id = requested_run_id(workflow_id, requests[name])
        first.append((await shared_client.get_workflow_handle(workflow_id, run_id=run_id).describe()).status)
    assert first == [WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.TERMINATED]


async def test_a_workflow_id_that_was_used_is_refused_where_the_policy_says_so(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    handle = await shared_client.start_workflow("Order", id=f"{task_queue}-k", task_queue="nobody")
    await handle.terminate()
    topics.append(topic, *numbers(1, key="k"))
    trigger = on_record(
        topic,
        **ORDER,
        id=f"{task_queue}-{{key}}",
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        singleton="skip",
    )(value_of)
    async with RecordTriggers(shared_client, triggers=[trigger], group=task_queue) as made:
        await settled(made, skipped=1)
    assert letters_of(topics.log, topic) == []


async def test_batches_hold_each_record_once_also_when_they_are_cut_otherwise_after_a_crash(
    shared_client: Client, topics: Topics, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create()
    short, long = timedelta(milliseconds=50), timedelta(hours=1)
    topics.append(topic, *numbers(*range(7)))
    topics.append(topic, ("k", b"poison"))
    with monkeypatch.context() as patched:
        patched.setattr(source_module.Source, "_send_commit", lambda *_, **__: None)
        cut_at_5 = on_record(topic, **ORDER, batch=Batch(5, short))(value_of)
        async with RecordTriggers(shared_client, triggers=[cut_at_5], group=task_queue) as made:
            await settled(made, requested=2, dead_lettered=1)
    topics.append(topic, *numbers(*range(8, 16)))
    cut_at_8 = on_record(topic, **ORDER, batch=Batch(8, long))(value_of)
    async with RecordTriggers(shared_client, triggers=[cut_at_8], group=task_queue) as made:
        await until(lambda: topics.committed(task_queue, topic) == {0: 16}, "all to be committed")
        assert made.records_in_flight == 0
    ids = [f"{task_queue}/value_of/{topic}/0/{offset}" for offset in range(16)]
    held: list[int] = []
    for workflow_id in ids:
        try:
            held += (await started_with(shared_client, [workflow_id]))[0]
        except RPCError:
            continue  # no batch begins with this record
    assert held == [*range(7), *range(8, 16)]


async def test_of_a_burst_only_the_last_record_starts_a_workflow(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    trigger = on_record(topic, **ORDER, debounce=Debounce(timedelta(milliseconds=300), timedelta(hours=1)))(value_of)
    at_ms = 1_700_000_000_000
    for number, key in enumerate("aabab"):
        topics.append(topic, *numbers(number, key=key), timestamp_ms=at_ms + number)
    topics.append(topic, *numbers(9, key="a"), timestamp_ms=at_ms + 10_000)
    async with RecordTriggers(shared_client, triggers=[trigger], group=task_queue) as made:
        await until(lambda: topics.committed(task_queue, topic) == {0: 6}, "all to be committed")
        assert made.counts == {"requested": 3}
    ids = [f"{task_queue}/value_of/{topic}/0/{offset}" for offset in (3, 4, 5)]
    assert await started_with(shared_client, ids) == [3, 4, 9]


async def test_no_more_workflows_are_in_flight_than_allowed(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(*range(6)))
    trigger = on_record(topic, workflow=Account.run, task_queue=task_queue, id=f"{task_queue}-{{offset}}")(value_of)
    runner = RecordTriggers(shared_client, triggers=[trigger], group=task_queue, workflows_in_flight_max=2)
    async with Worker(shared_client, task_queue=task_queue, workflows=[Account]), runner as made:
        for done in range(0, 6, 2):
            await settled(made, requested=done + 2)
            for number in (done, done + 1):
                assert made.counts["requested"] == min(6, number + 2)
                await shared_client.get_workflow_handle(f"{task_queue}-{number}").signal(Account.finish)
                await settled(made, requested=min(6, number + 3))
    assert topics.committed(task_queue, topic) == {0: 6}


async def test_reading_is_paused_and_resumed(shared_client: Client, topics: Topics, task_queue: str) -> None:
    topic, other = topics.create(), topics.create()
    trigger = on_record(topic, other, **ORDER)(value_of)
    async with RecordTriggers(shared_client, triggers=[trigger], group=task_queue) as made:
        await until(lambda: len(made.assignment) == 2)
        await made.pause(topic)
        with pytest.raises(ValueError, match="no trigger is for elsewhere"):
            await made.pause("elsewhere")
        topics.append(topic, *numbers(1))
        topics.append(other, *numbers(2))
        await settled(made, requested=1)
        topics.append(other, *numbers(3))
        await settled(made, requested=2)
        assert topics.committed(task_queue, topic) == {}
        await made.resume()
        await settled(made, requested=3)
    with pytest.raises(RuntimeError, match="not running"):
        await made.pause()


async def test_reading_stops_while_too_much_is_under_way(
    shared_client: Client, topics: Topics, task_queue: str
) -> None:
    topic = topics.create()
    topics.append(topic, *numbers(*range(200)))
    gate = asyncio.Event()

    async def slow(data: bytes) -> Any:
        await gate.wait()
        return json.loads(data)

    trigger = on_record(topic, **ORDER, value=slow, ordering="none")(value_of)
    runner = RecordTriggers(shared_client, triggers=[trigger], group=task_queue, records_in_flight_max=10)
    async with runner as made:
        await until(lambda: made.records_in_flight >= 10)
        topics.append(topic, *numbers(*range(200, 300)))
        gate.set()
        await settled(made, requested=300)
    assert topics.committed(task_queue, topic) == {0: 300}


async def test_a_missing_topic_is_said_at_once(shared_client: Client, task_queue: str) -> None:
    runner = RecordTriggers(shared_client, triggers=[on_record("no-such-topic", **ORDER)(value_of)], group=task_queue)
    with pytest.raises(LogError, match="no topic no-such-topic"):
        await runner.run()


async def test_it_runs_until_it_is_shut_down_and_only_once(
    shared_client: Client, topics: Topics, task_queue: str, shared_platform: tuple[Log, TopicNames]
) -> None:
    topic = topics.create()
    triggers = [on_record(topic, **ORDER)(value_of)]
    runner = RecordTriggers(shared_client, triggers=triggers, group=task_queue, records=shared_platform[0])
    running = asyncio.create_task(runner.run())
    topics.append(topic, *numbers(1))
    await settled(runner, requested=1)
    await runner.shutdown()
    await running
    assert topics.committed(task_queue, topic) == {0: 1}
    with pytest.raises(RuntimeError, match="started once"):
        await runner.run()
