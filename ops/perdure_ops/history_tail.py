"""What ``perdure history tail`` does: history events straight from the topic, in the order in which they stand there.

Invariant: an event is shown as void exactly if its record's epoch is older than the newest owner mark before it (I1),
wherever reading begins. Called by its command; changes nothing.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perdure_ops.errors import CliError
from perdure_ops.history_view import event_line, event_row
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, to_json
from perdure_ops.partition_view import newest_mark
from perdure_ops.topic_reading import records_of
from perdure_runtime.connect import KafkaAddress, parse_address
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import HistoryRecord, OwnerMark
from perdure_schemas.topics import TopicNames

__all__ = ["Decoder", "TailRequest", "kcat_line", "tail"]

BEGIN, END = "BEGIN", "END"
#: Options of Kafka's client that hold no secret.
_SHOWN_OPTIONS = ("security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "ssl.ca.location")


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What was asked for: whose history, from where, how much, and whether to wait for more."""

    workflow_id: str | None = None
    partition: int | None = None
    start: str | None = None
    limit: int | None = None
    follow: bool = False

    def first_offset(self) -> int | str:
        """Where to begin: an offset, BEGIN or END.

        Raises:
            CliError: it is none of these, or an offset of more than one partition.
        """
        if self.start is None:
            return END if self.follow else BEGIN
        if self.start.upper() in (BEGIN, END):
            return self.start.upper()
        if not (self.start.isascii() and self.start.isdigit()):
            raise CliError(f"--from: {self.start!r} is neither an offset nor BEGIN nor END")
        if self.workflow_id is None and self.partition is None:
            raise CliError("--from OFFSET needs one partition: give --partition or --workflow-id, too")
        return int(self.start)

    def chosen(self, names: TopicNames) -> list[int]:
        """The partitions to read.

        Raises:
            CliError: there is no such partition, or both a workflow and a partition are given.
        """
        if self.workflow_id is not None and self.partition is not None:
            raise CliError("give --workflow-id or --partition, not both: a workflow's history is in one partition")
        if self.workflow_id is not None:
            return [keys.partition_of(self.workflow_id, names.partitions)]
        if self.partition is None:
            return list(range(names.partitions))
        if self.partition >= names.partitions:
            raise CliError(
                f"--partition: there is no partition {self.partition}; namespace {names.namespace} has"
                f" 0 to {names.partitions - 1}"
            )
        return [self.partition]


class Decoder:
    """From the records of one partition, in their order, to rows. Pure.

    Args:
        workflow_id: only this one's; ``None``: everything.
        newest: the epoch of the newest owner mark before the first record; -1 without one.
        plain: details as text for people, not as data.
    """

    def __init__(self, partition: int, workflow_id: str | None, newest: int = -1, *, plain: bool = False) -> None:
        self._source = f"history/{partition}"
        self._workflow_id = workflow_id
        self._newest = newest
        self._plain = plain
        #: The runs of the workflow that were seen: a tombstone has nothing but its key.
        self._runs: set[str] = set()

    def rows(self, record: LogRecord) -> list[dict[str, Any]]:
        """The rows of a record: one for each of its events, or one that says what else it is."""
        try:
            if keys.is_mark(record.key):
                return self._mark(record)
            key = keys.parse_fenced_key(record.key or b"")
            value = None if record.value is None else codec.decode_as(record.value, HistoryRecord)
        except (ValueError, codec.DecodeError) as error:
            return [] if self._workflow_id else [self._row(record, "unreadable", str(error))]
        void = key.epoch < self._newest
        run_id = key.id.partition("/")[0]
        if value is None:
            if self._workflow_id and run_id not in self._runs:
                return []
            return [self._row(record, "tombstone", key.id, run_id=run_id, epoch=key.epoch, void=void)]
        if self._workflow_id and value.workflow_id != self._workflow_id:
            return []
        if self._workflow_id:
            self._runs.add(run_id)
        about = {
            "workflow_id": value.workflow_id,
            "run_id": value.run_id,
            "epoch": key.epoch,
            "void": void,
            "command_offset": value.command_offset,
        }
        if value.parts > 1:
            about["part"] = f"{value.part}/{value.parts}"
        if not value.events:
            return [self._row(record, "no events", key.id, **about)]
        return [
            self._row(record, shown["type"], shown["details"], **about, event_id=shown["id"], time=shown["time"])
            for shown in map(event_line if self._plain else event_row, value.events)
        ]

    def _mark(self, record: LogRecord) -> list[dict[str, Any]]:
        mark = codec.decode_as(record.value, OwnerMark)
        if mark.source == self._source:
            self._newest = max(self._newest, record.offset)
        if self._workflow_id:
            return []
        details = f"{mark.owner} took over {mark.source}"
        return [self._row(record, "owner mark", details, epoch=record.offset, time=iso(mark.time_ms))]

    @staticmethod
    def _row(record: LogRecord, kind: str, details: Any, **about: Any) -> dict[str, Any]:
        row = {"partition": record.partition, "offset": record.offset, "time": iso(record.timestamp_ms)}
        return row | {"void": False, "type": kind, "details": details} | about


