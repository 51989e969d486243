"""Who waits for what, in the owner's memory only: askers for a result, and queries for workflow code to catch up.

Invariants: bounded for each run; nothing here is needed for correctness, since askers repeat their request when an
owner mark shows them a takeover, and after a while without an answer. Called by the partition handler's reactions.
"""

from __future__ import annotations

from perdure_history.core.effects import PendingQuery
from perdure_schemas.records import ReplyTo

__all__ = ["Waiting"]


class Waiting:
    """Waiting requests by run.

    Args:
        waiters_max: requests for one run's result that are kept.
        queries_max: queries of one run that are kept.
    """

    def __init__(self, waiters_max: int, queries_max: int) -> None:
        self._waiters_max = waiters_max
        self._queries_max = queries_max
        self._waiters: dict[str, dict[tuple[str, str], ReplyTo]] = {}
        self._queries: dict[str, dict[tuple[str, str], PendingQuery]] = {}

    def wait(self, run_id: str, to: ReplyTo) -> bool:
        """Keep a request for the run's result; false if there are too many. A repeated request is one request."""
        waiters = self._waiters.setdefault(run_id, {})
        key = (to.client_id, to.request_id)
        if key not in waiters and len(waiters) >= self._waiters_max:
            return False
        waiters[key] = to
        return True

    def take_waiters(self, run_id: str) -> list[ReplyTo]:
        """All who wait for the run's result; they are forgotten here."""
        waiters = self._waiters.pop(run_id, None)
        return [] if waiters is None else list(waiters.values())

    def hold(self, run_id: str, query: PendingQuery) -> bool:
        """Keep a query; false if there are too many."""
        queries = self._queries.setdefault(run_id, {})
        key = (query.to.client_id, query.to.request_id)
        if key not in queries and len(queries) >= self._queries_max:
            return False
        queries[key] = query
        return True

    def take_queries(self, run_id: str, seen_event_id: int | None, now_ms: int) -> list[PendingQuery]:
        """The run's queries that may go out once its code has seen this much (``None``: all); expired ones are dropped.

        Args:
            now_ms: the time by which queries expire.
        """
        queries = self._queries.get(run_id)
        if queries is None:
            return []
        ready = []
        for key, query in list(queries.items()):
            if query.expires_at_ms <= now_ms:
                del queries[key]
            elif seen_event_id is None or query.seen_event_id <= seen_event_id:
                ready.append(query)
                del queries[key]
        if not queries:
            del self._queries[run_id]
        return ready
