"""Which records wait for each other, and how many of those that do may be on their way together.

Invariants: records of one lane are sent in offset order; two of them are on their way together only if they go to the
same place, where the order of sending is the order of deciding. Called by the pipeline.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

_T = TypeVar("_T")


class Ordering(StrEnum):
    """What keeps its order: the records of a key, those of a partition, or nothing."""

    KEY = "key"
    PARTITION = "partition"
    NONE = "none"


def lane_of(ordering: Ordering, topic: str, partition: int, key: bytes | None, offset: int) -> Hashable:
    """The lane of a record. One without a key has no others to wait for under ``KEY``."""
    if ordering is Ordering.PARTITION:
        return (topic, partition)
    if ordering is Ordering.KEY and key is not None:
        return (topic, partition, key)
    return (topic, partition, offset)


def together(targets: Sequence[tuple[Hashable, _T]], count_max: int) -> Iterator[list[_T]]:
    """Cut a lane into groups that may be on their way together.

    Args:
        targets: where each goes, and what; in order.
        count_max: the most in a group.
    """
    group: list[_T] = []
    place: Hashable = None
    for target, item in targets:
        if group and (target != place or len(group) >= count_max):
            yield group
            group = []
        place = target
        group.append(item)
    if group:
        yield group
