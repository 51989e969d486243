"""What a workload is, and the activity that most of them share.

Each module of this package defines workflows as a user would write them, and the workloads that drive them.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.stage import Stage
from bench.stats import Figures
from perdure import activity


@dataclass(frozen=True)
class Workload:
    """A workload by name.

    Attributes:
        name: what the command line calls it.
        about: what it does, in a few words.
        measure: drives it on a stage, with the options of the command line.
        workflows: what the worker has to know.
    """

    name: str
    about: str
    measure: Callable[[Stage, argparse.Namespace], Awaitable[Figures]]
    workflows: Sequence[type]


@activity.defn
async def echo(text: str) -> str:
    """The cheapest activity there is."""
    return text


def fresh_id(workload: str) -> str:
    """A workflow id that nobody used before."""
    return f"{workload}-{uuid.uuid4().hex}"


def scaled(options: argparse.Namespace, count: int) -> int:
    """A default count, made smaller or larger by ``--scale``; at least 1."""
    return max(1, round(count * options.scale))
