"""Fetches the part of a run's history that a workflow task lacks, without holding up the dispatch thread.

Invariant: a task is either ready to run, or has exactly one page request out; its pages come in order. Pages arrive on
the connection's thread, which queues the finished task and wakes the dispatch thread. Called by the dispatch thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from perdure._connection import Connection
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas import codec
from perdure_schemas.records import (
    ErrorCode,
    FetchHistory,
    HistoryPage,
    HistoryRecord,
    QueryTask,
    Rejected,
    ReplyBody,
    RunTask,
    WorkflowTask,
)


@dataclass
class CodeTask:
    """A workflow or query task.

    Attributes:
        run: The dispatched task.
        task: What it is.
        pages: The encoded history records that were fetched for it, if any were.
        fetched_from: The first event that they were asked for; ``None``: none were.
        records: The history with its payloads decoded, once a codec did that.
        codec_error: What the codec raised, for the history or for the answer.
    """

    run: RunTask
    task: WorkflowTask | QueryTask
    pages: list[bytes] = field(default_factory=list)
    fetched_from: int | None = None
    records: list[HistoryRecord] | None = None
    codec_error: Exception | None = None

    def history(self) -> list[HistoryRecord]:
        """The records to run it on: those fetched, or else those it came with; their payloads decoded if a codec did.

        Raises:
            DecodeError: one is damaged.
        """
        if self.records is not None:
            return self.records
        encoded = self.task.history if self.fetched_from is None else self.pages
        return [codec.decode_as(record, HistoryRecord) for record in encoded]


class HistoryFetcher:
    """Fetches the missing history of tasks.

    Args:
        connection: Asks for pages.
        on_ready: Takes a task that has its history now.
        on_failed: Takes a task whose history could not be had, and why.
        on_gone: Takes a task that nobody waits for any more, and why.
    """

    def __init__(
        self,
        connection: Connection,
        on_ready: Callable[[CodeTask], None],
        on_failed: Callable[[CodeTask, str], None],
        on_gone: Callable[[CodeTask, str], None],
    ) -> None:
        self._connection = connection
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._on_gone = on_gone

    def fetch(self, code_task: CodeTask, first_event_id: int) -> None:
        """Fetch everything from ``first_event_id`` on, what the task came with included; returns at once."""
        code_task.fetched_from = first_event_id
        code_task.pages.clear()
        self._ask(code_task, first_event_id)

    def _ask(self, code_task: CodeTask, first_event_id: int) -> None:
        def take(body: ReplyBody) -> None:
            self._take(code_task, body)

        def fail(error: RPCError) -> None:
            closed = error.status is RPCStatusCode.CANCELLED
            (self._on_gone if closed else self._on_failed)(code_task, error.message)

        self._connection.request(
            code_task.run.workflow_id, code_task.run.run_id, FetchHistory(first_event_id=first_event_id), take, fail
        )

    def _take(self, code_task: CodeTask, body: ReplyBody) -> None:
        if isinstance(body, Rejected):
            gone = body.code is ErrorCode.NOT_FOUND
            (self._on_gone if gone else self._on_failed)(code_task, body.message)
            return
        if not isinstance(body, HistoryPage):
            self._on_failed(code_task, f"a {type(body).__name__} came instead of a page of history")
            return
        code_task.pages.extend(body.records)
        code_task.records = None
        if body.next_event_id and body.next_event_id <= code_task.task.last_event_id:
            self._ask(code_task, body.next_event_id)
        else:
            self._on_ready(code_task)
