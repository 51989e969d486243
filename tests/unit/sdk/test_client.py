"""The client against a played engine: what it sends, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure import _connection, workflow
from perdure.client import (
    Client,
    RPCError,
    RPCStatusCode,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from perdure.common import QueryRejectCondition, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.converter import FailureConverter, PayloadConverter
from perdure.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
)
from perdure_schemas import codec
from perdure_schemas.keys import partition_of
from perdure_schemas.records import (
    AwaitResult,
    CancelWorkflow,
    Command,
    Described,
    DescribeWorkflow,
    Done,
    ErrorCode,
    Event,
    ExecutionSummary,
    FetchHistory,
    HistoryPage,
    HistoryRecord,
    IdConflictPolicy,
    IdReusePolicy,
    Payload,
    QueryAnswer,
    QueryWorkflow,
    Rejected,
    ReplyBody,
    SignalWorkflow,
    Started,
    StartWorkflow,
    TerminateWorkflow,
    TimerFired,
    WorkflowClosed,
    WorkflowExecutionCompleted,
    WorkflowStatus,
)
from tests.unit.sdk.fakes import PARTITIONS, FakeEngine

SHORT = timedelta(milliseconds=50)


def payload(value: Any) -> Payload:
    return PayloadConverter.default.to_payload(value)


@workflow.defn
class Greet:
    @workflow.run
    async def run(self, name: str) -> tuple[str, int]:
        return name, 1

    @workflow.signal(name="poke")
    async def signalled(self, number: int) -> None: ...

    @workflow.query
    def state(self) -> set[int]:
        return {1}


async def answered(engine: FakeEngine, call: Coroutine[Any, Any, Any], *bodies: ReplyBody) -> tuple[Command, Any]:
    """Run a call of the client whose one command is answered with these bodies; the command and the call's outcome."""
    task = asyncio.ensure_future(call)
    command = await engine.command()
    for body in bodies:
        engine.reply(command, body)
    (outcome,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
    return command, outcome


def started(run_id: str = "run-1", *, created: bool = True) -> Started:
    return Started(run_id=run_id, first_execution_run_id=run_id, created=created)


def closed(status: WorkflowStatus = WorkflowStatus.COMPLETED, **fields: Any) -> WorkflowClosed:
    return WorkflowClosed(run_id="run-1", status=status, **fields)


# --- starting -----------------------------------------------------------------------------------------------------


async def test_a_start_carries_everything(engine: FakeEngine, client: Client) -> None:
    command, handle = await answered(
        engine,
        client.start_workflow(
            Greet.run,
            "x",
            id="w",
            task_queue="q",
            execution_timeout=timedelta(seconds=5),
            run_timeout=timedelta(seconds=4),
            task_timeout=timedelta(seconds=3),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            memo={"m": 1},
            start_signal="poke",
            start_signal_args=[7],
        ),
        started(),
    )
    body = command.body
    assert isinstance(body, StartWorkflow)
    assert (command.workflow_id, command.identity) == ("w", "tester")
    assert (body.workflow_type, body.task_queue, body.input) == ("Greet", "q", [payload("x")])
    assert (body.execution_timeout_ms, body.run_timeout_ms, body.task_timeout_ms) == (5000, 4000, 3000)
    assert body.id_reuse_policy is IdReusePolicy.REJECT_DUPLICATE
    assert body.id_conflict_policy is IdConflictPolicy.USE_EXISTING
    assert body.memo == {"m": payload(1)}
    assert body.signal is not None
    assert (body.signal.signal_name, body.signal.input) == ("poke", [payload(7)])
    assert (handle.id, handle.run_id, handle.result_run_id, handle.first_execution_run_id) == (
        "w",
        None,
        "run-1",
        "run-1",
    )


async def test_a_taken_id_is_its_own_error(engine: FakeEngine, client: Client) -> None:
    _, error = await answered(
        engine,
        client.start_workflow(Greet.run, "x", id="w", task_queue="q"),
        Rejected(code=ErrorCode.ALREADY_EXISTS, message="it runs", run_id="other"),
    )
    assert isinstance(error, WorkflowAlreadyStartedError)
    assert (error.workflow_id, error.workflow_type, error.run_id) == ("w", "Greet", "other")


async def test_another_refusal_is_an_rpc_error(engine: FakeEngine, client: Client) -> None:
    _, error = await answered(
        engine,
        client.start_workflow(Greet.run, "x", id="w", task_queue="q"),
        Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message="too many"),
    )
    assert isinstance(error, RPCError)
    assert (error.status, error.message) == (RPCStatusCode.RESOURCE_EXHAUSTED, "too many")


async def test_no_answer_is_a_deadline_that_says_what_was_asked(engine: FakeEngine, client: Client) -> None:
    with pytest.raises(RPCError, match=r"start of workflow 'w' was not answered within 0\.05 s") as caught:
        await client.start_workflow("Any", id="w", task_queue="q", rpc_timeout=SHORT)
    assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "option",
    [
        {"request_eager_start": True},
        {"rpc_metadata": {"a": "b"}},
    ],
)
async def test_options_that_are_not_supported_are_refused_by_name(client: Client, option: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        await client.start_workflow("Any", id="w", task_queue="q", **option)


async def test_arguments_are_checked_before_anything_is_sent(engine: FakeEngine, client: Client) -> None:
    with pytest.raises(ValueError, match="workflow id is empty"):
        await client.start_workflow("Any", id="", task_queue="q")
    with pytest.raises(ValueError, match="task queue is empty"):
        await client.start_workflow("Any", id="w", task_queue="")
    with pytest.raises(ValueError, match="either arg or args"):
        await client.start_workflow("Any", 1, args=[2], id="w", task_queue="q")
    with pytest.raises(ValueError, match=r"input of workflow 'w' has \d+ bytes"):
        await client.start_workflow("Any", b"x" * (2 * 1024 * 1024 + 1), id="w", task_queue="q")
    with pytest.raises(TypeError, match="no option typo"):
        await client.start_workflow("Any", id="w", task_queue="q", typo=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="start_signal"):
        await client.start_workflow("Any", id="w", task_queue="q", start_signal_args=[1])
    await engine.no_command()


# --- results ------------------------------------------------------------------------------------------------------


async def test_execute_asks_for_start_and_result_at_once(engine: FakeEngine, client: Client) -> None:
    call = client.execute_workflow(Greet.run, "x", id="w", task_queue="q")
    command, result = await answered(engine, call, started(), closed(result=[payload(["x", 1])]))
    assert isinstance(command.body, StartWorkflow)
    assert command.body.await_result
    assert result == ("x", 1)
    await engine.no_command()


async def test_a_result_may_overtake_the_answer_of_the_start(engine: FakeEngine, client: Client) -> None:
    call = client.execute_workflow("Any", id="w", task_queue="q")
    _, result = await answered(engine, call, closed(result=[payload(5)]), started())
    assert result == 5


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (
            {
                "status": WorkflowStatus.FAILED,
                "failure": FailureConverter.default.to_failure(ApplicationError("no"), PayloadConverter.default),
            },
            ApplicationError,
        ),
        ({"status": WorkflowStatus.CANCELED}, CancelledError),
        ({"status": WorkflowStatus.TERMINATED}, TerminatedError),
        ({"status": WorkflowStatus.TIMED_OUT}, TimeoutError),
    ],
)
async def test_a_workflow_without_success_raises_with_its_cause(
    engine: FakeEngine, client: Client, fields: dict[str, Any], kind: type[Exception]
) -> None:
    command, error = await answered(engine, client.get_workflow_handle("w", run_id="r").result(), closed(**fields))
    assert isinstance(command.body, AwaitResult)
    assert command.run_id == "r"
    assert isinstance(error, WorkflowFailureError)
    assert isinstance(error.cause, kind)


async def test_results_follow_runs_unless_told_not_to(engine: FakeEngine, client: Client) -> None:
    went_on = closed(WorkflowStatus.CONTINUED_AS_NEW, new_run_id="run-2")
    task = asyncio.ensure_future(client.get_workflow_handle("w").result())
    engine.reply(await engine.command(), went_on)
    second = await engine.command()
    assert second.run_id == "run-2"
    engine.reply(second, closed(result=[payload("end")]))
    assert await task == "end"
    _, error = await answered(engine, client.get_workflow_handle("w").result(follow_runs=False), went_on)
    assert isinstance(error, WorkflowContinuedAsNewError)
    assert error.new_execution_run_id == "run-2"


