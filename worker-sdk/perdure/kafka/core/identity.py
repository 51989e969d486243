"""Who a record is: the name under which its workflow command may be sent any number of times (I3).

Invariant: the same record of the same topic has the same identity for a group's trigger, whoever consumes it, and also
after it went through the dead letters and back; a topic that was deleted and made again has others, by the timestamps.
Called by the pipeline and by the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: On a record that was put back from the dead letters: where it stood first.
ORIGIN_HEADER = "perdure-origin"
#: On such a record: the group and the trigger it is for.
ADDRESSEE_HEADER = "perdure-for"
_SEPARATOR = "/"
_PARTS = 4


class Origin(NamedTuple):
    """A record's first place in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    def __str__(self) -> str:
        return _SEPARATOR.join((self.topic, str(self.partition), str(self.offset), str(self.timestamp_ms)))


def origin_of(
    topic: str, partition: int, offset: int, timestamp_ms: int, headers: Sequence[tuple[str, bytes]]
) -> Origin:
    """A record's first place: where it stands, unless it says that it was put back."""
    here = Origin(topic, partition, offset, timestamp_ms)
    for name, value in headers:
        if name == ORIGIN_HEADER:
            return parse_origin(value) or here
    return here


def parse_origin(text: bytes) -> Origin | None:
    """The origin in a header; ``None`` if it is none."""
    parts = text.decode(errors="replace").split(_SEPARATOR)
    if len(parts) != _PARTS or not all(part.isascii() and part.lstrip("-").isdigit() for part in parts[1:]):
        return None
    return Origin(parts[0], int(parts[1]), int(parts[2]), int(parts[3]))


def addressee(group: str, trigger: str) -> str:
    """A group's trigger, as the header names it."""
    return f"{group}{_SEPARATOR}{trigger}"


def is_for(group: str, trigger: str, headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record is for this trigger: it is, unless it was put back for another one."""
    wanted = addressee(group, trigger).encode()
    return all(value == wanted for name, value in headers if name == ADDRESSEE_HEADER)


def request_id(group: str, trigger: str, origin: Origin) -> str:
    """The name of the request that a record makes."""
    return f"{addressee(group, trigger)}{_SEPARATOR}{origin}"


def workflow_id(group: str, trigger: str, origin: Origin) -> str:
    """The workflow id of a record whose trigger gives none."""
    return _SEPARATOR.join((group, trigger, origin.topic, str(origin.partition), str(origin.offset)))
