"""A thread's bed and its alarm: cheaper than ``threading.Condition``, which makes a new lock for every wait.

Invariant: both methods are called with the owning lock held, and only one thread waits on a waker at a time; so a wake
between the check for work and the sleep is never lost. Used by readers, the commit thread and the server's sessions.
"""

from __future__ import annotations

import threading


class Waker:
    """Lets one thread sleep until another one wakes it, at the price of one lock operation on each side."""

    __slots__ = ("_armed", "_gate")

    def __init__(self) -> None:
        self._armed = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> None:
        """End the sleep of the waiting thread; nothing if nobody waits."""
        if self._armed:
            self._armed = False
            self._gate.release()

    def wait(self, lock: threading.Lock, timeout_s: float | None) -> bool:
        """Release ``lock``, sleep until woken or for ``timeout_s`` seconds, and take the lock again.

        Returns:
            Whether it was woken.
        """
        self._armed = True
        lock.release()
        woken = False
        try:
            if timeout_s is None:
                woken = self._gate.acquire()
            else:
                woken = self._gate.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        finally:
            lock.acquire()
            if not woken:
                self._forget()
        return woken

    def _forget(self) -> None:
        """Nobody woke us in time; if somebody did it just now, close the gate again."""
        if self._armed:
            self._armed = False
        else:
            self._gate.acquire()
