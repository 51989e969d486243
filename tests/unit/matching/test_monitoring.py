"""What metrics say of a task queue in several partitions: all its tasks, each worker once, the age of the oldest."""

from __future__ import annotations

from perdure_matching.monitoring import queue_samples
from perdure_runtime.exposition import families_of
from perdure_schemas import keys
from perdure_schemas.topics import TopicNames
from tests.support.matching import Matching

QUEUE = "orders~2"
NAMES = TopicNames(partitions=4)


def test_a_task_queue_in_two_partitions_is_counted_once() -> None:
    samples = []
    for partition, age_ms in zip(keys.queue_partitions(QUEUE, 4), (2_000, 5_000), strict=True):
        matching = Matching()
        matching.beat("w", task_queue=QUEUE, workflow_slots=0, activity_slots=1)
        matching.task("r/a5.1", task_queue=QUEUE)
        matching.task("r/a6.1", task_queue=QUEUE)
        samples += queue_samples(matching.state, NAMES, partition, matching.now_ms + age_ms)
    found = {
        (sample.name, sample.labels.get("task_type")): sample.value
        for family in families_of(samples)
        for sample in family.samples
    }
    assert found["perdure_task_queue_workers", None] == 1
    assert found["perdure_approximate_backlog_count", "activity"] == 2
    assert found["perdure_approximate_backlog_age_seconds", "activity"] == 5.0
    assert found["perdure_task_queue_slots_used", "activity"] == 2
