"""A workflow's history as a client holds it: its events, and its JSON form for replay tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from perdure.client._replies import expect
from perdure.converter import DataConverter
from perdure.converter._walk import map_payloads
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas import codec
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import (
    CommandBody,
    Event,
    FetchHistory,
    HistoryPage,
    HistoryRecord,
    ReplyBody,
    WorkflowExecutionCanceled,
    WorkflowExecutionCompleted,
    WorkflowExecutionContinuedAsNew,
    WorkflowExecutionFailed,
    WorkflowExecutionTerminated,
    WorkflowExecutionTimedOut,
)

_CLOSING = (
    WorkflowExecutionCanceled,
    WorkflowExecutionCompleted,
    WorkflowExecutionContinuedAsNew,
    WorkflowExecutionFailed,
    WorkflowExecutionTerminated,
    WorkflowExecutionTimedOut,
)


class WorkflowHistoryEventFilterType(IntEnum):
    """Which events are wanted."""

    ALL_EVENT = 1
    CLOSE_EVENT = 2

    def admits(self, event: Event) -> bool:
        """Whether an event is wanted."""
        return self is WorkflowHistoryEventFilterType.ALL_EVENT or isinstance(event.attributes, _CLOSING)


class _Document(msgspec.Struct):
    events: list[Event]
    run_id: str = ""


@dataclass(frozen=True)
class WorkflowHistory:
    """The history of a run.

    Attributes:
        workflow_id: Workflow id.
        events: Its events, from the first on.
        run_id: Run id.
    """

    workflow_id: str
    events: Sequence[Event]
    run_id: str = ""

    @staticmethod
    def from_json(workflow_id: str, history: str | dict[str, Any]) -> WorkflowHistory:
        """The history that :meth:`to_json` or :meth:`to_json_dict` wrote.

        Args:
            workflow_id: Workflow id; it is not part of the JSON.
            history: The JSON text, or what was parsed from it.

        Raises:
            ValueError: it is no history; the message says where.
        """
        if isinstance(history, str) and is_too_deep(history.encode(errors="replace")):
            raise ValueError(f"this is no workflow history: it is nested more than {NESTING_MAX} times")
        try:
            document = (
                msgspec.json.decode(history, type=_Document)
                if isinstance(history, str)
                else msgspec.convert(history, _Document)
            )
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ValueError(f"this is no workflow history: {error}") from error
        return WorkflowHistory(workflow_id, document.events, document.run_id)

    def to_json(self) -> str:
        """The history as JSON, without the workflow id."""
        return msgspec.json.encode(_Document(list(self.events), self.run_id)).decode()

    async def decoded(self, data_converter: DataConverter) -> WorkflowHistory:
        """The history with its payloads taken through a converter's codec. As it is fetched, they are encoded.

        Args:
            data_converter: Its codec and external storage are used.

        Raises:
            Exception: what the codec raised.
        """
        if data_converter.wire_codec is None:
            return self
        events = await map_payloads(list(self.events), data_converter.wire_codec.decode)
        return WorkflowHistory(self.workflow_id, events, self.run_id)

    def to_json_dict(self) -> dict[str, Any]:
        """As :meth:`to_json`, not yet made into text."""
        document: dict[str, Any] = msgspec.json.decode(self.to_json())
        return document


def events_of(records: Iterable[bytes], next_event_id: int) -> Iterator[Event]:
    """The numbered events of encoded history records, from ``next_event_id`` on, each once.

    Raises:
        DecodeError: a record is damaged.
    """
    for data in records:
        for event in codec.decode_as(data, HistoryRecord).events:
            if event.event_id >= next_event_id and event.event_id > 0:
                next_event_id = event.event_id + 1
                yield event


class HistoryEvents:
    """The events of a run, fetched page by page as they are asked for.

    Args:
        fetch: Asks the engine for a page, given the run id and the request.
        workflow_id: The workflow, for messages.
        run_id: The run; empty for the current one.
        event_filter_type: Which events.
    """

    def __init__(
        self,
        fetch: Callable[[str, CommandBody], Awaitable[ReplyBody]],
        workflow_id: str,
        run_id: str,
        event_filter_type: WorkflowHistoryEventFilterType,
    ) -> None:
        #: The run the events are of, known with the first one.
        self.run_id = run_id
        self._fetch = fetch
        self._workflow_id = workflow_id
        self._events = (event async for event in self._pages() if event_filter_type.admits(event))

    def __aiter__(self) -> HistoryEvents:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            RPCError: the engine did not answer or refused.
        """
        return await anext(self._events)

    async def _pages(self) -> AsyncIterator[Event]:
        next_event_id = 1
        while True:
            page = expect(await self._fetch(self.run_id, FetchHistory(first_event_id=next_event_id)), HistoryPage)
            self.run_id = page.run_id  # the next page is of the same run, even if another one started meanwhile
            asked_event_id = next_event_id
            for event in events_of(page.records, next_event_id):
                next_event_id = event.event_id + 1
                yield event
            if page.next_event_id == 0:
                return
            next_event_id = max(next_event_id, page.next_event_id)
            if next_event_id == asked_event_id:
                raise RPCError(
                    f"the history of workflow {self._workflow_id!r} ends early: its page is empty",
                    RPCStatusCode.INTERNAL,
                )
