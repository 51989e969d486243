"""The read side at work: keeps the index in step, and answers questions that come through the log.

Questions come to ``reads``, whose partitions are shared among the read sides of a namespace; each of them has the whole
index, so any may answer. Invariants: before a question is answered, the index takes in all that the topic held when it
was read, so a client finds what it wrote; an old question is not answered, because nobody waits for it any more;
whatever fails is thrown away and made anew (crash-only). Called by whoever runs an engine.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from perdure_readside.filters import FilterError
from perdure_readside.folding import Folder
from perdure_readside.index import ExecutionIndex, remove_index
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.log import Log, LogClosedError, LogError, LogRecord, NewRecord, Reader, TopicPartition
from perdure_runtime.restarting import restart_delay_s
from perdure_schemas import codec
from perdure_schemas.records import (
    CountedGroup,
    ErrorCode,
    ExecutionsCount,
    ExecutionsPage,
    ListExecutions,
    ListSchedules,
    ReadBody,
    ReadRequest,
    Rejected,
    Reply,
    ReplyBody,
    SchedulesPage,
)
from perdure_schemas.topics import TopicNames

__all__ = ["Overview", "ReadSide"]

_logger = logging.getLogger("perdure.readside")

INDEX_FILE = "executions.sqlite3"
_REQUESTS_PER_POLL_MAX = 100
#: How often the index follows the topic when nobody asks; membership must be polled at least every second.
_FOLLOW_S = 0.5
_COMMIT_S = 1.0
#: How long a question waits for the index to catch up before it is answered with what is there.
_CATCH_UP_S = 10.0
#: Nobody waits for the answer of an older question.
REQUEST_AGE_MS_MAX = 120_000
_RESTART_S_MIN = 0.2
_RESTART_S_MAX = 10.0
_STOP_S = 10.0


class Overview(NamedTuple):
    """What a read side has: runs by status, how many open ones are stuck, and how many records it has still to fold."""

    runs: dict[str, int]
    stuck: int
    behind: int


class ReadSide:
    """Answers lists and counts for a namespace, on a thread of its own.

    Args:
        log: the log; it is not closed here.
        names: the namespace's topics; they must exist.
        folder: where the index is kept; ``None``: in memory.
        instance: this read side's name across restarts.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        folder: Path | None,
        *,
        instance: str,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._log = log
        self._names = names
        self._file = None if folder is None else folder / INDEX_FILE
        self._instance = instance
        self._now_ms = now_ms
        self._stopping = threading.Event()
        self._reader: Reader | None = None
        self._caught_up = threading.Event()
        self._parts: tuple[ExecutionIndex, Folder] | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-read-side", daemon=True)

    def start(self) -> None:
        """Begin to follow the topic and to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the index stays on disk."""
        self._stopping.set()
        if self._reader is not None:
            self._reader.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def waiting_for(self) -> str:
        """What has to happen before lists are complete; empty: they are. May be called from any thread.

        They are once the index has what the topic held when this life of the read side began.
        """
        if self._parts is None:
            return "the read side is starting"
        return "" if self._caught_up.is_set() else "the read side folds the runs into its index"

    def overview(self) -> Overview | None:
        """What it has now; ``None`` while it starts, or cannot be asked. May be called from any thread."""
        parts = self._parts
        if parts is None:
            return None
        index, folder = parts
        try:
            runs, stuck = index.overview()
            return Overview(runs, stuck, folder.unread())
        except (sqlite3.Error, LogError) as error:
            _logger.info("event=no_overview reason=%r", str(error))
            return None

    def _run(self) -> None:
        delay_s = 0.0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                self._serve()
            except LogClosedError:
                return  # whoever closed the log wants nothing more of it
            except LogError as error:
                _logger.warning("event=restarting reason=%r", str(error))
            except sqlite3.DatabaseError as error:
                _logger.warning("event=index_discarded reason=%r", str(error))
                if self._file is not None:
                    remove_index(self._file)
            except Exception:
                _logger.exception("event=restarting")
            run_s = time.monotonic() - started_s
            delay_s = restart_delay_s(delay_s, run_s, min_s=_RESTART_S_MIN, max_s=_RESTART_S_MAX, good_s=_RESTART_S_MAX)
            self._stopping.wait(delay_s)

    def _serve(self) -> None:
        log, names = self._log, self._names
        with ExitStack() as opened:
            index = ExecutionIndex(self._file, names.executions)
            opened.callback(index.close)
            folder = Folder(log, names.executions, names.partitions, index, self._now_ms)
            opened.callback(folder.close)
            self._parts = (index, folder)
            opened.callback(setattr, self, "_parts", None)
            opened.callback(self._caught_up.clear)
            _Answering(self, log, names, index, folder, opened).run()


