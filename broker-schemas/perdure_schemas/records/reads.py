"""Requests to the read side, and its answers: lists and counts of workflow runs."""

from __future__ import annotations

from perdure_schemas.records.common import Record, ReplyTo, Variant

__all__ = [
    "CountExecutions",
    "CountedGroup",
    "ExecutionsCount",
    "ExecutionsPage",
    "ListExecutions",
    "ListSchedules",
    "ReadBody",
    "ReadRequest",
    "SchedulesPage",
]


class ListExecutions(Variant, frozen=True, kw_only=True):
    """A page of the runs that a filter holds for. ``page_token`` is that of the page before; empty for the first."""

    query: str = ""
    page_size: int = 1_000
    page_token: bytes = b""


class CountExecutions(Variant, frozen=True, kw_only=True):
    """How many runs a filter holds for; with GROUP BY, for each group."""

    query: str = ""


class ListSchedules(Variant, frozen=True, kw_only=True):
    """A page of the namespace's schedules, by id. ``query`` as for runs, but of search attributes only."""

    query: str = ""
    page_size: int = 1_000
    page_token: bytes = b""


ReadBody = ListExecutions | CountExecutions | ListSchedules


class ReadRequest(Record, frozen=True, kw_only=True):
    """A question to the read side; the record's key is the client id."""

    reply: ReplyTo
    body: ReadBody


class ExecutionsPage(Variant, frozen=True, kw_only=True):
    """Encoded :class:`ExecutionSummary` values in order. ``records_behind``: how many records of the feed the answer
    may not know yet; 0 means that it is the state as of ``time_ms``."""

    summaries: list[bytes]
    next_page_token: bytes = b""
    records_behind: int = 0
    time_ms: int = 0


class SchedulesPage(Variant, frozen=True, kw_only=True):
    """Encoded :class:`ExecutionSummary` values of schedules, by id; freshness as in :class:`ExecutionsPage`."""

    summaries: list[bytes]
    next_page_token: bytes = b""
    records_behind: int = 0
    time_ms: int = 0


class CountedGroup(Record, frozen=True, kw_only=True):
    """One group of a count: its values, in the order of GROUP BY, and its runs."""

    values: list[str]
    count: int


class ExecutionsCount(Variant, frozen=True, kw_only=True):
    """A count; ``groups`` only with GROUP BY. Freshness as in :class:`ExecutionsPage`."""

    count: int
    groups: list[CountedGroup] = []
    records_behind: int = 0
    time_ms: int = 0
