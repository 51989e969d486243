"""What an engine and a worker show after some work: every declared metric, and only those."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_ops.metrics import LagSource, engine_registry, read_side_samples, render
from perdure_ops.queue_config import ConfigView, write_config
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_runtime.log import Log
from perdure_runtime.metrics import DECLARED, Kind
from perdure_schemas.records import TaskQueueConfig
from perdure_schemas.topics import TopicNames
from tests.support.platform import reading, running_engine

TIMEOUT_S = 60.0
#: Nothing goes wrong here, so these are not there; each is recorded in a unit test.
ABSENT = {"perdure_engine_ignored"}


@activity.defn
async def fail_once() -> None:
    if activity.info().attempt == 1:
        raise ApplicationError("not yet")


@activity.defn
async def fail_locally() -> None:
    raise ApplicationError("never", non_retryable=True)


@workflow.defn
class Busy:
    @workflow.run
    async def run(self, broken: bool) -> None:
        if broken and workflow.info().attempt == 1 and not workflow.unsafe.is_replaying():
            raise ValueError("a bug")
        await workflow.execute_activity(
            fail_once,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1)),
        )
        try:
            await workflow.execute_local_activity(fail_locally, start_to_close_timeout=timedelta(seconds=60))
        except Exception:
            await workflow.sleep(0.001)


@pytest.fixture
def running() -> Iterator[tuple[Engine, Log, TopicNames]]:
    log = EmbeddedLog(None)
    names = TopicNames(namespace="watched", partitions=2)
    with running_engine(log, names) as engine:
        yield engine, log, names
    log.close()


async def test_all_declared_metrics_and_no_others_are_there(
    running: tuple[Engine, Log, TopicNames], task_queue: str
) -> None:
    engine, log, names = running
    client = Client.from_log(log, namespace=names.namespace, names=names)
    stop = TaskQueueConfig(task_queue=f"{task_queue}-idle", task_type="workflow", queue_rate=0.0, time_ms=1)
    await asyncio.to_thread(write_config, log, names, ConfigView(stop.task_queue), "workflow", stop)
    with reading(log, names) as side:
        registry = engine_registry(
            engine, (LagSource(log, names, engine.instance), partial(read_side_samples, side, names.namespace))
        )
        async with Worker(
            client,
            task_queue=task_queue,
            workflows=[Busy],
            activities=[fail_once, fail_locally],
            max_cached_workflows=0,
        ):
            await client.execute_workflow(Busy.run, False, id=f"{task_queue}-0", task_queue=task_queue)
        async with Worker(client, task_queue=task_queue, workflows=[Busy], activities=[fail_once, fail_locally]):
            broken = await client.start_workflow(Busy.run, True, id=f"{task_queue}-1", task_queue=task_queue)
            await client.execute_workflow(Busy.run, False, id=f"{task_queue}-2", task_queue=task_queue)
            waiting = await client.start_workflow("Nobody", id=f"{task_queue}-3", task_queue=f"{task_queue}-idle")

            def shown() -> dict[tuple[str, str], float]:
                """The samples about this test's queues, or about no queue, by name and label that tells them apart."""
                found: dict[tuple[str, str], float] = {}
                for family in text_string_to_metric_families(render(registry).decode()):
                    for sample in family.samples:
                        queue = sample.labels.get("task_queue", task_queue)
                        if sample.name.startswith("perdure_") and queue.startswith(task_queue):
                            label = sample.labels.get("status") or sample.labels.get("task_type") or ""
                            found[sample.name, queue.removeprefix(task_queue) + label] = sample.value
                return found

            async with asyncio.timeout(TIMEOUT_S):
                # The run that fails its task is tried again and again, and the read side follows the topic.
                while (
                    (found := await asyncio.to_thread(shown)).get(("perdure_workflow_runs", "Completed")) != 2
                    or not found.get(("perdure_workflow_task_execution_failed_total", ""))
                    or not found.get(("perdure_task_queue_blocked", "-idleworkflow"))
                ):
                    await asyncio.sleep(0.05)
            await broken.terminate()
            await waiting.terminate()
    await client.close()
    names_found = {name for name, _ in found}
    for metric in DECLARED.values():
        suffix = {Kind.COUNTER: "_total", Kind.HISTOGRAM: "_count"}.get(metric.kind, "")
        assert metric.name + suffix in names_found or metric.name in ABSENT, metric.name
    endings = ("", "_total", "_bucket", "_sum", "_count")
    assert names_found <= {f"{name}{ending}" for name in DECLARED for ending in endings}
    assert found["perdure_workflow_endtoend_latency_seconds_count", "Completed"] == 2
    assert found["perdure_approximate_backlog_count", "-idleworkflow"] == 1
    assert found["perdure_task_queue_blocked", "-idleworkflow"] == 1
    assert found["perdure_approximate_backlog_age_seconds", "-idleworkflow"] >= 0
    assert found["perdure_task_queue_workers", ""] == 1
    assert found["perdure_activity_execution_failed_total", ""] >= 2
    assert found["perdure_sticky_cache_miss_total", ""] >= 1
    assert found["perdure_sticky_cache_hit_total", ""] >= 1
    assert found["perdure_worker_start_total", ""] == 2