def tail(address: str, namespace: str, request: TailRequest, *, kcat: bool, output: OutputFormat) -> None:
    """Print history events, to the present end or on and on.

    Raises:
        CliError: the request makes no sense.
        LogError: the log cannot be read.
    """
    if request.follow and output is OutputFormat.JSON:
        raise CliError("-o json is one document, and --follow has no end: use -o jsonl")
    first = request.first_offset()
    with opened(address, namespace) as (log, names):
        chosen = request.chosen(names)
        if kcat:
            print("\n".join(kcat_line(address, names, number, first, request) for number in chosen), file=sys.stderr)
        rows = _rows(log, names, chosen, first, request, plain=output is OutputFormat.TABLE)
        if output is OutputFormat.JSON:
            print(to_json(list(rows), indent=2))
            return
        for row in rows:
            print(_line(row) if output is OutputFormat.TABLE else to_json(row), flush=request.follow)


def _rows(
    log: Log, names: TopicNames, chosen: list[int], first: int | str, request: TailRequest, *, plain: bool
) -> Iterator[dict[str, Any]]:
    left = request.limit
    for record, decoder in _records(log, names, chosen, first, request, plain):
        for row in decoder.rows(record):
            yield row
            if left is not None:
                left -= 1
                if left == 0:
                    return


def _records(
    log: Log, names: TopicNames, chosen: list[int], first: int | str, request: TailRequest, plain: bool
) -> Iterator[tuple[LogRecord, Decoder]]:
    starts: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    decoders: dict[int, Decoder] = {}
    for number in chosen:
        place = TopicPartition(names.history, number)
        low, end = log.watermarks(place)
        start = low if first == BEGIN else end if first == END else int(first)
        if start > end:
            raise CliError(f"--from: partition {number} ends at offset {end}, before {start}")
        starts[place], ends[place] = max(start, low), end
        before = newest_mark(log, place, f"history/{number}", below=starts[place])
        decoders[number] = Decoder(number, request.workflow_id, before.epoch if before else -1, plain=plain)
    for record in records_of(log, starts, None if request.follow else ends, "history-tail"):
        yield record, decoders[record.partition]


def _line(row: Mapping[str, Any]) -> str:
    place = f"{row['partition']}/{row['offset']}"
    who = " ".join(str(row[what]) for what in ("workflow_id", "run_id", "event_id") if row.get(what) is not None)
    part = f" part {row['part']}" if "part" in row else ""
    void = "VOID " if row["void"] else ""
    return f"{place:<10} {row['time']} {void}{who} {row['type']}{part}  {row['details']}".rstrip()


def kcat_line(address: str, names: TopicNames, partition: int, first: int | str, request: TailRequest) -> str:
    """The ``kcat`` command that reads the same records (their values are Avro with the platform's framing).

    Raises:
        CliError: the address is not one of Kafka.
    """
    parsed = parse_address(address)
    if not isinstance(parsed, KafkaAddress):
        raise CliError("--kcat: kcat reads from Kafka only; a development server has its own protocol")
    where = {BEGIN: "beginning", END: "end"}.get(str(first), str(first))
    words = ["kcat", "-C", "-b", parsed.bootstrap, "-t", names.history, "-p", str(partition), "-o", where]
    for name in _SHOWN_OPTIONS:
        if name in parsed.options:
            words += ["-X", f"{name}={parsed.options[name]}"]
    words += [] if request.follow else ["-e"]
    return shlex.join([*words, "-f", "%p/%o %T %k %S bytes\\n"])
