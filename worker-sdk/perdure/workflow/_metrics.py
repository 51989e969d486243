"""The workflow's meter. Called by user code.

Invariant: nothing is counted again on replay, nor while a run leaves the worker's cache.
"""

from __future__ import annotations

from perdure._metric_meter import meter_of
from perdure._runtime.context import current_instance, maybe_current_instance
from perdure.common import MetricMeter


def metric_meter() -> MetricMeter:
    """The meter for metrics of one's own, with the attributes ``namespace``, ``task_queue`` and ``workflow_type``.

    Its metrics record nothing on replay. A metric never fails the workflow: what is wrong with one is logged, once.
    A workflow task that fails or is lost is run again, and counts again: never decide anything by these numbers.
    See ``docs/metrics.md``.
    """
    info = current_instance().info
    attributes = {"namespace": info.namespace, "task_queue": info.task_queue, "workflow_type": info.workflow_type}
    return meter_of(attributes, may_record=_may_record)


def _may_record() -> bool:
    instance = maybe_current_instance()
    # A run that leaves the cache has its tasks cancelled; their cleaning up is not the workflow's own doing.
    return instance is None or not (instance.replaying or instance.loop.closing)
