"""A record as a trigger's function sees it, and what of it travels into the workflow.

Invariant: everything in a workflow's headers is bytes of the record; nothing of it is decoded on the way. Called by the
pipeline, and by workflow code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure.common import Payload
from perdure.kafka.core.identity import Origin

#: The header of a workflow that says which record it came from.
SOURCE_HEADER = "perdure-record"
_ENCODING = {"encoding": b"binary/plain"}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic.

    Attributes:
        topic, partition, offset: Where it stands.
        key: Its key, if it has one.
        value: Its value as the trigger's deserializer made it; ``None`` for a tombstone.
        headers: Its headers, in order.
        timestamp: The time its producer gave.
        origin: Where it stood first: elsewhere, if it was put back from the dead letters.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: Any
    headers: tuple[tuple[str, bytes], ...]
    timestamp: datetime
    origin: Origin

    @property
    def key_text(self) -> str:
        """The key as text.

        Raises:
            ValueError: there is no key, or it is no UTF-8.
        """
        if self.key is None:
            raise ValueError(f"record {self.topic}/{self.partition}/{self.offset} has no key")
        return self.key.decode()

    def header(self, name: str) -> bytes | None:
        """The last header of this name, if there is one."""
        return next((value for found, value in reversed(self.headers) if found == name), None)


def time_of(timestamp_ms: int) -> datetime:
    """A record's time."""
    return datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)


class RecordSource(msgspec.Struct, frozen=True):
    """Which record a workflow was started or signalled by; of a batch the first and the last one."""

    topic: str
    partition: int
    offset: int
    last_offset: int
    timestamp_ms: int


def workflow_headers(
    record_headers: Sequence[tuple[str, bytes]], source: RecordSource, carried: Sequence[str] | None
) -> dict[str, Payload]:
    """The headers of the request that a record makes.

    Args:
        record_headers: The record's.
        source: Which record it is.
        carried: The names of those that are carried; all of them if ``None``.
    """
    headers = {
        name: Payload(metadata=_ENCODING, data=value)
        for name, value in record_headers
        if carried is None or name in carried
    }
    headers[SOURCE_HEADER] = Payload(metadata={"encoding": b"json/plain"}, data=msgspec.json.encode(source))
    return headers


def source_of(headers: Mapping[str, Payload]) -> RecordSource | None:
    """Which record a workflow came from: ``source_of(workflow.info().headers)``; ``None`` if it came from none."""
    payload = headers.get(SOURCE_HEADER)
    return None if payload is None else msgspec.json.decode(payload.data, type=RecordSource)
