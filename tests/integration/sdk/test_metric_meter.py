"""Metrics of one's own: workflows and activities record them, replay does not, and the worker's endpoint shows them."""

from __future__ import annotations

import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from perdure import activity, workflow
from perdure.client import Client
from perdure.runtime import PrometheusConfig, Runtime, TelemetryConfig
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker

#: This run of the tests only: what a process exports stays.
NAME = f"test_{uuid.uuid4().hex[:8]}"


@activity.defn
def pack(parts: int) -> int:
    meter = activity.metric_meter()
    meter.create_counter(f"{NAME}_packed").add(parts, {"heavy": False})
    meter.create_histogram_timedelta(f"{NAME}_pack_time").record(timedelta(seconds=2))
    return parts


@workflow.defn
class Order:
    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self) -> int:
        counter = workflow.metric_meter().create_counter(f"{NAME}_steps", "Steps of orders.")
        counter.add(1, {"step": "received"})
        counter.add(-1)  # is logged, and fails nothing
        try:
            packed = await workflow.execute_activity(pack, 3, start_to_close_timeout=timedelta(seconds=60))
            counter.add(1, {"step": "packed"})
            await workflow.sleep(timedelta(milliseconds=1))
            await workflow.wait_condition(lambda: self.paid)
        finally:
            counter.add(1, {"step": "over"})
        return packed

    @workflow.signal
    def pay(self) -> None:
        workflow.metric_meter().create_gauge(f"{NAME}_paid").set(1)
        self.paid = True

    @workflow.query
    def is_packed(self) -> bool:
        return True


def scraped(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix(f"{NAME}_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(NAME) and not sample.name.endswith("_bucket")
    }


async def test_replay_counts_nothing_again(embedded_client: Client, task_queue: str) -> None:
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address="127.0.0.1:0")))
    assert runtime.metrics_port is not None
    about = (("namespace", embedded_client.namespace), ("task_queue", task_queue))

    def steps(name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        return "steps_total", tuple(sorted((*about, ("step", name), ("workflow_type", "Order"))))

    activity_labels = tuple(sorted((*about, ("activity_type", "pack"))))
    try:
        with ThreadPoolExecutor(2) as executor:
            # Nothing stays in memory, so that each task replays the run from its first event, and each one evicts it.
            async with Worker(
                embedded_client,
                task_queue=task_queue,
                workflows=[Order],
                activities=[pack],
                activity_executor=executor,
                max_cached_workflows=0,
            ):
                handle = await embedded_client.start_workflow(Order.run, id=task_queue, task_queue=task_queue)
                assert await handle.query(Order.is_packed)
                await handle.signal(Order.pay)
                assert await handle.result() == 3
                assert await handle.query(Order.is_packed)
        expected = {
            steps("received"): 1,
            steps("packed"): 1,
            steps("over"): 1,
            ("packed_total", tuple(sorted((*activity_labels, ("heavy", "false"))))): 3,
            ("pack_time_seconds_count", activity_labels): 1,
            ("pack_time_seconds_sum", activity_labels): 2,
            ("paid", tuple(sorted((*about, ("workflow_type", "Order"))))): 1,
        }
        assert scraped(runtime.metrics_port) == expected
        replayer = Replayer(workflows=[Order])
        await replayer.replay_workflow(await handle.fetch_history())
        assert scraped(runtime.metrics_port) == expected
    finally:
        runtime.close()


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> float:
        began = workflow.now()
        await workflow.sleep(timedelta(days=2))
        waited = workflow.now() - began
        workflow.metric_meter().create_histogram_timedelta(f"{NAME}_waited").record(waited)
        return waited.total_seconds()


async def test_durations_of_a_clock_that_skips(task_queue: str) -> None:
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address="127.0.0.1:0")))
    assert runtime.metrics_port is not None
    try:
        async with (
            await WorkflowEnvironment.start_time_skipping() as environment,
            Worker(environment.client, task_queue=task_queue, workflows=[Sleeper]),
        ):
            slept_s = await environment.client.execute_workflow(Sleeper.run, id=task_queue, task_queue=task_queue)
        sums = {
            value
            for (name, labels), value in scraped(runtime.metrics_port).items()
            if name == "waited_seconds_sum" and ("task_queue", task_queue) in labels
        }
        assert sums == {slept_s}
        assert slept_s >= 2 * 86_400
    finally:
        runtime.close()
