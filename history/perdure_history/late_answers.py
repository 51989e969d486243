"""Answers that may wait a little for a better one: that a run has started, to somebody who waits for its end as well.

Most runs that somebody waits for end soon, and then their end tells all that the first answer would have said: this
spares a record, and a commit and a wake-up of the client in the middle of the run.

Invariant: in the owner's memory only. An asker repeats the request when an owner mark shows a takeover, and is answered
at once then. Called by the partition handler's reactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

import msgspec

from perdure_schemas.records import ReplyBody, ReplyTo

__all__ = ["LateAnswer", "LateAnswers"]


class LateAnswer(msgspec.Struct, frozen=True):
    """An answer, and whom it is for."""

    to: ReplyTo
    workflow_id: str
    body: ReplyBody


class LateAnswers:
    """Answers by run, each with the time at which it is given after all."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[int, LateAnswer]] = {}
        #: Times and runs, the earliest first; those that are no longer in ``_answers`` are passed over.
        self._times: list[tuple[int, str]] = []

    def keep(self, run_id: str, due_ms: int, answer: LateAnswer) -> None:
        """Give this answer at ``due_ms``, unless :meth:`drop` is called for the run before."""
        self._answers[run_id] = (due_ms, answer)
        heappush(self._times, (due_ms, run_id))

    def drop(self, run_id: str) -> None:
        """The run has ended, and whoever waits is told so."""
        self._answers.pop(run_id, None)

    def due_ms(self) -> int | None:
        """When the next answer is to be given."""
        times, answers = self._times, self._answers
        while times:
            due_ms, run_id = times[0]
            found = answers.get(run_id)
            if found is not None and found[0] == due_ms:
                return due_ms
            heappop(times)
        return None

    def take(self, now_ms: int) -> Iterator[LateAnswer]:
        """The answers that are due; they are forgotten here."""
        while (due_ms := self.due_ms()) is not None and due_ms <= now_ms:
            _, run_id = heappop(self._times)
            yield self._answers.pop(run_id)[1]
