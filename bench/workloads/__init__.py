"""All workloads by name, and what a worker needs to run any of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from bench.workloads import fairness, messages, mixed, parallel, replaying, sequence, waiting
from bench.workloads.base import Workload, echo

_MODULES = (sequence, parallel, messages, waiting, replaying, mixed, fairness)

WORKLOADS: dict[str, Workload] = {workload.name: workload for module in _MODULES for workload in module.WORKLOADS}
#: What is measured if nothing is chosen.
DEFAULT_WORKLOADS = ("one", "ten")


def all_workflows() -> list[type]:
    """The workflow classes of all workloads."""
    return list(dict.fromkeys(found for workload in WORKLOADS.values() for found in workload.workflows))


def all_activities() -> Sequence[Callable[..., Any]]:
    """The activities of all workloads."""
    return [echo]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of all workloads."""
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the counts of all but one and ten (1)")
    for module in _MODULES:
        module.add_options(parser)
