"""Histories over HTTP: pages of events, new events as they come, and the document that a replayer reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from msgspec import Meta

from perdure.client._history import events_of
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import REQUEST_S, Api
from perdure_ops.http_api.operations import Answer, Operations
from perdure_ops.http_api.views import EventView, event_view
from perdure_schemas.records import Event, FetchHistory, HistoryPage

__all__ = ["operation"]

operation = Operations("Histories", "The events of a run: the whole truth about it.")

#: About so many bytes of records are asked for at a time.
_PAGE_BYTES = 256 * 1024
#: Without any change a run is looked at again after so long, in case a change was missed.
_LOOK_S = 30.0
#: Changes that come in so short a time make one message.
_QUIET_S = 0.05


class HistoryQuery(fields.RunQuery, kw_only=True):
    """Which run, and from where."""

    first_event_id: Annotated[int, Meta(ge=1, description="The first event that is wanted.")] = 1


class Events(Answer, kw_only=True):
    """Events in order. ``next_event_id`` is the first of the next page, ``null`` if there is none now; with ``closed``
    there never will be."""

    run_id: str
    events: list[EventView]
    next_event_id: int | None
    closed: bool


class HistoryDocument(Answer, kw_only=True):
    """A history as replayers read it."""

    run_id: str
    events: list[dict[str, Any]]


@operation("GET", "/workflows/{workflow_id}/history")
async def get_history(api: Api, workflow_id: str, query: HistoryQuery) -> Events:
    """Read a page of a history."""
    page, events = await _page(api, workflow_id, query.run_id, query.first_event_id)
    return _view(page, events)


@operation("GET", "/workflows/{workflow_id}/history/stream")
async def follow_history(api: Api, workflow_id: str, query: HistoryQuery) -> AsyncIterator[Events]:
    """Follow a history, by server-sent events: what is there, then a message for each change, until the run is closed.

    A message without events says that something else of the run changed, for example an attempt of an activity.
    """
    run_id, next_event_id = query.run_id, query.first_event_id
    if not run_id:
        run_id = (await _page(api, workflow_id, "", 1))[0].run_id
    async with api.streaming(), api.feed.run(workflow_id, run_id) as watch:
        while not api.feed.closed:
            page, events = await _page(api, workflow_id, run_id, next_event_id)
            yield _view(page, events)
            next_event_id = page.next_event_id or (events[-1].event_id + 1 if events else next_event_id)
            if page.next_event_id:
                continue
            if page.closed:
                return
            if await watch.wait(_LOOK_S):
                await watch.settle(_QUIET_S)


@operation("GET", "/workflows/{workflow_id}/history/document")
async def get_history_document(api: Api, workflow_id: str, query: fields.RunQuery) -> HistoryDocument:
    """Get a whole history as `perdure workflow show -o json` prints it, for replay tests."""
    history = await api.client.get_workflow_handle(workflow_id, run_id=query.run_id or None).fetch_history()
    document = history.to_json_dict()
    return HistoryDocument(run_id=document["run_id"], events=document["events"])


async def _page(api: Api, workflow_id: str, run_id: str, first_event_id: int) -> tuple[HistoryPage, list[Event]]:
    request = FetchHistory(first_event_id=first_event_id, page_bytes_max=_PAGE_BYTES)
    page = await api.ask(workflow_id, run_id, request, HistoryPage, REQUEST_S)
    return page, list(events_of(page.records, first_event_id))


def _view(page: HistoryPage, events: list[Event]) -> Events:
    return Events(
        run_id=page.run_id,
        events=[event_view(event) for event in events],
        next_event_id=page.next_event_id or None,
        closed=page.closed,
    )
