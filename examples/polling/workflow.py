"""Ask a source again and again, politely, until it says something new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from examples.polling.source import Polling
from perdure import workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError

TASK_QUEUE = "polling"
WITHIN = timedelta(seconds=30)
#: A source that is down is asked less and less often, but every so often all the same.
PAUSE_MAX = timedelta(hours=1)
#: So much shorter or longer, at random: many watches that begin together do not stay together.
JITTER = 0.2
#: Each poll leaves some events in the history; a new run begins with none.
POLLS_PER_RUN = 500


@dataclass
class Watch:
    """What to watch; a run hands it to the next one.

    Attributes:
        source: What is asked.
        seen: What it said when the watch began.
        pause_s: How long to wait between two polls, in seconds.
        failures: How many polls have failed in a row.
        polls: How many there were.
    """

    source: str
    seen: str
    pause_s: float = 60.0
    failures: int = 0
    polls: int = 0


@dataclass
class Change:
    """What the source says now, and how many polls it took."""

    value: str
    polls: int


@workflow.defn
class WaitForChange:
    """Returns as soon as the source says something else than it did."""

    @workflow.run
    async def run(self, watch: Watch) -> Change:
        for _ in range(POLLS_PER_RUN):
            value = await self._poll(watch)
            if value != watch.seen:
                return Change(value, watch.polls)
            await workflow.sleep(self._pause(watch), summary="until the next poll")
        workflow.continue_as_new(watch)

    async def _poll(self, watch: Watch) -> str:
        """What the source says; what it said before if it is down."""
        watch.polls += 1
        try:
            value = await workflow.execute_activity_method(
                Polling.poll,
                watch.source,
                start_to_close_timeout=WITHIN,
                retry_policy=RetryPolicy(maximum_attempts=1),  # the next poll is the next attempt
            )
        except ActivityError as error:
            watch.failures += 1
            workflow.logger.info("%s is down: %s", watch.source, error.cause)
            return watch.seen
        watch.failures = 0
        return value

    def _pause(self, watch: Watch) -> timedelta:
        doublings = min(watch.failures, 16)  # an outage may last; numbers must not grow with it
        pause = min(timedelta(seconds=watch.pause_s * (1 << doublings)), PAUSE_MAX)
        return pause * workflow.random().uniform(1 - JITTER, 1 + JITTER)
