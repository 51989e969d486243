"""What ``perdure topics consume`` prints: the records of one of the platform's topics, decoded, as they stand there.

Invariant: every record gives one row, whatever it holds; nothing is judged (`perdure history tail` says what is void).
Called by its command; :func:`records_of` by whoever looks at a topic from one offset to another. Changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from perdure_ops.errors import CliError
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, to_json
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.topics import TOPICS, WORK, TopicNames

__all__ = ["consume", "records_of", "row_of", "topic_of"]

_POLL_S = 0.5
_POLL_RECORDS = 1_000
#: Compaction may have dropped the last records; there is no more when nothing comes for so long.
_QUIET_S = 5.0


def topic_of(names: TopicNames, topic: str) -> str:
    """The full name of one of the platform's topics: ``history``, ``work.<task queue>``, or the full name itself.

    Raises:
        CliError: it is none of them.
    """
    own = {spec.name: names.of(spec) for spec in TOPICS}
    if topic in own:
        return own[topic]
    if topic.startswith(f"{WORK.name}."):
        return names.work(topic.removeprefix(f"{WORK.name}."))
    if topic in own.values() or topic.startswith(f"{names.prefix}.{names.namespace}.{WORK.name}."):
        return topic
    raise CliError(
        f"{topic!r} is no topic of namespace {names.namespace}: use {', '.join(own)} or {WORK.name}.<task queue>."
        " Topics of your own are not in the platform's encoding"
    )


def row_of(record: LogRecord) -> dict[str, Any]:
    """One record: where it stands, its key and headers, what it is, and its fields."""
    row: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "time": iso(record.timestamp_ms),
        "key": None if record.key is None else record.key.decode(errors="backslashreplace"),
        "type": "tombstone",
        "value": None,
    }
    if record.headers:
        row["headers"] = {name: content.decode(errors="backslashreplace") for name, content in record.headers}
    if record.value is not None:
        try:
            value = codec.decode(record.value)
        except codec.DecodeError as error:
            return row | {"type": "unreadable", "value": record.value.hex(), "reason": str(error)}
        row |= {"type": type(value).__name__, "value": msgspec.to_builtins(value)}
    return row


def consume(
    address: str,
    namespace: str,
    topic: str,
    *,
    partition: int | None,
    follow: bool,
    limit: int | None,
    output: OutputFormat,
) -> None:
    """Print the records of a topic, to the present end or on and on; ``follow`` begins at the end.

    Raises:
        CliError: there is no such topic or partition, or the options make no sense.
        LogError: the log cannot be read.
    """
    if follow and output is OutputFormat.JSON:
        raise CliError("-o json is one document, and --follow has no end: use -o jsonl")
    with opened(address, namespace) as (log, names):
        name = topic_of(names, topic)
        found = log.describe_topics([name]).get(name)
        if found is None:
            raise CliError(f"there is no topic {name}: it is made when the first worker of its task queue starts")
        if partition is not None and partition >= found.partitions:
            raise CliError(f"--partition: {name} has partitions 0 to {found.partitions - 1}")
        starts, ends = {}, {}
        for number in range(found.partitions) if partition is None else (partition,):
            place = TopicPartition(name, number)
            low, end = log.watermarks(place)
            starts[place], ends[place] = (end if follow else low), end
        rows = map(row_of, _limited(records_of(log, starts, None if follow else ends, "topic-consume"), limit))
        if output is OutputFormat.JSON:
            print(to_json(list(rows), indent=2))
            return
        for row in rows:
            print(_line(row) if output is OutputFormat.TABLE else to_json(row), flush=follow)


def records_of(
    log: Log, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int] | None, name: str
) -> Iterator[LogRecord]:
    """The records of partitions from offsets on, up to others, or for ever if there are none.

    Args:
        log: Where they stand.
        starts: The first offset of each partition.
        ends: Behind the last one.
        name: The reader's, for logs.

    Raises:
        LogError: the log cannot be read.
    """
    reader = log.reader(name)
    try:
        reader.assign(starts)
        left = {place for place in starts if ends is not None and starts[place] < ends[place]}
        heard_s = time.monotonic()
        while ends is None or (left and time.monotonic() - heard_s < _QUIET_S):
            for record in reader.poll(_POLL_RECORDS, _POLL_S):
                heard_s = time.monotonic()
                if ends is None or record.offset < ends[TopicPartition(record.topic, record.partition)]:
                    yield record
            if ends is not None:
                left -= {place for place in left if reader.position(place) >= ends[place]}
    finally:
        reader.close()


def _limited(records: Iterator[LogRecord], limit: int | None) -> Iterator[LogRecord]:
    for count, record in enumerate(records, 1):
        yield record
        if count == limit:
            return


def _line(row: Mapping[str, Any]) -> str:
    place, value = f"{row['partition']}/{row['offset']}", row.get("reason") or row["value"]
    shown = "" if value is None else value if isinstance(value, str) else to_json(value)
    return f"{place:<10} {row['time']} {row['key'] or '-'} {row['type']} {shown}".rstrip()
