"""Updates against a running engine: validators, handlers, stages, ids, and what happens when something ends first."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure import client as client_module
from perdure import worker as worker_module
from perdure.client import (
    Client,
    RPCError,
    RPCStatusCode,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from perdure.common import RawValue, WorkflowIDConflictPolicy
from perdure.converter import PayloadConverter
from perdure.exceptions import ApplicationError, WorkflowAlreadyStartedError
from perdure.worker import Worker


def payload_of(value: str) -> Any:
    return PayloadConverter.default.to_payload(value)


OPTIONS = {"start_to_close_timeout": timedelta(seconds=20)}


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []
        self.done = False
        self.released = False
        self.validated = 0

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.done)
        return self.items

    @workflow.update
    def add(self, item: str, count: int = 1) -> int:
        self.items.extend([item] * count)
        return len(self.items)

    @add.validator
    def check(self, item: str, count: int = 1) -> None:
        if count < 1:
            raise ValueError(f"count {count} is below 1")

    @workflow.update
    async def add_doubled(self, number: int) -> int:
        doubled = await workflow.execute_activity(double, number, **OPTIONS)
        self.items.append(str(doubled))
        return doubled

    @workflow.update
    async def wait(self) -> str:
        await workflow.wait_condition(lambda: self.released)
        info = workflow.current_update_info()
        assert info is not None
        return f"{info.name} {info.id}"

    @workflow.update(name="fail")
    async def fail_it(self, reason: str) -> None:
        raise ApplicationError(reason, "detail", type="Refused")

    @workflow.update
    def finish(self) -> str:
        self.done = True
        return "finished"

    @workflow.signal
    def release(self) -> None:
        self.released = True

    @workflow.signal
    def end(self) -> None:
        self.done = True

    @workflow.query
    def content(self) -> list[str]:
        return self.items

    @workflow.update(dynamic=True)
    def others(self, name: str, args: Sequence[RawValue]) -> str:
        values = [workflow.payload_converter().from_payload(arg.payload) for arg in args]
        return f"{name} {values}"


@workflow.defn
class SetsHandlers:
    @workflow.run
    async def run(self) -> None:
        def rename(name: str) -> str:
            return name.upper()

        def check(name: str) -> None:
            if not name:
                raise ApplicationError("no name")

        workflow.set_update_handler("rename", rename, validator=check)
        assert workflow.get_update_handler("rename") is rename
        await workflow.wait_condition(lambda: False)


def worker_of(client: Client, task_queue: str, **options: Any) -> Worker:
    return Worker(client, task_queue=task_queue, workflows=[Cart, SetsHandlers], activities=[double], **options)


async def kinds(client: Client, workflow_id: str) -> list[str]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [type(event.attributes).__name__ for event in history.events]


async def test_updates_change_the_workflow_and_return(client: Client, task_queue: str) -> None:
    async with worker_of(client, task_queue):
        handle = await client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        assert await handle.execute_update(Cart.add, args=["apple", 2]) == 2
        assert await handle.execute_update(Cart.add_doubled, 4) == 8
        assert await handle.execute_update("unknown", "x") == "unknown ['x']"
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(Cart.fail_it, "no")
        cause = caught.value.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.message, cause.type, cause.details) == ("no", "Refused", ("detail",))
        assert await handle.execute_update(Cart.finish) == "finished"
        assert await handle.result() == ["apple", "apple", "8"]


async def test_a_rejected_update_leaves_no_event(client: Client, task_queue: str) -> None:
    async with worker_of(client, task_queue):
        handle = await client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        assert await handle.execute_update(Cart.add, args=["apple", 1]) == 1
        before = await kinds(client, task_queue)
        for _ in range(3):
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await handle.execute_update(Cart.add, args=["pear", 0])
            assert "count 0 is below 1" in str(caught.value.cause)
        assert await kinds(client, task_queue) == before
        assert await handle.execute_update(Cart.add, args=["pear", 1]) == 2
        assert await handle.query(Cart.content) == ["apple", "pear"]
    assert before[-4:] == [
        "WorkflowTaskScheduled",
        "WorkflowTaskCompletedEvent",
        "WorkflowExecutionUpdateAccepted",
        "WorkflowExecutionUpdateCompleted",
    ]


async def test_stages_handles_and_ids(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    async with worker_of(client, task_queue):
        handle = await client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        update = await handle.start_update(Cart.wait, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="u1")
        assert (update.id, update.workflow_id, update.workflow_run_id) == ("u1", task_queue, handle.result_run_id)
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            await update.result(rpc_timeout=timedelta(milliseconds=50))
        again = asyncio.create_task(handle.execute_update(Cart.wait, id="u1"))
        await handle.signal(Cart.release)
        assert await update.result() == "wait u1"
        assert await again == "wait u1"
        done = await handle.start_update(Cart.wait, wait_for_stage=WorkflowUpdateStage.COMPLETED, id="u1")
        assert await done.result() == "wait u1"
        assert await handle.get_update_handle("u1").result() == "wait u1"
        assert await handle.get_update_handle_for(Cart.wait, "u1").result() == "wait u1"
        with pytest.raises(RPCError, match="has accepted no update 'u2'"):
            await handle.get_update_handle("u2").result()
        with pytest.raises(ValueError, match="wait for ACCEPTED"):
            await handle.start_update(Cart.wait, wait_for_stage=WorkflowUpdateStage.ADMITTED)
        assert (await kinds(client, task_queue)).count("WorkflowExecutionUpdateAccepted") == 1
        await handle.signal(Cart.end)
        await handle.result()
        # An outcome outlives its workflow; a new update does not reach it.
        assert await handle.get_update_handle("u1").result() == "wait u1"
        assert await handle.execute_update(Cart.wait, id="u1") == "wait u1"
        with pytest.raises(RPCError, match="already completed") as caught:
            await handle.execute_update(Cart.add, args=["late", 1])
        assert caught.value.status is RPCStatusCode.NOT_FOUND


async def test_many_at_once_each_have_their_answer(embedded_client: Client, task_queue: str) -> None:
    async with worker_of(embedded_client, task_queue, max_cached_workflows=0):
        handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        counts = await asyncio.gather(*(handle.execute_update(Cart.add, args=["x", 1]) for _ in range(30)))
        assert sorted(counts) == list(range(1, 31))
        doubled = await asyncio.gather(*(handle.execute_update(Cart.add_doubled, n) for n in range(5)))
        assert doubled == [0, 2, 4, 6, 8]


async def test_an_update_that_meets_signals_is_never_lost(embedded_client: Client, task_queue: str) -> None:
    async with worker_of(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        for round_number in range(10):
            results = await asyncio.gather(
                handle.execute_update(Cart.add, args=["x", 1]),
                handle.signal(Cart.release),
                handle.execute_update(Cart.add, args=["y", 1]),
                handle.signal(Cart.release),
            )
            assert sorted(results, key=lambda r: r or 0)[2:] == [2 * round_number + 1, 2 * round_number + 2]


async def test_a_workflow_that_ends_first_answers_its_updates(embedded_client: Client, task_queue: str) -> None:
    async with worker_of(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
        accepted = await handle.start_update(Cart.wait, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
        waiting = asyncio.create_task(accepted.result())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await handle.signal(Cart.end)
            await handle.result()
        for outcome in (waiting, accepted.result()):
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await outcome
            assert isinstance(caught.value.cause, ApplicationError)
            assert caught.value.cause.type == "AcceptedUpdateCompletedWorkflow"


async def test_termination_answers_updates_no_worker_has_seen(embedded_client: Client, task_queue: str) -> None:
    handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
    waiting = asyncio.create_task(handle.execute_update(Cart.add, args=["x", 1]))
    await handle.describe()
    await handle.terminate()
    with pytest.raises(RPCError, match="already completed"):
        await waiting


async def test_without_a_worker_the_error_names_the_likely_cause(embedded_client: Client, task_queue: str) -> None:
    handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError, match="no worker polls"):
        await handle.execute_update(Cart.add, args=["x", 1], rpc_timeout=timedelta(milliseconds=50))
    # It was not accepted in its time, so the worker that comes later does not see it.
    async with worker_of(embedded_client, task_queue):
        assert await handle.query(Cart.content) == []
        assert await handle.execute_update(Cart.add, args=["y", 1]) == 1


async def test_update_with_start(client: Client, task_queue: str) -> None:
    def operation(policy: WorkflowIDConflictPolicy) -> WithStartWorkflowOperation[Cart, list[str]]:
        return WithStartWorkflowOperation(Cart.run, id=task_queue, task_queue=task_queue, id_conflict_policy=policy)

    async with worker_of(client, task_queue):
        first = operation(WorkflowIDConflictPolicy.FAIL)
        added = await client.execute_update_with_start_workflow(
            Cart.add, args=["apple", 1], start_workflow_operation=first, id="first"
        )
        assert added == 1
        handle = await first.workflow_handle()
        assert handle.id == task_queue
        second = operation(WorkflowIDConflictPolicy.USE_EXISTING)
        update = await client.start_update_with_start_workflow(
            Cart.add,
            args=["pear", 1],
            start_workflow_operation=second,
            wait_for_stage=WorkflowUpdateStage.ACCEPTED,
        )
        assert await update.result() == 2
        assert (await second.workflow_handle()).result_run_id == handle.result_run_id
        third = operation(WorkflowIDConflictPolicy.FAIL)
        with pytest.raises(WorkflowAlreadyStartedError):
            await client.execute_update_with_start_workflow(Cart.add, args=["fig", 1], start_workflow_operation=third)
        with pytest.raises(WorkflowAlreadyStartedError):
            await third.workflow_handle()
        with pytest.raises(RuntimeError, match="used already"):
            await client.execute_update_with_start_workflow(Cart.add, args=["fig", 1], start_workflow_operation=third)
        assert await handle.query(Cart.content) == ["apple", "pear"]
        await handle.signal(Cart.end)
        await handle.result()
        # The same update again finds the run that took it, though it is closed.
        repeated = operation(WorkflowIDConflictPolicy.USE_EXISTING)
        added = await client.execute_update_with_start_workflow(
            Cart.add, args=["apple", 1], start_workflow_operation=repeated, id="first"
        )
        assert added == 1
        assert (await repeated.workflow_handle()).result_run_id == handle.result_run_id


async def test_update_with_start_of_neither(embedded_client: Client, task_queue: str) -> None:
    with pytest.raises(ValueError, match="must be FAIL or USE_EXISTING"):
        WithStartWorkflowOperation(
            Cart.run, id="x", task_queue="q", id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING
        )
    operation = WithStartWorkflowOperation(
        Cart.run, id=task_queue, task_queue=task_queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    with pytest.raises(ValueError, match="update"):
        await embedded_client.execute_update_with_start_workflow(
            Cart.add, args=["x" * 1_100_000, 1], start_workflow_operation=operation
        )
    with pytest.raises(RPCError, match="not found"):
        await embedded_client.get_workflow_handle(task_queue).describe()


async def test_handlers_set_at_run_time(embedded_client: Client, task_queue: str) -> None:
    async with worker_of(embedded_client, task_queue):
        handle = await embedded_client.start_workflow(SetsHandlers.run, id=task_queue, task_queue=task_queue)
        await handle.query("__stack_trace")  # the first workflow task is over then
        assert await handle.execute_update("rename", "ann") == "ANN"
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("rename", "")
        assert str(caught.value.cause) == "no name"
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("nothing")
        assert "Update handler for 'nothing' expected but not found" in str(caught.value.cause)
        assert "known updates: [rename]" in str(caught.value.cause)


async def test_a_worker_restart_replays_accepted_updates(embedded_client: Client, task_queue: str) -> None:
    handle = await embedded_client.start_workflow(Cart.run, id=task_queue, task_queue=task_queue)
    async with worker_of(embedded_client, task_queue):
        assert await handle.execute_update(Cart.add, args=["apple", 1]) == 1
        update = await handle.start_update(Cart.wait, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="u")
    async with worker_of(embedded_client, task_queue):
        assert await handle.execute_update(Cart.add, args=["pear", 1]) == 2
        await handle.signal(Cart.release)
        assert await update.result() == "wait u"
        assert await handle.query(Cart.content) == ["apple", "pear"]


@workflow.defn
class Chain:
    """Goes on as a new run when it is told to."""

    def __init__(self) -> None:
        self.goes_on = False

    @workflow.run
    async def run(self, number: int) -> int:
        if number < 3:
            await workflow.wait_condition(lambda: self.goes_on)
            workflow.continue_as_new(number + 1)
        await workflow.wait_condition(lambda: self.goes_on)
        return number

    @workflow.update
    def number(self) -> str:
        return workflow.info().run_id

    @workflow.signal
    def go_on(self) -> None:
        self.goes_on = True


async def test_updates_that_meet_continue_as_new_are_answered(embedded_client: Client, task_queue: str) -> None:
    client = embedded_client
    handle = await client.start_workflow(Chain.run, 0, id=task_queue, task_queue=task_queue)
    current = client.get_workflow_handle(task_queue)
    # The first workflow task sees all of this at once.
    await current.signal(Chain.go_on)
    waiting = [asyncio.create_task(current.execute_update(Chain.number)) for _ in range(3)]
    await current.describe()
    async with Worker(client, task_queue=task_queue, workflows=[Chain]):
        answers = await asyncio.gather(*waiting)
        assert all(answers)
        for _ in range(2):
            signalled, answer = await asyncio.gather(current.signal(Chain.go_on), current.execute_update(Chain.number))
            assert signalled is None and answer
        await current.signal(Chain.go_on)
        assert await handle.result() == 3


class TracingClient(client_module.OutboundInterceptor):
    async def start_workflow_update(self, input: client_module.StartWorkflowUpdateInput) -> Any:
        input.headers = {"trace": payload_of("header")}
        return await super().start_workflow_update(input)

    async def start_update_with_start_workflow(self, input: client_module.StartWorkflowUpdateWithStartInput) -> Any:
        input.update_workflow_input.headers = {"trace": payload_of("header")}
        return await super().start_update_with_start_workflow(input)


class TracesClient(client_module.Interceptor):
    def intercept_client(self, next: client_module.OutboundInterceptor) -> client_module.OutboundInterceptor:
        return TracingClient(next)


class TracingWorkflow(worker_module.WorkflowInboundInterceptor):
    def handle_update_validator(self, input: worker_module.HandleUpdateInput) -> None:
        assert "trace" in input.headers
        if input.args[0] == "forbidden":
            raise ApplicationError("by the interceptor")
        super().handle_update_validator(input)

    async def handle_update_handler(self, input: worker_module.HandleUpdateInput) -> Any:
        input.args = [f"traced {input.args[0]}", *input.args[1:]]
        return await super().handle_update_handler(input)


class TracesWorkflow(worker_module.Interceptor):
    def workflow_interceptor_class(self, input: Any) -> type[worker_module.WorkflowInboundInterceptor]:
        return TracingWorkflow


async def test_interceptors_are_around_updates(embedded_client: Client, task_queue: str) -> None:
    connection = await embedded_client.connection()
    client = Client.from_log(connection.log, names=connection.names, interceptors=[TracesClient()])
    async with worker_of(client, task_queue, interceptors=[TracesWorkflow()], max_cached_workflows=0):
        operation = WithStartWorkflowOperation(
            Cart.run, id=task_queue, task_queue=task_queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
        )
        await client.execute_update_with_start_workflow(Cart.add, args=["a", 1], start_workflow_operation=operation)
        handle = await operation.workflow_handle()
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(Cart.add, args=["forbidden", 1])
        assert str(caught.value.cause) == "by the interceptor"
        await handle.execute_update(Cart.add, args=["b", 1])
        assert await handle.query(Cart.content) == ["traced a", "traced b"]
    await client.close()
