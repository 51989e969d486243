"""The garbage collector of a process that is ours: a server's, or a worker's.

Called by the programs, and never by the library: a user's process is the user's, who calls it as
:func:`perdure.runtime.collect_less_often`.
"""

from __future__ import annotations

import gc

__all__ = ["collect_less_often"]

#: Python's own are (700, 10, 10): a batch of a thousand records makes dozens of young collections, and nearly nothing
#: of what they look at is garbage in a cycle. Records and states themselves are not tracked at all.
_THRESHOLDS = (20_000, 20, 20)


def collect_less_often() -> None:
    """Keep what is loaded by now out of all collections, and collect the rest less often.

    For a process that mainly runs workers, or an engine: of the CPU time of workflows with one activity, all in one
    process, collections with Python's own thresholds take about a seventh. Call it once, when all is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
