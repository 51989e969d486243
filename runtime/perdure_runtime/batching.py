"""How many records a processor takes in one step.

A big batch shares the costs of a step among many records; but the other roles of the thread wait for its end, and so
does a timer that is due. Pure. Called by :mod:`perdure_runtime.processor`.
"""

from __future__ import annotations

#: How long a step shall take.
STEP_S = 0.02
#: Records taken in one step, however long that takes, and at most.
BATCH_RECORDS_MIN = 50
BATCH_RECORDS_MAX = 1_000
#: Fewer records than this tell nothing about what each of them takes.
TELLING_RECORDS = 20


class BatchSize:
    """Follows what records take, so that a step takes about ``STEP_S``."""

    def __init__(self) -> None:
        #: How many the next step takes.
        self.records = BATCH_RECORDS_MAX

    def took(self, records: int, seconds: float) -> None:
        """Note that a step took so many records and so long."""
        if records < TELLING_RECORDS:
            return
        fitting = min(BATCH_RECORDS_MAX, int(records * STEP_S / seconds)) if seconds > 0 else BATCH_RECORDS_MAX
        # Half of the way: a single step may have been held up by something else.
        self.records = max(BATCH_RECORDS_MIN, (self.records + fitting + 1) // 2)
