"""How large a record is: one rule for all logs, so that what fits into one fits into the others.

Pure. Called by the log adapters.
"""

from __future__ import annotations

from perdure_runtime.log import LogError, LogRecord, NewRecord
from perdure_schemas.topics import RECORD_BYTES_MAX

#: What Kafka's batch and record headers take besides key, value and headers, rounded up; and the same for each header.
RECORD_OVERHEAD_BYTES = 128
HEADER_OVERHEAD_BYTES = 16


def record_bytes(record: NewRecord | LogRecord) -> int:
    """How much a record counts against ``RECORD_BYTES_MAX``: all of its parts and what Kafka adds."""
    key, value = record.key, record.value
    size = RECORD_OVERHEAD_BYTES
    if key is not None:
        size += len(key)
    if value is not None:
        size += len(value)
    for name, content in record.headers:
        size += HEADER_OVERHEAD_BYTES + len(name) + len(content)
    return size


def too_large(record: NewRecord, size_bytes: int) -> LogError:
    """The error for a record above the limit."""
    return LogError(
        f"a record for {record.topic} {record.partition} with the key {record.key!r:.100} has {size_bytes} bytes, the "
        f"limit is {RECORD_BYTES_MAX}: make its payload smaller"
    )
