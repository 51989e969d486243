"""Records in topics of the user's, from workflow code.

A record that is emitted is a step of the workflow: it stands in the history, and the engine writes it once, whatever
fails or is replayed. Called by user code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from perdure._runtime.context import current_instance
from perdure.converter import AdvancedJSONEncoder
from perdure_schemas.limits import PAYLOAD_BYTES_MAX
from perdure_schemas.records import EmitRecord
from perdure_schemas.topics import RESERVED_HEADER_PREFIX, user_topic_fault

__all__ = ["emit"]


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
