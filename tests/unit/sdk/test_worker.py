"""The worker against a played matching: dispatches in, completions and heartbeats out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RawValue
from perdure.converter import PayloadConverter
from perdure.exceptions import ApplicationError, CancelledError
from perdure.worker import Worker
from perdure_schemas import codec
from perdure_schemas.records import (
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    CancelActivity,
    Command,
    CompleteWorkflowExecution,
    ErrorCode,
    Event,
    FailureKind,
    FetchHistory,
    HistoryPage,
    HistoryRecord,
    ProbeWorker,
    QueryTask,
    QueryTaskCompleted,
    Rejected,
    ReplyTo,
    WorkerHeartbeat,
    WorkerStopped,
    WorkflowExecutionCompleted,
    WorkflowExecutionStarted,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskCompletedEvent,
    WorkflowTaskFailed,
    WorkflowTaskScheduled,
)
from tests.unit.sdk.fakes import FakeEngine, activity_task, run_task


def payload(value: Any) -> Any:
    return PayloadConverter.default.to_payload(value)


@activity.defn
async def double(number: int) -> int:
    return number * 2


@activity.defn
def in_thread(number: int) -> str:
    return f"{number} {threading.current_thread().name}"


@activity.defn
async def fails() -> None:
    raise KeyError("lost")


@activity.defn
async def huge() -> bytes:
    return b"x" * (2 * 1024 * 1024 + 1)


@activity.defn
async def not_json() -> object:
    return object()


@activity.defn
async def until_cancelled() -> str:
    activity.heartbeat("begun")
    activity.heartbeat("held back")
    await asyncio.Event().wait()
    return "never"


@activity.defn
async def until_shutdown() -> str:
    activity.heartbeat()
    await activity.wait_for_worker_shutdown()
    return "finished in peace"


@activity.defn
async def beats_and_fails() -> None:
    activity.heartbeat(1)
    activity.heartbeat(2)
    activity.heartbeat(3)
    raise ApplicationError("stop here")


@activity.defn
def blocking() -> None:
    activity.heartbeat("begun")
    while True:
        time.sleep(0.001)


@activity.defn(dynamic=True)
async def anything(args: Sequence[RawValue]) -> str:
    values = [activity.payload_converter().from_payload(arg.payload) for arg in args]
    return f"{activity.info().activity_type} {values}"


@activity.defn
async def about_me() -> dict[str, Any]:
    info = activity.info()
    return {
        "attempt": info.attempt,
        "details": info.heartbeat_details,
        "scheduled": info.scheduled_time.timestamp(),
        "workflow": info.workflow_id,
        "client": activity.client() is not None,
        "timeout": info.heartbeat_timeout,
    }


@workflow.defn
class Echo:
    @workflow.run
    async def run(self, text: str) -> str:
        return text

    @workflow.query
    def answer(self) -> int:
        return 42


ACTIVITIES = [double, fails, huge, not_json, until_cancelled, until_shutdown, beats_and_fails, about_me]


@contextlib.asynccontextmanager
async def running(engine: FakeEngine, client: Client, **options: Any) -> AsyncIterator[tuple[Worker, WorkerHeartbeat]]:
    """A worker, and the heartbeat it registered with."""
    worker = Worker(client, task_queue="q", **({"activities": ACTIVITIES} | options))
    async with worker:
        yield worker, await engine.heartbeat()


async def completion(engine: FakeEngine, *kinds: type) -> Any:
    """The body of the next command, which must be of one of these kinds."""
    command = await engine.command()
    assert isinstance(command.body, kinds), command.body
    assert (command.workflow_id, command.run_id, command.identity) == ("w", "r", "tester")
    return command.body


async def settled(engine: FakeEngine, worker: WorkerHeartbeat, *, epoch: int = 1) -> WorkerHeartbeat:
    """The first heartbeat that was made after everything sent to the worker before was taken in."""
    engine.dispatch(worker, ProbeWorker(), epoch=epoch)
    probe_number = next(engine._dispatch_numbers) - 1
    while True:
        heartbeat = await engine.heartbeat()
        if heartbeat.last_dispatch_number >= probe_number:
            return heartbeat


# --- activities ---------------------------------------------------------------------------------------------------


async def test_a_worker_registers_with_its_slots(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, max_concurrent_activities=7) as (_, registered):
        assert (registered.task_queue, registered.identity) == ("q", "tester")
        assert (registered.workflow_slots, registered.activity_slots) == (0, 7)
        assert registered.held == []
        assert not registered.draining


async def test_an_async_activity_runs_and_completes(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("double", payload(4), attempt=3)))
        body = await completion(engine, ActivityTaskCompleted)
        assert (body.scheduled_event_id, body.attempt, body.result) == (5, 3, [payload(8)])
        assert abs(body.started_time_ms - time.time() * 1000) < 60_000


async def test_a_synchronous_activity_runs_in_the_executor(engine: FakeEngine, client: Client) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        async with running(engine, client, activities=[in_thread], activity_executor=executor) as (_, worker):
            engine.dispatch(worker, run_task(activity_task("in_thread", payload(4))))
            body = await completion(engine, ActivityTaskCompleted)
            assert body.result[0].data.startswith(b'"4 mine')


async def test_an_attempt_knows_about_itself(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        task = activity_task(
            "about_me", attempt=2, heartbeat_details=[payload("half")], options={"heartbeat_timeout_ms": None}
        )
        engine.dispatch(worker, run_task(task))
        body = await completion(engine, ActivityTaskCompleted)
        assert PayloadConverter.default.from_payload(body.result[0]) == {
            "attempt": 2,
            "details": ["half"],
            "scheduled": 1.0,
            "workflow": "w",
            "client": True,
            "timeout": None,
        }


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "text", "non_retryable"),
    [
        ("fails", [], "KeyError", "lost", False),
        ("huge", [], "PayloadSizeExceeded", "result of activity huge", True),
        ("not_json", [], "TypeError", "JSON", False),
        ("double", ["text"], "RuntimeError", "failed decoding the arguments", False),
        ("double", [1, 2], "TypeError", "positional argument", False),
        ("unknown", [], "NotFoundError", "it has: about_me, beats_and_fails", True),
    ],
)
async def test_what_goes_wrong_is_reported(
    engine: FakeEngine, client: Client, name: str, arguments: list[Any], kind: str, text: str, non_retryable: bool
) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task(name, *map(payload, arguments))))
        failure = (await completion(engine, ActivityTaskFailed)).failure
        assert (failure.kind, failure.type) == (FailureKind.APPLICATION, kind)
        assert text in failure.message
        assert failure.non_retryable is non_retryable


async def test_a_dynamic_activity_takes_what_no_other_takes(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, activities=[double, anything]) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("whatever", payload(1), payload("b"))))
        body = await completion(engine, ActivityTaskCompleted)
        assert PayloadConverter.default.from_payload(body.result[0]) == "whatever [1, 'b']"


async def test_heartbeats_are_throttled_and_flushed_before_a_failure(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("beats_and_fails", options={"heartbeat_timeout_ms": 60_000})))
        first = await completion(engine, ActivityTaskHeartbeat)
        last = await completion(engine, ActivityTaskHeartbeat)
        assert (first.details, last.details) == ([payload(1)], [payload(3)])
        assert (await completion(engine, ActivityTaskFailed)).failure.message == "stop here"


async def test_a_held_back_heartbeat_goes_out_when_its_time_comes(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("until_cancelled", options={"heartbeat_timeout_ms": 20})))
        assert (await completion(engine, ActivityTaskHeartbeat)).details == [payload("begun")]
        assert (await completion(engine, ActivityTaskHeartbeat)).details == [payload("held back")]


async def test_a_cancelled_activity_reports_so(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("until_cancelled")))
        await completion(engine, ActivityTaskHeartbeat)
        engine.dispatch(worker, CancelActivity(task_id="t1"))
        assert (await completion(engine, ActivityTaskHeartbeat)).details == [payload("held back")]
        await completion(engine, ActivityTaskCanceled)


async def test_a_cancellation_reaches_a_thread(engine: FakeEngine, client: Client) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with running(engine, client, activities=[blocking], activity_executor=executor) as (_, worker):
            engine.dispatch(worker, run_task(activity_task("blocking")))
            await completion(engine, ActivityTaskHeartbeat)
            engine.dispatch(worker, CancelActivity(task_id="t1"))
            await completion(engine, ActivityTaskCanceled)


async def test_nobody_hears_of_an_activity_that_is_gone(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("until_cancelled")))
        await completion(engine, ActivityTaskHeartbeat)
        engine.dispatch(worker, CancelActivity(task_id="t1", gone=True))
        while (await settled(engine, worker)).held:
            pass
        await engine.no_command()


async def test_an_attempt_that_takes_too_long_is_cancelled_here_too(engine: FakeEngine, client: Client) -> None:
    seen: list[Any] = []

    @activity.defn
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(activity.cancellation_details())

    async with running(engine, client, activities=[slow]) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("slow", options={"start_to_close_timeout_ms": 300})))
        await settled(engine, worker)
        while (await settled(engine, worker)).held:
            pass
        await engine.no_command()
        assert seen[0].timed_out


async def test_a_cancellation_nobody_asked_for_is_a_failure(engine: FakeEngine, client: Client) -> None:
    @activity.defn
    async def gives_up() -> None:
        raise CancelledError("by itself")

    async with running(engine, client, activities=[gives_up]) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("gives_up")))
        failure = (await completion(engine, ActivityTaskFailed)).failure
        assert (failure.kind, failure.type) == (FailureKind.APPLICATION, "CancelledError")


# --- dispatches ---------------------------------------------------------------------------------------------------


async def test_repetitions_and_old_epochs_are_ignored(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        task = activity_task("double", payload(1))
        engine.dispatch(worker, run_task(task, task_id="a"), epoch=5)
        await completion(engine, ActivityTaskCompleted)
        engine.dispatch(worker, run_task(task, task_id="a"), epoch=5)
        engine.dispatch(worker, run_task(task, task_id="b"), epoch=4)
        engine.dispatch(worker, run_task(task, task_id="c"), epoch=6)
        command = await engine.command()
        assert command.command_id == "c"
        await settled(engine, worker, epoch=6)
        await engine.no_command()


async def test_what_is_held_stands_in_the_heartbeat(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("until_shutdown"), task_id="x"))
        await completion(engine, ActivityTaskHeartbeat)
        held = (await settled(engine, worker)).held
        assert [task.task_id for task in held] == ["x"]


# --- workflow code ------------------------------------------------------------------------------------------------

STARTED = [
    Event(
        event_id=1,
        event_time_ms=1,
        attributes=WorkflowExecutionStarted(
            workflow_type="Echo",
            task_queue="q",
            input=[payload("hi")],
            first_execution_run_id="r",
            start_command_id="c",
        ),
    ),
    Event(event_id=2, event_time_ms=1, attributes=WorkflowTaskScheduled(task_queue="q", start_to_close_timeout_ms=1)),
]


def history(*events: Event) -> bytes:
    return codec.encode(
        HistoryRecord(workflow_id="w", run_id="r", command_offset=0, epoch=0, events=list(events or STARTED))
    )


def workflow_task(*, workflow_type: str = "Echo", first_event_id: int = 1, records: list[bytes] | None = None) -> Any:
    return run_task(
        WorkflowTask(
            workflow_type=workflow_type,
            scheduled_event_id=2,
            attempt=1,
            first_event_id=first_event_id,
            last_event_id=2,
            history=[history()] if records is None else records,
        ),
        kind="workflow",
    )


async def test_a_workflow_task_runs_to_its_commands(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        assert worker.workflow_slots == 100
        engine.dispatch(worker, workflow_task())
        body = await completion(engine, WorkflowTaskCompleted)
        assert (body.scheduled_event_id, body.last_event_id) == (2, 2)
        assert body.commands == [CompleteWorkflowExecution(result=[payload("hi")])]
        assert body.sticky_worker_id == worker.worker_id


async def test_missing_history_is_fetched_in_pages(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, workflow_task(first_event_id=2, records=[history(STARTED[1])]))
        first = await engine.command()
        assert first.body == FetchHistory(first_event_id=1)
        engine.dispatch(worker, run_task(activity_task("double", payload(1)), task_id="other"))
        assert (await engine.command()).command_id == "other"  # the rest goes on meanwhile
        engine.reply(first, HistoryPage(run_id="r", records=[history(STARTED[0])], next_event_id=2))
        second = await engine.command()
        assert second.body == FetchHistory(first_event_id=2)
        engine.reply(second, HistoryPage(run_id="r", records=[history(STARTED[1])]))
        await completion(engine, WorkflowTaskCompleted)


async def test_a_task_of_a_run_that_is_gone_is_given_up(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, workflow_task(records=[]))
        engine.reply(await engine.command(), Rejected(code=ErrorCode.NOT_FOUND, message="workflow not found"))
        while (await settled(engine, worker)).held:
            pass
        await engine.no_command()


async def test_an_unknown_workflow_type_fails_the_task_and_names_the_known(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        started = STARTED[0].attributes
        assert isinstance(started, WorkflowExecutionStarted)
        other = Event(
            event_id=1,
            event_time_ms=1,
            attributes=WorkflowExecutionStarted(
                workflow_type="Other", task_queue="q", first_execution_run_id="r", start_command_id="c"
            ),
        )
        engine.dispatch(worker, workflow_task(workflow_type="Other", records=[history(other, STARTED[1])]))
        body = await completion(engine, WorkflowTaskFailed)
        assert body.cause == "WORKFLOW_TYPE_NOT_FOUND"
        assert "Echo" in body.failure.message


async def test_a_result_that_is_too_large_fails_the_task(engine: FakeEngine, client: Client) -> None:
    @workflow.defn(name="Echo")
    class Big:
        @workflow.run
        async def run(self, text: str) -> str:
            return text * (1024 * 1024 + 1)

    async with running(engine, client, workflows=[Big]) as (_, worker):
        engine.dispatch(worker, workflow_task())
        body = await completion(engine, WorkflowTaskFailed)
        assert "CompleteWorkflowExecution of workflow 'w' has" in body.failure.message


async def test_damaged_history_fails_the_task_visibly(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, workflow_task(records=[b"nonsense"]))
        body = await completion(engine, WorkflowTaskFailed)
        assert "Avro" in body.failure.message


async def test_queries_are_answered(engine: FakeEngine, client: Client) -> None:
    to = ReplyTo(client_id="c", partition=0, request_id="1")
    done = WorkflowTaskCompletedEvent(scheduled_event_id=2, last_event_id=2, started_time_ms=2)
    end = WorkflowExecutionCompleted(result=[payload("hi")], workflow_task_completed_event_id=3)
    rest = [Event(event_id=3 + i, event_time_ms=2, attributes=attributes) for i, attributes in enumerate((done, end))]

    def query(name: str) -> Any:
        task = QueryTask(
            workflow_type="Echo",
            query_id=name,
            query_type=name,
            reply=to,
            first_event_id=1,
            last_event_id=4,
            history=[history(*STARTED, *rest)],
        )
        return run_task(task, task_id=name, kind="query")

    async with running(engine, client, workflows=[Echo]) as (_, worker):
        engine.dispatch(worker, query("answer"))
        body = await completion(engine, QueryTaskCompleted)
        assert (body.query_id, body.reply, body.result, body.failure) == ("answer", to, [payload(42)], None)
        engine.dispatch(worker, query("none"))
        assert (await completion(engine, QueryTaskCompleted)).failure is not None


# --- stopping -----------------------------------------------------------------------------------------------------


async def next_messages(engine: FakeEngine) -> tuple[list[WorkerHeartbeat], WorkerStopped]:
    heartbeats: list[WorkerHeartbeat] = []
    while True:
        message = await engine.worker_message()
        if isinstance(message, WorkerStopped):
            return heartbeats, message
        assert isinstance(message, WorkerHeartbeat)
        heartbeats.append(message)


async def test_an_activity_may_finish_within_the_graceful_time(engine: FakeEngine, client: Client) -> None:
    async with running(engine, client, graceful_shutdown_timeout=timedelta(seconds=20)) as (_, worker):
        engine.dispatch(worker, run_task(activity_task("until_shutdown")))
        await completion(engine, ActivityTaskHeartbeat)
    assert (await completion(engine, ActivityTaskCompleted)).result == [payload("finished in peace")]
    heartbeats, stopped = await next_messages(engine)
    assert stopped.worker_id == worker.worker_id
    assert heartbeats[-1].draining


async def test_without_graceful_time_activities_are_cancelled_and_retried_elsewhere(
    engine: FakeEngine, client: Client
) -> None:
    async with running(engine, client) as (made, worker):
        engine.dispatch(worker, run_task(activity_task("until_cancelled")))
        await completion(engine, ActivityTaskHeartbeat)
    assert made.is_shutdown
    await completion(engine, ActivityTaskHeartbeat)
    failure = (await completion(engine, ActivityTaskFailed)).failure
    assert (failure.type, failure.non_retryable) == ("WorkerShutdown", False)


async def test_run_ends_with_shutdown(engine: FakeEngine, client: Client) -> None:
    worker = Worker(client, task_queue="q", activities=[double])
    task = asyncio.ensure_future(worker.run())
    await engine.heartbeat()
    assert worker.is_running
    await worker.shutdown()
    await task
    assert worker.is_shutdown
    with pytest.raises(RuntimeError, match="runs once"):
        await worker.run()


async def test_cancelling_run_stops_the_worker(engine: FakeEngine, client: Client) -> None:
    worker = Worker(client, task_queue="q", activities=[double])
    task = asyncio.ensure_future(worker.run())
    await engine.heartbeat()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, stopped = await next_messages(engine)
    assert stopped.task_queue == "q"


async def test_a_fatal_error_is_raised_to_whoever_runs_the_worker(
    engine: FakeEngine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []

    async def note(error: BaseException) -> None:
        seen.append(error)

    worker = Worker(client, task_queue="q", workflows=[Echo], on_fatal_error=note)
    task = asyncio.ensure_future(worker.run())
    heartbeat = await engine.heartbeat()
    assert worker._parts is not None
    monkeypatch.setattr(worker._parts._dispatch, "_run_code", lambda tasks: 1 / 0)
    engine.dispatch(heartbeat, workflow_task())
    with pytest.raises(ZeroDivisionError):
        await task
    assert isinstance(seen[0], ZeroDivisionError)


# --- options ------------------------------------------------------------------------------------------------------


async def test_senseless_workers_are_refused(client: Client) -> None:
    def refused(kind: type[Exception], text: str, **options: Any) -> None:
        with pytest.raises(kind, match=text):
            Worker(client, task_queue="q", **options)

    refused(ValueError, "at least one")
    refused(ValueError, "needs an activity_executor", activities=[in_thread])
    refused(ValueError, "two activities .* 'double'", activities=[double, double])
    refused(TypeError, "put @activity.defn", activities=[lambda: None])
    refused(ValueError, "put @workflow.defn", workflows=[int])
    refused(ValueError, "two workflows", workflows=[Echo, Echo])
    refused(ValueError, "max_concurrent_activities is 0", activities=[double], max_concurrent_activities=0)
    refused(ValueError, "max_cached_history_bytes", activities=[double], max_cached_history_bytes=0)
    refused(ValueError, "max_cached_workflows", activities=[double], max_cached_workflows=-1)
    refused(TypeError, "Interceptor", activities=[double], interceptors=[object()])
    with ProcessPoolExecutor(1) as pool:
        refused(ValueError, "shared_state_manager", activities=[double], activity_executor=pool)


async def test_a_lazy_client_cannot_serve_a_worker() -> None:
    client = await Client.connect("localhost:1", lazy=True)
    with pytest.raises(RuntimeError, match="lazy"):
        Worker(client, task_queue="q", activities=[double])


def test_commands_are_records_of_the_platform() -> None:
    assert codec.decode(codec.encode(Command(command_id="c", workflow_id="w", body=FetchHistory()))) is not None