async def test_a_result_is_none_where_there_is_none(engine: FakeEngine, client: Client) -> None:
    assert (await answered(engine, client.get_workflow_handle("w").result(), closed()))[1] is None


# --- repetition ---------------------------------------------------------------------------------------------------


async def test_reads_are_repeated_after_a_takeover_and_changes_are_not(engine: FakeEngine, client: Client) -> None:
    handle = client.get_workflow_handle("w")
    owner = partition_of("w", PARTITIONS)
    reading, changing = asyncio.ensure_future(handle.result()), asyncio.ensure_future(handle.signal("s"))
    commands = {type(command.body): command for command in [await engine.command(), await engine.command()]}
    engine.take_over(1 - owner)
    engine.take_over(owner)
    again = await engine.command()
    assert again == commands[AwaitResult]
    engine.reply(commands[SignalWorkflow], Done())
    engine.reply(again, closed(result=[payload(1)]))
    engine.reply(again, closed(result=[payload(2)]))
    assert await reading == 1
    await changing
    await engine.no_command()


async def test_what_stays_unanswered_is_repeated_with_the_same_id(
    engine: FakeEngine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "RESEND_AFTER_S", 0.0)
    monkeypatch.setattr(_connection, "_POLL_S", 0.01)
    task = asyncio.ensure_future(client.get_workflow_handle("w").signal("s"))
    first, second = await engine.command(), await engine.command()
    assert first == second
    engine.reply(second, Done())
    await task


async def test_a_started_execution_is_asked_for_rather_than_started_again(engine: FakeEngine, client: Client) -> None:
    task = asyncio.ensure_future(client.execute_workflow("Any", id="w", task_queue="q"))
    start = await engine.command()
    engine.reply(start, started("run-7"))
    described = asyncio.ensure_future(client.get_workflow_handle("other").signal("s"))
    engine.reply(await engine.command(), Done())
    await described  # so the client has seen the answer of the start
    engine.take_over(partition_of("w", PARTITIONS))
    again = await engine.command()
    assert isinstance(again.body, AwaitResult)
    assert again.run_id == "run-7"
    engine.reply(again, closed(result=[payload(1)]))
    assert await task == 1


async def test_closing_the_client_ends_what_waits(engine: FakeEngine) -> None:
    client = Client.from_log(engine.log)
    task = asyncio.ensure_future(client.get_workflow_handle("w").result())
    await engine.command()
    await client.close()
    with pytest.raises(RPCError, match="closed"):
        await task


# --- messages -----------------------------------------------------------------------------------------------------


async def test_signals_cancels_and_terminations(engine: FakeEngine, client: Client) -> None:
    handle = client.get_workflow_handle("w", run_id="r")
    signal, _ = await answered(engine, handle.signal(Greet.signalled, 3), Done())
    assert isinstance(signal.body, SignalWorkflow)
    assert (signal.run_id, signal.body.signal.signal_name, signal.body.signal.input) == ("r", "poke", [payload(3)])
    cancel, _ = await answered(engine, handle.cancel(reason="why"), Done())
    assert cancel.body == CancelWorkflow(reason="why")
    end, _ = await answered(engine, handle.terminate(1, "two", reason="why"), Done())
    assert end.body == TerminateWorkflow(reason="why", details=[payload(1), payload("two")])
    gone = Rejected(code=ErrorCode.NOT_FOUND, message="workflow execution already completed")
    _, error = await answered(engine, handle.signal("s"), gone)
    assert isinstance(error, RPCError)
    assert error.status is RPCStatusCode.NOT_FOUND


async def test_queries_and_how_they_fail(engine: FakeEngine, client: Client) -> None:
    handle = client.get_workflow_handle("w")
    condition = QueryRejectCondition.NOT_OPEN
    command, answer = await answered(
        engine, handle.query(Greet.state, reject_condition=condition), QueryAnswer(result=[payload([2])])
    )
    assert isinstance(command.body, QueryWorkflow)
    assert (command.body.query_type, command.body.reject_condition) == ("state", "NOT_OPEN")
    assert answer == {2}
    failure = FailureConverter.default.to_failure(ValueError("bad"), PayloadConverter.default)
    _, error = await answered(engine, handle.query("state"), QueryAnswer(failure=failure))
    assert isinstance(error, WorkflowQueryFailedError)
    assert error.message == "bad"
    _, error = await answered(engine, handle.query("state"), QueryAnswer(rejected_status=WorkflowStatus.FAILED))
    assert isinstance(error, WorkflowQueryRejectedError)
    assert error.status is WorkflowExecutionStatus.FAILED
    with pytest.raises(RPCError, match="no worker polls"):
        await handle.query("state", rpc_timeout=SHORT)


