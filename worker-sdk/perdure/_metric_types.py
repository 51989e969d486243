"""What meters and their metrics are, for code that uses them; names and meaning as in ``temporalio.common``.

A meter of one's own may be made by deriving from these classes, for example for tests. Those that record are in
:mod:`perdure._metric_meter`. Public as part of :mod:`perdure.common`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, Self

#: By name, what is known about a recorded value; each combination is a series of its own, so keep them few.
MetricAttributes = Mapping[str, str | int | float | bool]


class MetricCommon(ABC):
    """What all metrics have."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name it was made with; see ``docs/metrics.md`` for the one that is exported."""

    @property
    @abstractmethod
    def description(self) -> str | None:
        """What it says."""

    @property
    @abstractmethod
    def unit(self) -> str | None:
        """The unit of its values."""

    @abstractmethod
    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        """The same metric, whose values have more attributes; those of the same name are replaced.

        Raises:
            TypeError, ValueError: an attribute is impossible. Not in workflows and activities, where it is logged.
        """


class MetricCounter(MetricCommon):
    """A number that only grows."""

    @abstractmethod
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Add to it.

        Args:
            value: A whole number, not negative.
            additional_attributes: What is known about this value besides.

        Raises:
            TypeError, ValueError: one is impossible. Not in workflows and activities, where it is logged.
        """


class MetricHistogram(MetricCommon):
    """How whole numbers are distributed."""

    @abstractmethod
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Take a value; parameters and errors as of :meth:`MetricCounter.add`."""


class MetricHistogramFloat(MetricCommon):
    """How numbers are distributed."""

    @abstractmethod
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        """Take a value that is not negative; parameters and errors as of :meth:`MetricCounter.add`."""


class MetricHistogramTimedelta(MetricCommon):
    """How durations are distributed. They are exported in seconds."""

    @abstractmethod
    def record(self, value: timedelta, additional_attributes: MetricAttributes | None = None) -> None:
        """Take a duration that is not negative; parameters and errors as of :meth:`MetricCounter.add`."""


class MetricGauge(MetricCommon):
    """A whole number that comes and goes."""

    @abstractmethod
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Say what it is now: not negative; parameters and errors as of :meth:`MetricCounter.add`."""


class MetricGaugeFloat(MetricCommon):
    """A number that comes and goes."""

    @abstractmethod
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        """Say what it is now: not negative; parameters and errors as of :meth:`MetricCounter.add`."""


class MetricMeter(ABC):
    """Makes metrics, all with the meter's attributes. To make one again costs little and gives the same metric.

    Attributes:
        noop: A meter that records nothing.
    """

    noop: ClassVar[MetricMeter]

    @abstractmethod
    def create_counter(self, name: str, description: str | None = None, unit: str | None = None) -> MetricCounter:
        """A counter.

        Args:
            name: Its name; what Prometheus does not allow in it is exported as ``_``.
            description: What it says; the first one that a process gives counts.
            unit: The unit of its values, which ends the exported name.

        Raises:
            TypeError, ValueError: the name is impossible or taken. Not in workflows and activities, where it is logged,
                and the metric records nothing.
        """

    @abstractmethod
    def create_histogram(self, name: str, description: str | None = None, unit: str | None = None) -> MetricHistogram:
        """A histogram of whole numbers; see :meth:`create_counter`."""

    @abstractmethod
    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        """A histogram of numbers; see :meth:`create_counter`."""

    @abstractmethod
    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        """A histogram of durations, exported in seconds whatever ``unit`` says; see :meth:`create_counter`."""

    @abstractmethod
    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        """A gauge of a whole number; see :meth:`create_counter`."""

    @abstractmethod
    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        """A gauge of a number; see :meth:`create_counter`."""

    @abstractmethod
    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        """A meter whose metrics have more attributes; those of the same name are replaced.

        Raises:
            TypeError, ValueError: an attribute is impossible. Not in workflows and activities, where it is logged.
        """
