"""From the options of a command to an open log and a namespace's names. Called by commands that look at topics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames


@contextmanager
def opened(address: str, namespace: str) -> Iterator[tuple[Log, TopicNames]]:
    """The log at an address, closed at the end, and the names of a namespace that exists on it.

    Raises:
        LogError: nobody answers, or there is no such namespace.
    """
    log = open_log(address)
    try:
        yield log, names_of(log, namespace)
    finally:
        log.close()
