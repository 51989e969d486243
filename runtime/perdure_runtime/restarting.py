"""How long whoever failed waits before it is started again. Pure.

Called by everything that restarts something: engines their roles, the read side and the relay themselves, supervisors
their processes.
"""

from __future__ import annotations

__all__ = ["restart_delay_s"]


def restart_delay_s(previous_s: float, run_s: float, *, min_s: float, max_s: float, good_s: float) -> float:
    """The next delay: doubled each time, from the start again after a good run.

    Args:
        previous_s: the delay before the last start; 0 if there was none.
        run_s: how long it ran since.
        min_s: the first delay.
        max_s: the longest one.
        good_s: what ran this long had started well.
    """
    if run_s >= good_s or previous_s == 0:
        return min_s
    return min(previous_s * 2, max_s)
