"""Figures out of samples: percentiles, and medians over rounds. Pure.

A set of figures is a flat mapping from a name, with its unit last, to a number, so that JSON, tables, charts and
medians need no code for each figure. Called by the workloads and by :mod:`bench.comparing`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Figures = dict[str, float]

#: The percentiles that are told, by the end of their names.
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest sample that is not exceeded by ``percent`` of all (nearest rank).

    Args:
        ordered: samples in ascending order, at least one.
        percent: above 0, up to 100.

    Raises:
        ValueError: there are no samples, or the percentage is none.
    """
    if not ordered:
        raise ValueError("there are no samples to take a percentile of")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is not a percentage above 0 and up to 100")
    # Rounded first: 99.9 % of 1,000 are 999 samples, not the 1,000 that binary fractions would make of it.
    return ordered[math.ceil(round(len(ordered) * percent / 100, 9)) - 1]


def latency_figures(latencies_ms: Sequence[float], prefix: str = "latency_ms") -> Figures:
    """The percentiles, the maximum and the number of samples, each name behind the prefix."""
    ordered = sorted(latencies_ms)
    found = {f"{prefix}_{name}": percentile(ordered, percent) for name, percent in PERCENTILES.items()}
    return found | {f"{prefix}_max": ordered[-1], f"{prefix}_samples": float(len(ordered))}


def medians(rounds: Sequence[Mapping[str, float]]) -> Figures:
    """The median of each figure over the rounds that have it, in the order in which figures first appear."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: statistics.median([figures[name] for figures in rounds if name in figures]) for name in names}


def spread(rounds: Sequence[Mapping[str, float]], name: str) -> tuple[float, float]:
    """The smallest and the largest value of a figure over the rounds that have it."""
    values = [figures[name] for figures in rounds if name in figures]
    return min(values), max(values)
