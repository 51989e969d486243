"""Meters that record into what this process exports, and the one that records nothing.

Invariants: nothing is recorded while ``may_record`` says no, as it does while a workflow is replayed; in workflows and
activities a metric never raises: what is wrong with it is logged, once for each name, and not recorded. May be used
from any thread. Made by :mod:`perdure.workflow`, the contexts of activities and :mod:`perdure.runtime`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from perdure._metric_types import (
    MetricAttributes,
    MetricCommon,
    MetricCounter,
    MetricGauge,
    MetricGaugeFloat,
    MetricHistogram,
    MetricHistogramFloat,
    MetricHistogramTimedelta,
    MetricMeter,
)
from perdure_runtime.user_metrics import (
    FAMILIES_MAX,
    PROCESS_USER_METRICS,
    Family,
    LabelKey,
    UserMetrics,
    Values,
    label_key,
)

__all__ = [
    "MetricAttributes",
    "MetricCommon",
    "MetricCounter",
    "MetricGauge",
    "MetricGaugeFloat",
    "MetricHistogram",
    "MetricHistogramFloat",
    "MetricHistogramTimedelta",
    "MetricMeter",
    "Scope",
    "meter_of",
]

_logger = logging.getLogger("perdure.metrics")
_told: set[str] = set()
_told_lock = threading.Lock()


def _always() -> bool:
    return True


def _tell_once(name: object, error: Exception) -> None:
    """Say what is wrong with a metric, unless something was said of it before."""
    key = repr(name)
    with _told_lock:
        if key in _told or len(_told) >= FAMILIES_MAX:
            return
        _told.add(key)
    _logger.error("event=metric_refused metric=%s reason=%r not_recorded=true", key, str(error))


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a meter records, and when.

    Attributes:
        metrics: What takes the values; ``None``: nothing does.
        may_record: Asked before each value.
        raises: Whether what is wrong is raised; else it is logged.
    """

    metrics: UserMetrics | None
    may_record: Callable[[], bool] = _always
    raises: bool = False

    def refuse(self, name: object, error: Exception) -> None:
        """Something is wrong with a metric.

        Raises:
            Exception: the error, if the scope says so.
        """
        if self.raises:
            raise error
        _tell_once(name, error)


@dataclass(frozen=True, slots=True)
class _About:
    """One metric as a meter made it. ``family`` is ``None`` if nothing is recorded."""

    scope: Scope
    name: str
    description: str | None
    unit: str | None
    values: Values
    family: Family | None
    attributes: Mapping[str, str | int | float | bool]
    labels: LabelKey


class _Recorded(MetricCommon):
    def __init__(self, about: _About) -> None:
        self._about = about

    @property
    def name(self) -> str:
        return self._about.name

    @property
    def description(self) -> str | None:
        return self._about.description

    @property
    def unit(self) -> str | None:
        return self._about.unit

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        about = self._about
        if about.family is None:
            return self
        try:
            attributes = _merged(about.attributes, additional_attributes)
            labels = label_key(attributes)
        except (TypeError, ValueError) as error:
            about.scope.refuse(about.name, error)
            return self
        return type(self)(replace(about, attributes=attributes, labels=labels))

    def _take(self, value: object, additional: MetricAttributes | None) -> None:
        about = self._about
        metrics = about.scope.metrics
        if about.family is None or metrics is None or not about.scope.may_record():
            return
        try:
            number = about.values.checked(value)
            labels = about.labels if additional is None else label_key(_merged(about.attributes, additional))
        except (TypeError, ValueError) as error:
            about.scope.refuse(about.name, error)
            return
        metrics.take(about.family, labels, number)


class _Counter(_Recorded, MetricCounter):
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _Histogram(_Recorded, MetricHistogram):
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _HistogramFloat(_Recorded, MetricHistogramFloat):
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _HistogramTimedelta(_Recorded, MetricHistogramTimedelta):
    def record(self, value: timedelta, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _Gauge(_Recorded, MetricGauge):
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _GaugeFloat(_Recorded, MetricGaugeFloat):
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._take(value, additional_attributes)


class _Meter(MetricMeter):
    def __init__(self, scope: Scope, attributes: Mapping[str, str | int | float | bool]) -> None:
        self._scope = scope
        self._attributes = attributes
        self._labels = label_key(attributes)

    def create_counter(self, name: str, description: str | None = None, unit: str | None = None) -> MetricCounter:
        return _Counter(self._made(name, description, unit, Values.COUNTER))

    def create_histogram(self, name: str, description: str | None = None, unit: str | None = None) -> MetricHistogram:
        return _Histogram(self._made(name, description, unit, Values.HISTOGRAM))

    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        return _HistogramFloat(self._made(name, description, unit, Values.HISTOGRAM_FLOAT))

    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        return _HistogramTimedelta(self._made(name, description, unit, Values.HISTOGRAM_TIMEDELTA))

    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        return _Gauge(self._made(name, description, unit, Values.GAUGE))

    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        return _GaugeFloat(self._made(name, description, unit, Values.GAUGE_FLOAT))

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        if self._scope.metrics is None:
            return self
        try:
            return _Meter(self._scope, _merged(self._attributes, additional_attributes))
        except (TypeError, ValueError) as error:
            self._scope.refuse("attributes of a meter", error)
            return self

    def _made(self, name: str, description: str | None, unit: str | None, values: Values) -> _About:
        scope = self._scope
        family = None
        if scope.metrics is not None:
            try:
                family = scope.metrics.family(name, values, description, unit)
            except (TypeError, ValueError) as error:
                scope.refuse(name, error)
        return _About(scope, name, description, unit, values, family, self._attributes, self._labels)


def meter_of(
    attributes: Mapping[str, str | int | float | bool],
    *,
    may_record: Callable[[], bool] = _always,
    raises: bool = False,
    metrics: UserMetrics = PROCESS_USER_METRICS,
) -> MetricMeter:
    """A meter that records.

    Args:
        attributes: What all its values have.
        may_record: Asked before each value.
        raises: Raise what is wrong with a metric; else it is logged once, and not recorded.
        metrics: What takes the values.
    """
    return _Meter(Scope(metrics, may_record, raises), attributes)


def _merged(
    attributes: Mapping[str, str | int | float | bool], additional: MetricAttributes
) -> Mapping[str, str | int | float | bool]:
    if not isinstance(additional, Mapping):
        raise TypeError(f"attributes are a {type(additional).__name__}; give a mapping of names to values")
    return {**attributes, **additional}


MetricMeter.noop = _Meter(Scope(None), {})
