"""What an audit finds: breaches, each with its place and what to do. Pure data; made by the checks of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CHECKS", "Breach", "Misfit", "Place"]

_KEEP = (
    "keep the topics as they are (`perdure dump`) and report it: the engine has a bug or somebody wrote to its topics"
)
_STATE = "stop the engine and delete its state folder; it is rebuilt from the log. " + _KEEP

#: Every check: its name → what must hold, and what to do where it does not.
CHECKS: dict[str, tuple[str, str]] = {
    "unreadable": (
        "every record of the platform's topics can be read, or a dead letter says why not",
        "see `perdure dlq list`; if no program of yours writes to this topic, restore it from a copy",
    ),
    "misplaced": ("a record stands in the partition of its workflow id or task queue", _KEEP),
    "wrong-key": ("a record has the key that belongs to its value", _KEEP),
    "unmarked": ("an owner writes its mark into a partition before its first record there (I1)", _KEEP),
    "decided-twice": ("a command is decided once, in the order of the commands (I2)", _KEEP),
    "half-decided": ("the parts of a decision stand in the history together (I2)", _KEEP),
    "event-gap": (
        "the event ids of a run are gapless and unique (I2)",
        "the engine quarantines this run; `perdure workflow terminate` or `reset` it. " + _KEEP,
    ),
    "after-close": ("nothing happens to a run after its closing event", _KEEP),
    "two-open-runs": ("a workflow id has at most one open run", "terminate one of them. " + _KEEP),
    "missing-run": ("the run that follows a closed one is started in the same decision", _KEEP),
    "workflow-task": ("each workflow task is scheduled once and has one accepted completion", _KEEP),
    "activity": ("each activity attempt has one accepted completion", _KEEP),
    "timer": ("a timer of a workflow is started once and fires or is cancelled once", _KEEP),
    "timer-early": ("no timer fires before it is due", "check the clocks of the engines. " + _KEEP),
    "child": ("each child workflow and each request to another workflow is answered once", _KEEP),
    "doubled-id": ("a signal or an update is taken once by a run (I3)", _KEEP),
    "schedule": ("each time of a schedule is fired once at most, and starts the run that its number says", _KEEP),
    "task-lost": (
        "a task that its run waits for is in `tasks`",
        "the run waits until its timeout; `perdure workflow reset` it. " + _KEEP,
    ),
    "task-left": ("a task in `tasks` is one that an open run waits for", _KEEP),
    "task-revived": ("a task that was done is not handed out again by the owner that knows it (I3)", _KEEP),
    "key-left": (
        "each key of a task or timer that is over has a tombstone",
        "nothing happens now; once compaction has dropped the other tombstone, matching without a state folder hands"
        " the task out again: keep the state folders of the engines",
    ),
    "timer-lost": (
        "the wake-up that a run has armed is in `timers`",
        "signal the run, so that it arms another one, or `perdure workflow reset` it. " + _KEEP,
    ),
    "timer-left": ("a timer in `timers` is the wake-up of an open run", _KEEP),
    "summary": ("the summary in `executions` says what the history says", _KEEP),
    "state": ("the state folder holds what the log says, key by key", _STATE),
}


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that must hold and does not.

    Attributes:
        check: the name of the check, a key of :data:`CHECKS`.
        message: what was found.
        topic / partition / offset: the record that shows it (the newest one concerned).
        workflow_id / run_id: whose; empty where it is nobody's.
    """

    check: str
    message: str
    topic: str
    partition: int
    offset: int
    workflow_id: str = ""
    run_id: str = ""

    @property
    def expected(self) -> str:
        """What must hold."""
        return CHECKS[self.check][0]

    @property
    def remedy(self) -> str:
        """What to do."""
        return CHECKS[self.check][1]

    def as_dict(self) -> dict[str, str | int]:
        """All of it, for JSON."""
        return {
            "check": self.check,
            "message": self.message,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "expected": self.expected,
            "remedy": self.remedy,
        }


class Misfit(Exception):  # noqa: N818 (not an error of the program: a finding on its way to its breach)
    """A record that breaks a rule. ``check`` names the rule."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check
