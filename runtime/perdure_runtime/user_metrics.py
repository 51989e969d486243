"""Metrics that users make themselves: their names in Prometheus' form, their series, and the limits on both.

Invariants: what one name stands for never changes while the process lives, and no two metrics share an exported name;
memory is bounded, however many names and label values users think of; recording is a dictionary look-up and an addition
under a lock. Recorded to through ``MetricMeter``; read by :mod:`perdure_runtime.exposition`.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from perdure_runtime.metrics import LONG_S, SERIES_MAX, SHORT_S, Buckets, Kind

__all__ = ["PROCESS_USER_METRICS", "Family", "UserMetrics", "Values", "exported_name", "label_key"]

_logger = logging.getLogger("perdure.metrics")

#: The labels of a series, in the order of their names.
LabelKey = tuple[tuple[str, str], ...]
#: Metrics that users may make in one process; names made of data would come to more.
FAMILIES_MAX = 1_000
#: The one series of a counter or histogram that takes what is beyond :data:`perdure_runtime.metrics.SERIES_MAX`.
OVERFLOW: LabelKey = (("overflow", "true"),)
#: Upper bounds of histograms: of durations in seconds, and of numbers whose unit we do not know.
DURATIONS_S = tuple(sorted({*SHORT_S, *LONG_S}))
NUMBERS = (
    0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
    100_000.0, 1_000_000.0,
)  # fmt: skip
#: What every process exports about itself besides.
_TAKEN = frozenset(
    {
        "process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds",
        "process_cpu_seconds", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "python_info",
        "python_gc_objects_collected", "python_gc_objects_collected_total", "python_gc_objects_uncollectable",
        "python_gc_objects_uncollectable_total", "python_gc_collections", "python_gc_collections_total",
    }
)  # fmt: skip
_OWN_PREFIX = "perdure_"
#: Units as they are often written, and as Prometheus writes them.
_UNITS = {
    "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "1": "",
    "%": "percent",
}  # fmt: skip
_SUFFIXES = {Kind.COUNTER: ("", "_total"), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("", "_bucket", "_sum", "_count")}
_NOT_ALLOWED = re.compile("[^a-zA-Z0-9_]")


class Values(Enum):
    """What a metric takes: its kind, whether whole numbers only, and the bounds of its buckets."""

    COUNTER = (Kind.COUNTER, int, ())
    GAUGE = (Kind.GAUGE, int, ())
    GAUGE_FLOAT = (Kind.GAUGE, float, ())
    HISTOGRAM = (Kind.HISTOGRAM, int, NUMBERS)
    HISTOGRAM_FLOAT = (Kind.HISTOGRAM, float, NUMBERS)
    HISTOGRAM_TIMEDELTA = (Kind.HISTOGRAM, timedelta, DURATIONS_S)

    @property
    def kind(self) -> Kind:
        """The kind, as Prometheus has it."""
        kind: Kind = self.value[0]
        return kind

    @property
    def bounds(self) -> tuple[float, ...]:
        """Of a histogram: the upper bounds of its buckets."""
        bounds: tuple[float, ...] = self.value[2]
        return bounds

    def checked(self, value: object) -> float:
        """A value as a number; durations in seconds.

        Raises:
            TypeError: it is of another type. ValueError: it is negative or no number.
        """
        wanted = self.value[1]
        if wanted is timedelta:
            if not isinstance(value, timedelta):
                raise TypeError(f"the value is a {type(value).__name__}; this histogram takes a timedelta")
            number = value.total_seconds()
        elif isinstance(value, bool) or not isinstance(value, int if wanted is int else (int, float)):
            raise TypeError(f"the value is a {type(value).__name__}; this metric takes {wanted.__name__}")
        else:
            number = value
        if not (number >= 0 and math.isfinite(number)):
            raise ValueError(f"the value is {value}; it must be a number, and not negative")
        return number


@dataclass(slots=True, eq=False)
class Family:
    """One metric with all its series.

    Attributes:
        name: as exported, without the suffixes of its kind.
        values: what it takes.
        text: what it says.
        numbers: of a counter or gauge: its value, by labels.
        buckets: of a histogram: its values, by labels.
        is_full: whether it has as many series as it may have.
    """

    name: str
    values: Values
    text: str
    numbers: dict[LabelKey, float] = field(default_factory=dict)
    buckets: dict[LabelKey, Buckets] = field(default_factory=dict)
    is_full: bool = False


class UserMetrics:
    """All metrics of users in one process. May be used from any thread.

    Args:
        series_max: Series of one metric.
        families_max: Metrics.
    """

    def __init__(self, *, series_max: int = SERIES_MAX, families_max: int = FAMILIES_MAX) -> None:
        self._series_max = series_max
        self._families_max = families_max
        self._lock = threading.Lock()
        self._families: dict[str, Family] = {}
        #: By each name that an exported line begins with, the metric it belongs to.
        self._names: dict[str, Family] = {}

    def family(self, name: str, values: Values, text: str | None, unit: str | None) -> Family:
        """The metric of that name; made if there is none.

        Raises:
            TypeError: the name is no text.
            ValueError: the name is impossible, taken by us or by a metric of another kind, or one too many.
        """
        exported = exported_name(name, values, unit)
        with self._lock:
            found = self._families.get(exported)
            if found is not None and (found.values.kind, found.values.bounds) == (values.kind, values.bounds):
                return found
            for suffix in _SUFFIXES[values.kind]:
                other = self._names.get(exported + suffix)
                if other is not None:
                    raise ValueError(
                        f"{exported + suffix} is exported already, by a metric made as {other.values.name.lower()}, "
                        f"{other.name}; give this {values.name.lower()} another name"
                    )
            if len(self._families) >= self._families_max:
                raise ValueError(
                    f"this process has {self._families_max} metrics of yours already; put what varies into attributes, "
                    "not into names"
                )
            family = self._families[exported] = Family(exported, values, text or name)
            self._names.update((exported + suffix, family) for suffix in _SUFFIXES[values.kind])
            return family

    def take(self, family: Family, labels: LabelKey, value: float) -> None:
        """Record a value: added to a counter, put into a histogram, or the new one of a gauge."""
        kind = family.values.kind
        with self._lock:
            if kind is Kind.HISTOGRAM:
                buckets = family.buckets.get(labels)
                if buckets is None:
                    labels = self._bounded(family, len(family.buckets), labels)
                    buckets = family.buckets.setdefault(labels, Buckets(len(family.values.bounds)))
                buckets.counts[bisect_left(family.values.bounds, value)] += 1
                buckets.sum_s += value
                return
            numbers = family.numbers
            if labels not in numbers:
                labels = self._bounded(family, len(numbers), labels)
            if kind is Kind.COUNTER:
                numbers[labels] = numbers.get(labels, 0) + value
            elif labels is not OVERFLOW:  # a gauge for everything else together would mean nothing
                numbers[labels] = value

    def families(self) -> list[Family]:
        """A copy of all metrics that have values, in the order they were made."""
        with self._lock:
            return [
                Family(
                    family.name,
                    family.values,
                    family.text,
                    dict(family.numbers),
                    {labels: buckets.copy() for labels, buckets in family.buckets.items()},
                )
                for family in self._families.values()
                if family.numbers or family.buckets
            ]

    def _bounded(self, family: Family, size: int, labels: LabelKey) -> LabelKey:
        if size < self._series_max:
            return labels
        if not family.is_full:
            family.is_full = True
            _logger.warning(
                "event=metric_full metric=%s series=%d labels=%r reason=%r",
                family.name,
                size,
                dict(labels),
                "too many combinations of attributes; further ones are "
                + ("dropped" if family.values.kind is Kind.GAUGE else 'counted together as overflow="true"'),
            )
        return OVERFLOW


#: What this process exports.
PROCESS_USER_METRICS = UserMetrics()


@functools.lru_cache(maxsize=FAMILIES_MAX)
def exported_name(name: str, values: Values, unit: str | None) -> str:
    """The name that Prometheus sees, without the suffixes of the kind.

    What Prometheus does not allow becomes ``_``; the unit is appended if the name does not end in it.

    Raises:
        TypeError: a name or unit is no text.
        ValueError: nothing is left of the name, or it is one of ours.
    """
    exported = _translated(name, "the name of a metric")
    if unit is not None and not isinstance(unit, str):
        raise TypeError(f"the unit of metric {name!r} is a {type(unit).__name__}; give text, for example 'seconds'")
    if values.kind is Kind.COUNTER:
        exported = exported.removesuffix("_total")
    suffix = _NOT_ALLOWED.sub("_", _UNITS.get(unit or "", unit or ""))
    if values is Values.HISTOGRAM_TIMEDELTA:
        suffix = "seconds"
    if suffix and not exported.endswith(f"_{suffix}"):
        exported = f"{exported}_{suffix}"
    if exported.startswith(_OWN_PREFIX) or any(exported + suffix in _TAKEN for suffix in _SUFFIXES[values.kind]):
        raise ValueError(
            f"metric {name!r} would be exported as {exported}; names that begin with {_OWN_PREFIX} and those every "
            "process exports of itself are not free: choose another"
        )
    return exported


def label_key(attributes: Mapping[str, str | int | float | bool]) -> LabelKey:
    """Attributes as labels, in the order of their names.

    Raises:
        TypeError: these are no attributes. ValueError: a name cannot be a label.
    """
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes are a {type(attributes).__name__}; give a mapping of names to values")
    labels: dict[str, str] = {}
    for name, value in attributes.items():
        label = _label_name(name)
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (str, int, float)):
            text = str(value)
        else:
            raise TypeError(f"attribute {name!r} is a {type(value).__name__}; give a str, int, float or bool")
        if label in labels:
            raise ValueError(f"two attributes would become label {label!r}; rename attribute {name!r}")
        labels[label] = text
    return tuple(sorted(labels.items()))


@functools.lru_cache(maxsize=FAMILIES_MAX)
def _label_name(name: str) -> str:
    label = _translated(name, "the name of an attribute")
    if label.startswith("__") or label in ("le", "quantile"):
        raise ValueError(f"attribute {name!r} would become label {label!r}, which Prometheus needs itself; rename it")
    return label


def _translated(name: str, what: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what} is a {type(name).__name__}; give text")
    translated = _NOT_ALLOWED.sub("_", name)
    if not translated.strip("_"):
        raise ValueError(f"{what} is {name!r}; it needs letters or digits of ASCII, and underscores between them")
    return f"_{translated}" if translated[0].isdigit() else translated
