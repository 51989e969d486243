"""``perdure workflow show --follow``: the history of a run as it grows, to its end.

The topic of histories says when there is more, and the engine says what: so nothing that a deposed owner wrote is shown
(I1). Invariant: each event is printed once, in order. Called by its command.
"""

from __future__ import annotations

import asyncio

from perdure.client import Client
from perdure.client._history import WorkflowHistory, WorkflowHistoryEventFilterType, events_of
from perdure.converter import DataConverter
from perdure_ops import history_view as view
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, to_json
from perdure_runtime.log import LogRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import partition_of
from perdure_schemas.records import Event, FetchHistory, HistoryPage, HistoryRecord, Rejected

__all__ = ["check", "follow"]

_POLL_S = 0.5
_POLL_RECORDS = 500
_TIMEOUT_S = 30.0


def check(output: OutputFormat) -> None:
    """Refuse what cannot be printed bit by bit.

    Raises:
        CliError: it is one document.
    """
    if output is OutputFormat.JSON:
        raise CliError("-o json is one document, and --follow prints events as they come: use -o jsonl")


async def follow(client: Client, workflow_id: str, run_id: str | None, output: OutputFormat) -> None:
    """Print the events of a run until one closes it.

    Raises:
        RPCError: there is no such workflow. CliError: the engine refuses.
    """
    connection = await client.connection()
    log, names = connection.log, connection.names
    place = TopicPartition(names.history, partition_of(workflow_id, names.partitions))
    reader = log.reader("show-follow")
    try:
        # Before the first events are asked for, so that none falls in between.
        await asyncio.to_thread(lambda: reader.assign({place: log.watermarks(place)[1]}))
        events = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        run_id, found = events.run_id, list(events.events)
        shown = 0
        while True:
            for event in await _decoded(client, workflow_id, found):
                shown = event.event_id
                _print(event, output)
            if found and WorkflowHistoryEventFilterType.CLOSE_EVENT.admits(found[-1]):
                return
            found = []
            records = await asyncio.to_thread(reader.poll, _POLL_RECORDS, _POLL_S)
            if any(_is_newer(record, run_id, shown) for record in records):
                found = await _fetch(client, workflow_id, run_id, shown + 1)
    finally:
        reader.close()


def _is_newer(record: LogRecord, run_id: str, shown: int) -> bool:
    """Whether a record of the topic holds events of the run that were not shown."""
    try:
        value = codec.decode(record.value)
    except (codec.DecodeError, ValueError):
        return False
    if not isinstance(value, HistoryRecord) or value.run_id != run_id:
        return False
    return any(event.event_id > shown for event in value.events)


async def _fetch(client: Client, workflow_id: str, run_id: str, first: int) -> list[Event]:
    connection = await client.connection()
    found: list[Event] = []
    while True:
        what = f"the history of workflow {workflow_id!r}"
        answer = await connection.ask(workflow_id, run_id, FetchHistory(first_event_id=first), _TIMEOUT_S, what)
        if isinstance(answer, Rejected):
            raise CliError(f"{what}: {answer.message}")
        assert isinstance(answer, HistoryPage)
        page = list(events_of(answer.records, first))
        found += page
        if not page or not answer.next_event_id:
            return found
        first = page[-1].event_id + 1


async def _decoded(client: Client, workflow_id: str, events: list[Event]) -> list[Event]:
    converter: DataConverter = client.data_converter
    return list((await WorkflowHistory(workflow_id, events).decoded(converter)).events)


def _print(event: Event, output: OutputFormat) -> None:
    if output is OutputFormat.TABLE:
        row = view.event_line(event)
        print(f"{row['id']:>5}  {row['time']}  {row['type']}  {row['details']}".rstrip(), flush=True)
    else:
        print(to_json(view.event_row(event)), flush=True)
