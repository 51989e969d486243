# ruff: noqa: ASYNC109 # as the other waits of workflow code have it
"""Records in topics of the user's, from workflow code: writing them, and waiting for them.

A record that is emitted is a step of the workflow: it stands in the history, and the engine writes it once, whatever
fails or is replayed. Called by user code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure._runtime.context import current_instance
from perdure.converter import AdvancedJSONEncoder
from perdure.exceptions import ApplicationError
from perdure_runtime.relay.conditions import encoded
from perdure_schemas.limits import NAME_CHARS_MAX, PAYLOAD_BYTES_MAX, RECORD_WHERE_CHARS_MAX
from perdure_schemas.records import EmitRecord
from perdure_schemas.topics import RESERVED_HEADER_PREFIX, user_topic_fault

__all__ = ["Record", "emit", "wait_for_record"]


def emit(
    topic: str,
    key: str | bytes | None = None,
    value: Any = None,
    headers: Mapping[str, str | bytes] | None = None,
    *,
    serializer: Callable[[Any], bytes] | None = None,
) -> None:
    """Write a record into a topic, exactly once, and after the records that this workflow has emitted before.

    It is written soon after the workflow task is over; nothing waits for it. What the engine adds to the headers:
    ``perdure-workflow-id``, ``perdure-run-id`` and ``perdure-emit-id``, which no other record has.

    Args:
        topic: The topic's full name. It has to exist on Kafka; on the embedded log it is made if it does not.
        key: The record's key; it decides the partition.
        value: ``bytes`` and ``str`` (as UTF-8) are written as they are, ``None`` as a tombstone, everything else as
            JSON: other consumers read it without knowing this platform, so no codec is applied.
        headers: The record's headers; strings as UTF-8.
        serializer: Makes the bytes of the value, instead of the rules above. It must give the same for the same value.

    Raises:
        ValueError: the topic or a header cannot be used, or the record is too large. TypeError: a key or a value cannot
            be written. NotInWorkflowError: not called from workflow code.
    """
    instance = current_instance()
    fault = user_topic_fault(topic)
    if fault:
        raise ValueError(fault)
    reserved = [name for name in headers or {} if name.lower().startswith(RESERVED_HEADER_PREFIX)]
    if reserved:
        raise ValueError(f"the header {reserved[0]!r} is one of the platform's; names of your own begin otherwise")
    command = EmitRecord(
        topic=topic,
        key=_plain(key, "key"),
        value=_serialized(value, serializer),
        headers={name: _plain(content, f"header {name!r}") or b"" for name, content in (headers or {}).items()},
    )
    size_bytes = len(command.key or b"") + len(command.value or b"")
    size_bytes += sum(len(name) + len(content) for name, content in command.headers.items())
    if size_bytes > PAYLOAD_BYTES_MAX:
        raise ValueError(
            f"the record for topic {topic!r} has {size_bytes} bytes; {PAYLOAD_BYTES_MAX} are allowed. Send a reference"
            " to the data instead"
        )
    instance.add_command(command)


def _plain(content: str | bytes | None, what: str) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    raise TypeError(f"the {what} of a record is {type(content).__name__}; give str or bytes")


def _serialized(value: Any, serializer: Callable[[Any], bytes] | None) -> bytes | None:
    if serializer is not None:
        serialized = serializer(value)
        if not isinstance(serialized, bytes):
            raise TypeError(f"the serializer returned {type(serialized).__name__}; it has to return bytes")
        return serialized
    if value is None or isinstance(value, bytes | str):
        return _plain(value, "value")
    return json.dumps(value, cls=AdvancedJSONEncoder, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Record:
    """A record that a workflow has waited for.

    Attributes:
        topic / partition / offset: Where it stands.
        key: Its key.
        value: Its value, decoded.
        headers: Its headers; of several with one name the last.
        timestamp: Its time, as its producer gave it.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: Any
    headers: Mapping[str, bytes]
    timestamp: datetime


async def wait_for_record(
    topic: str,
    key: str | bytes | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    timeout: timedelta | float | None = None,
    look_back: timedelta | float = 0,
    deserializer: Callable[[bytes | None], Any] | None = None,
) -> Record:
    """Wait for the first record of a topic that fits.

    A record counts from the beginning of the wait on, as its timestamp says, so none is missed that is written before
    the engine has begun to look. The wait outlives workers and engines.

    Args:
        topic: The topic's full name. It may not exist yet.
        key: The record's key; any if not given.
        where: What the value, which is JSON then, has to hold: paths and what has to stand there, as in
            ``{"order.id": 7}``. The condition is checked by the engine, so records that do not fit cost the workflow
            nothing.
        timeout: How long to wait, in seconds or as a timedelta; without limit if ``None``.
        look_back: How long before the wait the record may have been written.
        deserializer: Makes the value of the record's bytes. It must give the same for the same bytes. If not given, the
            value is JSON.

    Raises:
        asyncio.TimeoutError: there was none in time.
        ApplicationError: the value is no JSON, and there is no deserializer; its type is ``UnreadableRecord``.
        ValueError, TypeError: the topic, the key or ``where`` cannot be.
    """
    instance = current_instance()
    fault = user_topic_fault(topic)
    if fault:
        raise ValueError(fault)
    wanted_key, condition = _plain(key, "key"), encoded(where)
    if len(wanted_key or b"") > NAME_CHARS_MAX or len(condition) > RECORD_WHERE_CHARS_MAX:
        raise ValueError(
            f"the key has {len(wanted_key or b'')} bytes and the condition {len(condition)} characters;"
            f" {NAME_CHARS_MAX} and {RECORD_WHERE_CHARS_MAX} are allowed"
        )
    look_back_ms = round(_seconds(look_back) * 1000)
    if look_back_ms < 0:
        raise ValueError(f"look_back is {look_back}; it cannot be negative")
    timeout_s = None if timeout is None else _seconds(timeout)
    found = await instance.record_waits.wait(topic, wanted_key, condition, look_back_ms, timeout_s)
    return Record(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        key=found.key,
        value=_decoded(found.value, topic) if deserializer is None else deserializer(found.value),
        headers=found.headers,
        timestamp=datetime.fromtimestamp(found.timestamp_ms / 1000, UTC),
    )


def _decoded(value: bytes | None, topic: str) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError as error:
        message = f"a record of topic {topic!r} is no JSON ({error}); give wait_for_record a deserializer"
        raise ApplicationError(message, type="UnreadableRecord", non_retryable=True) from error


def _seconds(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration
