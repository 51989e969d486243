"""What a copy was begun from: written into the first record of the new topic set, and compared when it is taken up
again. Pure; called by ``copying``.

Invariant: with the same manifest the same records are written, in the same order; so a copy that was interrupted goes
on behind what is there already.
"""

from __future__ import annotations

import msgspec

from perdure_runtime.log import LogRecord

__all__ = ["HEADER", "Manifest", "difference", "manifest_in", "undecided"]

#: On the first record of the new ``history``.
HEADER = "perdure-migration"
_VERSION = 1


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What is copied where.

    Attributes:
        source / source_partitions: the old namespace.
        target_partitions: the new partition count.
        time_ms: when the copy was begun.
        ends: where each old topic but ``commands`` ended, by partition.
        decided_below: the offset in each partition of ``commands`` below which all is decided.
        commands_to: where the commands ended that belong to the copy itself.
        emitted_below: the offset in each partition of ``history`` below which all emitted records are written.
    """

    version: int = _VERSION
    source: str
    source_partitions: int
    target_partitions: int
    time_ms: int
    ends: dict[str, list[int]]
    decided_below: list[int]
    commands_to: list[int]
    emitted_below: list[int]

    def encode(self) -> bytes:
        """As it stands in the header."""
        return msgspec.json.encode(self)


def manifest_in(record: LogRecord) -> Manifest | None:
    """The manifest in the first record of a ``history``; ``None`` if it was not written by a copy."""
    for name, value in record.headers:
        if name == HEADER:
            try:
                return msgspec.json.decode(value, type=Manifest)
            except msgspec.DecodeError:
                return None
    return None


def difference(begun: Manifest, now: Manifest) -> str:
    """Why a copy that was begun cannot go on from how things are now; empty if it can. Later commands are fine."""
    if begun.version != _VERSION:
        return f"it was begun by another version of this program (format {begun.version}, not {_VERSION})"
    if (begun.source, begun.source_partitions) != (now.source, now.source_partitions):
        return f"it was begun from namespace {begun.source!r} with {begun.source_partitions} partitions"
    if begun.target_partitions != now.target_partitions:
        return f"it was begun with {begun.target_partitions} partitions"
    if begun.decided_below != now.decided_below:
        return "an engine has decided commands in the old topics since"
    for topic, ends in begun.ends.items():
        if now.ends.get(topic) != ends:
            return f"something was written to {topic!r} since"
    if begun.emitted_below != now.emitted_below:
        return "the relay has written emitted records since"
    return ""


def undecided(manifest: Manifest) -> int:
    """How many commands were not decided when the copy was begun."""
    return sum(end - below for below, end in zip(manifest.decided_below, manifest.commands_to, strict=True))
