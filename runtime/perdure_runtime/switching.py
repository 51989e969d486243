"""How often the threads of a process take turns where all of them live in it: client, worker, engine and log.

Called by users' processes only, as :func:`perdure.runtime.switch_less_often`; our own programs have fewer busy threads.
"""

from __future__ import annotations

import sys

__all__ = ["switch_less_often"]

#: Python's own is 5 ms. As long as a step of an engine takes (:mod:`perdure_runtime.batching`), so that a step is
#: seldom interrupted, and whoever comes next finds a whole batch.
_INTERVAL_S = 0.02


def switch_less_often() -> None:
    """Let a thread of this process that runs Python code go on for up to 20 ms while others wait for their turn.

    For a process that holds an embedded engine and its workers: each part then works on larger batches, and finds in
    the processor's caches what it left there. Not for a process whose threads compute for long in Python, as activities
    that are plain functions may: each time the engine waits for something, it then waits up to 20 ms for them, not 5.
    """
    sys.setswitchinterval(_INTERVAL_S)