# --- reading ------------------------------------------------------------------------------------------------------


def summary(workflow_id: str = "w", run_id: str = "r", **fields: Any) -> ExecutionSummary:
    defaults: dict[str, Any] = {
        "first_execution_run_id": run_id,
        "workflow_type": "T",
        "task_queue": "q",
        "status": WorkflowStatus.RUNNING,
        "start_time_ms": 1000,
        "execution_time_ms": 1000,
        "history_length": 3,
        "version": 1,
    }
    return ExecutionSummary(workflow_id=workflow_id, run_id=run_id, **(defaults | fields))


async def test_describe_shows_times_status_and_memo(engine: FakeEngine, client: Client) -> None:
    described = Described(summary=summary(memo={"m": payload({"a": 1})}, close_time_ms=2500))
    command, description = await answered(engine, client.get_workflow_handle("w").describe(), described)
    assert isinstance(command.body, DescribeWorkflow)
    assert description.status is WorkflowExecutionStatus.RUNNING
    assert description.start_time.timestamp() == 1.0
    assert description.close_time.timestamp() == 2.5
    assert await description.memo() == {"m": {"a": 1}}
    assert await description.memo_value("none", 5) == 5
    assert description.raw_description == described


def record(first: int, *attributes: Any) -> bytes:
    events = [Event(event_id=first + i, event_time_ms=0, attributes=a) for i, a in enumerate(attributes)]
    return codec.encode(HistoryRecord(workflow_id="w", run_id="r", command_offset=0, epoch=0, events=events))


async def test_history_comes_in_pages_each_event_once(engine: FakeEngine, client: Client) -> None:
    timer = TimerFired(timer_id="1", started_event_id=1)
    end = WorkflowExecutionCompleted(workflow_task_completed_event_id=2)
    pages = [
        HistoryPage(run_id="r", records=[record(1, timer, timer, timer)], next_event_id=3),
        HistoryPage(run_id="r", records=[record(2, timer, timer), record(4, end)]),
    ]
    handle = client.get_workflow_handle("w")

    async def fetch(call: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.ensure_future(call)
        first = await engine.command()
        assert first.body == FetchHistory(first_event_id=1)
        engine.reply(first, pages[0])
        second = await engine.command()
        assert (second.body, second.run_id) == (FetchHistory(first_event_id=4), "r")
        engine.reply(second, pages[1])
        return await task

    history = await fetch(handle.fetch_history())
    assert [event.event_id for event in history.events] == [1, 2, 3, 4]
    assert history.run_id == "r"
    assert WorkflowHistory.from_json("w", history.to_json()) == history
    assert WorkflowHistory.from_json("w", history.to_json_dict()) == history

    async def closing() -> list[Event]:
        kind = WorkflowHistoryEventFilterType.CLOSE_EVENT
        return [event async for event in handle.fetch_history_events(event_filter_type=kind)]

    assert [event.event_id for event in await fetch(closing())] == [4]


def test_what_is_no_history_says_so() -> None:
    with pytest.raises(ValueError, match="no workflow history"):
        WorkflowHistory.from_json("w", '{"events": [{}]}')


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_nobody_there_is_an_error_with_advice() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RPCError, match="perdure dev") as caught:
        await Client.connect(f"127.0.0.1:{port}", connect_timeout=timedelta(seconds=5))
    assert caught.value.status is RPCStatusCode.UNAVAILABLE


async def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ADDRESS", "ftp://nowhere")
    with pytest.raises(RPCError, match="ftp"):
        await Client.connect()


async def test_connection_options_without_meaning_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="api_key, tls"):
        await Client.connect(tls=True, api_key="k")


async def test_a_lazy_client_connects_at_its_first_request() -> None:
    client = await Client.connect("ftp://nowhere", lazy=True)
    assert not client.connected
    with pytest.raises(RPCError, match="ftp"):
        await client.get_workflow_handle("w").describe()
