"""``python -m examples.recipes.activity_times BOOTSTRAP``: how long activities take, by type, from all histories.

A projection that nobody thought of when the workflows ran: it is folded from offset 0 of ``history``, as every other
view may be. The time of an attempt is from its start on the worker to the event that its result became.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from examples.recipes.records import Change, Reading, Schemas

_FAILED = {"io.perdure.ActivityTaskFailedEvent", "io.perdure.ActivityTaskTimedOut"}


@dataclass
class Times:
    """What is known of one activity type."""

    scheduled: int = 0
    completed: int = 0
    failed: int = 0
    attempts: int = 0
    total_ms: int = 0
    longest_ms: int = 0


class ActivityTimes:
    """The projection. Each event counts once, however often its record stands in the topic."""

    def __init__(self) -> None:
        self.by_type: dict[str, Times] = defaultdict(Times)
        self._types: dict[tuple[str, int], str] = {}
        self._seen: dict[str, int] = {}

    def take(self, changes: Iterable[Change]) -> None:
        """Fold changes of ``history`` in their order."""
        for change in changes:
            if change.fields is not None:
                for event in change.fields["events"]:
                    self._take_event(change.fields["run_id"], event)

    def _take_event(self, run_id: str, event: dict[str, Any]) -> None:
        # Unnumbered events (an attempt began, a heartbeat) have the id 0; numbered ones come in order.
        if event["event_id"] <= self._seen.get(run_id, 0):
            return
        self._seen[run_id] = event["event_id"]
        name, about = event["attributes"]
        if name == "io.perdure.ActivityTaskScheduled":
            kind = self._types[run_id, event["event_id"]] = about["options"]["activity_type"]
            self.by_type[kind].scheduled += 1
            return
        kind = self._types.pop((run_id, about.get("scheduled_event_id", 0)), "")
        if not kind:
            return
        times = self.by_type[kind]
        if name == "io.perdure.ActivityTaskCompletedEvent":
            took_ms = max(0, event["event_time_ms"] - about["started_time_ms"])
            times.completed += 1
            times.attempts += about["attempt"]
            times.total_ms += took_ms
            times.longest_ms = max(times.longest_ms, took_ms)
        elif name in _FAILED:
            times.failed += 1
            times.attempts += about["attempt"]


def replay(bootstrap: str, namespace: str) -> dict[str, Times]:
    """The times of all activities in the histories that are kept."""
    projection = ActivityTimes()
    reading = Reading(bootstrap, f"perdure.{namespace}.history", Schemas.of_folder())
    try:
        for batch in reading.changes():
            projection.take(batch)
    finally:
        reading.close()
    return dict(projection.by_type)


def main() -> None:
    """Read the arguments, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m examples.recipes.activity_times")
    parser.add_argument("bootstrap", help="brokers, as HOST:PORT,HOST:PORT")
    parser.add_argument("--namespace", default="default")
    options = parser.parse_args()
    print(
        f"{'activity':<30} {'scheduled':>9} {'completed':>9} {'failed':>6} {'attempts':>8} {'mean ms':>9} {'max ms':>9}"
    )
    for name, times in sorted(replay(options.bootstrap, options.namespace).items()):
        mean_ms = times.total_ms / times.completed if times.completed else 0.0
        counts = f"{times.scheduled:>9} {times.completed:>9} {times.failed:>6} {times.attempts:>8}"
        print(f"{name:<30} {counts} {mean_ms:>9.1f} {times.longest_ms:>9}")


if __name__ == "__main__":
    main()