class _Answering:
    """One life of the service: from joining the group to the first failure."""

    def __init__(
        self, side: ReadSide, log: Log, names: TopicNames, index: ExecutionIndex, folder: Folder, opened: ExitStack
    ) -> None:
        self._side = side
        self._log = log
        self._names = names
        self._index = index
        self._folder = folder
        self._done: dict[int, int] = {}
        self._reader = side._reader = log.reader("read-side-requests")
        opened.callback(self._reader.close)
        self._producer = log.producer("read-side")
        opened.callback(self._producer.close)
        group = f"{names.prefix}.{names.namespace}.read-side"
        self._membership = log.join(group, names.reads, side._instance, self._on_assigned, self._on_revoked)
        opened.callback(self._membership.leave)

    def run(self) -> None:
        """Answer until the read side is stopped."""
        committed_s = followed_s = time.monotonic()
        more = False
        places = [TopicPartition(self._names.executions, number) for number in range(self._names.partitions)]
        ends = {place.partition: self._log.watermarks(place)[1] for place in places}
        while not self._side._stopping.is_set():
            self._membership.poll()
            records = self._reader.poll(_REQUESTS_PER_POLL_MAX, 0.0 if more else _FOLLOW_S)
            if records:
                self._answer_all(records)
            now_s = time.monotonic()
            if more or now_s - followed_s >= _FOLLOW_S:
                # A batch at a time, so that a question never waits for a long fold.
                more = self._folder.fold_some()
                followed_s = now_s
            if not self._side._caught_up.is_set():
                positions = self._folder.positions
                if all(positions[partition] >= end for partition, end in ends.items()):
                    self._side._caught_up.set()
            if self._done and now_s - committed_s >= _COMMIT_S:
                committed_s = now_s
                self._membership.commit(self._done)
                self._done = {}

    def _on_assigned(self, partitions: list[int]) -> None:
        committed = self._membership.committed(partitions) if partitions else {}
        starts = {}
        for number in partitions:
            place = TopicPartition(self._names.reads, number)
            low, high = self._log.watermarks(place)
            # From before we came: a client may have asked while nobody was there.
            starts[place] = min(max(committed.get(number, low), low), high)
        self._reader.assign(starts)

    def _on_revoked(self, partitions: list[int], _lost: bool) -> None:
        self._reader.unassign([TopicPartition(self._names.reads, number) for number in partitions])
        for number in partitions:
            self._done.pop(number, None)

    def _answer_all(self, records: Sequence[LogRecord]) -> None:
        oldest_ms = self._side._now_ms() - REQUEST_AGE_MS_MAX
        fresh = False
        answers: list[NewRecord] = []
        for record in records:
            self._done[record.partition] = record.offset + 1
            if record.timestamp_ms < oldest_ms:
                continue
            try:
                request = codec.decode_as(record.value, ReadRequest)
            except codec.DecodeError as error:
                _logger.error(
                    "event=skipped topic=%s partition=%d offset=%d reason=%r",
                    record.topic, record.partition, record.offset, str(error),
                )  # fmt: skip
                continue
            if not fresh:
                fresh = self._folder.catch_up(_CATCH_UP_S)
            if not 0 <= request.reply.partition < self._names.partitions:
                continue
            answers.append(self._record(request, self._answer(request.body, fresh)))
        if answers:
            self._producer.append(answers)

    def _answer(self, body: ReadBody, fresh: bool) -> ReplyBody:
        behind = 0 if fresh else self._folder.behind()
        now_ms = self._side._now_ms()
        try:
            if isinstance(body, ListExecutions):
                page = self._index.page(body.query, body.page_size, body.page_token)
                return ExecutionsPage(
                    summaries=page.summaries,
                    next_page_token=page.next_page_token,
                    records_behind=behind,
                    time_ms=now_ms,
                )
            if isinstance(body, ListSchedules):
                page = self._index.schedules(body.query, body.page_size, body.page_token)
                return SchedulesPage(
                    summaries=page.summaries,
                    next_page_token=page.next_page_token,
                    records_behind=behind,
                    time_ms=now_ms,
                )
            counted = self._index.count(body.query)
        except FilterError as error:
            return Rejected(code=ErrorCode.INVALID_ARGUMENT, message=str(error))
        groups = [CountedGroup(values=list(values), count=count) for count, values in counted if values]
        total = sum(count for count, _ in counted)
        return ExecutionsCount(count=total, groups=groups, records_behind=behind, time_ms=now_ms)

    def _record(self, request: ReadRequest, body: ReplyBody) -> NewRecord:
        to = request.reply
        reply = Reply(client_id=to.client_id, request_id=to.request_id, workflow_id="", body=body)
        return NewRecord(self._names.replies, to.partition, to.client_id.encode(), codec.encode(reply))
