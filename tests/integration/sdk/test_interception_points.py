"""The interception points around asynchronous completion, local activities and continue-as-new, against an engine."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from perdure import activity, client, worker, workflow
from perdure.client import AsyncActivityCancelledError, AsyncActivityHandle, Client, WorkflowFailureError
from perdure.converter import PayloadConverter
from perdure.exceptions import ActivityError
from perdure.worker import Worker

HEADER = "hop"
_tokens: asyncio.Queue[bytes] = asyncio.Queue()


def _client_with(base: Client, *interceptors: client.Interceptor) -> Client:
    found = base._connection
    assert found is not None
    return Client.from_log(found.log, namespace=base.namespace, names=found.names, interceptors=interceptors)


class AsyncPoints(client.OutboundInterceptor):
    """Notes and changes what is said about activities that left their worker."""

    seen: list[str]

    async def heartbeat_async_activity(self, input: client.HeartbeatAsyncActivityInput) -> None:
        self.seen.append(f"heartbeat {list(input.details)}")
        await super().heartbeat_async_activity(input)

    async def complete_async_activity(self, input: client.CompleteAsyncActivityInput) -> None:
        self.seen.append(f"complete {input.result}")
        input.result = f"{input.result}, changed"
        await super().complete_async_activity(input)

    async def fail_async_activity(self, input: client.FailAsyncActivityInput) -> None:
        self.seen.append(f"fail {input.error}")
        input.error = ValueError("changed")
        await super().fail_async_activity(input)

    async def report_cancellation_async_activity(self, input: client.ReportCancellationAsyncActivityInput) -> None:
        self.seen.append(f"report_cancellation {list(input.details)}")
        await super().report_cancellation_async_activity(input)


class AsyncPointsInterceptor(client.Interceptor):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        outbound = AsyncPoints(next)
        outbound.seen = self.seen
        return outbound


@activity.defn
async def leave() -> str:
    _tokens.put_nowait(activity.info().task_token)
    activity.raise_complete_async()


@workflow.defn
class LeavesOnce:
    @workflow.run
    async def run(self, attempts: int) -> str:
        return await workflow.execute_activity(
            leave,
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=workflow_retries(attempts),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


def workflow_retries(attempts: int) -> Any:
    from perdure.common import RetryPolicy

    return RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=attempts)


async def test_what_is_said_about_asynchronous_activities_passes_through_the_client(
    embedded_client: Client, task_queue: str
) -> None:
    points = AsyncPointsInterceptor()
    intercepted = _client_with(embedded_client, points)
    async with Worker(embedded_client, task_queue=task_queue, workflows=[LeavesOnce], activities=[leave]):
        started = await embedded_client.start_workflow(LeavesOnce.run, 2, id=task_queue, task_queue=task_queue)
        first = await _left(intercepted)
        await first.heartbeat("half")
        await first.fail(ValueError("no"), last_heartbeat_details=["half"])
        await (await _left(intercepted)).complete("done")
        assert await started.result() == "done, changed"

        failing = await embedded_client.start_workflow(LeavesOnce.run, 1, id=f"{task_queue}-2", task_queue=task_queue)
        await (await _left(intercepted)).fail(ValueError("no"))
        with pytest.raises(WorkflowFailureError) as failed:
            await failing.result()
        assert isinstance(failed.value.cause, ActivityError)
        assert "changed" in str(failed.value.cause.cause)

        cancelled = await embedded_client.start_workflow(LeavesOnce.run, 1, id=f"{task_queue}-3", task_queue=task_queue)
        handle = await _left(intercepted)
        await cancelled.cancel()
        with pytest.raises(AsyncActivityCancelledError):
            while True:
                await handle.heartbeat("still")
                await asyncio.sleep(0.02)
        await handle.report_cancellation("stopped")
        with pytest.raises(WorkflowFailureError):
            await cancelled.result()
    seen = [call for call in points.seen if call != "heartbeat ['still']"]
    assert seen == ["heartbeat ['half']", "fail no", "complete done", "fail no", "report_cancellation ['stopped']"]


async def _left(through: Client) -> AsyncActivityHandle:
    token = await asyncio.wait_for(_tokens.get(), 60)
    return through.get_async_activity_handle(task_token=token)


class HoppingOutbound(worker.WorkflowOutboundInterceptor):
    """Counts, in a header, how often the run went on as a new one."""

    def continue_as_new(self, input: worker.ContinueAsNewInput) -> NoReturn:
        input.headers = {HEADER: PayloadConverter.default.to_payload(_hops() + 1)}
        input.args = [*input.args[:1], "by the interceptor"]
        super().continue_as_new(input)

    def start_local_activity(self, input: worker.StartLocalActivityInput) -> Any:
        input.headers = {HEADER: PayloadConverter.default.to_payload(_hops())}
        input.args = [input.args[0] * 10]
        return super().start_local_activity(input)


def _hops() -> int:
    header = workflow.info().headers.get(HEADER)
    return 0 if header is None else int(PayloadConverter.default.from_payload(header))


class Hopping(worker.Interceptor):
    """As :class:`HoppingOutbound` says; an activity's result gets the header it came with."""

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        class Inbound(worker.WorkflowInboundInterceptor):
            def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
                super().init(HoppingOutbound(outbound))

        return Inbound

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        class Inbound(worker.ActivityInboundInterceptor):
            async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
                hops = PayloadConverter.default.from_payload(input.headers[HEADER])
                return f"{await super().execute_activity(input)} after {hops}"

        return Inbound(next)


@activity.defn
async def noted(number: int) -> str:
    return f"{number}"


@workflow.defn
class Hops:
    @workflow.run
    async def run(self, left: int, said: str) -> list[str]:
        if left:
            workflow.continue_as_new(args=[left - 1, "by the code"])
        awaited = await workflow.execute_local_activity(noted, left, start_to_close_timeout=timedelta(seconds=30))
        started = await workflow.start_local_activity(noted, 7, start_to_close_timeout=timedelta(seconds=30))
        return [said, str(_hops()), awaited, started]


async def test_local_activities_and_continue_as_new_pass_through_the_workflows_interceptor(
    embedded_client: Client, task_queue: str
) -> None:
    async with Worker(
        embedded_client,
        task_queue=task_queue,
        workflows=[Hops],
        activities=[noted],
        interceptors=[Hopping()],
        max_cached_workflows=0,  # every task is replayed, also with interceptors
    ):
        result = await embedded_client.execute_workflow(
            Hops.run, args=[2, "by nobody"], id=task_queue, task_queue=task_queue
        )
    assert result == ["by the interceptor", "2", "0 after 2", "70 after 2"]


async def test_a_history_without_interceptors_replays_with_them(embedded_client: Client, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[LocalOnly], activities=[noted]):
        handle = await embedded_client.start_workflow(LocalOnly.run, id=task_queue, task_queue=task_queue)
        assert await handle.result() == ["1", "2", "3"]
        history = await handle.fetch_history()
    replayer = worker.Replayer(workflows=[LocalOnly], interceptors=[Passing()])
    result = await replayer.replay_workflow(history)
    assert result.replay_failure is None


class Passing(worker.Interceptor):
    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        return worker.WorkflowInboundInterceptor


@workflow.defn
class LocalOnly:
    @workflow.run
    async def run(self) -> list[str]:
        options: Any = {"start_to_close_timeout": timedelta(seconds=30)}
        first = workflow.start_local_activity(noted, 1, **options)
        second = await workflow.execute_local_activity(noted, 2, **options)
        await workflow.sleep(0.001)
        return [await first, second, await workflow.execute_local_activity(noted, 3, **options)]
